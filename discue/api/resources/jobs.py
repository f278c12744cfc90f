"""Missed messages, their redeliveries, and replays of a part of the queue."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import FILTER_EXAMPLE, TypeShown, filter_given, filter_sent_doc, filter_view
from discue.api.pagination import ALL_MISSED_PAGES, MISSED_GROUP_PAGES, MISSED_PAGES
from discue.api.resource import ResourceKind, by_path, paged, view_of
from discue.api.resources.deliveries import LAST_FAILURE_MSG, LAST_FAILURE_STATUS, last_failure_fields
from discue.api.resources.messages import MESSAGE_ALIAS, MESSAGE_NAME
from discue.api.route import GET, POST, Call, Needs, Route
from discue.api.structs import (
    EXAMPLE_IDS,
    LISTENER_ID,
    MISSED_GROUP,
    NOT_SENT,
    QUEUE_ID,
    ApiResponse,
    AsSent,
    Flag,
    Integer,
    ReferenceView,
    ResourceBody,
    Text,
    View,
    doc,
    id_doc,
    instant_doc,
    number_given,
    text_given,
    within,
)
from discue.control import messages
from discue.control.context import one_of
from discue.control.jobs import REDELIVERIES, REPLAYS, TRIALS, JobResult, RedeliveryParams, ReplayParams
from discue.domain.causes import TEXT_CHARACTERS
from discue.domain.clock import check_unit
from discue.domain.errors import invalid, malformed
from discue.domain.model import MISSED_REASONS, Redelivery, Replay
from discue.domain.reservations import GROUPS, PAGE, RESOURCE
from discue.store.missed_groups import MissedGroup
from discue.store.missed_scan import POSITION_PATTERN, MissedMessage

PATH = "/queues/{queue_id}/listeners/{listener_id}"
_MESSAGES_AT_MOST = 1_000
_TIMES: Final = range(1_000_000_000_000_000)
_RATES: Final = range(1, 10_001)
_TIME: Final = within(_TIMES)
_MESSAGE_RATE: Final = doc("Maximum number of messages per second.", 100, **within(_RATES))
_TRIAL: Final = doc(
    "Number of messages to try first: the oldest are sent one after the other, with one attempt each. The others "
    "become due once all of these are acknowledged. The first failure stops the redelivery.",
    5,
    **within(TRIALS),
)
_DRY_RUN: Final = doc("Whether to return only what would be selected.", False)
_SELECTED: Final = doc("Number selected. Single deliveries outside of ranges are counted up to 100,000.", 17, minimum=0)

_READ = Needs("listeners", "read")
_WRITE = Needs("listeners", "write")


class MissedMessageView(msgspec.Struct, kw_only=True, frozen=True):
    """A message that a listener missed."""

    id: Annotated[str, id_doc("message_id", "The id of the message.")]
    alias: Annotated[str, MESSAGE_ALIAS]
    name: Annotated[str, MESSAGE_NAME]
    queue_id: Annotated[str, QUEUE_ID]
    listener_id: Annotated[str, LISTENER_ID]
    stored_at: Annotated[int, instant_doc("When the message was stored")]
    type: TypeShown = UNSET
    missed_at: Annotated[int, instant_doc("When it was missed", 1_795_795_480_000)]
    reason: Annotated[
        str,
        doc(
            "Why it was missed: it ran out of attempts, expired, got a final response, was rejected for good, was too "
            "old, or could not be transformed.",
            "attempts_used_up",
            enum=list(MISSED_REASONS),
        ),
    ]
    attempts: Annotated[int, doc("Number of attempts.", 1, minimum=0)]
    last_failure_status: Annotated[int, LAST_FAILURE_STATUS]
    last_failure_msg: Annotated[str, LAST_FAILURE_MSG]


class MissedMessagesResponse(ApiResponse, kw_only=True, frozen=True):
    missed: Annotated[list[MissedMessageView], doc("The missed messages, newest first.")]


async def list_missed(call: Call) -> MissedMessagesResponse:
    """List the messages that a listener missed."""
    fetch = partial(messages.page_of_missed, call.control, call.principal, call.ids[:2])
    place = f"{call.base}/queues/{call.ids[0]}/messages"
    return await paged(call, MissedMessagesResponse, fetch, partial(_missed_view, call.ids), collection=lambda _: place)


async def list_all_missed(call: Call) -> MissedMessagesResponse:
    """List the missed messages of all listeners.

    By listener, the newest first, and for each listener from its newest missed message to its oldest. A message that
    several listeners missed is listed for each. `after` and `before` are positions from `_links`. A page can be short
    or empty and still have a `next`: the list ends at the page without one.
    """
    return await paged(
        call,
        MissedMessagesResponse,
        partial(messages.page_of_all_missed, call.control, call.principal),
        partial(_missed_view, ()),
        collection=lambda item: f"{call.base}/queues/{item.queue_public_id}/messages",
    )


class MissedGroupView(msgspec.Struct, kw_only=True, frozen=True):
    """The messages that a listener missed for the same cause."""

    id: Annotated[str, doc("The id of the group.", MISSED_GROUP, pattern=POSITION_PATTERN)]
    queue: Annotated[ReferenceView, doc("The queue.")]
    listener: Annotated[ReferenceView, doc("The listener.")]
    reason: Annotated[str, doc("Why they were missed.", "final_status", enum=list(MISSED_REASONS))]
    status: Annotated[int, doc("HTTP status of the last response; 0: none.", 422, minimum=0, maximum=999)]
    text: Annotated[
        str,
        doc(
            "The beginning of one of the responses, or why there was none. Empty if nothing was sent, and for causes "
            "after the first 100 of the listener. The listener chose this text: escape it in pages.",
            '{"error": "order 17 is unknown"}',
            maxLength=TEXT_CHARACTERS,
        ),
    ]
    count: Annotated[int, doc("Number of messages. It may include deleted messages.", 17, minimum=0)]
    first_at: Annotated[int, instant_doc("When the first one was missed", 1_795_795_480_000)]
    last_at: Annotated[int, instant_doc("When the last one was missed", 1_795_795_480_000)]
    sample: Annotated[
        list[str], doc("The ids of up to five messages, newest first.", [EXAMPLE_IDS["message_id"]], maxItems=5)
    ]


class MissedGroupsResponse(ApiResponse, kw_only=True, frozen=True):
    groups: Annotated[list[MissedGroupView], doc("The groups, largest first.")]


async def list_missed_groups(call: Call) -> MissedGroupsResponse:
    """List the groups of missed messages.

    A group has the messages that a listener missed for one reason, after responses with one status that differ at most
    in numbers, ids, times and addresses. `after` and `before` are ids of groups. Groups can change their places.
    """
    fetch = partial(messages.page_of_missed_groups, call.control, call.principal)
    return await paged(call, MissedGroupsResponse, fetch, _group_view, links_items=False)


def _group_view(group: MissedGroup) -> MissedGroupView:
    of = group.of
    queue = ReferenceView(of.queue_public_id, of.queue_alias, of.queue_alias)
    listener = ReferenceView(of.public_id, of.alias, of.alias)
    return view_of(MissedGroupView, group, queue=queue, listener=listener, sample=list(group.sample))


def _missed_view(path: tuple[str, ...], item: MissedMessage) -> MissedMessageView:
    ids = dict(zip(("queue_id", "listener_id"), path, strict=False))
    return view_of(MissedMessageView, item, **ids, **last_failure_fields(item.last_failure))


class MissedFilterBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Selects missed messages to redeliver."""

    reason: Annotated[Text, doc("Only messages missed for this reason.", "too_old", enum=list(MISSED_REASONS))] = UNSET
    created_after: Annotated[
        Integer,
        doc("Only messages stored later than this, in milliseconds since the epoch.", 1_795_536_280_000, **_TIME),
    ] = UNSET
    created_before: Annotated[
        Integer,
        doc("Only messages stored earlier than this, in milliseconds since the epoch.", 1_893_456_000_000, **_TIME),
    ] = UNSET


