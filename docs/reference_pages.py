"""Tables of the reference, written between two marks of its pages, from the OpenAPI document and the table of error codes.

`<!-- operations queues -->`, `<!-- request QueueBody -->`, `<!-- response QueueView -->`, `<!-- parameters list_queues -->`,
`<!-- codes -->`, `<!-- failures -->`: each up to the next `<!-- end -->`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec

from discue.api.openapi.document import document_of
from discue.api.structs import READ_ONLY
from discue.domain.attempts import FailureKind
from discue.domain.errors import REASONS
from discue.guides.operations import fields_of
from discue.product import ROUTES

REFERENCE = Path(__file__).parent / "reference"
SERVER = "/v1"
"""Server of the committed document. It is relative: the document is read next to any service."""

FAILURES: dict[str, str] = {
    "status": "The status was not `2xx`.",
    "redirect": "The response was a redirect, which is never followed.",
    "resolve": "The host name could not be resolved.",
    "refused_address": "The host has no address that requests may go to; see `allow_private_targets`.",
    "connect": "No connection could be made.",
    "connect_timeout": "Connecting took longer than `connect_timeout_seconds`, or until the message expired.",
    "tls": "The TLS handshake failed, or the certificate is not valid for the host.",
    "timeout": "The attempt took longer than its timeout, response body included.",
    "reset": "The connection broke before the response was complete.",
    "protocol": "The response is not HTTP.",
    "response_too_large": "The response headers exceed 64 KiB.",
    "authentication": "No access token or usable certificate for the listener's `authentication`, or it rejected a cached token.",
    "egress_proxy": "The operator's `egress_proxy` failed. Only listener tests report it: a delivery waits instead.",
    "internal": "A fault of this service: it was stopped, or could open no connection.",
    "rejected": "The consumer rejected the pulled message.",
    "lease_expired": "The consumer did not answer before its lease ended.",
}
"""Meaning of each reason of a failed attempt."""

_SHORT_TYPES = (
    (r"integer, from 0, to 253402300799999", "time"),
    (r"string, `\^\[0-9A-Za-z\]\{21\}\$`", "id"),
    (r"string, `\^\[A-Za-z0-9\._/-\]\{\d+,64\}\$`", "alias"),
    (r"string, at least 4 characters, at most 253 characters, `[^`]*`", "URL"),
    (r"string, at most 255 characters, `\^\[!#\$[^\]]*\]\+/.*\$`", "media type"),
    (r"string, `\^\(\?:\[A-Za-z0-9\+/\]\{4\}.*\$`", "base64 string"),
    (r"at least (\d+) characters, at most (\d+) characters", r"\1 to \2 characters"),
    (r"from ([\d.]+), to ([\d.]+)", r"\1 to \2"),
)

_MARKED = re.compile(r"<!-- (\w+)(?: (\w+))? -->\n(?:(?!<!-- ).*\n)*?<!-- end -->\n")
_EVERYWHERE = frozenset({"400", "401", "403", "406", "408", "413", "414", "415", "423", "429", "431", "500", "503"})


@cache
def document() -> Mapping[str, Any]:
    """Return the OpenAPI document as it is committed."""
    return document_of(ROUTES, SERVER)


def openapi_file() -> str:
    """Return the OpenAPI document as the text of its file."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1).decode() + "\n"


def reference_pages() -> dict[str, Callable[[], str]]:
    """Return the function that writes each page with marks, by its path below `docs`."""
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
    return f"| | path | scope | statuses |\n| --- | --- | --- | --- |\n{rows}"


def _operations_of(tag: str) -> Iterator[tuple[str, str, str, str, str]]:
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            if tag in operation["tags"] and "x-alias-of" not in operation:
                needed = operation.get("x-required-scope")
                scope = f"`{needed['resource']}`, {needed['access']}" if needed else "none"
                statuses = ", ".join(status for status in operation["responses"] if status not in _EVERYWHERE)
                yield operation["summary"], method.upper(), path, scope, statuses


def _fields(name: str) -> str:
    components = document()["components"]["schemas"]
    rows = "".join(
        f"| `{field.path}` | {_type(field.words)} | {'yes' if field.is_required else ''} | {_cell(field.description)} |\n"
        for field in fields_of(components[name], components)
        if field.description != READ_ONLY
    )
    return f"| field | type | always | meaning |\n| --- | --- | --- | --- |\n{rows}"


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


def _codes(_: str) -> str:
    rows = "".join(
        f"| `{code}` | {reason.status} | {_cell(reason.meaning)} | {_cell(reason.remedy)} |\n"
        for code, reason in REASONS.items()
    )
    return f"| code | status | meaning | what to do |\n| --- | --- | --- | --- |\n{rows}"


def _failures(_: str) -> str:
    rows = "".join(f"| `{kind}` | {_cell(FAILURES[kind])} |\n" for kind in get_args(FailureKind) if kind)
    return f"| `error` | meaning |\n| --- | --- |\n{rows}"


def _type(words: str) -> str:
    """Return the type of a field with the short names that the conventions of the reference define."""
    for pattern, name in _SHORT_TYPES:
        words = re.sub(pattern, name, words)
    return _cell(words)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_TABLES: Mapping[str, Callable[[str], str]] = {
    "operations": _operations,
    "request": _request,
    "response": _fields,
    "parameters": _parameters,
    "codes": _codes,
    "failures": _failures,
}
