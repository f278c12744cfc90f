"""Erasures of the messages of a queue with one key."""

from typing import Annotated, Final

import msgspec

from discue.api.delivery_options import KEY_LIMITS, key_given
from discue.api.resource import ResourceKind, view_of
from discue.api.route import POST, Call, Needs
from discue.api.structs import EXAMPLE_IDS, QUEUE_ID, ResourceBody, View, doc, id_doc, instant_doc
from discue.control import erasures
from discue.domain.model import Erasure

_KEY: Final = doc("The key of the messages.", "customer-7", **KEY_LIMITS)
_READ: Final = Needs("messages", "read")


class ErasureBody(ResourceBody, kw_only=True):
    """The key whose messages are erased."""

    key: Annotated[str, _KEY]


class ErasedDeliveryView(msgspec.Struct, frozen=True):
    """A listener that received erased messages."""

    listener: Annotated[str, id_doc("listener_id", "The id of the listener.")]
    count: Annotated[int, doc("Number of erased messages sent to the listener, as far as recorded.", 2, minimum=1)]


class ErasureView(View, kw_only=True, frozen=True):
    """An erasure of the messages with one key."""

    id: Annotated[str, id_doc("erasure_id")]
    alias: Annotated[str, id_doc("erasure_id", "The id.")]
    name: Annotated[str, id_doc("erasure_id", "The id.")]
    queue_id: Annotated[str, QUEUE_ID]
    key: Annotated[str, _KEY]
    state: Annotated[str, doc("The progress.", "done", enum=["running", "done"])]
    erased: Annotated[int, doc("Number of messages erased.", 3, minimum=0)]
    delivered: Annotated[
        list[ErasedDeliveryView],
        doc(
            "Listeners to which erased messages were sent, whatever their responses. Attempts in flight are added "
            "within twelve minutes.",
            [{"listener": EXAMPLE_IDS["listener_id"], "count": 2}],
        ),
    ]
    ended_at: Annotated[int, instant_doc("When the last message was erased; 0: not yet")]


def _view(call: Call, erasure: Erasure) -> ErasureView:
    return view_of(
        ErasureView,
        erasure,
        alias=erasure.public_id,
        name=erasure.public_id,
        queue_id=call.ids[0],
        delivered=[ErasedDeliveryView(*each) for each in erasure.delivered.items()],
        ended_at=erasure.ended_at or 0,
    )


_ERASURES: Final = ResourceKind[Erasure](
    path="/queues/{queue_id}/erasures",
    name="erasure",
    view_type=ErasureView,
    view=_view,
    needs=(_READ, _READ, Needs("messages", "write")),
    body=ErasureBody,
    fields=lambda call: key_given(call.body.key, "/key"),
)

ROUTES = (
    _ERASURES.list_route(erasures.page, "List the erasures of a queue."),
    _ERASURES.create_route(
        erasures.create,
        "Erase the messages with a key. After the response, none of them can be read, redelivered or replayed. "
        "Messages that are published during the erasure are kept.",
        "quota_exceeded",
        methods=POST,
        example={"key": "customer-7"},
    ),
    _ERASURES.get_route(erasures.get, "Get an erasure."),
)
