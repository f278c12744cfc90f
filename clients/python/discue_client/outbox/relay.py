"""The relay: publishes the messages of an outbox."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from discue_client import wire
from discue_client._async.publisher import MAX_MESSAGES
from discue_client.errors import APIError, BadRequest, DiscueError, TooLarge, ValidationFailed, one_line
from discue_client.outbox import steps, waking
from discue_client.outbox.database import database_of
from discue_client.outbox.rows import batch_of
from discue_client.outbox.steps import Limits, Taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from discue_client._async.client import AsyncDiscue
    from discue_client.outbox.rows import Row
    from discue_client.outbox.steps import Batch

_log = logging.getLogger("discue_client")

_MAX_BYTES = 1_000_000
_TIMEOUT_SECONDS = 15.0
"""Shorter than the lease of a batch: then no other relay sends it meanwhile, which would be harmless but useless."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0

_INDEX = re.compile(r"/messages/(\d+)(?:/|$)")


class OutboxUnavailable(DiscueError):
    """The database cannot be used, or has no outbox. The cause is the error of its driver."""


class Relay:
    """Publishes the messages of an outbox, each one once, in the order of their numbers for each queue.

    `database` is a URL, such as `postgresql://user@host/name` or `sqlite:///file.db`, or an engine of SQLAlchemy. The
    relay has connections of its own, through asyncpg or psycopg, or `sqlite3`. Use it as a context manager: entering it
    raises OutboxUnavailable for a database that cannot be used; leaving it finishes the requests in flight. Several
    relays may work on one outbox, in several processes.
    """

    def __init__(
        self,
        database: Any,
        client: AsyncDiscue,
        *,
        max_messages: int = 100,
        poll_seconds: float = 30.0,
        lease_seconds: float = 30.0,
    ) -> None:
        """`poll_seconds` is how often an idle relay looks for messages that nothing has told it about.

        `lease_seconds` is how soon another relay takes over the batch of one that was killed.
        """
        if not 1 <= max_messages <= MAX_MESSAGES:
            raise ValueError(f"max_messages must be 1 to {MAX_MESSAGES:,}")
        self._database = database_of(database)
        # The relay itself tries again, and looks first whether another one has published the batch.
        self._client = client.with_options(timeout=_TIMEOUT_SECONDS, attempts=1)
        self._limits = Limits(max_messages, _MAX_BYTES, round(lease_seconds * 1_000))
        self._poll_seconds = poll_seconds
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None
        self._queues: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        """Queues that were found waiting while their task may have been about to end."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        try:
            await self._check()
        except BaseException as error:
            await self._close()
            if not isinstance(error, Exception):
                raise
            raise OutboxUnavailable(f"The outbox cannot be read: {one_line(str(error) or repr(error))}") from error
        waking.add(self)
        self._worker = self._loop.create_task(self._work(), name="discue relay")
        return self

    async def __aexit__(self, *error: object) -> None:
        waking.remove(self)
        self.stop()
        try:
            if self._worker is not None:
                await self._worker
        finally:
            await self._close()

    async def _close(self) -> None:
        """End what still runs, after an error or Ctrl-C."""
        tasks = [each for each in (self._worker, *self._queues.values()) if each is not None and not each.done()]
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._database.close()

    def wake(self) -> None:
        """Look for messages now. May be called from any thread."""
        if self._loop is not None:
            # A relay whose loop is closed must not fail the commit of somebody else.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)

    def stop(self) -> None:
        """Take no more messages. Leaving the context waits for the requests in flight."""
        self._stopping.set()
        self._woken.set()

    async def _work(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            timeout = _pause_after(failures) if failures else self._poll_seconds
            with suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), timeout)
            if self._stopping.is_set():
                break
            try:
                await self._check()
                failures = 0
            except Exception as error:
                failures += 1
                _say(failures, "The relay cannot read its database: %s", error)
        if self._queues:
            await asyncio.wait(list(self._queues.values()))

    async def _check(self) -> None:
        """Start a task for each queue with messages."""
        self._woken.clear()
        # First: a commit between the two is either reported or found.
        await self._database.listen(self.wake)
        for queue in await self._database.transaction(steps.waiting_queues()):
            if queue in self._queues:
                self._again.add(queue)
            else:
                task = asyncio.get_running_loop().create_task(self._drain(queue), name=f"discue relay {queue}")
                self._queues[queue] = task
                task.add_done_callback(partial(self._drained, queue))

    def _drained(self, queue: str, _task: asyncio.Task[None]) -> None:
        del self._queues[queue]
        if queue in self._again:
            self._again.discard(queue)
            self._woken.set()

    async def _drain(self, queue: str) -> None:
        """Publish the messages of a queue until there are none."""
        failures = 0
        while not self._stopping.is_set():
            now = round(time.time() * 1_000)
            try:
                claimed = await self._database.transaction(
                    steps.claim(queue, _new_key(), now, self._limits), lock=queue
                )
                if claimed is None:
                    return
                if isinstance(claimed, Taken):
                    await self._pause(claimed.seconds)
                else:
                    await self._publish(claimed)
                failures = 0
            except Exception as error:
                failures += 1
                _say(failures, "Messages to %s wait in the outbox: %s", queue, error)
                await self._pause(max(_pause_after(failures), getattr(error, "retry_after", None) or 0.0))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _publish(self, batch: Batch) -> None:
        """Send a batch, and delete its rows once it is stored. Raises DiscueError if it has to be sent again."""
        try:
            path, body = wire.path_of("queues", batch.queue, "messages", "batch"), batch_of(batch.rows)
        except (ValueError, msgspec.DecodeError) as error:
            # A program that writes the table itself has stored something else than a message.
            await self._refused(batch, f"The row is not a message: {error}", ())
            return
        try:
            await self._send(path, body, batch.key)
        except DiscueError as error:
            if not _is_refusal(error):
                await self._database.transaction(steps.release(batch), lock=batch.queue)
                raise
            await self._refused(batch, str(error), _indexes(error))
        else:
            await self._database.transaction(steps.delete(batch), lock=batch.queue)

    async def _send(self, path: str, body: object, key: str) -> None:
        await self._client.request("POST", path, body=body, idempotency_key=key)

    async def _refused(self, batch: Batch, error: str, refused: Sequence[int]) -> None:
        first, *others = batch.rows
        if others:
            parts = _parts(batch.rows, refused)
            await self._database.transaction(steps.split(batch, parts, _new_key), lock=batch.queue)
            return
        _log.error("Row %d of the outbox cannot be published, and stays in the table: %s", first.id, error)
        await self._database.transaction(steps.refuse(batch, error), lock=batch.queue)


def _new_key() -> str:
    return f"outbox-{os.urandom(16).hex()}"


def _pause_after(failures: int) -> float:
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 30))


def _say(failures: int, text: str, *values: object) -> None:
    """Log a failure: once as a warning, and then only for those who look for it."""
    _log.log(logging.WARNING if failures == 1 else logging.INFO, text, *values)


def _is_refusal(error: DiscueError) -> bool:
    """Return whether a message is the reason. The service has stored none of the batch.

    Messages must not be given up for anything else, such as rows that were changed after they were published.
    """
    if isinstance(error, TooLarge):
        return True
    return isinstance(error, (BadRequest, ValidationFailed)) and bool(_indexes(error))


def _indexes(error: DiscueError) -> list[int]:
    """Return the indexes of the messages that the error names."""
    pointers = error.pointers if isinstance(error, APIError) else ()
    found = (_INDEX.match(pointer) for pointer in pointers)
    return sorted({int(each[1]) for each in found if each is not None})


def _parts(rows: Sequence[Row], refused: Sequence[int]) -> list[Sequence[Row]]:
    """Divide rows in their order: each refused one is alone. If none is known, divide them in two."""
    cuts = sorted({each for index in refused for each in (index, index + 1) if 0 < each < len(rows)})
    edges = [0, *(cuts or [len(rows) // 2]), len(rows)]
    return [rows[start:end] for start, end in pairwise(edges)]


__all__ = ["OutboxUnavailable", "Relay"]
