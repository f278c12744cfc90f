"""`/events`, `/stats` and `/limits`."""

from functools import partial
from typing import Annotated, Any, Final, get_args
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.pagination import (
    EVENT_PAGES,
    LARGEST_PAGE,
    Parameter,
    id_parameter,
    number_parameter,
    time_parameter,
)
from discue.api.resource import links_of, paged
from discue.api.route import BATCH_BYTES, BATCH_MESSAGES, GET, Call, Needs, Route
from discue.api.structs import EXAMPLE_IDS, PUBLIC_ID, ApiResponse, doc, id_doc, instant_doc
from discue.auth.rate_limiter import rate_limit_key
from discue.control import usage
from discue.control.organizations import HIGHEST_RATE
from discue.control.queues import LARGEST_MESSAGE_BYTES
from discue.control.usage import EventSelection, event_position
from discue.domain import quotas
from discue.domain.clock import LAST_INSTANT
from discue.domain.egress import PrivateTargets
from discue.domain.ids import millisecond_in
from discue.domain.reservations import EVENTS, RESOURCE
from discue.store.events import EventTopic, UsageEvent
from discue.store.time_slice import TimeSlice

_READ: Final = Needs("stats", "read")
_TOPICS: Final = get_args(EventTopic)
_DEFAULTS: Final = EventSelection()
_EVENTS: Final = Parameter(
    "events",
    "The kind of events.",
    {"type": "string", "enum": list(_TOPICS), "default": _DEFAULTS.topic},
    "messages",
    field="topic",
)
_CREATED_AFTER: Final = time_parameter(
    "created_after",
    "Only events later than this, in milliseconds since the epoch. Default: 24 hours ago. Changes are kept for "
    "`event_retention_seconds` (default: 90 days), other events as long as their message or attempt.",
    1_795_536_280_000,
)
_LIMIT: Final = number_parameter("limit", "Maximum number of events.", range(1, 1_001), _DEFAULTS.limit)
_START_AFTER: Final = time_parameter(
    "startAfter",
    "With `startAfterId`: only events after the one with this `stored_at` (milliseconds since the epoch) and id, "
    "oldest first. No effect alone.",
    1_795_536_280_000,
    LAST_INSTANT,
)
_START_AFTER_ID: Final = id_parameter("startAfterId", "With `startAfter`: the id of that event. No effect alone.")


class EventClientView(msgspec.Struct, frozen=True):
    """The organization of an event."""

    id: Annotated[str, id_doc("queue_id", "The id, assigned at creation. Ids sort by time.")]


class EventSubjectView(msgspec.Struct, frozen=True):
    """The subject of an event."""

    id: Annotated[str, doc("Id of the resource.", EXAMPLE_IDS["queue_id"])]
    name: Annotated[str, doc("Alias of the resource at that time.", "orders")]


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """A usage event. Its subject is in the field named after its kind."""

    id: Annotated[str, doc("The id of the event.", "0VbuJFW500I0yWwoGXXf7", pattern=PUBLIC_ID)]
    type: Annotated[str, doc("The type of the event.", "queue_added", pattern="^[a-z_]+$")]
    stored_at: Annotated[int, instant_doc("When it happened")]
    client: Annotated[EventClientView, doc("The organization.")]
    api_key_id: Annotated[str | UnsetType, id_doc("api_key_id", "The id of the API key that was used, if known.")] = (
        UNSET
    )
    user_id: Annotated[
        str | UnsetType,
        id_doc("user_id", "The id of the user, or of the session of a customer in the portal, who did it, if known."),
    ] = UNSET
    message: Annotated[
        EventSubjectView | UnsetType, doc("The message.", {"id": EXAMPLE_IDS["message_id"], "name": "order-17"})
    ] = UNSET
    api_key: Annotated[EventSubjectView | UnsetType, doc("The API key.")] = UNSET
    queue: Annotated[EventSubjectView | UnsetType, doc("The queue.")] = UNSET
    listener: Annotated[EventSubjectView | UnsetType, doc("The listener.")] = UNSET
    organization: Annotated[EventSubjectView | UnsetType, doc("The organization.")] = UNSET
    domain: Annotated[EventSubjectView | UnsetType, doc("The domain.")] = UNSET
    user: Annotated[EventSubjectView | UnsetType, doc("The user.")] = UNSET
    topic: Annotated[EventSubjectView | UnsetType, doc("The topic.")] = UNSET
    channel: Annotated[EventSubjectView | UnsetType, doc("The channel.")] = UNSET
    event_type: Annotated[EventSubjectView | UnsetType, doc("The event type.")] = UNSET
    source: Annotated[EventSubjectView | UnsetType, doc("The source.")] = UNSET
    erasure: Annotated[EventSubjectView | UnsetType, doc("The queue of the erasure.")] = UNSET
    address: Annotated[
        EventSubjectView | UnsetType, doc("The client address of a lockout of unknown keys or sign-ins.")
    ] = UNSET
    session: Annotated[EventSubjectView | UnsetType, doc("The session of a user, by the user's email.")] = UNSET
    second_factor: Annotated[EventSubjectView | UnsetType, doc("The user whose second factor it is.")] = UNSET
    portal_session: Annotated[
        EventSubjectView | UnsetType, doc("The session of a customer in the portal, by the customer.")
    ] = UNSET


