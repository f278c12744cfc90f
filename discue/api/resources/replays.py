"""Replays of a part of a queue to a listener."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import FILTER_EXAMPLE, filter_given, filter_sent_doc, filter_view
from discue.api.idempotency import created
from discue.api.pagination import PAGES, paged
from discue.api.resources.redeliveries import (
    DRY_RUN,
    ENDED_AT,
    MESSAGE_RATE,
    PATH,
    PROGRESS,
    RATES,
    TIME,
    TIMES,
    DryRunView,
)
from discue.api.route import DELETE, GET, POST, Call, Needs, Route
from discue.api.structs import (
    COUNT,
    EXAMPLE_IDS,
    LISTENER_ID,
    NOT_SENT,
    QUEUE_ID,
    ApiResponse,
    AsSent,
    DeletedResponse,
    Flag,
    Integer,
    ResourceBody,
    Text,
    View,
    doc,
    id_doc,
    link_to,
    number_given,
    or_unset,
    own_id_doc,
    text_given,
)
from discue.control import replays
from discue.control.replays import ReplayParams, ReplayResult
from discue.domain.errors import BadRequest, Fault, invalid
from discue.domain.model import Replay

_READ = Needs("listeners", "read")
_WRITE = Needs("listeners", "write")


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
            **TIME,
        ),
    ] = UNSET
    from_message: Annotated[Text, doc("Start with this message, by its id.", EXAMPLE_IDS["message_id"])] = UNSET
    until_at: Annotated[
        Integer,
        doc(
            "End with messages stored at this time or earlier, in milliseconds since the epoch. Default: now.",
            1_893_456_000_000,
            **TIME,
        ),
    ] = UNSET
    until_message: Annotated[Text, doc("End with this message, by its id.", EXAMPLE_IDS["message_id"])] = UNSET
    pace: Annotated[Integer, MESSAGE_RATE] = UNSET
    filter: Annotated[AsSent, filter_sent_doc("Which messages: a filter like a listener's. null: all.")] = NOT_SENT
    dry_run: Annotated[Flag, DRY_RUN] = UNSET


class ReplayCountsView(msgspec.Struct, frozen=True):
    """Numbers of messages."""

    selected: Annotated[
        int, doc("Positions of the log from start to end, including messages that are not sent.", 17, **COUNT)
    ]
    delivered: Annotated[int, doc("Messages acknowledged.", 12, **COUNT)]
    failed: Annotated[int, doc("Messages out of attempts.", 1, **COUNT)]
    expired: Annotated[int, doc("Messages that expired, or were too old.", 0, **COUNT)]
    retrying: Annotated[int, doc("Messages that wait for another attempt.", 1, **COUNT)]
    remaining: Annotated[int, doc("Messages that may still be sent, at most.", 4, **COUNT)]


class ReplayView(View, kw_only=True, frozen=True):
    """A replay of a part of the queue."""

    id: Annotated[str, own_id_doc("replay_id")]
    alias: Annotated[str, id_doc("The id.", "replay_id")]
    name: Annotated[str, id_doc("The id.", "replay_id")]
    queue_id: Annotated[str, QUEUE_ID]
    listener_id: Annotated[str, LISTENER_ID]
    state: Annotated[str, PROGRESS]
    counts: Annotated[ReplayCountsView, doc("Numbers of messages.")]
    ended_at: Annotated[int, ENDED_AT]
    pace: Annotated[int | UnsetType, MESSAGE_RATE] = UNSET
    filter: Annotated[msgspec.Raw | UnsetType, doc("Which messages.", FILTER_EXAMPLE, type="object")] = UNSET


class ReplayResponse(ApiResponse, kw_only=True, frozen=True):
    replay: Annotated[ReplayView, doc("The replay.")]


class NewReplayResponse(ApiResponse, kw_only=True, frozen=True, omit_defaults=True):
    """The replay that was started, or the result of a dry run."""

    replay: Annotated[ReplayView | UnsetType, doc("The replay.")] = UNSET
    dry_run: Annotated[DryRunView | UnsetType, doc("The messages that are selected, in a dry run.")] = UNSET


class ReplaysResponse(ApiResponse, kw_only=True, frozen=True):
    replays: Annotated[list[ReplayView], doc("The replays, newest first.")]


async def create(call: Call) -> NewReplayResponse:
    """Replay a part of the queue.

    Sends messages to the listener again, in addition to new ones. With `dry_run`, nothing changes.
    """
    params = _params(call.body)
    return await created(
        call,
        lambda control: replays.create(control, call.principal, call.listener_path, params),
        lambda result: _response(call, result),
    )


async def get(call: Call) -> ReplayResponse:
    """Get a replay."""
    found = await replays.get(call.control, call.principal, call.listener_path, call.ids[2])
    return call.with_etag(found, ReplayResponse(replay=_view(call, found), links=link_to(call.url)))


async def list_all(call: Call) -> ReplaysResponse:
    """List the replays of a listener."""
    items, links = await paged(
        call,
        lambda selection: replays.page(call.control, call.principal, call.listener_path, selection),
        lambda item: call.item(item.public_id, item.public_id),
    )
    return ReplaysResponse(replays=[_view(call, item) for item in items], links=links)


async def cancel(call: Call) -> DeletedResponse:
    """Cancel a replay. Deletes it at once. Nothing more is sent for it."""
    await replays.cancel(call.control, call.principal, call.listener_path, call.ids[2])
    return DeletedResponse(links=link_to(call.url))


def _params(body: ReplayBody) -> ReplayParams:
    """Raises BadRequest unless there is exactly one start, Unprocessable for values out of bounds and two ends."""
    from_at = number_given(body.from_at, TIMES, "/from_at")
    until_at = number_given(body.until_at, TIMES, "/until_at")
    from_message, until_message = text_given(body.from_message), text_given(body.until_message)
    if (from_at is None) is (from_message is None):
        rule = "must have exactly one of from_at and from_message"
        raise BadRequest(f"The request {rule}.", faults=(Fault("", rule),))
    if until_at is not None and until_message is not None:
        raise invalid("/until_message", "cannot be combined with until_at")
    text = filter_given(body.filter)
    return ReplayParams(
        from_at,
        from_message,
        until_at,
        until_message,
        number_given(body.pace, RATES, "/pace"),
        text if isinstance(text, str) else None,
        dry_run=body.dry_run is True,
    )


def _response(call: Call, result: ReplayResult) -> NewReplayResponse:
    if result.replay is None:
        dry_run = DryRunView(selected=result.selected, first_message=result.first, last_message=result.last)
        return NewReplayResponse(dry_run=dry_run, links=link_to(call.url))
    url = f"{call.url}/{result.replay.public_id}"
    return call.with_etag(result.replay, NewReplayResponse(replay=_view(call, result.replay), links=link_to(url)))


def _view(call: Call, replay: Replay) -> ReplayView:
    return ReplayView(
        id=replay.public_id,
        alias=replay.public_id,
        name=replay.public_id,
        queue_id=call.ids[0],
        listener_id=call.ids[1],
        state=replay.state,
        counts=ReplayCountsView(
            selected=replay.selected,
            delivered=replay.delivered,
            failed=replay.failed,
            expired=replay.expired,
            retrying=replay.retrying,
            remaining=replay.remaining,
        ),
        pace=or_unset(replay.pace),
        filter=filter_view(replay.spec.filter),
        created_at=replay.created_at,
        updated_at=replay.updated_at,
        ended_at=replay.ended_at or 0,
    )


ROUTES = (
    Route(GET, f"{PATH}/replays", list_all, _READ, query=PAGES),
    Route(POST, f"{PATH}/replays", create, _WRITE, ReplayBody, example={"from_at": 1_795_536_280_000}),
    Route(GET, f"{PATH}/replays/{{replay_id}}", get, _READ),
    Route(DELETE, f"{PATH}/replays/{{replay_id}}", cancel, _WRITE),
)
