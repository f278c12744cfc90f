"""A minimal HTTP server and HTTP client: uvloop and httptools, and nothing else.

Ratios to this pair compare versions of the product across machines. Its own `echo` and `sender alone` cannot be the
denominator: a faster `echo` would make the ratio of the rest worse.
"""

import asyncio
import sys
from typing import cast

import httptools
import msgspec
import uvloop

from benchmarks.body import MESSAGE
from benchmarks.cpu import own_seconds

_RESPONSE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"status":"fine"}'
_REQUEST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(MESSAGE),
    MESSAGE,
)


class Wish(msgspec.Struct):
    """One round of the client: the number of requests, and how many are in flight at once."""

    port: int
    requests: int
    at_once: int


class Round(msgspec.Struct):
    """The cost of one round."""

    seconds: float
    cpu_seconds: float


class _Server(asyncio.Protocol):
    """Collects the body of each request, and answers with the same bytes each time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        self._body = b""
        self._transport.write(_RESPONSE)


class _Client(asyncio.Protocol):
    """Sends the next request once the last one is answered."""

    def __init__(self, driver: "_Driver") -> None:
        self._driver = driver

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._driver.answered():
            self._send()
        else:
            self._transport.close()

    def _send(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(_REQUEST)


class _Driver:
    """Counts the requests of all connections."""

    def __init__(self, wish: Wish) -> None:
        self._unsent = wish.requests - wish.at_once
        self._unanswered = wish.requests
        self.finished = asyncio.get_running_loop().create_future()

    def answered(self) -> bool:
        """Count an answer. Returns whether there is another request to send."""
        self._unanswered -= 1
        if not self._unanswered:
            self.finished.set_result(None)
        self._unsent -= 1
        return self._unsent >= 0


async def _run(wish: Wish) -> Round:
    loop = asyncio.get_running_loop()
    began, cpu_before = loop.time(), own_seconds()
    driver = _Driver(wish)
    for _ in range(wish.at_once):
        await loop.create_connection(lambda: _Client(driver), "127.0.0.1", wish.port)
    await driver.finished
    return Round(loop.time() - began, own_seconds() - cpu_before)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Server, "127.0.0.1", 0)
    _say({"port": server.sockets[0].getsockname()[1]})
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        _say(await _run(msgspec.json.decode(line, type=Wish)))


def _say(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_serve())