class EventsResponse(ApiResponse, kw_only=True, frozen=True):
    events: Annotated[list[EventView], doc("The events.")]


class EventCountsView(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of events by type."""

    api_key_added: Annotated[int, doc("API keys created.", 1, minimum=0)] = 0
    api_key_updated: Annotated[int, doc("API keys changed.", 1, minimum=0)] = 0
    api_key_deleted: Annotated[int, doc("API keys deleted.", 1, minimum=0)] = 0
    queue_added: Annotated[int, doc("Queues created.", 1, minimum=0)] = 0
    queue_updated: Annotated[int, doc("Queues changed.", 1, minimum=0)] = 0
    queue_deleted: Annotated[int, doc("Queues deleted.", 1, minimum=0)] = 0
    listener_added: Annotated[int, doc("Listeners created.", 1, minimum=0)] = 0
    listener_updated: Annotated[int, doc("Listeners changed.", 1, minimum=0)] = 0
    listener_deleted: Annotated[int, doc("Listeners deleted.", 1, minimum=0)] = 0
    message_added: Annotated[int, doc("Messages published.", 17, minimum=0)] = 0
    message_published_ok: Annotated[int, doc("Attempts acknowledged.", 16, minimum=0)] = 0
    message_published_not_ok: Annotated[int, doc("Attempts failed.", 1, minimum=0)] = 0


class EventWindowsView(msgspec.Struct, frozen=True):
    """Numbers of events by period."""

    last_24_hours: Annotated[EventCountsView, doc("The last 24 hours.")]
    last_1_hours: Annotated[EventCountsView, doc("The last hour.")]
    today_so_far: Annotated[EventCountsView, doc("Since midnight UTC.")]


class StatisticsResponse(ApiResponse, kw_only=True, frozen=True):
    aggregated_api_usage_events: Annotated[EventWindowsView, doc("Numbers of events by period.")]


class RateLimitStatusView(msgspec.Struct, frozen=True):
    """The rate limit of an API key."""

    limit: Annotated[
        int, doc(f"Requests per minute; {HIGHEST_RATE}: unlimited.", 60_000, minimum=0, maximum=HIGHEST_RATE)
    ]
    remaining: Annotated[int, doc("Requests left in this window.", 59_999, minimum=0, maximum=HIGHEST_RATE)]
    reset_at: Annotated[int, instant_doc("When the window ends", 1_795_536_300_000)]


class QuotaView(msgspec.Struct, frozen=True):
    """A quota and its use. Without a quota, resources are counted up to 10,000."""

    limit: Annotated[int | None, doc("The quota; null: none.", 100, minimum=0)]
    used: Annotated[int, doc("How much of it is used.", 3, minimum=0)]


class QuotaUsageView(msgspec.Struct, frozen=True):
    """The quotas of an organization and their use."""

    queues: Annotated[QuotaView, doc("Queues.")]
    listeners: Annotated[QuotaView, doc("Listeners of all queues.")]
    topics: Annotated[QuotaView, doc("Topics.")]
    domains: Annotated[QuotaView, doc("Domains.")]
    api_keys: Annotated[QuotaView, doc("API keys.")]
    users: Annotated[QuotaView, doc("Users.")]
    portal_sessions: Annotated[QuotaView, doc("Portal sessions.")]
    creations_a_day: Annotated[QuotaView, doc("Resources created today (UTC).")]
    messages_a_day: Annotated[QuotaView, doc("Messages published today (UTC).")]
    bytes_stored: Annotated[QuotaView, doc("Size of all messages, schedules and stored responses, in bytes.")]


class LimitsView(msgspec.Struct, frozen=True):
    """The limits of an API key, its organization, and a request."""

    rate_limit: Annotated[RateLimitStatusView, doc("The rate limit of the API key.")]
    quotas: Annotated[QuotaUsageView, doc("The quotas of the organization. Set by the operator.")]
    retention: Annotated[
        int,
        doc("How long messages are kept in queues without a retention of their own, in seconds.", 604_800, minimum=0),
    ]
    max_message_bytes: Annotated[
        int, doc("Maximum size of a message, in bytes.", 262_144, minimum=1, maximum=LARGEST_MESSAGE_BYTES)
    ]
    max_batch_messages: Annotated[int, doc("Maximum number of messages in a batch.", 1_000, minimum=0)]
    max_batch_bytes: Annotated[int, doc("Maximum size of a batch, in bytes.", 8_388_608, minimum=0)]
    max_per_page: Annotated[int, doc("Maximum number of items per page.", 100, minimum=0)]
    private_targets: Annotated[
        PrivateTargets,
        doc(
            "Whether listeners can have addresses that are not public: all, those in `some` networks, or none. Set by "
            "the operator.",
            "none",
        ),
    ]


class LimitsResponse(ApiResponse, kw_only=True, frozen=True):
    limits: Annotated[LimitsView, doc("The limits.")]


async def list_events(call: Call) -> EventsResponse:
    """List usage events.

    Events, newest first. `_links.next` leads to later events. It goes back a few seconds, because
    events can be stored slightly later than their ids say, so some events may be repeated.

    With `page`, `per_page`, `after` or `before`, it pages like other lists: `_links.next` leads to earlier events.
    """
    given = call.given
    is_restricted = not call.principal.allows_all("events", "read")
    view = partial(
        _event_view,
        organization=call.principal.organization_public_id,
        is_restricted=is_restricted,
    )
    if any(given[parameter.name] is not None for parameter in EVENT_PAGES):
        for parameter in (_LIMIT, _START_AFTER, _START_AFTER_ID):
            if given[parameter.name] != parameter.schema.get("default"):
                raise parameter.wrong("cannot be combined with page, per_page, after and before")
        call.parameters = (_EVENTS, _CREATED_AFTER, *EVENT_PAGES)
        fetch = partial(usage.list_of_events, call.control, call.principal)
        return await paged(call, EventsResponse, fetch, view, links_items=False)
    stored_at, public_id = given["startAfter"], given["startAfterId"]
    after = None if stored_at is None or public_id is None else event_position(stored_at, public_id)
    selection = EventSelection(given["events"], given["limit"], after, given["created_after"])
    page = await usage.page_of_events(call.control, call.principal, selection)
    views, time_slice = [], TimeSlice()
    for event in page.events:
        views.append(view(event))
        await time_slice.pause_if_over()
    # Even the link of a page without events leads on: a client that follows it gets the events that come later.
    links = links_of(_events_url(call, selection, after), following=_events_url(call, selection, page.onward))
    return EventsResponse(events=views, links=links)


def _events_url(call: Call, selection: EventSelection, after: str | None) -> str:
    query: dict[str, str | int] = {}
    if selection.topic != _DEFAULTS.topic:
        query["events"] = selection.topic
    if selection.limit != _DEFAULTS.limit:
        query["limit"] = selection.limit
    if selection.created_after is not None:
        query["created_after"] = selection.created_after
    if after is not None:
        query |= {"startAfter": millisecond_in(after), "startAfterId": after}
    return f"{call.url}?{urlencode(query)}" if query else call.url


def _event_view(event: UsageEvent, *, organization: str, is_restricted: bool) -> EventView:
    """Return what clients see of an event. A key restricted to targets does not see other keys and listeners."""
    field = event.subject
    if event.subject == "lockout":
        # The lockout of a key, of a user, or of unknown keys or sign-ins at an address. Only emails contain `@`.
        field = "user" if "@" in event.name else "api_key" if event.ref else "address"
    subjects: dict[str, Any] = {field: EventSubjectView(event.ref or event.name, event.name)}
    # The log of events is one for the organization: without this, a key would see what other keys do.
    if event.listener is not None and not is_restricted:
        subjects["listener"] = EventSubjectView(*event.listener)
    if event.client and not is_restricted:
        subjects["api_key_id"] = event.client
    if event.user and not is_restricted:
        subjects["user_id"] = event.user
    return EventView(
        id=event.id, type=event.type, stored_at=event.stored_at, client=EventClientView(organization), **subjects
    )


async def get_statistics(call: Call) -> StatisticsResponse:
    """Count usage events. Counts have a resolution of five minutes: a period starts at a multiple of five minutes."""
    found = await usage.event_counts(call.control, call.principal)
    windows = msgspec.convert(found, EventWindowsView)
    return StatisticsResponse(aggregated_api_usage_events=windows, links=call.links())


async def get_limits(call: Call) -> LimitsResponse:
    """Get limits and their use. The rate limit of the API key, and the quotas of its organization."""
    settings = call.control.settings
    use = await usage.used_quotas(call.control, call.principal)
    rate = call.services.rates.peek(rate_limit_key(use.organization, call.principal, settings))
    views = {name: QuotaView(getattr(use.quotas, name), use.used[name]) for name in quotas.NAMES}
    view = LimitsView(
        rate_limit=RateLimitStatusView(rate.limit, rate.remaining, rate.reset_at * 1_000),
        quotas=QuotaUsageView(**views),
        retention=use.organization.settings.get("retention_seconds", settings.retention_seconds),
        max_message_bytes=settings.max_message_bytes,
        max_batch_messages=BATCH_MESSAGES,
        max_batch_bytes=BATCH_BYTES,
        max_per_page=LARGEST_PAGE,
        private_targets=call.control.egress.private_targets,
    )
    return LimitsResponse(limits=view, links=call.links())


ROUTES = (
    Route(
        GET,
        "/events",
        list_events,
        Needs("events", "read", listing=True),
        query=(_EVENTS, _CREATED_AFTER, _LIMIT, _START_AFTER, _START_AFTER_ID, *EVENT_PAGES),
        reads=EVENTS,
    ),
    Route(GET, "/stats/messages", get_statistics, _READ, reads=RESOURCE),
    Route(GET, "/limits", get_limits, _READ, reads=RESOURCE),
)