class RedeliveryBody(ResourceBody, kw_only=True):
    """A redelivery to start. Exactly one of `messages`, `filter`, `group` and `all` selects the messages."""

    exactly_one: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "messages": {"type": "array", "items": {}},
        "filter": {"$ref": "#/components/schemas/MissedFilterBody"},
        "group": {"type": "string"},
        "all": {"const": True},
    }

    messages: Annotated[
        list[str] | None | UnsetType,
        doc(
            "The ids of messages that the listener has missed or acknowledged.",
            [EXAMPLE_IDS["message_id"]],
            minItems=1,
            maxItems=_MESSAGES_AT_MOST,
        ),
    ] = UNSET
    filter: Annotated[
        MissedFilterBody | None | UnsetType,
        doc("Which missed messages; an empty filter selects all.", {"reason": "too_old"}),
    ] = UNSET
    group: Annotated[
        Text, doc("The id of a group of the listener's missed messages.", MISSED_GROUP, pattern=POSITION_PATTERN)
    ] = UNSET
    all: Annotated[Flag, doc("Selects all missed messages.", True)] = UNSET
    trial: Annotated[Integer, _TRIAL] = UNSET
    pace: Annotated[Integer, _MESSAGE_RATE] = UNSET
    dry_run: Annotated[Flag, _DRY_RUN] = UNSET


