"""Tests of a listener: of its filter, and of its endpoint."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import (
    HEADERS,
    TypeSent,
    TypeShown,
    TypesSent,
    filter_given,
    filter_sent_doc,
)
from discue.api.message_data import EITHER_DATA, Base64Sent, ContentTypeSent, content_type_given, data_given, sent_data
from discue.api.resource import or_unset
from discue.api.resources.deliveries import (
    DURATION,
    FAILURE,
    LISTENER_PATH,
    OUTCOME,
    READ_LISTENER,
    RESPONSE_STATUS,
    STARTED_AT,
    ConnectionShown,
    RequestShown,
    ResponseShown,
    TimingsShown,
    detail_fields,
)
from discue.api.route import POST, Call, Needs, Route
from discue.api.structs import (
    EXAMPLE_IDS,
    NOT_SENT,
    ApiResponse,
    AsSent,
    Body,
    Integer,
    Text,
    doc,
    id_doc,
    number_given,
    text_given,
    within,
)
from discue.control import listener_tests
from discue.control.listener_fields import OptionFields
from discue.control.listener_tests import DeliveryTestResult, SampleMessage
from discue.domain import headers
from discue.domain.attempts import detail_of
from discue.domain.errors import invalid, missing_field
from discue.domain.event_types import checked_type
from discue.domain.messages import Entry, MessageOptions, encode_options
from discue.domain.reservations import MESSAGE, RESOURCE, TRANSFORM_TEST

_WRITE_LISTENER: Final = Needs("listeners", "write")
TRIED: Final = range(1, 1_001)
_TRIED: Final = 100
_SAMPLE_DATA: Final = msgspec.Raw(b'{"test":true}')


class FilterTestBody(Body, kw_only=True):
    """A filter to try on a stored message, or on the message in the request."""

    sample: ClassVar = {"filter": {"data": {"order.state": ["paid"]}}, "data": {"order": {"state": "paid"}}}
    opaque_fields = ("filter", "data", "data_base64")
    exactly_one: ClassVar[Mapping[str, Mapping[str, Any]]] = {"message_id": {"type": "string"}, **EITHER_DATA}

    filter: Annotated[AsSent, filter_sent_doc("The filter to try. Default: the listener's.")] = NOT_SENT
    types: TypesSent = UNSET
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
    type: TypeSent = UNSET
    headers: Annotated[dict[str, str] | None, HEADERS] = None
    key: Annotated[str | None, doc("The key of the message.", "customer-9")] = None


class ConditionView(msgspec.Struct, frozen=True):
    """The result of one condition."""

    pointer: Annotated[str, doc("JSON pointer to the condition in the filter.", "/filter/data/order.state")]
    holds: Annotated[bool, doc("Whether it is met.", True)]


class FilterTestView(msgspec.Struct, kw_only=True, frozen=True):
    """The result of a filter."""

    matches: Annotated[bool, doc("Whether the listener receives such a message.", True)]
    type_matches: Annotated[bool, doc("Whether the types match; true without types.", True)]
    conditions: Annotated[list[ConditionView], doc("The result of each condition of the filter by itself.", [])]


class FilterTestResponse(ApiResponse, kw_only=True, frozen=True):
    """The result of a filter test."""

    filter_test: Annotated[FilterTestView, doc("The result.")]


class TransformTestBody(Body, kw_only=True):
    """A transform to try."""

    sample: ClassVar = {"transform": "{order: data.order}"}

    transform: Annotated[Text, doc("The expression. Default: that of the listener.", "{order: data.order}")] = UNSET
    limit: Annotated[Integer, doc("Maximum number of messages. Default: 100.", 100, **within(TRIED))] = UNSET


class FailedTransformView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message without a body."""

    message_id: Annotated[str, id_doc("message_id", "The id of the message.")]
    type: TypeShown = UNSET
    detail: Annotated[str, doc("Why the message has no body.", "The transform returns null for the message.")]


class TransformedView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message with the body that would be sent."""

    message_id: Annotated[str, id_doc("message_id", "The id of the message.")]
    type: TypeShown = UNSET
    body: Annotated[msgspec.Raw, doc("The body that would be sent.", {"order": 17})]


class TransformTestView(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a transform test."""

    tested: Annotated[int, doc("Number of messages tried, beginning with the newest.", 100, minimum=0)]
    failed: Annotated[list[FailedTransformView], doc("The messages for which the transform failed, at most 100.")]
    succeeded: Annotated[list[TransformedView], doc("The first three messages that have a body.")]


class TransformTestResponse(ApiResponse, kw_only=True, frozen=True):
    """The results of a transform test."""

    transform_test: Annotated[TransformTestView, doc("The results.")]


class DeliveryTestBody(Body, kw_only=True):
    """A test request to a listener."""

    sample: ClassVar = {"data": {"order": {"state": "paid"}}}
    opaque_fields = ("data", "data_base64")

    data: Annotated[AsSent, doc('The data to send. Default: `{"test": true}`.', {"order": {"state": "paid"}})] = (
        NOT_SENT
    )
    data_base64: Base64Sent = NOT_SENT
    content_type: ContentTypeSent = UNSET
    type: TypeSent = UNSET
    headers: Annotated[dict[str, str] | None, HEADERS] = None


