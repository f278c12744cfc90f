"""A process that publishes at a fixed rate and receives what it published: both ends of a message on one clock.

The stamp in a message is when it was to be sent, so that a slow answer cannot hide what waits behind it.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from typing import cast

import httptools
import msgspec
import uvloop

from benchmarks.body import batch, message_of, single
from benchmarks.medians import quantile

_CONNECTIONS = 64
_TICK_SECONDS = 0.001
_DRAIN_SECONDS = 20.0
_ACKNOWLEDGED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Wish(msgspec.Struct):
    """Where to publish, how often, for how long; the first `warm_seconds` are not counted.

    Every queue of `paths` (of its messages) is published to by way of each of `ports` in turn, `batch` messages at
    once. The listener answers after `answer_ms`; with `elsewhere` it is no matter of this process.
    """

    ports: list[int]
    paths: list[str]
    key: str
    rate: float
    seconds: float
    warm_seconds: float = 2
    batch: int = 1
    answer_ms: float = 0
    elsewhere: bool = False


class Spread(msgspec.Struct):
    """How long something took, in milliseconds."""

    p50: float
    p99: float
    max: float


class Seen(msgspec.Struct):
    """From when a message was to be sent: until its answer, and until the listener had it.

    `wakes` are from the answer to the listener. `published` requests were answered 200; of their messages
    `received` came, and `repeated` times one that had come already.
    """

    answers: Spread
    receipts: Spread | None
    wakes: Spread | None
    published: int
    refused: int
    received: int
    repeated: int


class _Stamp(msgspec.Struct):
    stamp: int


_stamp_in = msgspec.json.Decoder(_Stamp).decode


class _Arrivals:
    """When something came, by the stamp of its message, in nanoseconds."""

    def __init__(self) -> None:
        self.at: dict[int, int] = {}
        self.repeated = 0
        self.changed = asyncio.Event()

    def note(self, stamp: int) -> None:
        now = time.monotonic_ns()
        self.repeated += self.at.setdefault(stamp, now) != now
        self.changed.set()

    def forget(self) -> None:
        self.at.clear()
        self.repeated = 0


class _Listener:
    """What all connections of the listener share."""

    def __init__(self) -> None:
        self.receipts = _Arrivals()
        self.answer_ms = 0.0


class _Receiving(asyncio.Protocol):
    """The listener's end of one connection."""

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            # It is asked whether it lives.
            self._acknowledge()
            return
        self._listener.receipts.note(_stamp_in(b"".join(self._body)).stamp)
        self._body.clear()
        if self._listener.answer_ms:
            asyncio.get_running_loop().call_later(self._listener.answer_ms / 1_000, self._acknowledge)
        else:
            self._acknowledge()

    def _acknowledge(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ACKNOWLEDGED)


class _Publishing(asyncio.Protocol):
    """The producer's end of one connection: one request under way at most."""

    def __init__(self, publisher: "_Publisher") -> None:
        self._publisher = publisher
        self._parser = httptools.HttpResponseParser(self)
        self._stamp = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, stamp: int, request: bytes) -> None:
        self._stamp = stamp
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._publisher.answered(self, self._stamp, self._parser.get_status_code())


