"""Redeliveries: jobs that make missed deliveries of a listener due again. Replays share their skeleton."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from discue.control.context import ControlContext, require_found, require_none
from discue.control.listeners import ListenerPath, own_listener
from discue.domain.errors import Conflict, Fault
from discue.domain.model import Listener, MissedSelection, Redelivery, Replay
from discue.domain.scopes import Access, Principal
from discue.store import deliveries, feed, listener_messages, queues, redeliveries
from discue.store.deliveries import Recipient
from discue.store.engine import Transaction
from discue.store.listener_messages import MissedMessage
from discue.store.message_log import WHOLE_LOG, rows_by_id, span_of_times
from discue.store.pagination import FIRST_PAGE, Listing, Selection, Span, intersect
from discue.store.redeliveries import RedeliveryPreview

MAX_OPEN = 10
_FAULTS_SHOWN = 10

Job = TypeVar("Job", Redelivery, Replay)


class RedeliveryParams(msgspec.Struct, frozen=True):
    """A selection of missed messages: by id, or by reason and time. Without both: all."""

    messages: tuple[str, ...] | None = None
    reason: str | None = None
    created_after: int | None = None
    """When the messages were stored, in milliseconds since the epoch. The same for `created_before`."""
    created_before: int | None = None
    pace: int | None = None
    """Messages per second. None: no limit."""
    dry_run: bool = False


class RedeliveryResult(msgspec.Struct, frozen=True):
    """A new redelivery, None after a dry run, and the messages that it selects."""

    redelivery: Redelivery | None
    preview: RedeliveryPreview


async def page_of_missed(
    control: ControlContext, principal: Principal, path: ListenerPath, selection: Selection = FIRST_PAGE
) -> Listing[MissedMessage]:
    async def work(tx: Transaction) -> Listing[MissedMessage]:
        _, of = await recipient_of(tx, principal, "read", path)
        return await listener_messages.missed_page(tx, of, selection)

    return await control.store.read(work)


async def recipient_of(
    tx: Transaction, principal: Principal, access: Access, path: ListenerPath
) -> tuple[Listener, Recipient]:
    """Return the listener at the path and its cursor. Raises what `own_listener` raises."""
    listener = await own_listener(tx, principal, access, path)
    return listener, require_found(await deliveries.find_recipient(tx, listener.organization, listener.public_id))


async def own_job(
    tx: Transaction, principal: Principal, access: Access, path: ListenerPath, *, found: Job | None
) -> Job:
    """Return the redelivery or replay if it belongs to the listener at the path. Raises NotFound and Forbidden."""
    listener = await own_listener(tx, principal, access, path)
    return require_found(found if found is not None and found.listener == listener.id else None)


def require_open_slot(jobs: Sequence[Job], limit: int, noun: str) -> None:
    """Raise Conflict if the listener has as many open jobs as the limit allows."""
    if len(jobs) >= limit:
        raise Conflict(f"This listener has {limit} unfinished {noun}. Wait until one finishes, or cancel one.")


async def create(
    control: ControlContext, principal: Principal, path: ListenerPath, params: RedeliveryParams
) -> RedeliveryResult:
    """Create a redelivery; a dry run only counts the messages.

    Raises Unprocessable for messages that the listener has not missed, Conflict if too many redeliveries are open.
    """
    now, row_id, public_id = control.clock.now(), control.row_ids.next(), control.public_ids.next()

    async def work(tx: Transaction) -> RedeliveryResult:
        _, of = await recipient_of(tx, principal, "write", path)
        chosen, span, preview = await _preview(tx, of, params)
        if params.dry_run:
            return RedeliveryResult(None, preview)
        require_open_slot(
            await redeliveries.list_open(tx, of.organization, of.listener, MAX_OPEN), MAX_OPEN, "redeliveries"
        )
        made = Redelivery(
            organization=of.organization,
            id=row_id,
            public_id=public_id,
            listener=of.listener,
            state="waiting",
            chosen=chosen,
            position=span[0],
            until_seq=span[1] - 1,
            selected=preview.selected,
            created_at=now,
            updated_at=now,
            pace=params.pace,
        )
        await redeliveries.insert(tx, made)
        # The feed entry makes the lane of the cursor reload, and start the redelivery.
        await feed.record(tx, "listener", of.organization, of.listener)
        return RedeliveryResult(made, preview)

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> Redelivery:
    return await control.store.read(lambda tx: _own(tx, principal, "read", path, public_id=public_id))


async def page(
    control: ControlContext, principal: Principal, path: ListenerPath, selection: Selection = FIRST_PAGE
) -> Listing[Redelivery]:
    async def work(tx: Transaction) -> Listing[Redelivery]:
        listener = await own_listener(tx, principal, "read", path)
        return await redeliveries.page(tx, listener.organization, listener.id, selection)

    return await control.store.read(work)


async def cancel(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> None:
    """Delete a redelivery. Messages that it has already made due again stay due."""

    async def work(tx: Transaction) -> None:
        stored = await _own(tx, principal, "write", path, public_id=public_id)
        control.require_match(stored)
        await redeliveries.delete(tx, stored)

    await control.write(work)


async def _own(
    tx: Transaction, principal: Principal, access: Access, path: ListenerPath, *, public_id: str
) -> Redelivery:
    found = await redeliveries.get(tx, principal.organization, public_id)
    return await own_job(tx, principal, access, path, found=found)


async def _preview(
    tx: Transaction, of: Recipient, params: RedeliveryParams
) -> tuple[MissedSelection, Span, RedeliveryPreview]:
    """Return the selection, the seqs between which its messages lie, and their number."""
    if params.messages is not None:
        seqs = await _missed_seqs(tx, of, params.messages)
        ids = sorted(seqs, key=seqs.__getitem__)
        chosen = MissedSelection(tuple(sorted(seqs.values())))
        preview = RedeliveryPreview(len(seqs), ids[0], ids[-1]) if ids else RedeliveryPreview(0, "", "")
        return chosen, (chosen.seqs[0] - 1, chosen.seqs[-1] + 1) if chosen.seqs else (0, 1), preview
    head = require_found(await queues.head(tx, of.organization, of.queue)).head
    times = Selection(created_after=params.created_after, created_before=params.created_before)
    within = intersect((of.start_seq, head + 1), await span_of_times(tx, of.organization, of.queue, times))
    low, high = intersect(within, WHOLE_LOG)
    span = (low, max(high, low + 1))
    chosen = MissedSelection(reason=params.reason)
    return chosen, span, await redeliveries.preview(tx, of, chosen, span)


async def _missed_seqs(tx: Transaction, of: Recipient, ids: Sequence[str]) -> dict[str, int]:
    rows = await rows_by_id(tx, of.organization, dict.fromkeys(ids)) if ids else []
    seqs = {str(row[2]): int(row[1][2]) for row in rows if row[1][1] == of.queue}
    states = await deliveries.states_of(tx, of, list(seqs.values()))
    rule = "is not the id of a message that this listener has missed"
    faults = [
        Fault(f"/messages/{index}", rule)
        for index, public_id in enumerate(ids)
        if public_id not in seqs or seqs[public_id] <= of.start_seq or states[seqs[public_id]] != "missed"
    ]
    require_none(faults[:_FAULTS_SHOWN])
    return seqs
