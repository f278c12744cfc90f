"""`/queues/{queue_id}/messages/{message_id}/deliveries`."""

from msgspec import UNSET

from discue.api import wire
from discue.api.links import LinkTarget
from discue.api.pagination import paged, selection_of_deliveries
from discue.api.parameters import DELIVERY_PAGES
from discue.api.route import Call, Needs, Route
from discue.control import messages
from discue.domain import model


async def list_of_message(call: Call) -> wire.Deliveries:
    items, links = await paged(
        call,
        lambda selection: messages.page_of_deliveries(call.control, call.principal, call.ids, selection),
        lambda item: _named(call, item),
        selection=selection_of_deliveries(call.query),
    )
    return wire.Deliveries(deliveries=[delivery_shown(item) for item in items], links=links)


def delivery_shown(delivery: model.Delivery) -> wire.DeliveryShown:
    return wire.DeliveryShown(
        delivery.listener_public_id,
        delivery.state,
        delivery.attempts,
        delivery.last_status,
        delivery.next_attempt_at or UNSET,
        delivery.reason or UNSET,
        delivery.blocked_by or UNSET,
    )


def _named(call: Call, delivery: model.Delivery) -> LinkTarget:
    """Of a delivery there is nothing more to see but its listener."""
    listener = delivery.listener_public_id
    return LinkTarget(listener, listener, f"{call.base}/queues/{call.ids[0]}/listeners/{listener}")


ROUTES = (
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/messages/{message_id}/deliveries",
        handler=list_of_message,
        response=wire.Deliveries,
        needs=Needs("messages", "read"),
        statuses=(404,),
        query=DELIVERY_PAGES,
        summary="List the deliveries of a message",
        description=(
            "One for each listener that was there when the message was stored, the newest listener first; `after` and "
            "`before` take the id of a listener."
        ),
    ),
)
