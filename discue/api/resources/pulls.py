"""`/queues/{queue_id}/listeners/{listener_id}/messages` and `/acknowledgements`: messages that are pulled."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator

import msgspec
from msgspec import UNSET

from discue.api import bodies, wire
from discue.api.links import link_to
from discue.api.parameters import PULLS
from discue.api.problems import problem_of
from discue.api.query import number_in, parameters_of
from discue.api.resources.missed import PATH
from discue.api.route import Call, EventStream, Gone, Needs, Route
from discue.api.rsgi import ClientGone
from discue.control import pulls
from discue.control.listener_options import LEASE_SECONDS
from discue.control.pulls import (
    LONGEST_WAIT_SECONDS,
    MOST_AT_ONCE,
    Action,
    Decision,
    LeasedMessage,
    PullClient,
    PullTarget,
)
from discue.domain.cloudevents import JSON, TEXT
from discue.domain.errors import DiscueError, Fault, Unprocessable
from discue.domain.messages import decode_options, message_headers, parse_receipt_handle

RECEIPTS_AT_MOST = 1_000
LONGEST_DELAY_SECONDS = 86_400

_MOST = 10
_HEARTBEAT_MS = 15_000
_HEARTBEAT = b":\n\n"
_BEGINNING = b"retry: 1000\n\n"
"""After a second a browser comes again: what it did not acknowledge is leased until its lease is over."""

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
_WRITE = Needs("listeners", "write")
_ACTIONS: tuple[Action, ...] = ("acknowledge", "reject", "release", "extend")


async def pull(call: Call) -> wire.Pulled | EventStream:
    parameters = parameters_of(call.query)
    most = number_in(parameters, "max", _MOST, MOST_AT_ONCE)
    wait_ms = number_in(parameters, "wait", 0, LONGEST_WAIT_SECONDS, smallest=0) * 1_000
    path = (call.ids[0], call.ids[1])
    if call.wants_events and call.method != "HEAD":
        return EventStream(_events(call, await pulls.pull_target(call.control, call.principal, path), most))
    if call.method == "HEAD":
        # Nobody would see what was handed out to that.
        await pulls.pull_target(call.control, call.principal, path)
        return wire.Pulled(messages=[], links=link_to(call.url))
    with call.services.puller.connect(call.principal.key) as client:
        place = await pulls.pull_target(call.control, call.principal, path)
        handed = await _pulled(call, client, place, (most, wait_ms))
    return wire.Pulled(messages=[shown(each) for each in handed], links=link_to(call.url))


async def _events(call: Call, place: PullTarget, most: int) -> AsyncGenerator[bytes, None]:
    """Messages as events, each when it is there, and a comment now and then when none is."""
    with call.services.puller.connect(call.principal.key) as client:
        yield _BEGINNING
        while client.is_active:
            try:
                handed = await _pulled(call, client, place, (most, _HEARTBEAT_MS))
            except DiscueError as error:
                yield _event("problem", _encode(problem_of(error, "", call.base)))
                return
            yield b"".join(_event("message", _encode(shown(each))) for each in handed) if handed else _HEARTBEAT


def _event(name: str, data: bytes) -> bytes:
    """JSON has no line ends: one line is enough."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


async def acknowledge(call: Call) -> wire.Receipts:
    decisions = list(_decisions(call.body))
    if not 1 <= len(decisions) <= RECEIPTS_AT_MOST:
        rule = f"must have 1 to {RECEIPTS_AT_MOST} receipts in all"
        raise Unprocessable(f"The request {rule}.", faults=(Fault("", rule),))
    place = await pulls.pull_target(call.control, call.principal, (call.ids[0], call.ids[1]))
    answered = await call.services.puller.answer(place, decisions)
    receipts = [
        wire.ReceiptShown(str(decision.receipt), state) for decision, state in zip(decisions, answered, strict=True)
    ]
    return wire.Receipts(receipts=receipts, links=link_to(call.url))


def shown(handed: LeasedMessage) -> wire.PulledShown:
    """A message as whoever pulls it sees it."""
    entry = handed.entry
    options = decode_options(entry.extra)
    return wire.PulledShown(
        id=entry.id,
        stored_at=entry.stored_at,
        data=entry.body.decode(),
        content_type=(JSON if entry.is_json else TEXT) if options.media_type is None else options.media_type,
        attempt=handed.attempt,
        receipt=str(handed.receipt),
        leased_until=handed.leased_until,
        key=UNSET if options.key is None else options.key,
        headers=dict(message_headers(options)) or UNSET,
    )


async def _pulled(call: Call, client: PullClient, place: PullTarget, wish: tuple[int, int]) -> list[LeasedMessage]:
    """At most so many, waiting so many milliseconds. Raises ClientGone, and then nothing is leased."""
    puller, (most, wait_ms) = call.services.puller, wish
    if call.gone is None or not wait_ms:
        return await puller.pull(client, place, most, wait_ms)
    loop = asyncio.get_running_loop()
    pulling = loop.create_task(puller.pull(client, place, most, wait_ms))
    leaving = loop.create_task(_until(call.gone))
    try:
        await asyncio.wait({pulling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not pulling.done():
            raise ClientGone
        return pulling.result()
    finally:
        leaving.cancel()
        pulling.cancel()


async def _until(gone: Gone) -> None:
    await gone()


def _decisions(body: bodies.AcknowledgementsBody) -> Iterator[Decision]:
    """Raises Unprocessable for what is no receipt, for one that comes twice, and for times out of range."""
    delay = _seconds(body.delay, "delay", range(LONGEST_DELAY_SECONDS + 1))
    lease_seconds = _seconds(body.lease_seconds, "lease_seconds", LEASE_SECONDS)
    seconds = {"release": delay, "extend": lease_seconds}
    seen = set[str]()
    for action in _ACTIONS:
        for index, text in enumerate(getattr(body, action) or ()):
            receipt = parse_receipt_handle(text)
            if receipt is None:
                raise _unfit(f"/{action}/{index}", "is no receipt of a message")
            if text in seen:
                raise _unfit(f"/{action}/{index}", "is given twice")
            seen.add(text)
            yield Decision(receipt, action, seconds.get(action))


def _seconds(sent: bodies.Whole, name: str, bounds: range) -> int | None:
    if not isinstance(sent, int):
        return None
    if sent not in bounds:
        raise _unfit(f"/{name}", f"must be from {bounds.start} to {bounds.stop - 1} seconds")
    return sent


def _unfit(pointer: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The value at {pointer} {rule}.", faults=(Fault(pointer, rule),))


ROUTES = (
    Route(
        methods=("GET",),
        path=f"{PATH}/messages",
        handler=pull,
        response=wire.Pulled,
        needs=_WRITE,
        statuses=(404, 409),
        query=PULLS,
        streams=True,
        summary="Pull messages",
        description=(
            "Of a listener in the mode pull. Each is leased: nobody else gets it until it is acknowledged, given back, "
            "or its lease is over. With `Accept: text/event-stream` they come as events, for as long as the client "
            "stays."
        ),
    ),
    Route(
        methods=("POST",),
        path=f"{PATH}/acknowledgements",
        handler=acknowledge,
        request=bodies.AcknowledgementsBody,
        response=wire.Receipts,
        needs=_WRITE,
        statuses=(404, 409, 422),
        ignores_idempotency_key=True,
        summary="Say what became of messages that were pulled",
        description="Each receipt is looked at by itself: the answer says what became of it.",
        example={"acknowledge": ["0000000001l2rVTz9Xk0Jm"]},
    ),
)