class RedeliveryCountsView(msgspec.Struct, frozen=True):
    """Numbers of deliveries."""

    selected: Annotated[int, _SELECTED]
    redelivered: Annotated[int, doc("Deliveries that are due again, or were.", 16, minimum=0)]
    gone: Annotated[int, doc("Deliveries of messages that were deleted before.", 1, minimum=0)]


class _ProgressView(View, kw_only=True, frozen=True):
    """The progress of a redelivery or a replay. Neither has a name."""

    queue_id: Annotated[str, QUEUE_ID]
    listener_id: Annotated[str, LISTENER_ID]
    counts: msgspec.Struct
    ended_at: Annotated[int, instant_doc("When it was done; 0: not yet", 0)]
    pace: Annotated[int | UnsetType, _MESSAGE_RATE] = UNSET


class StoppedByView(msgspec.Struct, frozen=True):
    """The failure that stopped a redelivery."""

    reason: Annotated[str, doc("Why the message is missed again.", "attempts_used_up", enum=list(MISSED_REASONS))]
    status: Annotated[int, doc("HTTP status of the response; 0: none.", 422, minimum=0, maximum=999)]
    text: Annotated[
        str,
        doc(
            "The beginning of the response, or why there was none. The listener chose this text: escape it in pages.",
            '{"error": "order 17 is unknown"}',
            maxLength=TEXT_CHARACTERS,
        ),
    ]


class RedeliveryView(_ProgressView, kw_only=True, frozen=True):
    """A redelivery of missed messages."""

    id: Annotated[str, id_doc("redelivery_id")]
    alias: Annotated[str, id_doc("redelivery_id", "The id.")]
    name: Annotated[str, id_doc("redelivery_id", "The id.")]
    state: Annotated[
        str,
        doc(
            "The progress. `stopped`: the listener did not acknowledge a message of the trial.",
            "running",
            enum=["waiting", "running", "stopped", "done"],
        ),
    ]
    counts: Annotated[RedeliveryCountsView, doc("Numbers of deliveries.")]
    trial: Annotated[int | UnsetType, _TRIAL] = UNSET
    tried: Annotated[
        int | UnsetType, doc("Number of trial messages that were acknowledged; only with `trial`.", 2, minimum=0)
    ] = UNSET
    stopped_by: Annotated[StoppedByView | UnsetType, doc("Why it was stopped; only if `state` is `stopped`.")] = UNSET


class DryRunView(msgspec.Struct, frozen=True):
    """The messages that a dry run selects."""

    selected: Annotated[int, _SELECTED]
    first_message: Annotated[
        str, doc("The id of the oldest message; empty if there is none.", EXAMPLE_IDS["message_id"])
    ]
    last_message: Annotated[
        str, doc("The id of the newest message; empty if there is none.", EXAMPLE_IDS["message_id"])
    ]


class CreatedRedeliveryResponse(ApiResponse, kw_only=True, frozen=True, omit_defaults=True):
    redelivery: Annotated[RedeliveryView | UnsetType, doc("The redelivery.")] = UNSET
    dry_run: Annotated[DryRunView | UnsetType, doc("The messages that are selected, in a dry run.")] = UNSET


def _redelivery_params(body: RedeliveryBody) -> RedeliveryParams:
    """Raises BadRequest unless there is exactly one selection, Unprocessable for values out of bounds."""
    messages = body.messages if isinstance(body.messages, list) else None
    chosen = body.filter if isinstance(body.filter, MissedFilterBody) else None
    group = text_given(body.group)
    if [messages is not None, chosen is not None, group is not None, body.all is True].count(True) != 1:
        rule = "must have exactly one of messages, filter, group, and all (true)"
        raise malformed("", rule, code="missing_field")
    if messages is not None and not 1 <= len(messages) <= _MESSAGES_AT_MOST:
        raise invalid("/messages", f"must have 1 to {_MESSAGES_AT_MOST} ids")
    given = chosen or MissedFilterBody()
    reason = text_given(given.reason)
    if reason is not None:
        one_of(MISSED_REASONS, reason, "/filter/reason")
    return RedeliveryParams(
        None if messages is None else tuple(messages),
        reason,
        group,
        number_given(body.trial, TRIALS, "/trial"),
        _time_given(given.created_after, "/filter/created_after"),
        _time_given(given.created_before, "/filter/created_before"),
        pace=number_given(body.pace, _RATES, "/pace", " messages per second"),
        dry_run=body.dry_run is True,
    )


