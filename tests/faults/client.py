"""A client of the API on one connection, cheap enough to load the service from a test."""

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

KEY = "dsk_" + "f" * 60
"""The operator's key in every installation of these tests."""

_APART_SECONDS = 0.05


class Served(Protocol):
    """Something that serves the API on a port of loopback."""

    @property
    def port(self) -> int: ...


class Lost(Exception):
    """No whole answer came: whether the request took effect is unknown."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Client:
    """Sends requests one after another on one connection, and reconnects after a loss or a restart.

    With `patience`, a request without a response after that many seconds counts as lost. Each client has an `address`
    of its own unless one is given: asking with keys that are gone locks an address out.
    """

    def __init__(
        self, served: Served, *, key: str = KEY, patience_seconds: float | None = None, address: str = ""
    ) -> None:
        self._served = served
        self._key = key
        self._patience_seconds = patience_seconds
        self._address = address or ".".join(map(str, (127, *random.choices(range(1, 255), k=3))))  # noqa: S311
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, content: object = None, *, idempotency_key: str = "") -> Answer:
        """Return the response, of any status. Raises Lost."""
        body = b"" if content is None else json.dumps(content, separators=(",", ":")).encode()
        once = f"idempotency-key: {idempotency_key}\r\n" if idempotency_key else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {self._key}\r\n{once}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(self._patience_seconds):
                reader, writer = await self._connected()
                # Not drained: a response that arrives before the whole request was sent is read all the same.
                writer.write(head.encode() + body)
                answer = await _read_answer(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Lost from error
        except asyncio.CancelledError:
            self.close()
            raise
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def get(self, path: str) -> Any:
        """Return the body of a response of 200."""
        return _understood(await self.ask("GET", path))

    async def post(self, path: str, content: object, *, idempotency_key: str = "") -> Any:
        """Return the body of a response of 200."""
        return _understood(await self.ask("POST", path, content, idempotency_key=idempotency_key))

    async def create(self, path: str, content: object) -> Any:
        """Return the resource that a POST creates, or the list of them."""
        return _resource(await self.post(path, content))

    async def queue(self, url: str = "") -> str:
        """The id of a new queue, with a listener at the URL if there is one."""
        queue = str((await self.create("/queues", {}))["id"])
        if url:
            await self.listener(queue, url)
        return queue

    async def listener(self, queue: str, url: str, **options: object) -> str:
        """The id of a new listener."""
        fields = {"notify_url": url, "liveness_url": url, **options}
        return str((await self.create(f"/queues/{queue}/listeners", fields))["id"])

    async def publish(self, queue: str, data: str) -> str:
        """The id of a message that is stored."""
        return str((await self.create(f"/queues/{queue}/messages", {"data": data}))["id"])

    async def publish_in_the_end(self, queue: str, data: str) -> str:
        """Publish, and try again while the service refuses temporarily. The caller bounds the time."""
        while True:
            answer = await self.ask("POST", f"/queues/{queue}/messages", {"data": data})
            if answer.status != 503:
                assert answer.status == 200, answer
                return str(answer.body["message"]["id"])
            assert "retry-after" in answer.headers, answer
            await asyncio.sleep(_APART_SECONDS)

    async def until(self, path: str, status: int, *, apart_seconds: float = _APART_SECONDS) -> None:
        """Repeat a GET until the response has this status. The caller bounds the time."""
        while True:
            with suppress(Lost):
                if (await self.ask("GET", path)).status == status:
                    return
            await asyncio.sleep(apart_seconds)

    async def until_shown(self, path: str, is_so: Callable[[Any], bool]) -> Any:
        """Repeat a GET until the resource in the response is as wanted, and return it. The caller bounds the time."""
        while True:
            shown = _resource(await self.get(path))
            if is_so(shown):
                return shown
            await asyncio.sleep(_APART_SECONDS)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._writer is None or self._reader is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._served.port, local_addr=(self._address, 0)
            )
        return self._reader, self._writer


def expect_busy(answer: Answer) -> None:
    """A worker may say that it cannot at the moment, and when to come again. Raises Lost, so that another is asked."""
    assert answer.status == 503, answer
    assert "retry-after" in answer.headers, answer
    raise Lost


def _understood(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.body


def _resource(body: dict[str, Any]) -> Any:
    return next(value for name, value in body.items() if name != "_links")


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(line.split()[1]), headers, json.loads(body) if body else None)
