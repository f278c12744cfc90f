"""The event types that a customer can receive: queues with their schemas, each with an example."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from discue.dashboard.fields import indented
from discue.dashboard.formats import SHOWN_BYTES, beginning
from discue.dashboard.portal import sessions
from discue.dashboard.portal.route import PortalRoute, of_portal
from discue.dashboard.visit import Page, Visit
from discue.domain.json_example import NoExample, example_of
from discue.domain.model import Queue
from discue.domain.reservations import HTML_PAGE
from discue.store.time_slice import TimeSlice

SHOWN_TYPES: Final = 10
"""Event types on one page. The size of a page is that of their schemas."""

_LONGEST_NUMBER: Final = 4


@dataclass(frozen=True, slots=True)
class EventType:
    """An event type, with its schema and an example as text; "" for none."""

    queue: Queue
    schema: str
    is_cut: bool
    """Whether `schema` is only the beginning of the schema."""
    example: str


async def show(visit: Visit) -> Page:
    details = of_portal(visit).details
    names = await sessions.event_types(visit.control, details)
    number, ids = _number(visit.query.get("page", ""), names), list(names)
    shown = ids[(number - 1) * SHOWN_TYPES : number * SHOWN_TYPES]
    types, time_slice = [], TimeSlice()
    for queue in await sessions.schemas_of(visit.control, details, shown):
        types.append(event_type_of(queue))
        # A large schema takes some milliseconds.
        await time_slice.pause_if_over()
    values = {"types": types, "number": number, "pages": _pages(names)}
    return Page("event_types.html", "Event types", values)


def _pages(names: Mapping[str, str]) -> int:
    return max(1, -(-len(names) // SHOWN_TYPES))


def _number(text: str, names: Mapping[str, str]) -> int:
    """Return the number of the page that a query asks for: the first, unless there is such a page."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER
    return int(text) if is_number and int(text) in range(1, _pages(names) + 1) else 1


def event_type_of(queue: Queue) -> EventType:
    """Return the schema of a queue and an example of its messages, as far as one follows from the schema."""
    schema = _schema_of(queue)
    if schema is None:
        return EventType(queue, "", is_cut=False, example="")
    whole, example = indented(queue.schema or ""), _example_text(schema)
    text = beginning(whole, SHOWN_BYTES)
    # A part of an example is none.
    is_short = beginning(example, SHOWN_BYTES) == example
    return EventType(queue, text, is_cut=text != whole, example=example if is_short else "")


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
        return indented(msgspec.json.encode(example_of(schema)).decode())
    except NoExample:
        return ""


ROUTES: Final = (PortalRoute("/event-types", show, reads=HTML_PAGE),)
