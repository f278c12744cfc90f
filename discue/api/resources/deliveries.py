"""Deliveries of a message, their attempts, and tests of a listener: of its filter, and of its endpoint."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Final, get_args

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from discue.api.delivery_options import HEADERS, filter_given, filter_sent_doc
from discue.api.message_data import EITHER_DATA, Base64Sent, ContentTypeSent, content_type_given, data_given, sent_data
from discue.api.pagination import DELIVERY_PAGES, LISTENER_ATTEMPT_PAGES, MESSAGE_ATTEMPT_PAGES, paged
from discue.api.route import GET, POST, Call, Needs, Route
from discue.api.structs import EXAMPLE_IDS, LISTENER_ID, NOT_SENT, ApiResponse, AsSent, Body, doc, id_doc, instant_doc
from discue.control import listener_tests, messages
from discue.control.listener_tests import DeliveryTestResult, FilterTestParams, SampleMessage
from discue.control.messages import AttemptDetails
from discue.domain import headers, model
from discue.domain.attempts import AttemptDetail, FailureKind, StoredAttempt, detail_of
from discue.domain.errors import invalid, missing_field
from discue.domain.messages import Entry, MessageOptions, encode_options
from discue.domain.model import DeliveryState

_OUTCOME: Final = doc("The outcome.", "failed", enum=["acknowledged", "failed"])
_FAILURE: Final = doc("Why it failed; empty if it did not.", "status", enum=list(get_args(FailureKind)))
_STARTED_AT: Final = instant_doc("When it started")
_DURATION: Final = doc("How long it took, in milliseconds.", 34, minimum=0)
_RESPONSE_STATUS: Final = doc("The status of the response; 0: no response.", 503, minimum=0, maximum=999)
_CONNECTION: Final = doc("The connection. Omitted if none was established or tried.")
_TIMINGS: Final = doc("How long each stage took.")
_REQUEST: Final = doc("The request, without the message's data.")
_RESPONSE: Final = doc("The response. Omitted if there was none.")

_MESSAGE: Final = "/queues/{queue_id}/messages/{message_id}"
_LISTENER: Final = "/queues/{queue_id}/listeners/{listener_id}"
_READ_MESSAGE: Final = Needs("messages", "read")
_READ_LISTENER: Final = Needs("listeners", "read")
_WRITE_LISTENER: Final = Needs("listeners", "write")
_SAMPLE_DATA: Final = msgspec.Raw(b'{"test":true}')


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


class AttemptView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt to deliver a message. The fields after `replay_id` are shown for a single attempt only, if kept."""

    id: Annotated[str, id_doc("attempt_id", "The id, shared with the usage event of the attempt.")]
    message_id: Annotated[
        str | UnsetType, doc("The id of the message. Omitted once the message is deleted.", EXAMPLE_IDS["message_id"])
    ] = UNSET
    listener_id: Annotated[str, LISTENER_ID]
    number: Annotated[int, doc("The number of the attempt, from 1.", 2, minimum=1)]
    state: Annotated[str, _OUTCOME]
    status: Annotated[int, _RESPONSE_STATUS]
    error: Annotated[str, _FAILURE]
    detail: Annotated[str, doc("The failure as a sentence.", "The listener answered 503 Service Unavailable.")]
    took_ms: Annotated[int, _DURATION]
    withheld: Annotated[
        bool,
        doc(
            "Whether the address is not public. The response, its timings and `detail` are then not shown, and "
            "`status` is the first of its class, such as 500.",
            False,
        ),
    ]
    started_at: Annotated[int, _STARTED_AT]
    created_at: Annotated[int, instant_doc("When it ended and was recorded", 1_795_536_280_034)]
    replay_id: Annotated[str | UnsetType, id_doc("replay_id", "The id of the replay that it belongs to, if any.")] = (
        UNSET
    )
    next_attempt_at: Annotated[
        int | UnsetType, instant_doc("When the next attempt may start. Omitted if none follows", 1_795_536_285_000)
    ] = UNSET
    connection: Annotated[ConnectionView | UnsetType, _CONNECTION] = UNSET
    timings: Annotated[TimingsView | UnsetType, _TIMINGS] = UNSET
    request: Annotated[RequestView | UnsetType, _REQUEST] = UNSET
    response: Annotated[ResponseView | UnsetType, _RESPONSE] = UNSET


