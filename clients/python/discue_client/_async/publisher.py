"""Publishing in batches."""

from __future__ import annotations

import logging
import re
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from discue_client import wire
from discue_client._async.waiting import Condition, finish, new_future, result_of, start, wait
from discue_client.errors import APIError, BadRequest, DiscueError, TooLarge, UnexpectedResponse, ValidationFailed
from discue_client.messages import message_fields

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from discue_client._async.requester import AsyncRequester
    from discue_client._async.waiting import Future, Worker

_log = logging.getLogger("discue_client")

MAX_MESSAGES = 1_000
"""Maximum number of messages in a request to the service."""

_SINGLE = (BadRequest, TooLarge, ValidationFailed)
"""Errors that one message may have caused for the whole batch."""
_INDEX = re.compile(r"/messages/(\d+)(?:/|$)")


class _Stored(msgspec.Struct, frozen=True):
    id: str


class _StoredBatch(msgspec.Struct, frozen=True):
    messages: list[_Stored]


class _Waiting(msgspec.Struct, eq=False):
    """A message that waits to be sent, or for the response."""

    content: bytes
    future: Future[str]
    arrived_at: float


class AsyncPublisher:
    """Collects messages and publishes them in batches, in the order in which they were given.

    A batch starts when `max_messages` or `max_bytes` wait, or as many messages as the last batch had, or after `linger`
    seconds. One batch is in flight at a time, under an idempotency key of its own; the next one collects meanwhile.
    When more than `max_waiting_bytes` wait, `publish` and `submit` wait for room. Use it as a context manager: leaving
    it sends what still waits.
    """

    def __init__(
        self,
        requester: AsyncRequester,
        queue: str,
        *,
        linger: float = 0.005,
        max_messages: int = 100,
        max_bytes: int = 1_000_000,
        max_waiting_bytes: int = 8_000_000,
    ) -> None:
        if not 1 <= max_messages <= MAX_MESSAGES:
            raise ValueError(f"max_messages must be 1 to {MAX_MESSAGES:,}")
        self._requester = requester
        self._path = wire.path_of("queues", queue, "messages", "batch")
        self._linger = linger
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._last_size = 0
        """Number of messages in the last batch: as many are likely to come at once again."""
        self._in_flight = False
        self._is_flushing = False
        self._is_open = False
        self._changed = Condition()
        self._worker: Worker | None = None

    async def __aenter__(self) -> Self:
        if self._worker is not None:
            raise RuntimeError("A publisher can be entered once.")
        self._is_open = True
        self._worker = start(self._work, "discue publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._changed:
            self._is_open = False
            self._changed.notify_all()
        if self._worker is not None:
            await finish(self._worker)

    async def publish(self, data: object, **fields: Any) -> str:
        """Publish a message, and return its id once it is stored. The arguments are those of `client.publish`."""
        future = await self.submit(data, **fields)
        return await result_of(future)

    async def submit(self, data: object, **fields: Any) -> Future[str]:
        """Like `publish`, but return a future of the id as soon as there is room for the message."""
        content = wire.encode(message_fields(data, **fields))
        async with self._changed:
            while self._is_open and self._waiting and self._bytes + len(content) > self._max_waiting_bytes:
                await wait(self._changed)
            if not self._is_open:
                raise RuntimeError("The publisher is closed, or was never entered.")
            future: Future[str] = new_future()
            self._waiting.append(_Waiting(content, future, monotonic()))
            self._bytes += len(content)
            if len(self._waiting) == 1 or self._is_due():
                self._changed.notify_all()
        return future

    async def flush(self) -> None:
        """Send what waits at once, and return when the response has arrived. Errors are those of the futures."""
        async with self._changed:
            self._is_flushing = True
            self._changed.notify_all()
            while self._waiting or self._in_flight:
                await wait(self._changed)
            self._is_flushing = False

    def _is_due(self) -> bool:
        count = len(self._waiting)
        enough = min(self._last_size or self._max_messages, self._max_messages)
        return not self._is_open or self._is_flushing or count >= enough or self._bytes >= self._max_bytes

    async def _work(self) -> None:
        batch: list[_Waiting] = []
        try:
            while batch := await self._next_batch():
                await self._send(batch)
                async with self._changed:
                    self._in_flight = False
                    self._changed.notify_all()
        finally:
            # Messages are left only if this task was cancelled, or failed.
            stopped = DiscueError("The publisher was stopped before the message was confirmed.")
            async with self._changed:
                self._is_open = self._in_flight = False
                for each in (*batch, *self._waiting):
                    _fail(each, stopped)
                self._waiting.clear()
                self._changed.notify_all()

    async def _next_batch(self) -> list[_Waiting]:
        """Wait for messages. Returns none when the publisher is closed and empty."""
        async with self._changed:
            while self._is_open and not self._waiting:
                await wait(self._changed)
            while self._waiting and not self._is_due():
                left = self._waiting[0].arrived_at + self._linger - monotonic()
                if left <= 0:
                    break
                await wait(self._changed, left)
            batch: list[_Waiting] = []
            size = 0
            while self._waiting and len(batch) < self._max_messages:
                size += len(self._waiting[0].content)
                if batch and size > self._max_bytes:
                    break
                batch.append(self._waiting.popleft())
            self._bytes -= sum(len(each.content) for each in batch)
            self._last_size, self._in_flight = len(batch), bool(batch)
            self._changed.notify_all()
            return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        """Publish a batch, and the rest of it again without the messages that the service refuses."""
        body = {"messages": [msgspec.Raw(each.content) for each in batch]}
        try:
            stored = await self._requester.result(_StoredBatch, "POST", self._path, body=body)
        except DiscueError as error:
            await self._handle(error, batch)
            return
        if len(stored.messages) != len(batch):
            counts = f"{len(stored.messages)} of {len(batch)} messages were confirmed"
            await self._handle(UnexpectedResponse(f"POST {self._path}: {counts}."), batch)
            return
        for each, message in zip(batch, stored.messages, strict=True):
            _succeed(each, message.id)

    async def _handle(self, error: DiscueError, batch: list[_Waiting]) -> None:
        if not isinstance(error, _SINGLE) or len(batch) == 1:
            _log.warning("Messages that could not be published: %d. %s", len(batch), error)
            for each in batch:
                _fail(each, error)
            return
        refused = _indexes(error, len(batch))
        if refused:
            # Each of them is sent alone, for an error of its own.
            rest = [each for index, each in enumerate(batch) if index not in refused]
            parts = [rest, *([batch[index]] for index in sorted(refused))]
        else:
            # The response does not say which messages it means.
            parts = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        for part in parts:
            if part:
                await self._send(part)


def _indexes(error: APIError, count: int) -> set[int]:
    """Return the positions of the messages that the error names."""
    found = (_INDEX.match(pointer) for pointer in error.pointers)
    return {index for match in found if match is not None and (index := int(match[1])) < count}


def _succeed(waiting: _Waiting, message_id: str) -> None:
    # A caller that no longer waits has cancelled it.
    if not waiting.future.done():
        waiting.future.set_result(message_id)


def _fail(waiting: _Waiting, error: DiscueError) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)
