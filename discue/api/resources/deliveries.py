"""Deliveries of a message, and their attempts."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.pagination import DELIVERY_PAGES, LISTENER_ATTEMPT_PAGES, MESSAGE_ATTEMPT_PAGES
from discue.api.resource import ResourceKind, by_path, paged, view_of
from discue.api.route import GET, Call, Needs, Route
from discue.api.structs import EXAMPLE_IDS, LISTENER_ID, ApiResponse, ItemView, doc, id_doc, instant_doc
from discue.control import messages
from discue.control.messages import AttemptDetails
from discue.domain import model
from discue.domain.attempts import AttemptDetail, FailureKind, StoredAttempt
from discue.domain.model import DeliveryState
from discue.domain.reservations import PAGE

OUTCOME: Final = doc("The outcome.", "failed", enum=["acknowledged", "failed"])
FAILURE: Final = doc("Why it failed; empty if it did not.", "status", enum=list(get_args(FailureKind)))
STARTED_AT: Final = instant_doc("When it started")
DURATION: Final = doc("How long it took, in milliseconds.", 34, minimum=0)
RESPONSE_STATUS: Final = doc("The status of the response; 0: no response.", 503, minimum=0, maximum=999)
LAST_FAILURE_STATUS: Final = doc(
    "The status of the response to the last failed attempt; 0: no response, or no failure.", 0, minimum=0, maximum=999
)
LAST_FAILURE_MSG: Final = doc(
    "Why the last failed attempt failed; empty if no attempt failed, or the attempt is no longer kept.",
    "The connection was refused.",
)

_MESSAGE: Final = "/queues/{queue_id}/messages/{message_id}"
LISTENER_PATH: Final = "/queues/{queue_id}/listeners/{listener_id}"
_READ_MESSAGE: Final = Needs("messages", "read")
READ_LISTENER: Final = Needs("listeners", "read")


class DeliveryView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The delivery of a message to one listener."""

    listener_id: Annotated[str, LISTENER_ID]
    state: Annotated[
        str,
        doc(
            "The state of the delivery. `filtered`: the listener's filter excludes the message.",
            "acknowledged",
            enum=list(get_args(DeliveryState)),
        ),
    ]
    attempts: Annotated[int, doc("Number of attempts so far.", 1, minimum=0)]
    last_status: Annotated[int, doc("The status of the last response; 0: no response.", 200, minimum=0, maximum=999)]
    next_attempt_at: Annotated[
        int | UnsetType,
        instant_doc("When a `retrying` delivery may be tried again. Omitted during an attempt", 1_795_536_285_000),
    ] = UNSET
    missed_reason: Annotated[
        str | UnsetType, doc("Why a `missed` delivery is not tried again.", "attempts_used_up", pattern="^[a-z_]+$")
    ] = UNSET
    blocked_by: Annotated[
        str | UnsetType, doc("The id of the message that must be settled first.", EXAMPLE_IDS["message_id"])
    ] = UNSET
    waits_for: Annotated[
        str | UnsetType,
        doc(
            "A sentence that says why a `pending` or `retrying` delivery waits.",
            "Retry at 2026-11-24T16:04:45.000Z, or soon after.",
        ),
    ] = UNSET
    last_error: Annotated[
        str | UnsetType,
        doc("Why the last attempt failed. Omitted if it did not.", "status", enum=list(get_args(FailureKind))[1:]),
    ] = UNSET
    last_detail: Annotated[
        str | UnsetType,
        doc(
            "A sentence that says why the last attempt failed.", "The listener responded with 503 Service Unavailable."
        ),
    ] = UNSET

    @property
    def id(self) -> str:
        """The id of its listener: a delivery has no id of its own, and lists link to the listener."""
        return self.listener_id


class DeliveriesResponse(ApiResponse, kw_only=True, frozen=True):
    deliveries: Annotated[list[DeliveryView], doc("The deliveries, by listener, newest first.")]


class HeaderView(msgspec.Struct, frozen=True):
    """A header field."""

    name: Annotated[str, doc("The name.", "content-type")]
    value: Annotated[str, doc("The value.", "application/json")]


