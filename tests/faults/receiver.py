"""Listeners' endpoints on one port: every request is kept unless that is too many, and answered as the test says."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.scripted_server import read_request


class Delivered(NamedTuple):
    """A request as it came. `path` is the one of the listener's notify_url, without its slash."""

    path: str
    headers: dict[str, str]
    body: bytes
    source: str
    """The address it came from."""
    came_at: float

    @property
    def message(self) -> str:
        return self.headers["webhook-id"]


HANG_UP = 0
"""A status: the connection is closed without a response."""

Respond = Callable[[Delivered], Awaitable[int]]
"""Returns the status to respond with. The service waits while it runs."""


Probed = Callable[[str], int]
"""Returns the status to respond to a liveness probe of a listener with."""


def alive(_path: str) -> int:
    return 200


async def acknowledge(_delivered: Delivered) -> int:
    return 200


class Receiver:
    """An HTTP server for deliveries, on loopback."""

    def __init__(self, respond: Respond = acknowledge, probed: Probed = alive, *, keep: bool = True) -> None:
        self.respond = respond
        self._probed = probed
        self._keep = keep
        self.delivered: list[Delivered] = []
        self._awaited: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def __aenter__(self) -> Self:
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1_024)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def messages(self, name: str) -> list[str]:
        """The ids that came for a listener, in their order."""
        return [delivered.message for delivered in self.delivered if delivered.path == name]

    def has_all(self, messages: Iterable[str], name: str | None = None) -> Callable[[], bool]:
        """Return a condition for `until`: these messages came, for one listener or for any.

        Each call checks only what came since the previous call, because there is a call for every delivery.
        """
        missing, looked_at = set(messages), 0

        def has_come() -> bool:
            nonlocal looked_at
            new = self.delivered[looked_at:]
            looked_at += len(new)
            missing.difference_update(each.message for each in new if name in (None, each.path))
            return not missing

        return has_come

    async def until(self, condition: Callable[[], bool], within_seconds: float = 30) -> None:
        """Wait until a condition on what was delivered holds. Raises TimeoutError."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append((condition, future))
        self._look()
        async with asyncio.timeout(within_seconds):
            await future

    async def until_more(self, requests: int) -> None:
        """Wait until so many more have come."""
        enough = len(self.delivered) + requests
        await self.until(lambda: len(self.delivered) >= enough)

    def _look(self) -> None:
        for entry in [entry for entry in self._awaited if entry[1].done() or entry[0]()]:
            self._awaited.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            # It is cancelled by our own end only, which waits for it.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Returns whether the connection stays open."""
        request = await read_request(reader, 0)
        if request.line.startswith("GET "):
            status = self._probed(request.line.split()[1].lstrip("/"))
            writer.write(b"HTTP/1.1 %d Probed\r\ncontent-length: 0\r\n\r\n" % status)
            return True
        source = str(writer.get_extra_info("peername")[0])
        delivered = Delivered(
            request.line.split()[1].lstrip("/"), request.headers, request.body, source, time.monotonic()
        )
        if self._keep:
            self.delivered.append(delivered)
        if self._awaited:
            self._look()
        status = await self.respond(delivered)
        if status == HANG_UP:
            return False
        writer.write(b"HTTP/1.1 %d Done\r\ncontent-length: 0\r\n\r\n" % status)
        await writer.drain()
        return True
