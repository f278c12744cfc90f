"""Replays: a part of a queue's log that one listener gets once more."""

from typing import Final

import msgspec

from discue.control.context import ControlContext, require_found
from discue.control.redeliveries import Path, listener_at, recipient_of
from discue.domain.errors import Conflict, Fault, Unprocessable
from discue.domain.filters.reading import read_filter
from discue.domain.ids import event_id_of
from discue.domain.model import Replay, ReplaySpec
from discue.domain.scopes import Principal
from discue.store import feed, replays
from discue.store.deliveries import Recipient
from discue.store.engine import Transaction
from discue.store.message_log import first_seq_at, rows_by_id, span_of_log
from discue.store.pagination import FIRST_PAGE, Listing, Selection

OPEN_AT_MOST: Final = 3


class ReplayParams(msgspec.Struct, frozen=True):
    """What is asked for: from a time or a message to a time, a message or, without both, now; ends included.

    Of the messages between, those that the filter lets through.
    """

    from_at: int | None = None
    from_message: str | None = None
    until_at: int | None = None
    until_message: str | None = None
    pace: int | None = None
    filter: str | None = None
    dry_run: bool = False


class ReplayResult(msgspec.Struct, frozen=True):
    """A replay, None after a dry run; how many seqs are between its ends, and the ids of the messages there."""

    replay: Replay | None
    selected: int
    first: str
    last: str


class _Part(msgspec.Struct, frozen=True):
    """Of a log, ends included. One without messages ends before it begins."""

    first: int
    last: int

    @property
    def selected(self) -> int:
        return self.last - self.first + 1


async def create(control: ControlContext, principal: Principal, path: Path, params: ReplayParams) -> ReplayResult:
    """A dry run changes nothing.

    Raises Unprocessable for messages that are none of the queue's and a filter that is none, Conflict while several
    replays are open, and for a listener whose messages are pulled.
    """
    if params.filter is not None:
        read_filter(params.filter.encode(), "/filter")
    now, row_id = control.clock.now(), control.row_ids.next()

    async def work(tx: Transaction) -> ReplayResult:
        listener = await listener_at(tx, principal, "write", path)
        if listener.mode == "pull":
            raise Conflict("A replay sends messages to a listener, and those of this one are pulled.")
        of = await recipient_of(tx, listener)
        part = await _part(tx, of, params)
        first, last = await replays.ends_of(tx, of.organization, of.queue, part.first, part.last)
        if params.dry_run:
            return ReplayResult(None, part.selected, first, last)
        if len(await replays.list_open(tx, of.organization, of.listener, OPEN_AT_MOST)) == OPEN_AT_MOST:
            rule = f"This listener has {OPEN_AT_MOST} replays that have not ended. Wait for one, or cancel it."
            raise Conflict(rule)
        made = Replay(
            organization=of.organization,
            id=row_id,
            public_id=event_id_of(row_id),
            listener=of.listener,
            state="waiting",
            from_seq=part.first,
            until_seq=part.last,
            position=part.first - 1,
            selected=part.selected,
            created_at=now,
            updated_at=now,
            pace=params.pace,
            spec=ReplaySpec(params.filter),
        )
        await replays.insert(tx, made)
        # Whoever owns the live cursor reads the listener again, and finds the new one.
        await feed.record(tx, "listener", of.organization, of.listener)
        return ReplayResult(made, part.selected, first, last)

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, path: Path, public_id: str) -> Replay:
    async def work(tx: Transaction) -> Replay:
        return await _own(tx, principal, path, public_id)

    return await control.store.read(work)


async def page(
    control: ControlContext, principal: Principal, path: Path, selection: Selection = FIRST_PAGE
) -> Listing[Replay]:
    async def work(tx: Transaction) -> Listing[Replay]:
        listener = await listener_at(tx, principal, "read", path)
        return await replays.page(tx, listener.organization, listener.id, selection)

    return await control.store.read(work)


async def cancel(control: ControlContext, principal: Principal, path: Path, public_id: str) -> None:
    """It is gone at once. What is under way ends, and is counted nowhere."""
    job_id = control.row_ids.next()

    async def work(tx: Transaction) -> None:
        await listener_at(tx, principal, "write", path)
        stored = await _own(tx, principal, path, public_id)
        control.require_match(stored)
        await replays.delete(tx, stored, job_id)
        # Its lane is to stop now, not when it wants to store something.
        await feed.record(tx, "listener", stored.organization, stored.listener)

    await control.write(work)


async def _own(tx: Transaction, principal: Principal, path: Path, public_id: str) -> Replay:
    listener = await listener_at(tx, principal, "read", path)
    found = require_found(await replays.get(tx, principal.organization, public_id))
    return require_found(found if found.listener == listener.id else None)


async def _part(tx: Transaction, of: Recipient, params: ReplayParams) -> _Part:
    below, above = await span_of_log(tx, of.organization, of.queue)
    first, last = await _first(tx, of, params), await _last(tx, of, params, above - 1)
    if params.from_message is not None and params.until_message is not None and last < first:
        raise _unacceptable("/until_message", "stands before from_message in the queue")
    first = max(first, below + 1)
    return _Part(first, max(min(last, above - 1), first - 1))


async def _first(tx: Transaction, of: Recipient, params: ReplayParams) -> int:
    if params.from_message is not None:
        return await _seq_of(tx, of, params.from_message, "/from_message")
    return await first_seq_at(tx, of.organization, of.queue, params.from_at or 0)


async def _last(tx: Transaction, of: Recipient, params: ReplayParams, head: int) -> int:
    if params.until_message is not None:
        return await _seq_of(tx, of, params.until_message, "/until_message")
    if params.until_at is None:
        return head
    if params.from_at is not None and params.until_at < params.from_at:
        raise _unacceptable("/until_at", "must not be earlier than from_at")
    return await first_seq_at(tx, of.organization, of.queue, params.until_at + 1) - 1


async def _seq_of(tx: Transaction, of: Recipient, public_id: str, pointer: str) -> int:
    for _, (_, queue, seq), *_ in await rows_by_id(tx, of.organization, [public_id]):
        if queue == of.queue:
            return int(seq)
    raise _unacceptable(pointer, "is not the id of a message of this queue that is kept")


def _unacceptable(pointer: str, rule: str) -> Unprocessable:
    return Unprocessable(f"{pointer} {rule}.", faults=(Fault(pointer, rule),))