def _redelivery_view(call: Call, redelivery: Redelivery) -> RedeliveryView:
    fields = _progress(call, redelivery, RedeliveryCountsView)
    fields |= {"tried": UNSET if redelivery.trial is None else redelivery.tried, "stopped_by": UNSET}
    if redelivery.stopped_by:
        # The text of a group may come from another message; this one is the response to the message that failed.
        fields["stopped_by"] = msgspec.json.decode(redelivery.stopped_by, type=StoppedByView)
    return view_of(RedeliveryView, redelivery, **fields)


def _progress(call: Call, job: Redelivery | Replay, counts: type[msgspec.Struct]) -> dict[str, Any]:
    queue, listener, *_ = call.ids
    own = {"alias": job.public_id, "name": job.public_id, "ended_at": job.ended_at or 0}
    return {**own, "queue_id": queue, "listener_id": listener, "counts": view_of(counts, job)}


class ReplayBody(ResourceBody, kw_only=True):
    """A replay to start. Exactly one of `from_at` and `from_message` says where it begins."""

    opaque_fields = ("filter",)
    exactly_one: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "from_at": {"type": "integer"},
        "from_message": {"type": "string"},
    }

    from_at: Annotated[
        Integer,
        doc(
            "Start with messages stored at this time or later, in milliseconds since the epoch.",
            1_795_536_280_000,
            **_TIME,
        ),
    ] = UNSET
    from_message: Annotated[Text, doc("Start with this message, by its id.", EXAMPLE_IDS["message_id"])] = UNSET
    until_at: Annotated[
        Integer,
        doc(
            "End with messages stored at this time or earlier, in milliseconds since the epoch. Default: now.",
            1_893_456_000_000,
            **_TIME,
        ),
    ] = UNSET
    until_message: Annotated[Text, doc("End with this message, by its id.", EXAMPLE_IDS["message_id"])] = UNSET
    pace: Annotated[Integer, _MESSAGE_RATE] = UNSET
    filter: Annotated[AsSent, filter_sent_doc("Which messages: a filter like a listener's. null: all.")] = NOT_SENT
    dry_run: Annotated[Flag, _DRY_RUN] = UNSET


class ReplayCountsView(msgspec.Struct, frozen=True):
    """Numbers of messages."""

    selected: Annotated[
        int,
        doc(
            "Messages from start to end, including those that a filter rejects. For more than 1,000 positions of the "
            "log: the number of positions.",
            17,
            minimum=0,
        ),
    ]
    delivered: Annotated[int, doc("Messages acknowledged.", 12, minimum=0)]
    failed: Annotated[int, doc("Messages out of attempts.", 1, minimum=0)]
    expired: Annotated[int, doc("Messages that expired, or were too old.", 0, minimum=0)]
    filtered: Annotated[int, doc("Messages that the filter of the listener or the replay rejects.", 0, minimum=0)]
    retrying: Annotated[int, doc("Messages that wait for another attempt.", 1, minimum=0)]
    remaining: Annotated[int, doc("Messages that may still be sent, at most.", 4, minimum=0)]


class ReplayView(_ProgressView, kw_only=True, frozen=True):
    """A replay of a part of the queue."""

    id: Annotated[str, id_doc("replay_id")]
    alias: Annotated[str, id_doc("replay_id", "The id.")]
    name: Annotated[str, id_doc("replay_id", "The id.")]
    state: Annotated[str, doc("The progress.", "running", enum=["waiting", "running", "done"])]
    counts: Annotated[ReplayCountsView, doc("Numbers of messages.")]
    filter: Annotated[msgspec.Raw | UnsetType, doc("Which messages.", FILTER_EXAMPLE, type="object")] = UNSET


class CreatedReplayResponse(ApiResponse, kw_only=True, frozen=True, omit_defaults=True):
    """The replay that was started, or the result of a dry run."""

    replay: Annotated[ReplayView | UnsetType, doc("The replay.")] = UNSET
    dry_run: Annotated[DryRunView | UnsetType, doc("The messages that are selected, in a dry run.")] = UNSET


def _time_given(sent: Integer, pointer: str) -> int | None:
    instant = number_given(sent, _TIMES, pointer)
    if instant is not None:
        check_unit(instant, pointer)
    return instant