class AttemptResponse(ApiResponse, kw_only=True, frozen=True):
    attempt: Annotated[AttemptView, doc("The attempt.")]


class AttemptsResponse(ApiResponse, kw_only=True, frozen=True):
    attempts: Annotated[list[AttemptView], doc("The attempts, newest first.")]


async def list_deliveries(call: Call) -> DeliveriesResponse:
    """List the deliveries of a message.

    One for each listener that existed when the message was stored, newest listener first. `after` and `before` are ids
    of listeners.
    """
    fetch = partial(messages.page_of_deliveries, call.control, call.principal, call.ids)
    listeners = f"{call.base}/queues/{call.ids[0]}/listeners"
    return await paged(call, DeliveriesResponse, fetch, delivery_view, collection=lambda _: listeners)


def delivery_view(delivery: model.Delivery) -> DeliveryView:
    """Return what clients see of a delivery."""
    return DeliveryView(
        delivery.listener_public_id,
        delivery.state,
        delivery.attempts,
        delivery.last_status,
        delivery.next_attempt_at or UNSET,
        delivery.reason or UNSET,
        delivery.blocked_by or UNSET,
        delivery.waits_for or UNSET,
        delivery.last_error or UNSET,
        delivery.last_detail or UNSET,
    )


async def list_of_message(call: Call) -> AttemptsResponse:
    """List the attempts to deliver a message. To all listeners, without details."""
    fetch = partial(messages.page_of_attempts, call.control, call.principal, call.ids)
    return await paged(call, AttemptsResponse, fetch, _attempt_view)


async def list_of_listener(call: Call) -> AttemptsResponse:
    """List the attempts to deliver to a listener.

    Of all its messages, without details. A page can be short or empty and still have a `next`: the list ends at the
    page without one.
    """
    fetch = partial(messages.page_of_listener_attempts, call.control, call.principal, call.ids)
    return await paged(call, AttemptsResponse, fetch, _attempt_view)


async def get_of_message(call: Call) -> AttemptResponse:
    """Get an attempt to deliver a message. With details, if they were kept."""
    return _attempt_response(call, await messages.get_attempt(call.control, call.principal, call.ids[:2], call.ids[2]))


async def get_of_listener(call: Call) -> AttemptResponse:
    """Get an attempt to deliver to a listener. With details, if they were kept."""
    found = await messages.get_listener_attempt(call.control, call.principal, call.ids[:2], call.ids[2])
    return _attempt_response(call, found)


def _attempt_response(call: Call, details: AttemptDetails) -> AttemptResponse:
    fields = {} if details.detail is None else _details(details.detail)
    if details.attempt.withheld:
        fields.pop("timings", None)
    view = _attempt_view(details.attempt, **fields)
    return call.with_etag(details.attempt, AttemptResponse(attempt=view, links=call.links()))


def _attempt_view(attempt: StoredAttempt, **details: Any) -> AttemptView:
    return AttemptView(
        id=attempt.id,
        message_id=attempt.message_id or UNSET,
        listener_id=attempt.listener_public_id,
        number=attempt.number,
        state=attempt.state,
        status=attempt.status,
        error=attempt.error,
        detail=attempt.detail,
        took_ms=0 if attempt.withheld else attempt.duration_ms,
        started_at=attempt.ended_at - (0 if attempt.withheld else attempt.duration_ms),
        withheld=attempt.withheld,
        created_at=attempt.ended_at,
        replay_id=attempt.replay_id or UNSET,
        **details,
    )


def _details(detail: AttemptDetail) -> dict[str, Any]:
    """Return the fields of an attempt that are kept for its details only."""
    # A stage that was not reached is omitted rather than 0, which a fast stage can take.
    timings: dict[str, Any] = {name: value for name, value in asdict(detail.timings).items() if value is not None}
    response: ResponseView | UnsetType = UNSET
    if detail.timings.first_byte_ms is not None:
        body = detail.body.decode("utf-8", "replace")
        response = ResponseView(_headers(detail.response_headers), body, detail.body_bytes)
    return {
        "next_attempt_at": detail.next_attempt_at or UNSET,
        "connection": ConnectionView(detail.address, detail.is_reused) if detail.address else UNSET,
        "timings": TimingsView(**timings),
        "request": RequestView(_headers(detail.request_headers)),
        "response": response,
    }