class DeliveryTestView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a test request. If it is `withheld`, only `request` is shown of the fields after that."""

    message_id: Annotated[str, id_doc("message_id", "The message id that was sent. There is no such message.")]
    started_at: Annotated[int, STARTED_AT]
    state: Annotated[str, OUTCOME]
    error: Annotated[str, FAILURE]
    status_class: Annotated[
        str, doc("The class of the response's status; empty without a response.", "5xx", pattern="^(?:[1-9]xx)?$")
    ]
    withheld: Annotated[
        bool, doc("Whether the address is not public. The response and its timings are then not shown.", False)
    ]
    status: Annotated[int | UnsetType, RESPONSE_STATUS] = UNSET
    detail: Annotated[
        str | UnsetType, doc("Why it failed; empty if it did not.", "The listener answered 503 Service Unavailable.")
    ] = UNSET
    took_ms: Annotated[int | UnsetType, DURATION] = UNSET
    connection: ConnectionShown = UNSET
    timings: TimingsShown = UNSET
    request: RequestShown = UNSET
    response: ResponseShown = UNSET


class DeliveryTestResponse(ApiResponse, kw_only=True, frozen=True):
    """The result of a test request."""

    test: Annotated[DeliveryTestView, doc("The result.")]


async def try_filter(call: Call) -> FilterTestResponse:
    """Try a filter. Stores and sends nothing. A stored message requires a key that may read it."""
    body: FilterTestBody = call.body
    message, given = _message(body), OptionFields(types=body.types, filter=filter_given(body.filter))
    result = await listener_tests.try_filter(
        call.control, call.principal, call.ids[:2], message, given=given, reserve=call.reserve_data
    )
    conditions = [ConditionView(each.pointer, each.holds) for each in result.conditions]
    view = FilterTestView(matches=result.matches, type_matches=result.type_matches, conditions=conditions)
    return FilterTestResponse(filter_test=view, links=call.links())


def _message(body: FilterTestBody) -> Entry | str:
    """Return the id of a stored message, or the message to try as it would be stored."""
    content_type = content_type_given(body.content_type, "")
    has_data = sent_data(body.data, body.data_base64, "") is not None
    if body.message_id is not None:
        if has_data or (text_given(body.type), body.headers, body.key, content_type) != (None,) * 4:
            rule = "cannot be combined with data, data_base64, content_type, type, headers or key"
            raise invalid("/message_id", rule, code="conflicting_fields")
        return body.message_id
    if not has_data:
        raise missing_field("/data", "is missing, as is the message_id of a message")
    (content, codec), _ = data_given(body.data, body.data_base64, content_type, "")
    checked = headers.check_headers(body.headers or {}, "/headers")
    event_type = checked_type(text_given(body.type), checked)
    options = MessageOptions(headers=checked, key=body.key, type=event_type, content_type=content_type)
    return Entry(0, "", 0, codec, content, extra=encode_options(options) or b"")


async def try_transform(call: Call) -> TransformTestResponse:
    """Try a transform. Applies it to the newest messages of the queue, for up to a second. Stores and sends nothing."""
    body: TransformTestBody = call.body
    limit = number_given(body.limit, TRIED, "/limit") or _TRIED
    result = await listener_tests.try_transform(
        call.control, call.principal, call.ids[:2], given=body.transform, limit=limit
    )
    view = TransformTestView(
        tested=result.tested,
        failed=[
            FailedTransformView(message_id=each.id, type=or_unset(each.options.type), detail=f"The transform {why}.")
            for each, why in result.failed
        ],
        succeeded=[
            TransformedView(message_id=each.id, type=or_unset(each.options.type), body=msgspec.Raw(made))
            for each, made in result.succeeded
        ],
    )
    return TransformTestResponse(transform_test=view, links=call.links())


async def send_test(call: Call) -> DeliveryTestResponse:
    """Test a listener.

    Sends one request to its `notify_url`, signed like a delivery, with `discue-test: true`. It is not stored, counted
    or retried.
    """
    body: DeliveryTestBody = call.body
    content_type = content_type_given(body.content_type, "")
    is_given = sent_data(body.data, body.data_base64, "") is not None
    data, _ = data_given(body.data if is_given else _SAMPLE_DATA, body.data_base64, content_type, "")
    checked = headers.check_headers(body.headers or {}, "/headers")
    event_type = checked_type(text_given(body.type), checked)
    options = MessageOptions(headers=checked, type=event_type, content_type=content_type)
    sample = SampleMessage(*data, options)
    result = await listener_tests.send(call.control, call.principal, call.ids[:2], sample, sender=call.services.samples)
    return DeliveryTestResponse(test=_delivery_view(result), links=call.links())


def _delivery_view(result: DeliveryTestResult) -> DeliveryTestView:
    outcome = result.outcome
    details = {} if outcome.trace is None else detail_fields(detail_of(outcome.trace, 0))
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
    Route(
        POST,
        f"{LISTENER_PATH}/filter-tests",
        try_filter,
        READ_LISTENER,
        FilterTestBody,
        codes=("invalid_value", "invalid_filter", "conflicting_fields"),
        reads=MESSAGE,
    ),
    Route(
        POST,
        f"{LISTENER_PATH}/transform-tests",
        try_transform,
        Needs("listeners", "read", reads="messages"),
        TransformTestBody,
        ignores_idempotency_key=True,
        codes=("invalid_value", "invalid_transform"),
        reads=TRANSFORM_TEST,
    ),
    Route(
        POST,
        f"{LISTENER_PATH}/tests",
        send_test,
        _WRITE_LISTENER,
        DeliveryTestBody,
        ignores_idempotency_key=True,
        codes=(
            "invalid_value",
            "conflicting_fields",
            "address_refused",
            "transform_failed",
            "domain_not_verified",
            "secrets_unreadable",
        ),
        reads=RESOURCE,
    ),
)
