"""The relay: publishes the messages of an outbox."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from discue_client import wire
from discue_client._async.publisher import MAX_MESSAGES
from discue_client.errors import DiscueError, one_line
from discue_client.outbox import steps, waking
from discue_client.outbox.database import DatabaseBusy, database_of
from discue_client.outbox.refusals import is_refusal, is_reused, refused_rows
from discue_client.outbox.rows import message_of
from discue_client.outbox.steps import Limits, Taken

if TYPE_CHECKING:
    from collections.abc import Mapping

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

_TAKEN_SECONDS = 1.0
"""How often to look for the end of another relay's work on a queue."""
_STALLED_MS = 60_000
_KEY_HOURS = 24
"""How long the service keeps an idempotency key, at least."""

_KEY = re.compile(r"outbox-(\d+)-")
_CHANGED = (
    "The service has published the batch of this row with other rows than it has now: they were changed or deleted. "
    "To publish the row again, set error and batch to null."
)
_UNCLEAR = (
    "The service has published some rows of the batch of this row, and refuses the requests that would show which. Set "
    "error to null to ask again."
)
_UNREADABLE = "The relay cannot read its database: %s"
_TABLE_MISSING = (
    ". Create the table: with op.create_discue_outbox() of Alembic, migrate of Django, or the SQL of "
    "discue_client.outbox.table.create_statements."
)


class OutboxUnavailable(DiscueError):
    """The database cannot be used, or has no outbox. The cause is the error of its driver."""