class _Publisher:
    """Sends what is due by way of one port, over whatever connection is free."""

    def __init__(self, wish: Wish, number: int) -> None:
        self._wish = wish
        self._number = number
        self._free: deque[_Publishing] = deque()
        self._due: deque[int] = deque()
        self._begun = 0
        self.answers = _Arrivals()
        self.stored: list[int] = []
        """Stamps of what was answered 200."""

    async def connect(self) -> None:
        loop, port = asyncio.get_running_loop(), self._wish.ports[self._number]
        for _ in range(_CONNECTIONS // len(self._wish.ports)):
            _, producer = await loop.create_connection(lambda: _Publishing(self), "127.0.0.1", port)
            self._free.append(producer)
        self._connections = len(self._free)

    async def run(self, began: int) -> None:
        """With an equal share of the rate, out of step with the others."""
        step = int(1e9 / self._wish.rate)
        next_at = began + self._number * step
        until = began + int(self._wish.seconds * 1e9)
        while next_at < until:
            while next_at <= min(time.monotonic_ns(), until - 1):
                self._due.append(next_at)
                next_at += step * len(self._wish.ports)
            self._send_due()
            await asyncio.sleep(_TICK_SECONDS)

    def answered(self, producer: _Publishing, stamp: int, status: int) -> None:
        self.answers.note(stamp)
        if status == 200:
            self.stored.append(stamp)
        self._free.append(producer)
        self._send_due()

    async def finish(self) -> None:
        """Until everything is sent and answered."""
        while self._due or len(self._free) < self._connections:
            self.answers.changed.clear()
            await self.answers.changed.wait()

    def close(self) -> None:
        for producer in self._free:
            producer.close()

    def _send_due(self) -> None:
        while self._due and self._free:
            stamp = self._due.popleft()
            self._free.popleft().send(stamp, self._request(stamp))

    def _request(self, stamp: int) -> bytes:
        wish, message = self._wish, message_of(stamp)
        body = single(message) if wish.batch == 1 else batch(message, wish.batch)
        # Beginning at different ones, and going on in step, no two send to one queue at once.
        path = wish.paths[(self._begun + self._number * len(wish.paths) // len(wish.ports)) % len(wish.paths)]
        path += "" if wish.batch == 1 else "/batch"
        self._begun += 1
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-KEY: {wish.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def _measure(wish: Wish, listener: _Listener) -> Seen:
    listener.receipts.forget()
    listener.answer_ms = wish.answer_ms
    publishers = [_Publisher(wish, number) for number in range(len(wish.ports))]
    for publisher in publishers:
        await publisher.connect()
    began = time.monotonic_ns()
    await asyncio.gather(*(publisher.run(began) for publisher in publishers))
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            for publisher in publishers:
                await publisher.finish()
            if not wish.elsewhere:
                await _all_received(listener.receipts, publishers)
    for publisher in publishers:
        publisher.close()
    return _seen(publishers, listener.receipts, began + int(wish.warm_seconds * 1e9))


async def _all_received(receipts: _Arrivals, publishers: list[_Publisher]) -> None:
    published = sum(len(publisher.stored) for publisher in publishers)
    while len(receipts.at) < published:
        receipts.changed.clear()
        await receipts.changed.wait()


def _seen(publishers: list[_Publisher], receipts: _Arrivals, counted_from: int) -> Seen:
    answers: dict[int, int] = {}
    for publisher in publishers:
        answers |= publisher.answers.at
    stored = [stamp for publisher in publishers for stamp in publisher.stored]
    received = [stamp for stamp in stored if stamp in receipts.at]
    counted = [stamp for stamp in received if stamp >= counted_from]
    return Seen(
        _spread([at - stamp for stamp, at in answers.items() if stamp >= counted_from]),
        _spread([receipts.at[stamp] - stamp for stamp in counted]) if counted else None,
        _spread([receipts.at[stamp] - answers[stamp] for stamp in counted]) if counted else None,
        published=len(stored),
        refused=len(answers) - len(stored),
        received=len(received),
        repeated=receipts.repeated,
    )


def _spread(nanoseconds: Collection[int]) -> Spread:
    values = [each / 1e6 for each in nanoseconds]
    return Spread(quantile(values, 0.5), quantile(values, 0.99), max(values))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    listener = _Listener()
    server = await loop.create_server(lambda: _Receiving(listener), "127.0.0.1", 0)
    _say({"port": server.sockets[0].getsockname()[1]})
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        _say(await _measure(msgspec.json.decode(line, type=Wish), listener))
    server.close()


def _say(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    uvloop.run(_serve())


if __name__ == "__main__":
    main()
