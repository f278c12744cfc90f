"""Replays: jobs that send a range of a queue's log to one listener again."""

from typing import Final

import msgspec

from discue.control.context import ControlContext
from discue.control.listeners import ListenerPath, own_listener
from discue.control.redeliveries import own_job, recipient_of, require_open_slot
from discue.domain.errors import Conflict, invalid
from discue.domain.filter_parser import parse_filter
from discue.domain.ids import event_id_of
from discue.domain.model import Replay, ReplaySpec
from discue.domain.scopes import Access, Principal
from discue.store import feed, replays
from discue.store.deliveries import Recipient
from discue.store.engine import Transaction
from discue.store.message_log import first_seq_at, rows_by_id, span_of_log
from discue.store.pagination import FIRST_PAGE, Listing, Selection

MAX_OPEN: Final = 3


class ReplayParams(msgspec.Struct, frozen=True):
    """A range of the log, ends included, and a filter. It starts and ends at a time or a message, by default now."""

    from_at: int | None = None
    """Milliseconds since the epoch, like `until_at`."""
    from_message: str | None = None
    until_at: int | None = None
    until_message: str | None = None
    pace: int | None = None
    """Messages per second. None: no limit."""
    filter: str | None = None
    dry_run: bool = False


class ReplayResult(msgspec.Struct, frozen=True):
    """A new replay, None after a dry run, and the range that it selects."""

    replay: Replay | None
    selected: int
    """Number of seqs in the range."""
    first: str
    """Id of the first message, "" if there is none. The same for `last`."""
    last: str


async def create(
    control: ControlContext, principal: Principal, path: ListenerPath, params: ReplayParams
) -> ReplayResult:
    """Create a replay; a dry run only counts the messages.

    Raises Unprocessable for messages of another queue and for an invalid filter, Conflict if too many replays are open
    or the listener is in pull mode.
    """
    if params.filter is not None:
        parse_filter(params.filter.encode(), "/filter")
    now, row_id = control.clock.now(), control.row_ids.next()

    async def work(tx: Transaction) -> ReplayResult:
        listener, of = await recipient_of(tx, principal, "write", path)
        if listener.mode == "pull":
            raise Conflict("This listener is in pull mode. Only listeners in push mode support replays.")
        from_seq, until_seq = await _range(tx, of, params)
        first, last = await replays.ends_of(tx, of.organization, of.queue, from_seq, last=until_seq)
        preview = ReplayResult(None, until_seq - from_seq + 1, first, last)
        if params.dry_run:
            return preview
        require_open_slot(await replays.list_open(tx, of.organization, of.listener, MAX_OPEN), MAX_OPEN, "replays")
        made = Replay(
            organization=of.organization,
            id=row_id,
            public_id=event_id_of(row_id),
            listener=of.listener,
            state="waiting",
            from_seq=from_seq,
            until_seq=until_seq,
            position=from_seq - 1,
            selected=preview.selected,
            created_at=now,
            updated_at=now,
            pace=params.pace,
            spec=ReplaySpec(params.filter),
        )
        await replays.insert(tx, made)
        # The feed entry makes the owner of the live cursor reload the listener, and start the replay.
        await feed.record(tx, "listener", of.organization, of.listener)
        return msgspec.structs.replace(preview, replay=made)

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> Replay:
    return await control.store.read(lambda tx: _own(tx, principal, "read", path, public_id=public_id))


async def page(
    control: ControlContext, principal: Principal, path: ListenerPath, selection: Selection = FIRST_PAGE
) -> Listing[Replay]:
    async def work(tx: Transaction) -> Listing[Replay]:
        listener = await own_listener(tx, principal, "read", path)
        return await replays.page(tx, listener.organization, listener.id, selection)

    return await control.store.read(work)


async def cancel(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> None:
    """Delete a replay. Requests in flight finish, but are not counted."""
    job_id = control.row_ids.next()

    async def work(tx: Transaction) -> None:
        stored = await _own(tx, principal, "write", path, public_id=public_id)
        control.require_match(stored)
        await replays.delete(tx, stored, job_id)
        # The feed entry stops its lane now, not only when it next stores an outcome.
        await feed.record(tx, "listener", stored.organization, stored.listener)

    await control.write(work)


async def _own(tx: Transaction, principal: Principal, access: Access, path: ListenerPath, *, public_id: str) -> Replay:
    return await own_job(tx, principal, access, path, found=await replays.get(tx, principal.organization, public_id))


async def _range(tx: Transaction, of: Recipient, params: ReplayParams) -> tuple[int, int]:
    """Return the first and the last seq of the range. The last one of an empty range is before the first one."""
    below, above = await span_of_log(tx, of.organization, of.queue)
    if params.from_message is not None:
        first = await _seq_of(tx, of, params.from_message, "/from_message")
    else:
        first = await first_seq_at(tx, of.organization, of.queue, params.from_at or 0)
    if params.until_message is not None:
        last = await _seq_of(tx, of, params.until_message, "/until_message")
        if params.from_message is not None and last < first:
            raise invalid("/until_message", "must not be before from_message in the queue")
    elif params.until_at is not None:
        if params.from_at is not None and params.until_at < params.from_at:
            raise invalid("/until_at", "must not be earlier than from_at")
        last = await first_seq_at(tx, of.organization, of.queue, params.until_at + 1) - 1
    else:
        last = above - 1
    first = max(first, below + 1)
    return first, max(min(last, above - 1), first - 1)


async def _seq_of(tx: Transaction, of: Recipient, public_id: str, pointer: str) -> int:
    for _, (_, queue, seq), *_ in await rows_by_id(tx, of.organization, [public_id]):
        if queue == of.queue:
            return int(seq)
    raise invalid(pointer, "is not the id of a stored message of this queue")
