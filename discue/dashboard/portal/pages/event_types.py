"""The event types that a customer can receive: queues with their schemas, each with an example."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from discue.control import portal
from discue.dashboard.portal.route import PortalRoute, of_portal
from discue.dashboard.visit import Page, Visit
from discue.domain.json_example import NoExample, example_of
from discue.domain.model import Queue


@dataclass(frozen=True, slots=True)
class EventType:
    """An event type, with its schema and an example as text; "" for none."""

    queue: Queue
    schema: str
    example: str


async def show(visit: Visit) -> Page:
    found = await portal.event_types(visit.control, of_portal(visit).details)
    return Page("event_types.html", "Event types", {"types": [event_type_of(queue) for queue in found]})


def event_type_of(queue: Queue) -> EventType:
    """Return the schema of a queue and an example of its messages, as far as one follows from the schema."""
    schema = _schema_of(queue)
    return EventType(queue, "", "") if schema is None else EventType(queue, _pretty(schema), _example_text(schema))


def example_of_queue(queue: Queue) -> str:
    """Return an example of the messages of a queue as text; "" if none follows from its schema."""
    schema = _schema_of(queue)
    return "" if schema is None else _example_text(schema)


def _schema_of(queue: Queue) -> Any:
    """Return the JSON Schema of a queue; None if it has none."""
    if queue.schema is None or queue.schema_language != "json_schema":
        return None
    return msgspec.json.decode(queue.schema)


def _example_text(schema: Any) -> str:
    """Return an example as text; "" if the schema has a rule that examples do not follow."""
    try:
        return _pretty(example_of(schema))
    except NoExample:
        return ""


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


ROUTES: Final = (PortalRoute("/event-types", show),)
