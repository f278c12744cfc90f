"""Redeliveries: missed deliveries of a listener that are made due again."""

from collections.abc import Sequence

import msgspec

from discue.control.context import ControlContext, require_found
from discue.domain.errors import Conflict, Fault, Unprocessable
from discue.domain.model import Listener, MissedSelection, Redelivery
from discue.domain.scopes import Access, Principal
from discue.store import deliveries, feed, listener_messages, listeners, queues, redeliveries
from discue.store.deliveries import Recipient
from discue.store.engine import Transaction
from discue.store.listener_messages import MissedMessage
from discue.store.message_log import WHOLE_LOG, Span, intersect, rows_by_id, span_of_times
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.redeliveries import RedeliveryPreview

Path = tuple[str, str]
"""The ids of a queue and of one of its listeners."""


async def page_of_missed(
    control: ControlContext, principal: Principal, path: Path, selection: Selection = FIRST_PAGE
) -> Listing[MissedMessage]:
    async def work(tx: Transaction) -> Listing[MissedMessage]:
        return await listener_messages.missed_page(
            tx, await recipient_of(tx, await listener_at(tx, principal, "read", path)), selection
        )

    return await control.store.read(work)


async def listener_at(tx: Transaction, principal: Principal, access: Access, path: Path) -> Listener:
    """Raises NotFound, and Forbidden where the key does not reach."""
    queue_public_id, public_id = path
    principal.require("listeners", access, public_id, queue_public_id)
    listener = require_found(await listeners.get(tx, principal.organization, public_id))
    return require_found(listener if listener.queue_public_id == queue_public_id else None)


async def recipient_of(tx: Transaction, listener: Listener) -> Recipient:
    return require_found(await deliveries.find_recipient(tx, listener.organization, listener.public_id))


OPEN_AT_MOST = 10
_FAULTS_SHOWN = 10


class RedeliveryParams(msgspec.Struct, frozen=True):
    """What is asked for: some messages, by their ids, or what a filter lets through, or without both everything.

    `created_after` and `created_before` are about when the messages were stored.
    """

    messages: tuple[str, ...] | None = None
    reason: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    pace: int | None = None
    dry_run: bool = False


class RedeliveryResult(msgspec.Struct, frozen=True):
    """A redelivery, None after a dry run, and what was chosen for it."""

    redelivery: Redelivery | None
    preview: RedeliveryPreview


async def create(
    control: ControlContext, principal: Principal, path: Path, params: RedeliveryParams
) -> RedeliveryResult:
    """A dry run changes nothing.

    Raises Unprocessable for messages that the listener has not missed, Conflict while many redeliveries are open.
    """
    now, row_id, public_id = control.clock.now(), control.row_ids.next(), control.public_ids.next()

    async def work(tx: Transaction) -> RedeliveryResult:
        listener = await listener_at(tx, principal, "write", path)
        of = await recipient_of(tx, listener)
        chosen, span, preview = await _survey(tx, of, params)
        if params.dry_run:
            return RedeliveryResult(None, preview)
        if len(await redeliveries.list_open(tx, of.organization, of.listener, OPEN_AT_MOST)) == OPEN_AT_MOST:
            rule = f"This listener has {OPEN_AT_MOST} redeliveries that have not ended. Wait for one, or cancel it."
            raise Conflict(rule)
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
        # The lane of the cursor reads itself again, and finds it.
        await feed.record(tx, "listener", of.organization, of.listener)
        return RedeliveryResult(made, preview)

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, path: Path, public_id: str) -> Redelivery:
    async def work(tx: Transaction) -> Redelivery:
        return await _own(tx, principal, path, public_id)

    return await control.store.read(work)


async def page(
    control: ControlContext, principal: Principal, path: Path, selection: Selection = FIRST_PAGE
) -> Listing[Redelivery]:
    async def work(tx: Transaction) -> Listing[Redelivery]:
        listener = await listener_at(tx, principal, "read", path)
        return await redeliveries.page(tx, listener.organization, listener.id, selection)

    return await control.store.read(work)


async def cancel(control: ControlContext, principal: Principal, path: Path, public_id: str) -> None:
    """It is gone at once. What is due again already stays so."""

    async def work(tx: Transaction) -> None:
        await listener_at(tx, principal, "write", path)
        stored = await _own(tx, principal, path, public_id)
        control.require_match(stored)
        await redeliveries.delete(tx, stored)

    await control.write(work)


async def _own(tx: Transaction, principal: Principal, path: Path, public_id: str) -> Redelivery:
    listener = await listener_at(tx, principal, "read", path)
    found = require_found(await redeliveries.get(tx, principal.organization, public_id))
    return require_found(found if found.listener == listener.id else None)


async def _survey(
    tx: Transaction, of: Recipient, params: RedeliveryParams
) -> tuple[MissedSelection, Span, RedeliveryPreview]:
    """What is chosen, between which seqs it lies, and how much it is."""
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
    if faults:
        raise Unprocessable(f"{faults[0].pointer} {rule}.", faults=tuple(faults[:_FAULTS_SHOWN]))
    return seqs
