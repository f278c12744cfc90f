"""Pulling a listener's messages, and acknowledging them."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Annotated, ClassVar, Final, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import SEQUENCE, TypeShown
from discue.api.message_data import Base64Shown
from discue.api.pagination import number_parameter
from discue.api.resource import or_unset
from discue.api.resources.jobs import PATH
from discue.api.route import GET, POST, Call, EventStream, Needs, Route
from discue.api.structs import (
    ApiResponse,
    Body,
    Integer,
    doc,
    id_doc,
    instant_doc,
    number_given,
    within,
)
from discue.control import pulls
from discue.control.listener_fields import LEASE_SECONDS
from discue.domain.errors import DiscueError, invalid
from discue.domain.headers import without_trace_headers
from discue.domain.message_data import BYTES, DEFAULT_MEDIA_TYPES
from discue.domain.messages import (
    RECEIPT_HANDLE_PATTERN,
    SEQUENCE_HEADER,
    decode_options,
    message_headers,
    parse_receipt_handle,
)
from discue.domain.reservations import RESOURCE, STREAM
from discue.domain.trace_context import TRACEPARENT_PATTERN
from discue.http.negotiation import prefers_events, problem_of
from discue.http.rsgi import ClientGone

RECEIPTS_AT_MOST = 1_000

_HEARTBEAT_MS = 15_000
_NO_EXPIRY_MS = 1 << 62
_HEARTBEAT = b":\n\n"
_BEGINNING = b"retry: 1000\n\n"
"""A browser reconnects after a second. Messages that it did not acknowledge stay leased until their lease ends."""

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
_WRITE = Needs("listeners", "write")
_PULL = Needs("listeners", "write", reads="messages")
_ACTIONS: tuple[pulls.Action, ...] = ("acknowledge", "reject", "release", "extend")
_DELAY_SECONDS: Final = range(86_401)

_EXAMPLE_RECEIPT: Final = "0000000001l8lCq3JzX4bM"
_MAX: Final = number_parameter("max", "Maximum number of messages to return.", range(1, pulls.MOST_AT_ONCE + 1), 10)
_WAIT: Final = number_parameter(
    "wait",
    "How long to wait for the first message if there is none, in seconds.",
    range(pulls.LONGEST_WAIT_SECONDS + 1),
    0,
)


def _receipts_doc(description: str) -> msgspec.Meta:
    return doc(
        description,
        [_EXAMPLE_RECEIPT],
        maxItems=RECEIPTS_AT_MOST,
        items={"type": "string", "pattern": RECEIPT_HANDLE_PATTERN},
    )


Receipts: TypeAlias = list[str] | None | UnsetType


class AcknowledgementsBody(Body, kw_only=True):
    """Acknowledgements of pulled messages, by receipt."""

    sample: ClassVar = {"acknowledge": ["0000000001l2rVTz9Xk0Jm"]}

    acknowledge: Annotated[Receipts, _receipts_doc("Receipts of messages that were processed.")] = UNSET
    reject: Annotated[
        Receipts,
        _receipts_doc("Receipts of messages that could not be processed: retried according to the retry policy."),
    ] = UNSET
    release: Annotated[Receipts, _receipts_doc("Receipts of messages to give back, without counting an attempt.")] = (
        UNSET
    )
    extend: Annotated[Receipts, _receipts_doc("Receipts of messages whose lease starts again.")] = UNSET
    delay: Annotated[
        Integer,
        doc("When messages in `release` are due again, in seconds. Default: at once.", 5, **within(_DELAY_SECONDS)),
    ] = UNSET
    lease_seconds: Annotated[
        Integer,
        doc(
            "How long messages in `extend` stay leased from now on, in seconds. Default: set by the listener.",
            60,
            **within(LEASE_SECONDS),
        ),
    ] = UNSET


class PulledMessageView(msgspec.Struct, kw_only=True, frozen=True):
    """A leased message."""

    id: Annotated[str, id_doc("message_id", "The id of the message.")]
    stored_at: Annotated[int, instant_doc("When the message was stored")]
    data: Annotated[
        str | UnsetType,
        doc("The data of the message, as text: the body that a request to a `notify_url` has.", '{"order":17}'),
    ] = UNSET
    data_base64: Base64Shown = UNSET
    content_type: Annotated[
        str,
        doc(
            "The media type of the data: as published, or the default; empty for an event without data.",
            "application/json",
        ),
    ]
    attempt: Annotated[int, doc("The number of this attempt, from 1.", 1, minimum=1)]
    receipt: Annotated[str, doc("The receipt handle of the lease.", _EXAMPLE_RECEIPT, pattern=RECEIPT_HANDLE_PATTERN)]
    leased_until: Annotated[int, instant_doc("When the lease ends", 1_795_536_310_000)]
    sequence: Annotated[int, SEQUENCE]
    type: TypeShown = UNSET
    key: Annotated[str | UnsetType, doc("The key of the message.", "customer-9")] = UNSET
    headers: Annotated[
        dict[str, str],
        doc(
            "The headers of the message, including attributes of an event (`ce-…`), `discue-type` and "
            "`discue-sequence`.",
            {"x-shop": "north", "discue-sequence": "17"},
        ),
    ]
    traceparent: Annotated[
        str | UnsetType,
        doc(
            "The trace context of this attempt, if the message was published in a trace and the listener gets it.",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            pattern=TRACEPARENT_PATTERN,
        ),
    ] = UNSET


class PulledMessagesResponse(ApiResponse, kw_only=True, frozen=True):
    """The messages that were leased."""

    messages: Annotated[list[PulledMessageView], doc("The leased messages, at most `max`.")]


class ReceiptView(msgspec.Struct, frozen=True):
    """The result for one receipt."""

    receipt: Annotated[str, doc("The receipt handle of the lease.", _EXAMPLE_RECEIPT, pattern=RECEIPT_HANDLE_PATTERN)]
    state: Annotated[
        str,
        doc(
            "The result. `expired`: the lease had ended, and the message is due again or leased to another consumer. "
            "`settled`: the message was settled already.",
            "acknowledged",
            enum=list(get_args(pulls.DecisionResult)),
        ),
    ]


class ReceiptsResponse(ApiResponse, kw_only=True, frozen=True):
    """The results of an acknowledgement."""

    receipts: Annotated[list[ReceiptView], doc("The result for each receipt, in the order of the request.")]


async def pull(call: Call) -> PulledMessagesResponse | EventStream:
    """Pull messages.

    For listeners in pull mode. Each message is leased: no other consumer receives it until it is released or its lease
    ends. With `Accept: text/event-stream`, messages are streamed as events until the client disconnects
    or its key expires.
    """
    given = call.given
    limit, wait_ms = given["max"], min(given["wait"] * 1_000, _key_left_ms(call))
    if prefers_events(call.accept) and call.scope.method != "HEAD":
        return EventStream(_events(call, await _target(call), limit))
    if call.scope.method == "HEAD":
        # The client would not see the messages.
        await _target(call)
        return PulledMessagesResponse(messages=[], links=call.links())
    with call.services.puller.connect(call.principal.key, _account(call)) as client:
        leased = await _pull(call, client, await _target(call), limit, wait_ms=wait_ms)
        if call.reservation is not None:
            client.hand_over(call.reservation)
        return PulledMessagesResponse(messages=[_view(each) for each in leased], links=call.links())


def _account(call: Call) -> int:
    return call.principal.organization if call.organization is None else call.organization.account


async def _target(call: Call) -> pulls.PullTarget:
    return await pulls.pull_target(call.control, call.principal, call.ids[:2])


async def _events(call: Call, target: pulls.PullTarget, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield messages as events as soon as they are due, and a comment as a heartbeat when there are none."""
    with call.services.puller.connect(call.principal.key, _account(call)) as client:
        yield _BEGINNING
        # The feed does not report that a key expires.
        while client.is_active and (left_ms := _key_left_ms(call)):
            try:
                leased = await _pull(call, client, target, limit, wait_ms=min(_HEARTBEAT_MS, left_ms))
            except DiscueError as error:
                # A frame that raised it may refer to it: in that cycle, the call would keep its connection open.
                error.__traceback__ = error.__context__ = None
                yield _event("problem", _encode(problem_of(error, "", call.base)))
                return
            if not leased:
                yield _HEARTBEAT
            leased.reverse()
            while leased:
                # Its body is not needed while the client reads the event.
                yield _event("message", _encode(_view(leased.pop())))
            client.release()


