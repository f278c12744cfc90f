"""The page about system events: a text, and a table and a JSON Schema for each event from its struct."""

import inspect
import json
from typing import Any

import msgspec

from discue.domain.system_events import EVENTS, MAX_STORED, SystemEvent, type_of

_INTRODUCTION = f"""# System events

<!-- Written by `make docs` from discue/domain/system_events.py. -->

For operators and developers who want to be told when something needs them. Each organization has a queue
`system/events`, to which the service publishes its own events. Attach a listener, as to any queue:

```sh
curl -X PUT https://discue.example.com/v1/queues/system%2Fevents/listeners/alerts \\
  -H "X-API-KEY: $KEY" -H 'Content-Type: application/json' \\
  -d '{{"notify_url": "https://ops.example.com/discue", "types": ["message.missed"]}}'
```

The data of a message is a JSON object with `at` and the `type` of the event, which is also the `type` and the alias of
the message. Without `types` the listener gets all events. A type or pattern that matches no event is `422`, so a typo
cannot silence an alert.

This command posts the events to a Slack channel, each as a sentence. The URL is that of an incoming webhook:

```sh
discue listeners set alerts --slack https://hooks.slack.com/services/… --types 'listener.disabled message.missed'
```

[Transforms](transforms.md) has recipes for other services.

## Behaviour

- Events are messages: delivered at least once, signed, retried, kept and listed like others. An event is stored in the
  commit that stores what it reports. Events can arrive in another order; compare `at`.
- `message.missed` is counted with the misses and follows within seconds, later if the last one of that listener is less
  than a minute old.
- A message is missed after its last attempt: with the default [retries](delivery.md#retries), 3 to 4 days after the first
  one. A failing listener is disabled after 5 days. To learn of an outage within minutes, give the listener a
  `liveness_url`: `listener.inactive` follows the third failed [probe](delivery.md#liveness) in a row.
- To avoid loops, messages that listeners of `system/events` itself miss are not reported. Watch such a listener with
  `listener.inactive` and `listener.disabled`, received by another listener of the queue.
- The key needs the scope `listeners` for the queue; see [API keys](reference/api_keys.md).

## Limits

- Clients cannot publish to the queue (`403`), also not by a schedule or a topic, or delete it (`409`). Of its settings,
  `retention` and `retry` can be changed. No other queue can have its alias.
- The queue and its messages count towards no quota, and not towards the numbers of queues and messages of
  [statistics](reference/statistics.md). Its listeners and their deliveries do.
- An organization has at most {MAX_STORED:,} events. While there are so many, new ones are dropped.
- An organization that an earlier version created gets the queue within a minute after the upgrade. If it has a queue of
  its own with that alias, it gets it within an hour after that queue is renamed or deleted.

## Events
"""


def system_events_page() -> str:
    """Return the page."""
    return _INTRODUCTION + "".join(map(_section, EVENTS))


def _section(event: type[SystemEvent]) -> str:
    schema = schema_of(event)
    rows = "".join(
        f"| `{name}` | {_type(field)} | {field.get('description', '')} |\n"
        for name, field in schema["properties"].items()
        if name != "type"
    )
    text = inspect.cleandoc(event.__doc__ or "").replace("\n\n", "\n").replace("\n", " ")
    code = _written(schema)
    return (
        f"\n### `{type_of(event)}`\n\n{text}\n\n| field | type | meaning |\n| --- | --- | --- |\n{rows}\n"
        f"```json\n{code}\n```\n"
    )


def _written(schema: dict[str, Any]) -> str:
    """Return a schema as text, with a line for each property."""
    properties = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(field)}" for name, field in schema["properties"].items()
    )
    others = "".join(
        f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in schema.items() if name != "properties"
    )
    return f'{{\n{others} "properties": {{\n{properties}\n }}\n}}'


def schema_of(event: type[SystemEvent]) -> dict[str, Any]:
    """Return the JSON Schema of an event, without references."""
    (found,), components = msgspec.json.schema_components([event], ref_template="{name}")
    schema: dict[str, Any] = _inlined(found, components)
    text = inspect.cleandoc(event.__doc__ or "").partition("\n")[0]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": type_of(event),
        "description": text,
    }


def _inlined(node: Any, components: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(each, components) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inlined(components[node["$ref"]], components), **rest}
    if "anyOf" in node and all("enum" in choice for choice in node["anyOf"]):
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return {**rest, "enum": sorted(value for choice in node["anyOf"] for value in choice["enum"])}
    return {key: _inlined(value, components) for key, value in node.items() if key != "title"}


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"array of {field['items']['type']}s"
    if field["type"] == "object" and "properties" in field:
        return "object with " + " and ".join(f"`{name}`" for name in field["properties"])
    return str(field["type"])
