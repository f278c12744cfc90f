"""`/queues/{queue_id}/listeners/{listener_id}/redeliveries`."""

from msgspec import UNSET

from discue.api import bodies, wire
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.resources.missed import PATH
from discue.api.route import Call, Needs, Route
from discue.api.stretches import pace_of, time_of
from discue.control import redeliveries
from discue.control.listeners import ListenerPath
from discue.control.redeliveries import RedeliveryParams, RedeliveryResult
from discue.domain.errors import BadRequest, Fault, Unprocessable
from discue.domain.model import MISSED_REASONS, Redelivery

MESSAGES_AT_MOST = 1_000

_READ = Needs("listeners", "read")
_WRITE = Needs("listeners", "write")


async def create(call: Call) -> wire.AskedRedelivery:
    params = _wish(call.body)
    return await created(
        call,
        lambda control: redeliveries.create(control, call.principal, _path(call), params),
        lambda asked: _answer(call, asked),
    )


async def get(call: Call) -> wire.Redelivery:
    found = await redeliveries.get(call.control, call.principal, _path(call), call.ids[2])
    return call.with_etag(found, wire.Redelivery(redelivery=_shown(call, found), links=link_to(call.url)))


async def list_all(call: Call) -> wire.Redeliveries:
    items, links = await paged(
        call,
        lambda selection: redeliveries.page(call.control, call.principal, _path(call), selection),
        lambda item: LinkTarget(item.public_id, item.public_id, f"{call.url}/{item.public_id}"),
    )
    return wire.Redeliveries(redeliveries=[_shown(call, item) for item in items], links=links)


async def cancel(call: Call) -> wire.Deleted:
    await redeliveries.cancel(call.control, call.principal, _path(call), call.ids[2])
    return wire.Deleted(links=link_to(call.url))


def _path(call: Call) -> ListenerPath:
    return call.ids[0], call.ids[1]


def _wish(body: bodies.RedeliveryBody) -> RedeliveryParams:
    """Raises BadRequest unless one way to choose is given, Unprocessable for values out of range."""
    messages = body.messages if isinstance(body.messages, list) else None
    chosen = body.filter if isinstance(body.filter, bodies.MissedFilter) else None
    if [messages is not None, chosen is not None, body.all is True].count(True) != 1:
        rule = "must be made by exactly one of messages, filter, and all (true)"
        raise BadRequest(f"The choice {rule}.", faults=(Fault("", rule),))
    given = chosen or bodies.MissedFilter()
    return RedeliveryParams(
        None if messages is None else _ids(messages),
        _reason(given),
        time_of(given.created_after, "/filter/created_after"),
        time_of(given.created_before, "/filter/created_before"),
        pace_of(body.pace),
        dry_run=body.dry_run is True,
    )


def _ids(messages: list[str]) -> tuple[str, ...]:
    if not 1 <= len(messages) <= MESSAGES_AT_MOST:
        rule = f"must have 1 to {MESSAGES_AT_MOST} ids"
        raise Unprocessable(f"/messages {rule}.", faults=(Fault("/messages", rule),))
    return tuple(messages)


def _reason(given: bodies.MissedFilter) -> str | None:
    reason = given.reason
    if reason is None or reason is UNSET:
        return None
    if reason not in MISSED_REASONS:
        rule = f"must be one of {', '.join(MISSED_REASONS)}"
        raise Unprocessable(f"/filter/reason {rule}.", faults=(Fault("/filter/reason", rule),))
    return str(reason)


def _answer(call: Call, asked: RedeliveryResult) -> wire.AskedRedelivery:
    preview = asked.preview
    if asked.redelivery is None:
        dry_run = wire.DryRun(selected=preview.selected, first_message=preview.first, last_message=preview.last)
        return wire.AskedRedelivery(dry_run=dry_run, links=link_to(call.url))
    url = f"{call.url}/{asked.redelivery.public_id}"
    shown = wire.AskedRedelivery(redelivery=_shown(call, asked.redelivery), links=link_to(url))
    return call.with_etag(asked.redelivery, shown)


def _shown(call: Call, redelivery: Redelivery) -> wire.RedeliveryShown:
    return wire.RedeliveryShown(
        id=redelivery.public_id,
        alias=redelivery.public_id,
        name=redelivery.public_id,
        queue_id=call.ids[0],
        listener_id=call.ids[1],
        state=redelivery.state,
        counts=wire.RedeliveryCounts(
            selected=redelivery.selected, redelivered=redelivery.redelivered, gone=redelivery.gone
        ),
        pace=UNSET if redelivery.pace is None else redelivery.pace,
        created_at=redelivery.created_at,
        updated_at=redelivery.updated_at,
        ended_at=redelivery.ended_at or 0,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path=f"{PATH}/redeliveries",
        handler=list_all,
        response=wire.Redeliveries,
        needs=_READ,
        statuses=(404,),
        query=PAGES,
        summary="List the redeliveries of a listener",
    ),
    Route(
        methods=("POST",),
        path=f"{PATH}/redeliveries",
        handler=create,
        request=bodies.RedeliveryBody,
        response=wire.AskedRedelivery,
        needs=_WRITE,
        statuses=(404, 409, 422),
        summary="Redeliver what was missed",
        description="What is chosen is due again, and has all its attempts anew. With `dry_run` nothing is changed.",
        example={"all": True},
    ),
    Route(
        methods=("GET",),
        path=f"{PATH}/redeliveries/{{redelivery_id}}",
        handler=get,
        response=wire.Redelivery,
        needs=_READ,
        statuses=(404,),
        summary="Get a redelivery",
    ),
    Route(
        methods=("DELETE",),
        path=f"{PATH}/redeliveries/{{redelivery_id}}",
        handler=cancel,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Cancel a redelivery",
        description="It is gone at once. What is due again already stays so.",
    ),
)
