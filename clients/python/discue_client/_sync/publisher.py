"""Publishing in batches.

Written by `make docs` from `_async/publisher.py`. Do not edit.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from discue_client import wire
from discue_client._sync.waiting import Condition, Future, finish, result_of, start, wait_until
from discue_client.errors import APIError, BadRequest, DiscueError, TooLarge, UnexpectedResponse, ValidationFailed
from discue_client.messages import message_fields

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from discue_client._sync.requester import Requester
    from discue_client._sync.waiting import Worker
    from discue_client.messages import MessageFields

_log = logging.getLogger("discue_client")

MAX_MESSAGES = 1_000
"""Maximum number of messages in a request to the service."""
_WAITING_BATCHES = 8

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

    def fail(self, error: DiscueError) -> None:
        # A caller that no longer waits has cancelled it.
        if not self.future.done():
            self.future.set_exception(error)
            # The failure is logged: a future without a waiter must not report it again.
            self.future.exception()


class Publisher:
    """Collects messages and publishes them in batches, in the order in which they were given.

    A batch starts when `max_messages` or `max_bytes` wait, or as many messages as the last batch had, or after `linger`
    seconds. One batch is in flight at a time, under an idempotency key of its own; the next one collects meanwhile.
    When as many bytes wait as eight batches can have, `publish` and `submit` wait for room. Use it as a context
    manager: leaving it sends what still waits.
    """

    def __init__(self, requester: Requester, queue: str, *, linger: float, max_messages: int, max_bytes: int) -> None:
        if not 1 <= max_messages <= MAX_MESSAGES:
            raise ValueError(f"max_messages must be 1 to {MAX_MESSAGES:,}")
        self._requester = requester
        self._path = wire.path_of("queues", queue, "messages", "batch")
        self._linger = linger
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._last_size = 0
        """Number of messages in the last batch: as many are likely to come at once again."""
        self._is_open = False
        self._changed = Condition()
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        if self._worker is not None:
            raise RuntimeError("A publisher can be entered once.")
        self._is_open = True
        self._worker = start(self._work, "discue publisher")
        return self

    def __exit__(self, *error: object) -> None:
        if self._worker is None:
            return
        try:
            with self._changed:
                self._is_open = False
                self._changed.notify_all()
            finish(self._worker)
        except BaseException:
            # After Ctrl-C, for example, the program must not wait for a service that does not respond.
            self._worker.cancel()
            finish(self._worker)
            raise

    def publish(self, data: object, **fields: Unpack[MessageFields]) -> str:
        """Publish a message, and return its id once it is stored. The arguments are those of `client.publish`."""
        future = self.submit(data, **fields)
        return result_of(future)

    def submit(self, data: object, **fields: Unpack[MessageFields]) -> Future[str]:
        """Like `publish`, but return a future of the id as soon as there is room for the message."""
        content = wire.encode(message_fields(data, **fields))
        with self._changed:
            room = self._max_bytes * _WAITING_BATCHES - len(content)
            wait_until(self._changed, lambda: not (self._is_open and self._waiting and self._bytes > room))
            if not self._is_open:
                raise RuntimeError("The publisher is closed, or was never entered.")
            future: Future[str] = Future()
            self._waiting.append(_Waiting(content, future, monotonic()))
            self._bytes += len(content)
            if len(self._waiting) == 1 or self._is_due():
                self._changed.notify_all()
        return future

    def _is_due(self) -> bool:
        enough = min(self._last_size or self._max_messages, self._max_messages)
        return not self._is_open or len(self._waiting) >= enough or self._bytes >= self._max_bytes

    def _work(self) -> None:
        batch: list[_Waiting] = []
        try:
            while batch := self._next_batch():
                self._send(batch)
        finally:
            # Messages are left only if this task was cancelled, or failed.
            stopped = DiscueError("The publisher was stopped before the message was confirmed.")
            with self._changed:
                self._is_open = False
                left = [each for each in (*batch, *self._waiting) if not each.future.done()]
                for each in left:
                    each.fail(stopped)
                if left:
                    _log.warning("Messages that were not confirmed, and may be stored or not: %d.", len(left))
                self._waiting.clear()
                self._changed.notify_all()

    def _next_batch(self) -> list[_Waiting]:
        """Wait for messages. Returns none when the publisher is closed and empty."""
        with self._changed:
            wait_until(self._changed, lambda: self._waiting or not self._is_open)
            if self._waiting:
                left = self._waiting[0].arrived_at + self._linger - monotonic()
                wait_until(self._changed, self._is_due, left)
            batch: list[_Waiting] = []
            size = 0
            while self._waiting and len(batch) < self._max_messages:
                length = len(self._waiting[0].content)
                if batch and size + length > self._max_bytes:
                    break
                batch.append(self._waiting.popleft())
                size += length
            self._bytes -= size
            self._last_size = len(batch)
            self._changed.notify_all()
            return batch

    def _send(self, batch: list[_Waiting]) -> None:
        """Publish a batch, and the rest of it again without the messages that the service refuses."""
        body = {"messages": [msgspec.Raw(each.content) for each in batch]}
        try:
            stored = self._requester.result(_StoredBatch, "POST", self._path, body=body)
            if len(stored.messages) != len(batch):
                found = len(stored.messages)
                raise UnexpectedResponse(f"POST {self._path}: {found} of {len(batch)} messages were confirmed.")
        except DiscueError as error:
            if isinstance(error, _SINGLE) and len(batch) > 1:
                for part in _parts(batch, error):
                    self._send(part)
                return
            _log.warning("Messages that could not be published: %d. %s", len(batch), error)
            for each in batch:
                each.fail(error)
            return
        for each, message in zip(batch, stored.messages, strict=True):
            if not each.future.done():
                each.future.set_result(message.id)


def _parts(batch: list[_Waiting], error: APIError) -> list[list[_Waiting]]:
    """Divide a batch that was refused: each message that the error names is sent alone, for an error of its own."""
    matches = (_INDEX.match(pointer) for pointer in error.pointers)
    refused = {int(match[1]) for match in matches if match is not None}
    rest = [each for index, each in enumerate(batch) if index not in refused]
    if len(rest) == len(batch):
        # The response does not say which messages it means.
        return [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
    alone = [[each] for index, each in enumerate(batch) if index in refused]
    return [rest, *alone] if rest else alone
