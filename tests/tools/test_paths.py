"""Common operations go through only so many files and classes."""

from pathlib import Path

from tools.paths import DELIVERY, GET, PUBLISH, ROUTE, measure

LIMITS = {GET: 19, PUBLISH: 17, DELIVERY: 6, ROUTE: 20}
"""A limit may fall. `python -m tools.paths --list` names what an operation goes through.

Reads go through the ledger and its rules. Every request goes through the detection of untrusted proxies.
"""


def test_operations_go_through_no_more_than_their_limits(tmp_path: Path) -> None:
    longer = {operation.name: found for operation, found in measure(tmp_path).items() if len(found) > LIMITS[operation]}

    assert longer == {}
