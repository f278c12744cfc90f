"""Nothing stands in the reference that no test of this suite names."""

import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from tests.contract.reference import OPERATIONS, Operation, headings, rows

NOT_FROM_OUTSIDE = {
    408: "needs a body that takes longer than half a minute to arrive",
    423: "only the operator's command line suspends an organization",
    500: "is a fault of the service",
    503: "is for a service that starts, ends, or cannot store",
}
INDEX = "README.md"

OF_THE_MACHINE = frozenset(
    {
        "authentication.md: 423",
        "authentication.md# Client addresses",
        "authentication.md# Unlocking",
        "domains.md: address not allowed",
        "domains.md: answered 404",
        "domains.md: challenge expired",
        "domains.md: content differs",
        "domains.md: no response",
        "domains.md: no response in time",
        "limits.md# Precision",
        "redeliveries.md: too_old",
    }
)
"""About settings and commands, several machines, weeks from now, or a server with a certificate that is trusted."""


def _modules() -> Iterator[ModuleType]:
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        yield importlib.import_module(f"tests.contract.{path.stem}")


@cache
def _covered() -> frozenset[str]:
    tests = [
        test
        for module in _modules()
        for name, test in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("test_")
    ]
    marks = [mark for test in tests for mark in getattr(test, "pytestmark", []) if mark.name == "covers"]
    return frozenset(row for mark in marks for row in mark.args)


def _is_reachable(operation: Operation, status: int) -> bool:
    # Of a creation, also by `PUT` on an alias, 409 is an idempotent request that takes longer than five seconds.
    is_in_flight = status == 409 and operation.takes_body
    # Requests without a key are counted for an address, which is everybody's who runs tests there.
    is_everybodys = status == 429 and not operation.has_key
    return status not in NOT_FROM_OUTSIDE and not is_in_flight and not is_everybodys


def test_a_test_names_every_status_of_every_operation() -> None:
    named = [f"{each} {status}" for each in OPERATIONS for status in each.statuses if _is_reachable(each, status)]
    assert [name for name in named if name not in _covered()] == []


def test_a_test_names_every_row_of_the_reference() -> None:
    generated = {"operations", "codes", "failures"}
    named = [
        str(row) for row in rows() if row.kind not in generated and row.page != INDEX and str(row) not in OF_THE_MACHINE
    ]
    assert [name for name in named if name not in _covered()] == []


def test_a_test_names_every_section_of_the_reference() -> None:
    of_fields = {f"{row.page}# The resource" for row in rows() if row.kind == "response"}
    named = [heading for heading in headings() if heading not in of_fields | OF_THE_MACHINE]
    assert [name for name in named if name not in _covered()] == []


def test_every_named_row_exists() -> None:
    there = set(map(str, rows())) | set(headings())
    assert [row for row in sorted(_covered()) if ".md" in row and row.removesuffix(" required") not in there] == []