def _key_left_ms(call: Call) -> int:
    """Return how long the caller's key is still valid."""
    expires_at = call.principal.expires_at
    return max(0, expires_at - call.control.clock.now()) if expires_at else _NO_EXPIRY_MS


def _event(name: str, data: bytes) -> bytes:
    # Encoded JSON has no line breaks, so one line of data is enough.
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


async def acknowledge(call: Call) -> ReceiptsResponse:
    """Acknowledge pulled messages. Each receipt is handled on its own, and has its own result."""
    decisions = list(_decisions(call.body))
    if not 1 <= len(decisions) <= RECEIPTS_AT_MOST:
        raise invalid("", f"must have 1 to {RECEIPTS_AT_MOST} receipts in all")
    results = await call.services.puller.decide(await _target(call), decisions)
    receipts = [ReceiptView(str(decision.receipt), state) for decision, state in zip(decisions, results, strict=True)]
    return ReceiptsResponse(receipts=receipts, links=call.links())


def _view(leased: pulls.LeasedMessage) -> PulledMessageView:
    entry = leased.entry
    options = decode_options(entry.extra)
    is_bytes = entry.codec == BYTES
    # An event without data has no media type.
    is_without = options.media_type == ""
    return PulledMessageView(
        id=entry.id,
        stored_at=entry.stored_at,
        data=UNSET if is_bytes else entry.body.decode(),
        data_base64=b64encode(entry.body).decode() if is_bytes else UNSET,
        content_type="" if is_without else options.given_media_type or DEFAULT_MEDIA_TYPES[entry.codec],
        attempt=leased.attempt,
        receipt=str(leased.receipt),
        leased_until=leased.leased_until,
        sequence=entry.seq,
        type=or_unset(options.type),
        key=or_unset(options.key),
        headers={**dict(without_trace_headers(message_headers(options))), SEQUENCE_HEADER: str(entry.seq)},
        traceparent=(leased.trace and leased.trace.sent) or UNSET,
    )


