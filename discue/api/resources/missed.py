"""Missed messages: of one listener, and of the whole organization."""

from functools import partial
from typing import Annotated, Final

import msgspec

from discue.api.pagination import ALL_MISSED_PAGES, MISSED_PAGES
from discue.api.resource import paged
from discue.api.resources.deliveries import LAST_FAILURE_MSG, LAST_FAILURE_STATUS
from discue.api.resources.messages import MESSAGE_ALIAS, MESSAGE_NAME
from discue.api.route import GET, Call, Needs, Route
from discue.api.structs import LISTENER_ID, QUEUE_ID, ApiResponse, doc, id_doc, instant_doc
from discue.control import missed
from discue.domain.model import MISSED_REASONS
from discue.domain.reservations import PAGE
from discue.store.missed_messages import MissedMessage

_PATH: Final = "/queues/{queue_id}/listeners/{listener_id}/missed"


class MissedMessageView(msgspec.Struct, kw_only=True, frozen=True):
    """A message that a listener missed."""

    id: Annotated[str, id_doc("message_id", "The id of the message.")]
    alias: Annotated[str, MESSAGE_ALIAS]
    name: Annotated[str, MESSAGE_NAME]
    queue_id: Annotated[str, QUEUE_ID]
    listener_id: Annotated[str, LISTENER_ID]
    stored_at: Annotated[int, instant_doc("When the message was stored")]
    missed_at: Annotated[int, instant_doc("When it was missed", 1_795_795_480_000)]
    reason: Annotated[
        str,
        doc(
            "Why it was missed: it is out of attempts, expired, got a final response, was rejected for good, or is too "
            "old.",
            "attempts_used_up",
            enum=list(MISSED_REASONS),
        ),
    ]
    attempts: Annotated[int, doc("Number of attempts.", 1, minimum=0)]
    last_failure_status: Annotated[int, LAST_FAILURE_STATUS]
    last_failure_msg: Annotated[str, LAST_FAILURE_MSG]


class MissedMessagesResponse(ApiResponse, kw_only=True, frozen=True):
    missed: Annotated[list[MissedMessageView], doc("The missed messages, newest first.")]


async def list_of_listener(call: Call) -> MissedMessagesResponse:
    """List the messages that a listener missed."""
    fetch = partial(missed.page, call.control, call.principal, call.ids[:2])
    messages = f"{call.base}/queues/{call.ids[0]}/messages"
    return await paged(call, MissedMessagesResponse, fetch, partial(_view, call.ids), collection=lambda _: messages)


async def list_all(call: Call) -> MissedMessagesResponse:
    """List the missed messages of all listeners.

    By listener, the newest first, and for each listener from its newest missed message to its oldest. A message that
    several listeners missed is listed for each. `after` and `before` are positions from `_links`. A page can be short
    or empty and still have a `next`: the list ends at the page without one.
    """
    return await paged(
        call,
        MissedMessagesResponse,
        partial(missed.page_of_all, call.control, call.principal),
        partial(_view, ()),
        collection=lambda item: f"{call.base}/queues/{item.queue_public_id}/messages",
    )


def _view(path: tuple[str, ...], item: MissedMessage) -> MissedMessageView:
    queue, listener = path or (item.queue_public_id, item.listener_public_id)
    return MissedMessageView(
        id=item.id,
        alias=item.alias,
        name=item.alias,
        queue_id=queue,
        listener_id=listener,
        stored_at=item.stored_at,
        missed_at=item.missed_at,
        reason=item.reason,
        attempts=item.attempts,
        last_failure_status=item.last_failure.status if item.last_failure else 0,
        last_failure_msg=item.last_failure.cause if item.last_failure else "",
    )


ROUTES = (
    Route(GET, "/missed", list_all, Needs("listeners", "read", listing=True), query=ALL_MISSED_PAGES, reads=PAGE),
    Route(GET, _PATH, list_of_listener, Needs("listeners", "read"), query=MISSED_PAGES, reads=PAGE),
)
