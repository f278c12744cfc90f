"""Common operations go through only so many files."""

from pathlib import Path

from tools.paths import DELIVERY, GET, PUBLISH, measure

LIMITS = {GET: 16, PUBLISH: 16, DELIVERY: 14}
"""A limit may fall. `python -m tools.paths` lists what an operation goes through.

Reads go through the ledger and its rules. Every request goes through the detection of untrusted proxies.
"""


def test_operations_go_through_no_more_than_their_limits(tmp_path: Path) -> None:
    longer = {operation: files for operation, files in measure(tmp_path).items() if len(files) > LIMITS[operation]}

    assert longer == {}
