"""`/queues/{queue_id}/listeners/{listener_id}/replays`."""

from msgspec import UNSET

from discue.api import bodies, wire
from discue.api.delivery_options import filter_of, filter_shown
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.resources.missed import PATH
from discue.api.route import Call, Needs, Route
from discue.api.stretches import pace_of, time_of
from discue.control import replays
from discue.control.listeners import ListenerPath
from discue.control.replays import ReplayParams, ReplayResult
from discue.domain.errors import BadRequest, Fault, Unprocessable
from discue.domain.model import Replay

_READ = Needs("listeners", "read")
_WRITE = Needs("listeners", "write")


async def create(call: Call) -> wire.AskedReplay:
    params = _wish(call.body)
    return await created(
        call,
        lambda control: replays.create(control, call.principal, _path(call), params),
        lambda asked: _answer(call, asked),
    )


async def get(call: Call) -> wire.Replay:
    found = await replays.get(call.control, call.principal, _path(call), call.ids[2])
    return call.with_etag(found, wire.Replay(replay=_shown(call, found), links=link_to(call.url)))


async def list_all(call: Call) -> wire.Replays:
    items, links = await paged(
        call,
        lambda selection: replays.page(call.control, call.principal, _path(call), selection),
        lambda item: LinkTarget(item.public_id, item.public_id, f"{call.url}/{item.public_id}"),
    )
    return wire.Replays(replays=[_shown(call, item) for item in items], links=links)


async def cancel(call: Call) -> wire.Deleted:
    await replays.cancel(call.control, call.principal, _path(call), call.ids[2])
    return wire.Deleted(links=link_to(call.url))


def _path(call: Call) -> ListenerPath:
    return call.ids[0], call.ids[1]


def _wish(body: bodies.ReplayBody) -> ReplayParams:
    """Raises BadRequest unless it begins in one way, Unprocessable for values out of range and for two ends."""
    from_at, until_at = time_of(body.from_at, "/from_at"), time_of(body.until_at, "/until_at")
    from_message, until_message = _text(body.from_message), _text(body.until_message)
    if (from_at is None) is (from_message is None):
        rule = "must be said by exactly one of from_at and from_message"
        raise BadRequest(f"The beginning {rule}.", faults=(Fault("", rule),))
    if until_at is not None and until_message is not None:
        rule = "must not be there beside until_at"
        raise Unprocessable(f"/until_message {rule}.", faults=(Fault("/until_message", rule),))
    text = filter_of(body.filter)
    return ReplayParams(
        from_at,
        from_message,
        until_at,
        until_message,
        pace_of(body.pace),
        text if isinstance(text, str) else None,
        dry_run=body.dry_run is True,
    )


def _text(sent: bodies.Text) -> str | None:
    return sent if isinstance(sent, str) else None


def _answer(call: Call, asked: ReplayResult) -> wire.AskedReplay:
    if asked.replay is None:
        dry_run = wire.DryRun(selected=asked.selected, first_message=asked.first, last_message=asked.last)
        return wire.AskedReplay(dry_run=dry_run, links=link_to(call.url))
    url = f"{call.url}/{asked.replay.public_id}"
    return call.with_etag(asked.replay, wire.AskedReplay(replay=_shown(call, asked.replay), links=link_to(url)))


def _shown(call: Call, replay: Replay) -> wire.ReplayShown:
    return wire.ReplayShown(
        id=replay.public_id,
        alias=replay.public_id,
        name=replay.public_id,
        queue_id=call.ids[0],
        listener_id=call.ids[1],
        state=replay.state,
        counts=wire.ReplayCounts(
            selected=replay.selected,
            delivered=replay.delivered,
            failed=replay.failed,
            expired=replay.expired,
            retrying=replay.retrying,
            remaining=replay.remaining,
        ),
        pace=UNSET if replay.pace is None else replay.pace,
        filter=filter_shown(replay.spec.filter),
        created_at=replay.created_at,
        updated_at=replay.updated_at,
        ended_at=replay.ended_at or 0,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path=f"{PATH}/replays",
        handler=list_all,
        response=wire.Replays,
        needs=_READ,
        statuses=(404,),
        query=PAGES,
        summary="List the replays of a listener",
    ),
    Route(
        methods=("POST",),
        path=f"{PATH}/replays",
        handler=create,
        request=bodies.ReplayBody,
        response=wire.AskedReplay,
        needs=_WRITE,
        statuses=(404, 409, 422),
        summary="Replay a part of the queue",
        description="The listener gets its messages once more, beside what is new. With `dry_run` nothing changes.",
        example={"from_at": 1_795_536_280_000},
    ),
    Route(
        methods=("GET",),
        path=f"{PATH}/replays/{{replay_id}}",
        handler=get,
        response=wire.Replay,
        needs=_READ,
        statuses=(404,),
        summary="Get a replay",
    ),
    Route(
        methods=("DELETE",),
        path=f"{PATH}/replays/{{replay_id}}",
        handler=cancel,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Cancel a replay",
        description="It is gone at once, and nothing more is sent for it.",
    ),
)