def _replay_params(body: ReplayBody) -> ReplayParams:
    """Raises BadRequest unless there is exactly one start, Unprocessable for values out of bounds and two ends."""
    from_at = _time_given(body.from_at, "/from_at")
    until_at = _time_given(body.until_at, "/until_at")
    from_message, until_message = text_given(body.from_message), text_given(body.until_message)
    if (from_at is None) is (from_message is None):
        raise malformed("", "must have exactly one of from_at and from_message", code="missing_field")
    if until_at is not None and until_message is not None:
        raise invalid("/until_message", "cannot be combined with until_at", code="conflicting_fields")
    text = filter_given(body.filter)
    return ReplayParams(
        from_at,
        from_message,
        until_at,
        until_message,
        text if isinstance(text, str) else None,
        pace=number_given(body.pace, _RATES, "/pace", " messages per second"),
        dry_run=body.dry_run is True,
    )


def _replay_view(call: Call, replay: Replay) -> ReplayView:
    progress = _progress(call, replay, ReplayCountsView)
    return view_of(ReplayView, replay, **progress, filter=filter_view(replay.spec.filter))


def _with_job(response: type[ApiResponse], kind: ResourceKind[Any]) -> Callable[[Call, JobResult[Any]], ApiResponse]:
    """Return the function that makes the response with a new job, or with the selection of a dry run."""
    make: Callable[..., ApiResponse] = response

    def respond(call: Call, result: JobResult[Any]) -> ApiResponse:
        if result.job is not None:
            shown = kind.one(call, result.job)
            return make(**{kind.name: getattr(shown, kind.name)}, links=shown.links)
        preview = result.preview
        return make(dry_run=DryRunView(preview.selected, preview.first, preview.last), links=call.links())

    return respond


_REDELIVERIES: Final = ResourceKind[Redelivery](
    path=f"{PATH}/redeliveries",
    name="redelivery",
    view_type=RedeliveryView,
    view=_redelivery_view,
    needs=(_READ, _READ, _WRITE),
    body=RedeliveryBody,
    fields=lambda call: _redelivery_params(call.body),
)
_REPLAYS: Final = ResourceKind[Replay](
    path=f"{PATH}/replays",
    name="replay",
    view_type=ReplayView,
    view=_replay_view,
    needs=(_READ, _READ, _WRITE),
    body=ReplayBody,
    fields=lambda call: _replay_params(call.body),
)

ROUTES = (
    Route(
        GET, "/missed", list_all_missed, Needs("listeners", "read", listing=True), query=ALL_MISSED_PAGES, reads=PAGE
    ),
    Route(
        GET,
        "/missed/groups",
        list_missed_groups,
        Needs("listeners", "read", listing=True),
        query=MISSED_GROUP_PAGES,
        reads=GROUPS,
    ),
    Route(GET, f"{PATH}/missed", list_missed, _READ, query=MISSED_PAGES, reads=PAGE),
    _REDELIVERIES.list_route(by_path(REDELIVERIES.page), "List the redeliveries of a listener."),
    _REDELIVERIES.create_route(
        by_path(REDELIVERIES.create),
        "Redeliver messages. The selected deliveries become due again, with all their attempts. With `dry_run`, "
        "nothing changes.",
        *("quota_exceeded", "limit_reached", "unknown_reference", "wrong_mode"),
        methods=POST,
        response=CreatedRedeliveryResponse,
        respond=_with_job(CreatedRedeliveryResponse, _REDELIVERIES),
        example={"all": True},
    ),
    _REDELIVERIES.get_route(by_path(REDELIVERIES.get), "Get a redelivery."),
    _REDELIVERIES.delete_route(
        by_path(REDELIVERIES.cancel),
        "Cancel a redelivery. Deletes it at once. Deliveries that are due again already stay due.",
        reads=RESOURCE,
    ),
    _REPLAYS.list_route(by_path(REPLAYS.page), "List the replays of a listener."),
    _REPLAYS.create_route(
        by_path(REPLAYS.create),
        "Replay a part of the queue. Sends messages to the listener again, in addition to new ones. With `dry_run`, "
        "nothing changes.",
        *("quota_exceeded", "limit_reached", "wrong_mode"),
        *("unknown_reference", "conflicting_fields", "invalid_filter"),
        methods=POST,
        needs=Needs("listeners", "write", reads="messages"),
        response=CreatedReplayResponse,
        respond=_with_job(CreatedReplayResponse, _REPLAYS),
        example={"from_at": 1_795_536_280_000},
    ),
    _REPLAYS.get_route(by_path(REPLAYS.get), "Get a replay."),
    _REPLAYS.delete_route(
        by_path(REPLAYS.cancel),
        "Cancel a replay. Deletes it at once. Nothing more is sent for it.",
        reads=RESOURCE,
    ),
)
