"""The page about log events, and the JSON Schema of a line, from the table of events."""

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import discue
from discue.observability.log_events import (
    COMMON,
    FIELDS,
    LIBRARY,
    MAPPED_FIELDS,
    MEANINGS,
    Level,
    LogEvent,
    line_schema,
)

_INTRODUCTION = """# Log events

<!-- Written by `make docs` from discue/observability/log_events.py. -->

For operators who search logs or alert on them. With `log_format = "json"`, each line is one JSON object:

```json
{"time":"2026-11-27T18:20:14.031Z","level":"warning","event":"attempt","message":"0Vbva8VC00enQiJ4MzFhE","listener":"0Vbva8HN00XBzdBXmzpyA","queue":"0Vbva8Ac00QDKvIUw2ttr","seq":17,"number":1,"status":503,"error":"status","took_ms":12,"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"5bd6c1a17f2e9c04","detail":"The response has status 503."}
```

The JSON Schema of a line is `docs/log-events.json` in the repository. With `log_format = "text"`, the same fields are
written as `name=value`. The names of events and fields are part of the interface: the
[changelog](../CHANGELOG.md) says when one changes.

"""

_NOTES = """
- `exception` and `trace`, its traceback, are on lines about unexpected errors.
- `truncated` is true if the line was longer than 8 KiB: values are cut, or fields left out.
- `repeated` says how often a warning or error came again within ten seconds, if only its time differs.
- `trace_id` is on lines about a request or message that belongs to a [trace](tracing.md).
- Secrets are `[redacted]`; of an API key, the first 12 characters are kept.

"""


_LEVELS: Final[dict[str, Level]] = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
}


class Line(NamedTuple):
    """A call of the program that writes a line."""

    place: str
    event: str
    level: Level
    fields: tuple[str, ...]
    is_complete: bool
    """Whether all fields are in the call, and none in a mapping."""
    has_traceback: bool


def log_events_page() -> str:
    """Return the page."""
    found = log_events()
    common = "".join(f"| `{name}` | {schema['description']} |\n" for name, schema in COMMON.items())
    events = "".join(
        f"| `{event.name}` | {' or '.join(event.levels)} | {event.meaning} | {_fields(event.fields, event.optional)} |\n"
        for event in found
    )
    fields = "".join(f"| `{name}` | {_type(field.type)} | {field.meaning} |\n" for name, field in FIELDS.items())
    return (
        f"{_INTRODUCTION}Every line has:\n\n| field | meaning |\n| --- | --- |\n{common}{_NOTES}"
        "## Events\n\nFields in italics are not on every line.\n\n"
        f"| event | level | meaning | fields |\n| --- | --- | --- | --- |\n{events}\n"
        f"## Fields\n\n| field | type | meaning |\n| --- | --- | --- |\n{fields}"
    )


def log_schema_file() -> str:
    """Return the JSON Schema of a line, with a line of its own for each event."""
    schema = line_schema(log_events())
    events = ",\n".join(f"    {json.dumps(name)}: {json.dumps(event)}" for name, event in schema.pop("$defs").items())
    return f'{json.dumps(schema, indent=2)[:-2]},\n  "$defs": {{\n{events}\n  }}\n}}\n'


@cache
def log_events() -> tuple[LogEvent, ...]:
    """Return the events, in alphabetical order, with the levels and fields of the lines that the program writes."""
    by_name = dict[str, list[Line]]()
    for line in lines():
        by_name.setdefault(line.event, []).append(line)
    return tuple(sorted([LIBRARY, *(_event(name, found) for name, found in by_name.items())]))


def _event(name: str, found: list[Line]) -> LogEvent:
    named = dict.fromkeys(field for line in found for field in line.fields)
    always = tuple(field for field in named if all(field in line.fields for line in found))
    optional = tuple(field for field in named if field not in always)
    if not all(line.is_complete for line in found):
        always, optional = MAPPED_FIELDS[name]
    levels = tuple(level for level in dict.fromkeys(_LEVELS.values()) if level in {line.level for line in found})
    return LogEvent(name, levels, MEANINGS[name], always, optional, any(line.has_traceback for line in found))


@cache
def lines() -> tuple[Line, ...]:
    """Return the calls of the program that write a line."""
    return tuple(_lines())


def _lines() -> Iterator[Line]:
    root = Path(discue.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield from _lines_of(node, f"{path.relative_to(root)}:{node.lineno}")


def _lines_of(call: ast.Call, place: str) -> Iterator[Line]:
    function = call.func
    if isinstance(function, ast.Name) and function.id == "BackgroundTasks":
        yield from [Line(place, event, "error", (), True, True) for event in _texts(call.args[1])]
    if not isinstance(function, ast.Attribute) or function.attr not in _LEVELS or not call.args:
        return
    if ast.unparse(function.value).rpartition(".")[2] not in {"log", "_log"}:
        return
    names = [keyword.arg for keyword in call.keywords]
    fields = tuple(name for name in names if name is not None and name != "exc_info")
    for event in _texts(call.args[0]):
        yield Line(place, event, _LEVELS[function.attr], fields, None not in names, "exc_info" in names)


def _texts(node: ast.expr) -> list[str]:
    """Return the events that an expression can name."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    # The wrappers themselves, which pass on what their callers name.
    if ast.unparse(node) not in {"event", "self._event"}:
        raise ValueError(f"no name of an event: {ast.unparse(node)}")
    return []


def _fields(always: tuple[str, ...], sometimes: tuple[str, ...]) -> str:
    return ", ".join([*(f"`{name}`" for name in always), *(f"*`{name}`*" for name in sometimes)])


def _type(kind: str | tuple[str, ...]) -> str:
    return " or ".join(kind) if isinstance(kind, tuple) else kind
