"""The page about log events, and the JSON Schema of a line, from the table of events."""

import json

from discue.observability.log_events import COMMON, EVENTS, FIELDS, line_schema

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


def log_events_page() -> str:
    """Return the page."""
    common = "".join(f"| `{name}` | {schema['description']} |\n" for name, schema in COMMON.items())
    events = "".join(
        f"| `{event.name}` | {' or '.join(event.levels)} | {event.meaning} | {_fields(event.fields, event.optional)} |\n"
        for event in EVENTS
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
    schema = line_schema()
    events = ",\n".join(f"    {json.dumps(name)}: {json.dumps(event)}" for name, event in schema.pop("$defs").items())
    return f'{json.dumps(schema, indent=2)[:-2]},\n  "$defs": {{\n{events}\n  }}\n}}\n'


def _fields(always: tuple[str, ...], sometimes: tuple[str, ...]) -> str:
    return ", ".join([*(f"`{name}`" for name in always), *(f"*`{name}`*" for name in sometimes)])


def _type(kind: str | tuple[str, ...]) -> str:
    return " or ".join(kind) if isinstance(kind, tuple) else kind