def _headers(headers: Iterable[tuple[str, str]]) -> list[HeaderView]:
    return [HeaderView(name, value) for name, value in headers]


class FilterTestBody(Body, kw_only=True):
    """A filter to try on a stored message, or on the message in the request."""

    example: ClassVar = {"filter": {"data": {"order.state": ["paid"]}}, "data": {"order": {"state": "paid"}}}
    opaque_fields = ("filter", "data", "data_base64")
    exactly_one: ClassVar[Mapping[str, Mapping[str, Any]]] = {"message_id": {"type": "string"}, **EITHER_DATA}

    filter: Annotated[AsSent, filter_sent_doc("The filter to try. Default: the listener's.")] = NOT_SENT
    message_id: Annotated[str | None, doc("The id of a stored message of the queue.", EXAMPLE_IDS["message_id"])] = None
    data: Annotated[
        AsSent,
        doc(
            "The data of a message. Either this, `data_base64` or `message_id` is required.",
            {"order": {"state": "paid"}},
        ),
    ] = NOT_SENT
    data_base64: Base64Sent = NOT_SENT
    content_type: ContentTypeSent = UNSET
    headers: Annotated[dict[str, str] | None, HEADERS] = None
    key: Annotated[str | None, doc("The key of the message.", "customer-9")] = None


class ConditionView(msgspec.Struct, frozen=True):
    """The result of one condition."""

    pointer: Annotated[str, doc("JSON pointer to the condition in the filter.", "/filter/data/order.state")]
    holds: Annotated[bool, doc("Whether it is met.", True)]


class FilterTestView(msgspec.Struct, kw_only=True, frozen=True):
    """The result of a filter."""

    matches: Annotated[bool, doc("Whether the listener receives such a message.", True)]
    conditions: Annotated[list[ConditionView], doc("The result of each condition of the filter by itself.", [])]


class FilterTestResponse(ApiResponse, kw_only=True, frozen=True):
    """The result of a filter test."""

    filter_test: Annotated[FilterTestView, doc("The result.")]


class DeliveryTestBody(Body, kw_only=True):
    """A test request to a listener."""

    example: ClassVar = {"data": {"order": {"state": "paid"}}}
    opaque_fields = ("data", "data_base64")

    data: Annotated[AsSent, doc('The data to send. Default: `{"test": true}`.', {"order": {"state": "paid"}})] = (
        NOT_SENT
    )
    data_base64: Base64Sent = NOT_SENT
    content_type: ContentTypeSent = UNSET
    headers: Annotated[dict[str, str] | None, HEADERS] = None