async def _pull(
    call: Call, client: pulls.PullClient, target: pulls.PullTarget, limit: int, *, wait_ms: int
) -> list[pulls.LeasedMessage]:
    """Lease messages. Raises ClientGone if the client disconnects first; then nothing is leased."""
    puller = call.services.puller
    if not wait_ms:
        return await puller.pull(client, target, limit, wait_ms)
    loop = asyncio.get_running_loop()
    pulling = loop.create_task(puller.pull(client, target, limit, wait_ms))
    leaving = asyncio.ensure_future(call.exchange.client_disconnect())
    # If both are done, the messages are leased already and are returned: the send fails, and the lease expires.
    try:
        await asyncio.wait({pulling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not pulling.done():
            raise ClientGone
        return pulling.result()
    finally:
        leaving.cancel()
        pulling.cancel()


def _decisions(body: AcknowledgementsBody) -> Iterator[pulls.Decision]:
    """Raises Unprocessable for malformed and repeated receipts, and for numbers out of bounds."""
    delay = number_given(body.delay, _DELAY_SECONDS, "/delay", " seconds")
    lease_seconds = number_given(body.lease_seconds, LEASE_SECONDS, "/lease_seconds", " seconds")
    seconds = {"release": delay, "extend": lease_seconds}
    seen = set[str]()
    for action in _ACTIONS:
        for index, text in enumerate(getattr(body, action) or ()):
            receipt = parse_receipt_handle(text)
            if receipt is None:
                raise invalid(f"/{action}/{index}", "is not the `receipt` of a pulled message")
            if text in seen:
                raise invalid(f"/{action}/{index}", "is given twice", code="conflicting_fields")
            seen.add(text)
            yield pulls.Decision(receipt, action, seconds.get(action))


ROUTES = (
    Route(
        GET,
        f"{PATH}/messages",
        pull,
        _PULL,
        codes=("wrong_mode", "listener_disabled"),
        query=(_MAX, _WAIT),
        streams=True,
        reads=STREAM,
    ),
    Route(
        POST,
        f"{PATH}/acknowledgements",
        acknowledge,
        _WRITE,
        AcknowledgementsBody,
        codes=("wrong_mode", "invalid_value", "conflicting_fields"),
        ignores_idempotency_key=True,
        reads=RESOURCE,
    ),
)