class Relay:
    """Publishes the messages of an outbox, each one once, in the order of their numbers for each queue.

    `database` is a URL, such as `postgresql://user@host/name` or `sqlite:///file.db`, or an engine of SQLAlchemy. The
    relay has connections of its own, through asyncpg or psycopg, or `sqlite3`. Use it as a context manager: entering it
    raises OutboxUnavailable for a database that cannot be used, and not for one that is locked; leaving it finishes the
    requests in flight. Several relays may work on one outbox, in several processes.
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
        self._now = _now_ms
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None
        self._queues: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        """Queues that were found waiting while their task may have been about to end."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        failures = 0
        try:
            await self._check()
        except DatabaseBusy as error:
            failures = 1
            _say(failures, _UNREADABLE, error)
        except BaseException as error:
            await self._close()
            if not isinstance(error, Exception):
                raise
            text = one_line(str(error) or repr(error))
            # In the words of SQLite and PostgreSQL.
            is_missing = "discue_outbox" in text and ("no such table" in text or "does not exist" in text)
            hint = _TABLE_MISSING if is_missing else ""
            raise OutboxUnavailable(f"The outbox cannot be read: {text}{hint}") from error
        waking.add(self)
        self._worker = self._loop.create_task(self._work(failures), name="discue relay")
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
            # A relay whose loop is closed must not fail the commit of its caller.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)

    def stop(self) -> None:
        """Take no more messages. Leaving the context waits for the requests in flight."""
        self._stopping.set()
        self._woken.set()

    async def _work(self, failures: int) -> None:
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
                _say(failures, _UNREADABLE, error)
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
        failures, held = 0, None
        while not self._stopping.is_set():
            now = self._now()
            try:
                step = steps.claim(queue, _new_key(now), now, self._limits, held=held)
                claimed = await self._database.transaction(step, lock=queue)
                if claimed is None:
                    return
                if isinstance(claimed, Taken):
                    # The other relay may finish long before its lease ends.
                    await self._pause(min(claimed.seconds, _TAKEN_SECONDS))
                else:
                    held = claimed.claimed_at
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
        """Send a batch, and record the outcome on its rows. Raises DiscueError if it has to be sent again."""
        if self._now() - batch.claimed_at > _STALLED_MS:
            # This process stood still. Another relay may have published the batch, so long ago that the service has
            # forgotten its key: look again.
            return
        try:
            await self._attempt(batch)
        except DiscueError:
            await self._database.transaction(steps.release(batch), lock=batch.queue)
            raise

    async def _attempt(self, batch: Batch) -> None:
        errors = _invalid(batch)
        if errors:
            await self._refuse(batch, errors)
            return
        number = len(batch.attempts) - 1
        try:
            await self._send(batch, number)
        except DiscueError as error:
            if is_refusal(error):
                await self._leave_out(batch, error)
            elif is_reused(error):
                await self._settle(batch)
            else:
                raise
        else:
            await self._published(batch, number)

    async def _send(self, batch: Batch, number: int) -> None:
        """Send an attempt of a batch. Raises ValueError for a row that is not a message."""
        path = wire.path_of("queues", batch.queue, "messages", "batch")
        body = {"messages": [message_of(row) for row in batch.attempts[number]]}
        await self._client.request("POST", path, body=body, idempotency_key=batch.key)

    async def _published(self, batch: Batch, number: int) -> None:
        await self._database.transaction(steps.delete(batch, number), lock=batch.queue)
        rows, hours = batch.attempts[number], (self._now() - _named_at(batch)) / 3_600_000
        if hours > _KEY_HOURS:
            text = "Rows %d to %d of the outbox were sent %.0f hours ago, and again now. The service has forgotten the "
            text += "first request: if it took effect, its messages are published twice."
            _log.warning(text, rows[0].id, rows[-1].id, hours)

    async def _leave_out(self, batch: Batch, error: DiscueError) -> None:
        """Leave out the messages that are refused, or half of the batch if it is unknown which ones these are."""
        errors = refused_rows(error, batch.rows)
        if errors or len(batch.rows) == 1:
            await self._refuse(batch, errors or {batch.rows[0].id: one_line(str(error))})
        else:
            await self._database.transaction(steps.divide(batch), lock=batch.queue)

    async def _settle(self, batch: Batch) -> None:
        """Find the earlier attempt that the service has stored under the key."""
        unclear = []
        for number in reversed(range(len(batch.attempts) - 1)):
            stored = await self._is_stored(batch, number)
            if stored:
                await self._published(batch, number)
                return
            if stored is None:
                unclear.append(number)
        if len(unclear) == 1:
            await self._published(batch, unclear[0])
        else:
            error = _UNCLEAR if unclear else _CHANGED
            await self._refuse(batch, {row.id: error for rows in batch.attempts for row in rows})

    async def _is_stored(self, batch: Batch, number: int) -> bool | None:
        """Send an attempt again, whose key is used up: the service repeats the response to the one that it has stored.

        Returns None if it cannot be told. Raises DiscueError if the service cannot be asked now.
        """
        try:
            await self._send(batch, number)
        except ValueError:
            # Such an attempt has never been sent.
            return False
        except DiscueError as error:
            if is_reused(error):
                return False
            if is_refusal(error):
                # The service refuses malformed requests before it looks for their key.
                return None
            raise
        return True

    async def _refuse(self, batch: Batch, errors: Mapping[int, str]) -> None:
        for number, error in errors.items():
            _log.error("Row %d of the outbox cannot be published, and stays in the table: %s", number, error)
        await self._database.transaction(steps.refuse(batch, errors), lock=batch.queue)


def _invalid(batch: Batch) -> dict[int, str]:
    """Return the rows of the batch that are not messages, each with the reason."""
    found = ((row.id, _fault(batch.queue, row)) for row in batch.rows)
    return {number: f"The row is not a message: {fault}" for number, fault in found if fault}


def _fault(queue: str, row: Row) -> str:
    try:
        wire.path_of(queue)
        message_of(row)
    except ValueError as error:
        return one_line(str(error))
    return ""


def _now_ms() -> int:
    return round(time.time() * 1_000)


def _new_key(now: int) -> str:
    return f"outbox-{now}-{os.urandom(16).hex()}"


def _named_at(batch: Batch) -> int:
    """Return when the batch was named, in milliseconds since the epoch."""
    found = _KEY.match(batch.key)
    return batch.claimed_at if found is None else int(found[1])


def _pause_after(failures: int) -> float:
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 30))


def _say(failures: int, text: str, *values: object) -> None:
    """Log a failure: once as a warning, and then only for those who look for it."""
    _log.log(logging.WARNING if failures == 1 else logging.INFO, text, *values)


__all__ = ["OutboxUnavailable", "Relay"]