class DeliveryTestView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a test request. If it is `withheld`, only `request` is shown of the fields after that."""

    message_id: Annotated[str, id_doc("message_id", "The message id that was sent. There is no such message.")]
    started_at: Annotated[int, _STARTED_AT]
    state: Annotated[str, _OUTCOME]
    error: Annotated[str, _FAILURE]
    status_class: Annotated[
        str, doc("The class of the response's status; empty without a response.", "5xx", pattern="^(?:[1-9]xx)?$")
    ]
    withheld: Annotated[
        bool, doc("Whether the address is not public. The response and its timings are then not shown.", False)
    ]
    status: Annotated[int | UnsetType, _RESPONSE_STATUS] = UNSET
    detail: Annotated[
        str | UnsetType, doc("Why it failed; empty if it did not.", "The listener answered 503 Service Unavailable.")
    ] = UNSET
    took_ms: Annotated[int | UnsetType, _DURATION] = UNSET
    connection: Annotated[ConnectionView | UnsetType, _CONNECTION] = UNSET
    timings: Annotated[TimingsView | UnsetType, _TIMINGS] = UNSET
    request: Annotated[RequestView | UnsetType, _REQUEST] = UNSET
    response: Annotated[ResponseView | UnsetType, _RESPONSE] = UNSET


class DeliveryTestResponse(ApiResponse, kw_only=True, frozen=True):
    """The result of a test request."""

    test: Annotated[DeliveryTestView, doc("The result.")]


async def try_filter(call: Call) -> FilterTestResponse:
    """Try a filter. Stores and sends nothing. A stored message requires a key that may read it."""
    body: FilterTestBody = call.body
    chosen = filter_given(body.filter)
    test = FilterTestParams(chosen if isinstance(chosen, str) else None, _message(body))
    result = await listener_tests.try_filter(call.control, call.principal, call.ids[:2], test)
    conditions = [ConditionView(each.pointer, each.holds) for each in result.conditions]
    view = FilterTestView(matches=result.matches, conditions=conditions)
    return FilterTestResponse(filter_test=view, links=call.links())


def _message(body: FilterTestBody) -> Entry | str:
    """Return the id of a stored message, or the message to try as it would be stored."""
    content_type = content_type_given(body.content_type, "")
    has_data = sent_data(body.data, body.data_base64, "") is not None
    if body.message_id is not None:
        if has_data or (body.headers, body.key, content_type) != (None, None, None):
            rule = "cannot be combined with data, data_base64, content_type, headers or key"
            raise invalid("/message_id", rule, code="conflicting_fields")
        return body.message_id
    if not has_data:
        raise missing_field("/data", "is missing, as is the message_id of a message")
    (content, codec), _ = data_given(body.data, body.data_base64, content_type, "")
    checked = headers.check_headers(body.headers or {}, "/headers")
    options = MessageOptions(headers=checked, key=body.key, content_type=content_type)
    return Entry(0, "", 0, codec, content, extra=encode_options(options) or b"")


async def send_test(call: Call) -> DeliveryTestResponse:
    """Test a listener.

    Sends one request to its `notify_url`, signed like a delivery, with `discue-test: true`. It is not stored, counted
    or retried.
    """
    body: DeliveryTestBody = call.body
    content_type = content_type_given(body.content_type, "")
    is_given = sent_data(body.data, body.data_base64, "") is not None
    data, _ = data_given(body.data if is_given else _SAMPLE_DATA, body.data_base64, content_type, "")
    sample = SampleMessage(*data, headers.check_headers(body.headers or {}, "/headers"), content_type or "")
    result = await listener_tests.send(call.control, call.principal, call.ids[:2], sample, sender=call.services.samples)
    return DeliveryTestResponse(test=_delivery_view(result), links=call.links())


def _delivery_view(result: DeliveryTestResult) -> DeliveryTestView:
    outcome = result.outcome
    details = {} if outcome.trace is None else _details(detail_of(outcome.trace, 0))
    if outcome.withheld:
        # Otherwise a test would tell what answers at addresses inside the operator's network, and how fast.
        details = {name: value for name, value in details.items() if name == "request"}
    else:
        details |= {"status": outcome.status, "detail": outcome.detail, "took_ms": outcome.duration_ms}
    return DeliveryTestView(
        message_id=result.message_id,
        started_at=result.started_at,
        state="acknowledged" if outcome.acknowledged else "failed",
        error=outcome.error,
        status_class=f"{outcome.status // 100}xx" if outcome.status else "",
        withheld=outcome.withheld,
        **{name: value for name, value in details.items() if name != "next_attempt_at" and value is not UNSET},
    )


ROUTES = (
    Route(GET, f"{_MESSAGE}/deliveries", list_deliveries, _READ_MESSAGE, query=DELIVERY_PAGES),
    Route(GET, f"{_MESSAGE}/attempts", list_of_message, _READ_MESSAGE, query=MESSAGE_ATTEMPT_PAGES),
    Route(GET, f"{_MESSAGE}/attempts/{{attempt_id}}", get_of_message, _READ_MESSAGE),
    Route(GET, f"{_LISTENER}/attempts", list_of_listener, _READ_LISTENER, query=LISTENER_ATTEMPT_PAGES),
    Route(GET, f"{_LISTENER}/attempts/{{attempt_id}}", get_of_listener, _READ_LISTENER),
)

_OF_FILTER_TEST: Final = ("invalid_value", "invalid_filter", "conflicting_fields")

_OF_TEST: Final = (
    "invalid_value",
    "conflicting_fields",
    "address_refused",
    "domain_not_verified",
    "secrets_unreadable",
)

TEST_ROUTES = (
    Route(POST, f"{_LISTENER}/filter-tests", try_filter, _READ_LISTENER, FilterTestBody, codes=_OF_FILTER_TEST),
    Route(
        POST,
        f"{_LISTENER}/tests",
        send_test,
        _WRITE_LISTENER,
        DeliveryTestBody,
        ignores_idempotency_key=True,
        codes=_OF_TEST,
    ),
)
