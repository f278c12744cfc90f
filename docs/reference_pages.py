"""The tables of the reference: what stands between two marks in its pages follows from the OpenAPI document.

`<!-- operations queues -->`, `<!-- request QueueBody -->`, `<!-- response QueueShown -->`, `<!-- parameters list_queues -->`,
`<!-- statuses -->`: each up to the next `<!-- end -->`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from discue.api.advice import answered
from discue.api.bodies import READ_ONLY
from discue.api.openapi.document import document_of
from discue.api.openapi.schema_words import fields_of
from discue.api.routes import ROUTES
from discue.errors import title_of

REFERENCE = Path(__file__).parent / "reference"
SERVER = "/v1"
"""The committed document is read beside the service: its server is relative."""

_MARKED = re.compile(r"<!-- (\w+)(?: (\w+))? -->\n(?:(?!<!-- ).*\n)*?<!-- end -->\n")
_EVERYWHERE = frozenset({"400", "401", "403", "406", "408", "413", "414", "415", "423", "429", "431", "500", "503"})


@cache
def document() -> Mapping[str, Any]:
    """The document as it is committed."""
    return document_of(ROUTES, SERVER)


def openapi_file() -> str:
    """The document as a file."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1).decode() + "\n"


def reference_pages() -> dict[str, Callable[[], str]]:
    """Every page of the reference that has marks, by its path below `docs`."""
    pages = sorted(path for path in REFERENCE.glob("*.md") if _MARKED.search(path.read_text(encoding="utf-8")))
    return {f"reference/{path.name}": _page(path) for path in pages}


def _page(path: Path) -> Callable[[], str]:
    return lambda: _MARKED.sub(_filled, path.read_text(encoding="utf-8"))


def _filled(match: re.Match[str]) -> str:
    kind, name = match.groups()
    begin = match[0].partition("\n")[0]
    return f"{begin}\n\n{_TABLES[kind](name)}\n<!-- end -->\n"


def _operations(tag: str) -> str:
    rows = "".join(
        f"| {_cell(summary)} | `{method} {path}` | {scope} | {statuses} |\n"
        for summary, method, path, scope, statuses in _operations_of(tag)
    )
    return f"| | address | scope | statuses |\n| --- | --- | --- | --- |\n{rows}"


def _operations_of(tag: str) -> Iterator[tuple[str, str, str, str, str]]:
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            if tag in operation["tags"]:
                needed = operation.get("x-required-scope")
                scope = f"`{needed['resource']}`, {needed['access']}" if needed else "none"
                statuses = ", ".join(status for status in operation["responses"] if status not in _EVERYWHERE)
                yield operation["summary"], method.upper(), path, scope, statuses


def _fields(name: str) -> str:
    components = document()["components"]["schemas"]
    rows = "".join(
        f"| `{field.path}` | {_cell(field.words)} | {'yes' if field.is_required else ''} | {_cell(field.description)} |\n"
        for field in fields_of(components[name], components)
        if field.description != READ_ONLY
    )
    return f"| field | value | always | meaning |\n| --- | --- | --- | --- |\n{rows}"


def _request(name: str) -> str:
    return _fields(name).replace("| always |", "| required |", 1)


def _parameters(operation_id: str) -> str:
    rows = "".join(
        f"| `{parameter['name']}` | {_cell(parameter['description'])} |\n"
        for item in document()["paths"].values()
        for operation in item.values()
        if operation["operationId"] == operation_id
        for parameter in operation["parameters"]
        if "$ref" not in parameter
    )
    return f"| parameter | meaning |\n| --- | --- |\n{rows}"


def _statuses(_: str) -> str:
    kinds = {kind.status: kind for kind in reversed(list(answered()))}
    rows = "".join(
        f"| {status} | {title_of(status)} | {_cell((kinds[status].__doc__ or '').strip())} | {_where(str(status))} |\n"
        for status in sorted(kinds)
    )
    return f"| status | title | meaning | answered by |\n| --- | --- | --- | --- |\n{rows}"


def _where(status: str) -> str:
    operations = [operation for item in document()["paths"].values() for operation in item.values()]
    having = [operation["operationId"] for operation in operations if status in operation["responses"]]
    if not having:
        return "any address, for a method that it does not know"
    return "all" if len(having) == len(operations) else f"{len(having)} of {len(operations)} operations"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_TABLES: Mapping[str, Callable[[str], str]] = {
    "operations": _operations,
    "request": _request,
    "response": _fields,
    "parameters": _parameters,
    "statuses": _statuses,
}
