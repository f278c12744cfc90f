"""`/queues/{queue_id}/listeners/{listener_id}/missed`."""

from discue.api import wire
from discue.api.links import LinkTarget
from discue.api.pagination import paged, selection_of_missed
from discue.api.parameters import MISSED_PAGES
from discue.api.route import Call, Needs, Route
from discue.control import redeliveries
from discue.store.listener_messages import MissedMessage

PATH = "/queues/{queue_id}/listeners/{listener_id}"


async def list_all(call: Call) -> wire.Missed:
    path = (call.ids[0], call.ids[1])
    items, links = await paged(
        call,
        lambda selection: redeliveries.page_of_missed(call.control, call.principal, path, selection),
        lambda item: _named(call, item),
        selection=selection_of_missed(call.query),
    )
    return wire.Missed(missed=[_shown(item) for item in items], links=links)


def _named(call: Call, item: MissedMessage) -> LinkTarget:
    return LinkTarget(item.alias, item.id, f"{call.base}/queues/{call.ids[0]}/messages/{item.id}")


def _shown(item: MissedMessage) -> wire.MissedShown:
    return wire.MissedShown(
        id=item.id,
        alias=item.alias,
        name=item.alias,
        stored_at=item.stored_at,
        missed_at=item.missed_at,
        reason=item.reason,
        attempts=item.attempts,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path=f"{PATH}/missed",
        handler=list_all,
        response=wire.Missed,
        needs=Needs("listeners", "read"),
        statuses=(404,),
        query=MISSED_PAGES,
        summary="List what a listener has missed",
    ),
)
