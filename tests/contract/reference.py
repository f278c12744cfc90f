"""The rows of the reference and the operations of the OpenAPI document. Tests name the rows they cover."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT: dict[str, Any] = json.loads((DOCS / "openapi.json").read_text())

Test = TypeVar("Test", bound=Callable[..., object])

_MARK = re.compile(r"<!-- (\w+)(?: (\w+))? -->")
_FENCE = "```"


class Operation(NamedTuple):
    """A method at an address."""

    method: str
    path: str
    described: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in self.described["responses"]]

    @property
    def has_key(self) -> bool:
        return "x-required-scope" in self.described

    @property
    def is_json(self) -> bool:
        """Whether the response is JSON for clients that accept anything."""
        media_types: list[str] = list(self.described["responses"]["200"]["content"])
        return media_types[0] == "application/json"

    @property
    def takes_body(self) -> bool:
        return "requestBody" in self.described

    @property
    def is_list(self) -> bool:
        return any(each.get("name") == "per_page" for each in self.parameters)

    @property
    def parameters(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.described.get("parameters", [])
        return found

    @property
    def example(self) -> dict[str, Any]:
        """A body that works as it stands."""
        found: dict[str, Any] = self.described["requestBody"]["content"]["application/json"]["example"]
        return found


OPERATIONS = [
    Operation(method.upper(), path, described)
    for path, item in DOCUMENT["paths"].items()
    for method, described in item.items()
]


class Row(NamedTuple):
    """A row of a table. `kind` and `name` are those of the mark before it, empty where it is written by hand."""

    page: str
    kind: str
    name: str
    cells: list[str]

    def __str__(self) -> str:
        return f"{self.page}: {self.cells[0]}"


def covers(*rows: str) -> Callable[[Test], Test]:
    """The rows, or headings, of the reference that a test is about: `GET /queues 200`, `limits.md: queues`."""

    def decorate(test: Test) -> Test:
        marked: Test = pytest.mark.covers(*rows)(test)
        return marked

    return decorate


def for_every(name: str, values: Iterable[Any], row: Callable[[Any], str]) -> Callable[[Test], Test]:
    """Run a test for each of some things, and let it cover the row of each."""
    listed = list(values)

    def decorate(test: Test) -> Test:
        marked: Test = pytest.mark.covers(*map(row, listed))(test)
        parametrized: Test = pytest.mark.parametrize(name, listed, ids=str)(marked)
        return parametrized

    return decorate


def for_status(status: int, *but: str) -> Callable[[Test], Test]:
    """Run a test for every operation that can be answered with a status."""
    chosen = [each for each in OPERATIONS if status in each.statuses and str(each) not in but]
    return for_every("operation", chosen, lambda operation: f"{operation} {status}")


def rows() -> Iterator[Row]:
    """Every row of every table of the reference."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        yield from _rows_of(page.name, page.read_text())


def headings() -> Iterator[str]:
    for page in sorted((DOCS / "reference").glob("*.md")):
        for line in _without_code(page.read_text()):
            if line.startswith("## "):
                yield f"{page.name}# {line[3:]}"


def _rows_of(page: str, text: str) -> Iterator[Row]:
    kind = name = ""
    in_table = False
    for line in _without_code(text):
        if mark := _MARK.fullmatch(line):
            kind, name = ("", "") if mark[1] == "end" else (mark[1], mark[2] or "")
        if not line.startswith("|"):
            in_table = False
        elif line.startswith("| ---"):
            in_table = True
        elif in_table:
            cells = [cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
            yield Row(page, kind, name, cells)


def _without_code(text: str) -> Iterator[str]:
    is_code = False
    for line in text.splitlines():
        if line.startswith(_FENCE):
            is_code = not is_code
        elif not is_code:
            yield line
