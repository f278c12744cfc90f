"""Messages that applications have published in their own transactions: the leader moves them into their logs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from discue.control.context import ControlContext
from discue.dispatch.lease import Leadership
from discue.domain.aliases import check_alias
from discue.domain.errors import DiscueError, NotFound, StoreDamaged, Unavailable, Unprocessable, invalid
from discue.domain.event_types import checked_type
from discue.domain.headers import check_headers
from discue.domain.json_text import is_too_deep
from discue.domain.message_data import data_of
from discue.domain.messages import MessageOptions
from discue.domain.reservations import STEP
from discue.domain.trace_context import traceparent_in
from discue.observability.logs import Log
from discue.publishing.publish import NewMessage, check_messages, entry_for
from discue.store import intake
from discue.store.engine import NewEntry
from discue.store.intake import IntakeRow, IntakeStep, MovedByAnother, StepOutcome, StepResult, WaitingQueue
from discue.store.time_slice import TimeSlice

_PAUSE_SECONDS: Final = 10.0
_ERROR_CHARACTERS: Final = 1_000
"""The length of the reason that is stored with a refused message. It may quote the message."""
_TRIES: Final = 2
"""How often messages are checked, if the configuration of their queue changes meanwhile."""
_WHITESPACE: Final = b" \t\r\n"


class _Options(msgspec.Struct, frozen=True):
    """The options that the function stores with the data of a message."""

    type: str | None = None
    key: str | None = None
    headers: dict[str, str] = {}
    alias: str | None = None
    deliver_at: int | None = None
    expires_at: int | None = None


_read_options = msgspec.json.Decoder(_Options).decode
_check_syntax = msgspec.json.Decoder(msgspec.Raw).decode


class Intake:
    """Moves messages from the intake. Two workers that do it at the same time are harmless: each row is moved once."""

    def __init__(
        self,
        control: ControlContext,
        log: Log,
        leadership: Leadership,
        *,
        on_error: Callable[[Exception], None],
        on_delayed: Callable[[int], None],
    ) -> None:
        """`on_error` is called with unexpected errors, and `on_delayed` with the due times of messages for later."""
        self._control = control
        self._store = control.store
        self._log = log
        self._leadership = leadership
        self._on_error = on_error
        self._on_delayed = on_delayed
        self._requested = asyncio.Event()
        self._paused: dict[int, float] = {}
        """Organizations that may not publish now, and when to try again."""
        self._last_queues: dict[int, int] = {}
        """The queue of each waiting organization that had the last step, 0 for none. The queues take turns."""
        self._reported: set[int] = set()
        """Organizations that could not publish when their messages were last moved."""
        self._has_stored_limit = False

    def request(self) -> None:
        """Move what waits, if this worker is the leader."""
        self._requested.set()

    async def round(self) -> None:
        await self._requested.wait()
        self._requested.clear()
        if self._leadership.is_held:
            await self.move()

    async def move(self) -> None:
        """Move all that waits: the organizations in turn, and their queues in turn."""
        settings = self._control.settings
        if not self._has_stored_limit:
            await self._store.write(partial(intake.store_limit, max_message_bytes=settings.max_message_bytes))
            self._has_stored_limit = True
        while self._leadership.is_held:
            now = self._control.clock.monotonic()
            self._paused = {owner: until for owner, until in self._paused.items() if until > now}
            waiting = await self._store.read(intake.waiting_organizations)
            self._last_queues = {owner: self._last_queues.get(owner, 0) for owner in waiting}
            # If nothing was done, this would go on and on: the next poll finds what was left.
            if not any([await self._move_turn(owner) for owner in waiting if owner not in self._paused]):
                return

    async def _move_turn(self, owner: int) -> bool:
        """Move some messages of a few queues of an organization. Returns whether anything was done."""
        after, is_done = self._last_queues[owner], False
        for queue in await self._store.read(partial(intake.waiting_queues, organization=owner, after=after)):
            if owner in self._paused:
                break
            self._last_queues[owner] = queue.key[1]
            try:
                # It does not wait: other organizations would wait with it.
                with self._store.ledger.hold(owner, STEP.bytes):
                    is_done |= await self._move_some(queue)
            except StoreDamaged as error:
                self._store.damage.note(queue.key)
                self._pause(queue, error.detail)
                is_done = True
            except Unavailable:
                raise
            except Exception as error:  # Reported, and tried again: it must not hold up other organizations
                self._on_error(error)
                self._pause(queue, "An unexpected error.")
                is_done = True
        return is_done

    async def _move_some(self, waiting: WaitingQueue) -> bool:
        """Move some messages of a queue. Returns whether anything was done."""
        rows = await self._store.read(partial(intake.oldest, queue=waiting.key))
        for _ in range(_TRIES):
            now = self._control.clock.now()
            try:
                step = await self._plan(waiting, rows, now)
                work = partial(intake.move, step=step, now=now, defaults=self._control.settings.default_quotas)
                result = await self._store.write_exclusively(work)
            except MovedByAnother:
                return True
            except Unprocessable as error:
                # This version of the program does not know the language of the queue's schema.
                self._pause(waiting, error.detail)
                return True
            if result.outcome is not StepOutcome.STALE:
                self._report(waiting, step, result)
                return True
            await self._control.cache.catch_up()
        return False

    def _report(self, waiting: WaitingQueue, step: IntakeStep, result: StepResult) -> None:
        if result.outcome is StepOutcome.OVER_QUOTA:
            self._pause(waiting, "The organization is suspended, or a quota is exceeded.")
        else:
            self._reported.discard(waiting.key[0])
        if result.outcome is not StepOutcome.QUEUE_DELETED:
            for row_id, reason in step.refused.items():
                self._log.error("intake_refused", queue=waiting.public_id, row=row_id, reason=reason)
        for entry in step.entries[: result.moved]:
            if entry.due_at is not None:
                self._on_delayed(entry.due_at)

    def _pause(self, waiting: WaitingQueue, reason: str) -> None:
        owner = waiting.key[0]
        self._paused[owner] = self._control.clock.monotonic() + _PAUSE_SECONDS
        if owner not in self._reported:
            self._log.warning("intake_waits", queue=waiting.public_id, reason=reason)
            self._reported.add(owner)

    async def _plan(self, waiting: WaitingQueue, rows: list[IntakeRow], now: int) -> IntakeStep:
        event_ids = self._control.row_ids.next(), self._control.row_ids.next()
        queue = None
        if waiting.public_id is not None:
            with suppress(NotFound):
                queue = await self._control.cache.queue(waiting.key[0], waiting.public_id)
                if queue.has_known_types:
                    # The step compares the version of the queue, but not of the event types.
                    await self._control.cache.catch_up()
        if queue is None:
            return IntakeStep(waiting.key, 0, (), (), {row.id: "the queue is deleted" for row in rows}, event_ids)
        ids: list[int] = []
        entries: list[NewEntry] = []
        refused: dict[int, str] = {}
        time_slice = TimeSlice()
        for row in rows:
            try:
                message = message_of(row, now)
                await check_messages(self._control.cache, queue, [message])
                entries.append(entry_for(self._control.public_ids.next(), message, ordered=queue.ordered))
                ids.append(row.id)
            except DiscueError as error:
                # PostgreSQL stores no NUL, which the names in JSON may have.
                refused[row.id] = error.detail[:_ERROR_CHARACTERS].replace("\0", "\\u0000")
            await time_slice.pause_if_over()
        return IntakeStep(waiting.key, queue.config_version, tuple(ids), tuple(entries), refused, event_ids)


def message_of(row: IntakeRow, now: int) -> NewMessage:
    """Return the message of a row. Raises Unprocessable for what the function does not check."""
    value = row.body.strip(_WHITESPACE)
    try:
        options = _read_options(row.options)
        _check_syntax(value)
        if is_too_deep(value):
            raise RecursionError("it is nested too deeply")
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid("/data", f"cannot be decoded: {error}") from None
    if options.alias is not None:
        check_alias(options.alias)
    data, codec = data_of(value)
    deliver_at = options.deliver_at if (options.deliver_at or 0) > now else None
    headers = check_headers(options.headers, "/headers")
    event_type = checked_type(options.type, headers)
    chosen = MessageOptions(headers, options.key, deliver_at=deliver_at, type=event_type)
    traceparent = traceparent_in(headers)
    return NewMessage(
        data, codec, options.alias, expires_at=options.expires_at, options=chosen, traceparent=traceparent
    )