class RequestView(msgspec.Struct, frozen=True):
    """A request to a listener, without the message's data."""

    headers: Annotated[
        list[HeaderView],
        doc(
            "The headers. The signature, and values that were not chosen by the service, are `[hidden]`.",
            [{"name": "content-type", "value": "application/json"}],
        ),
    ]


class ResponseView(msgspec.Struct, frozen=True):
    """The response of a listener."""

    headers: Annotated[
        list[HeaderView],
        doc(
            "The headers, with lower-case names. Values that look like secrets are `[hidden]`.",
            [{"name": "retry-after", "value": "30"}],
        ),
    ]
    body: Annotated[
        str, doc("The first 16 KiB of the body. Bytes that are not UTF-8 are replaced.", "down for maintenance")
    ]
    body_bytes: Annotated[int, doc("Number of bytes of the body that were read.", 20, minimum=0)]


class ConnectionView(msgspec.Struct, frozen=True):
    """The connection of an attempt."""

    address: Annotated[
        str, doc("The address and port that was connected to, or the last one tried.", "203.0.113.7:443")
    ]
    reused: Annotated[bool, doc("Whether the connection was reused.", False)]


class TimingsView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long each stage of an attempt took. Stages that were not reached or not needed are omitted."""

    resolve_ms: Annotated[int | UnsetType, doc("DNS lookup, in milliseconds.", 3, minimum=0)] = UNSET
    connect_ms: Annotated[int | UnsetType, doc("TCP connect, in milliseconds.", 8, minimum=0)] = UNSET
    tls_ms: Annotated[int | UnsetType, doc("TLS handshake, in milliseconds.", 17, minimum=0)] = UNSET
    first_byte_ms: Annotated[
        int | UnsetType,
        doc("From sending the request to the first byte of the response, in milliseconds.", 5, minimum=0),
    ] = UNSET
    total_ms: Annotated[int, doc("Everything together, in milliseconds.", 34, minimum=0)]


ConnectionShown: TypeAlias = Annotated[
    ConnectionView | UnsetType, doc("The connection. Omitted if none was established or tried.")
]
TimingsShown: TypeAlias = Annotated[TimingsView | UnsetType, doc("How long each stage took.")]
RequestShown: TypeAlias = Annotated[RequestView | UnsetType, doc("The request, without the message's data.")]
ResponseShown: TypeAlias = Annotated[ResponseView | UnsetType, doc("The response. Omitted if there was none.")]


class AttemptView(ItemView, frozen=True, kw_only=True):
    """An attempt to deliver a message. The fields after `replay_id` are shown for a single attempt only, if kept."""

    id: Annotated[str, id_doc("attempt_id", "The id, shared with the usage event of the attempt.")]
    message_id: Annotated[
        str | UnsetType, doc("The id of the message. Omitted once the message is deleted.", EXAMPLE_IDS["message_id"])
    ] = UNSET
    listener_id: Annotated[str, LISTENER_ID]
    number: Annotated[int, doc("The number of the attempt, from 1.", 2, minimum=1)]
    state: Annotated[str, OUTCOME]
    status: Annotated[int, RESPONSE_STATUS]
    error: Annotated[str, FAILURE]
    detail: Annotated[str, doc("The failure as a sentence.", "The listener answered 503 Service Unavailable.")]
    took_ms: Annotated[int, DURATION]
    withheld: Annotated[
        bool,
        doc(
            "Whether the address is not public. The response, its timings and `detail` are then not shown, and "
            "`status` is the first of its class, such as 500.",
            False,
        ),
    ]
    started_at: Annotated[int, STARTED_AT]
    created_at: Annotated[int, instant_doc("When it ended and was recorded", 1_795_536_280_034)]
    replay_id: Annotated[str | UnsetType, id_doc("replay_id", "The id of the replay that it belongs to, if any.")] = (
        UNSET
    )
    next_attempt_at: Annotated[
        int | UnsetType, instant_doc("When the next attempt may start. Omitted if none follows", 1_795_536_285_000)
    ] = UNSET
    connection: ConnectionShown = UNSET
    timings: TimingsShown = UNSET
    request: RequestShown = UNSET
    response: ResponseShown = UNSET


async def list_deliveries(call: Call) -> DeliveriesResponse:
    """List the deliveries of a message.

    One for each listener that existed when the message was stored, newest listener first. `after` and `before` are ids
    of listeners.
    """
    fetch = partial(messages.page_of_deliveries, call.control, call.principal, call.ids, reserve=call.reserve_data)
    listeners = f"{call.base}/queues/{call.ids[0]}/listeners"
    return await paged(call, DeliveriesResponse, fetch, delivery_view, collection=lambda _: listeners)


def delivery_view(delivery: model.Delivery) -> DeliveryView:
    return view_of(
        DeliveryView,
        delivery,
        next_attempt_at=delivery.next_attempt_at or UNSET,
        missed_reason=delivery.reason or UNSET,
    )


def last_failure_fields(attempt: StoredAttempt | None) -> dict[str, Any]:
    """Return the fields that show the last failed attempt, if there is one and it is kept."""
    status, cause = (0, "") if attempt is None else (attempt.status, attempt.cause)
    return {"last_failure_status": status, "last_failure_msg": cause}


def _with_details(call: Call, details: AttemptDetails) -> ApiResponse:
    fields = {} if details.detail is None else detail_fields(details.detail)
    if details.attempt.withheld:
        fields.pop("timings", None)
    return _OF_MESSAGE.one(call, details.attempt, **fields)


def _attempt_view(attempt: StoredAttempt) -> AttemptView:
    took_ms = 0 if attempt.withheld else attempt.duration_ms
    times = {"started_at": attempt.ended_at - took_ms, "created_at": attempt.ended_at}
    return view_of(AttemptView, attempt, took_ms=took_ms, **times)


def detail_fields(detail: AttemptDetail) -> dict[str, Any]:
    """Return the fields of an attempt that are kept for its details only."""
    response: ResponseView | UnsetType = UNSET
    if detail.timings.first_byte_ms is not None:
        body = detail.body.decode("utf-8", "replace")
        response = ResponseView(_headers(detail.response_headers), body, detail.body_bytes)
    return {
        "next_attempt_at": detail.next_attempt_at or UNSET,
        "connection": ConnectionView(detail.address, detail.is_reused) if detail.address else UNSET,
        # A stage that was not reached is omitted rather than 0, which a fast stage can take.
        "timings": view_of(TimingsView, detail.timings),
        "request": RequestView(_headers(detail.request_headers)),
        "response": response,
    }


def _headers(headers: Iterable[tuple[str, str]]) -> list[HeaderView]:
    return [HeaderView(name, value) for name, value in headers]


_OF_MESSAGE: Final = ResourceKind[StoredAttempt](
    path=f"{_MESSAGE}/attempts",
    name="attempt",
    view_type=AttemptView,
    view=lambda _, attempt: _attempt_view(attempt),
    needs=(_READ_MESSAGE,) * 3,
)
_OF_LISTENER: Final = replace(_OF_MESSAGE, path=f"{LISTENER_PATH}/attempts", needs=(READ_LISTENER,) * 3)

ROUTES = (
    Route(GET, f"{_MESSAGE}/deliveries", list_deliveries, _READ_MESSAGE, query=DELIVERY_PAGES, reads=PAGE),
    _OF_MESSAGE.list_route(
        by_path(messages.page_of_attempts),
        "List the attempts to deliver a message. To all listeners, without details.",
        MESSAGE_ATTEMPT_PAGES,
    ),
    _OF_MESSAGE.get_route(
        by_path(messages.get_attempt),
        "Get an attempt to deliver a message. With details, if they were kept.",
        respond=_with_details,
    ),
    _OF_LISTENER.list_route(
        by_path(messages.page_of_listener_attempts),
        "List the attempts to deliver to a listener. Of all its messages, without details. A page can be short or "
        "empty and still have a `next`: the list ends at the page without one.",
        LISTENER_ATTEMPT_PAGES,
    ),
    _OF_LISTENER.get_route(
        by_path(partial(messages.get_attempt, of_listener=True)),
        "Get an attempt to deliver to a listener. With details, if they were kept.",
        respond=_with_details,
    ),
)
