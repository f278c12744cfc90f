"""`/events`."""

from typing import Any, Final, get_args

from discue.api import wire
from discue.api.links import Links, links_of
from discue.api.parameters import Parameter
from discue.api.query import Parameters, id_in, number_in, parameters_of, single_in, wrong
from discue.api.route import Call, Needs, Route
from discue.control import usage
from discue.control.usage import EventPage, EventSelection, event_position
from discue.domain.clock import LAST_INSTANT
from discue.domain.ids import millisecond_in
from discue.store.events import EventTopic, UsageEvent

_LIST = Needs("events", "read", listing=True)

LARGEST_LIMIT: Final = 1_000
_TOPICS: Final[tuple[EventTopic, ...]] = get_args(EventTopic)
_DEFAULTS: Final = EventSelection()

_QUERY: Final = (
    Parameter(
        "events",
        "What the events are about.",
        {"type": "string", "enum": list(_TOPICS), "default": _DEFAULTS.topic},
        "messages",
    ),
    Parameter(
        "limit",
        "How many there are at most.",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": _DEFAULTS.limit},
        100,
    ),
    Parameter(
        "startAfter",
        "With `startAfterId`: only what follows the element that was stored then (milliseconds since the epoch), "
        "oldest first. Alone it has no effect.",
        {"type": "integer", "minimum": 0, "maximum": LAST_INSTANT},
        1_795_536_280_000,
    ),
    Parameter(
        "startAfterId",
        "With `startAfter`: the id of that element. Alone it has no effect.",
        {"type": "string", "pattern": "^[0-9A-Za-z]{21}$"},
        "0VbuJFW500I0yWwoGXXf6",
    ),
)


async def list_all(call: Call) -> wire.Events:
    selection = selection_of(call.query)
    page = await usage.page_of_events(call.control, call.principal, selection)
    is_confined = not call.principal.allows_all("events", "read")
    shown = [_shown(event, call.principal.organization_public_id, is_confined=is_confined) for event in page.events]
    return wire.Events(events=shown, links=_links(call, selection, page))


def selection_of(query: str) -> EventSelection:
    """What the query asks for. Raises BadRequest naming the parameter."""
    parameters = parameters_of(query)
    topic = single_in(parameters, "events") or _DEFAULTS.topic
    if topic not in _TOPICS:
        raise wrong("events", f"must be one of {', '.join(_TOPICS)}")
    limit = number_in(parameters, "limit", _DEFAULTS.limit, LARGEST_LIMIT)
    stored_at, public_id = _instant_in(parameters, "startAfter"), id_in(parameters, "startAfterId")
    if stored_at is None or public_id is None:
        return EventSelection(topic, limit)
    return EventSelection(topic, limit, event_position(stored_at, public_id))


def _instant_in(parameters: Parameters, name: str) -> int | None:
    text = single_in(parameters, name)
    if text is None:
        return None
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(LAST_INSTANT))
    if not digits or int(text) > LAST_INSTANT:
        raise wrong(name, "must be a time in milliseconds since the epoch")
    return int(text)


def _links(call: Call, selection: EventSelection, page: EventPage) -> Links:
    chosen = [f"events={selection.topic}"] if selection.topic != _DEFAULTS.topic else []
    chosen += [f"limit={selection.limit}"] if selection.limit != _DEFAULTS.limit else []
    own, onward = _url(call, chosen, selection.after), _url(call, chosen, page.onward)
    return links_of(own, following=onward)


def _url(call: Call, chosen: list[str], after: str | None) -> str:
    place = [] if after is None else [f"startAfter={millisecond_in(after)}", f"startAfterId={after}"]
    query = "&".join([*chosen, *place])
    return f"{call.url}?{query}" if query else call.url


def _shown(event: UsageEvent, organization: str, *, is_confined: bool) -> wire.EventShown:
    """A key that is confined to targets does not hear of others: of who did it, and of whom it was published to."""
    named: dict[str, Any] = {_member(event): wire.EventSubject(event.ref or event.name, event.name)}
    if event.listener is not None and not is_confined:
        named["listener"] = wire.EventSubject(*event.listener)
    if event.client and not is_confined:
        named["api_key_id"] = event.client
    return wire.EventShown(
        id=event.id, type=event.type, stored_at=event.stored_at, client=wire.EventClient(organization), **named
    )


def _member(event: UsageEvent) -> str:
    """Somebody is locked out either by the key that was misused, or by an address."""
    if event.subject == "lockout":
        return "api_key" if event.ref else "address"
    return event.subject


ROUTES = (
    Route(
        methods=("GET",),
        path="/events",
        handler=list_all,
        response=wire.Events,
        needs=_LIST,
        query=_QUERY,
        summary="List what happened",
        description=(
            "The past 24 hours, newest first. `_links.next` leads to what happens from now on: it goes back a few "
            "seconds, because an event can be stored a little later than its id says, so some may come twice."
        ),
    ),
)
