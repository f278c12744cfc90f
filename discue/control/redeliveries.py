"""Redeliveries and replays: jobs that send messages to a listener again.

A redelivery makes missed deliveries due again. A replay sends a range of the queue's log.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec

from discue.control.context import ControlContext, require_found, require_none
from discue.control.listeners import ListenerDetails, ListenerPath, own_listener, own_with_facts, recipient_of
from discue.domain.errors import Conflict, Fault, Forbidden, invalid
from discue.domain.filter_parser import check_filter
from discue.domain.ids import event_id_of
from discue.domain.model import JobListener, Listener, MissedSelection, Redelivery, Replay, ReplaySpec
from discue.domain.scopes import Access, Principal
from discue.store import attempts, feed, missed, recipients, redeliveries, replay_slots, replays
from discue.store.engine import Transaction
from discue.store.listeners import ListenerFacts
from discue.store.log_bounds import WHOLE_LOG, span_of_times
from discue.store.message_log import WAITING, last_seq_stored_before, rows_by_id
from discue.store.missed_messages import MissedMessage, Missing
from discue.store.pagination import FIRST_PAGE, Listing, Selection, Span, intersect
from discue.store.recipients import Recipient
from discue.store.redeliveries import RedeliveryPreview

MAX_OPEN_REDELIVERIES: Final = 10
MAX_OPEN_REPLAYS: Final = 3

_FAULTS_SHOWN: Final = 10
_COUNTED_ON_PAGES: Final = 10_000
"""Counting as many as the API does would take longer than a page may."""

Job = TypeVar("Job", Redelivery, Replay)


class RedeliveryParams(msgspec.Struct, frozen=True):
    """A selection of missed or acknowledged messages by id, or of missed ones by reason and time. Without both: all."""

    messages: tuple[str, ...] | None = None
    reason: str | None = None
    created_after: int | None = None
    """Selects messages that were stored later than this, in milliseconds since the epoch."""
    created_before: int | None = None
    """Selects messages that were stored earlier than this, in milliseconds since the epoch."""
    pace: int | None = None
    """Messages per second. None: no limit."""
    dry_run: bool = False


class RedeliveryResult(msgspec.Struct, frozen=True):
    """A new redelivery, None after a dry run, and the messages that it selects."""

    redelivery: Redelivery | None
    preview: RedeliveryPreview


async def page_of_missed(
    control: ControlContext,
    principal: Principal,
    at: ListenerPath | ListenerDetails,
    selection: Selection = FIRST_PAGE,
) -> Listing[MissedMessage]:
    async def work(tx: Transaction) -> Listing[MissedMessage]:
        listener, facts = await own_with_facts(tx, principal, "read", at)
        found = await missed.page_of_listener(tx, recipient_of(listener, facts), selection)
        return await _with_failures(tx, principal.organization, found)

    return await control.store.search(work)


async def positions_of_missed(
    control: ControlContext, principal: Principal, details: ListenerDetails, selection: Selection
) -> Listing[MissedMessage]:
    """Return the messages that a listener has missed like `page_of_missed`, in fewer statements.

    The page continues at positions, as in the list of all listeners.
    """
    listener = details.listener

    async def work(tx: Transaction) -> Listing[MissedMessage]:
        of = recipient_of(*await own_with_facts(tx, principal, "read", details))
        missing = Missing(of, listener.alias, listener.queue_alias, listener.public_id)
        return await _with_failures(tx, principal.organization, await missed.page_of_one(tx, missing, selection))

    return await control.store.search(work)


async def page_of_all_missed(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[MissedMessage]:
    """Return the messages that any listener of the organization has missed, as far as the caller may read it."""
    targets = principal.targets_of("listeners", "read")
    if principal.customer is not None:
        raise Forbidden("A customer sees the missed messages of one listener at a time.")

    async def work(tx: Transaction) -> Listing[MissedMessage]:
        found = await missed.page(tx, principal.organization, selection, targets)
        return await _with_failures(tx, principal.organization, found)

    return await control.store.search(work)


async def _with_failures(tx: Transaction, organization: int, found: Listing[MissedMessage]) -> Listing[MissedMessage]:
    """Add the last failed attempt of each message that was sent."""
    tried = [each.delivery for each in found.items if each.attempts]
    failures = await attempts.last_failures_of_deliveries(tx, organization, tried)
    return found.with_items(
        msgspec.structs.replace(each, last_failure=failures.get(each.delivery)) for each in found.items
    )


async def create(
    control: ControlContext, principal: Principal, path: ListenerPath, params: RedeliveryParams
) -> RedeliveryResult:
    """Create a redelivery; a dry run only counts the messages.

    The count takes no lock, so messages that are missed meanwhile are not part of it. Raises Unprocessable for messages
    that the listener has not missed or acknowledged, and Conflict if too many redeliveries are open.
    """
    now, row_id, public_id = control.clock.now(), control.row_ids.next(), control.public_ids.next()

    async def count(tx: Transaction) -> tuple[MissedSelection, Span, RedeliveryPreview]:
        listener, facts = await own_with_facts(tx, principal, "write", path)
        return await _preview(tx, recipient_of(listener, facts), facts.counts.head, params, customer=principal.customer)

    async def dry_run(tx: Transaction) -> RedeliveryResult:
        return RedeliveryResult(None, (await count(tx))[2])

    if params.dry_run:
        return await control.preview(dry_run)
    # Before the transaction: every change of the control plane waits for it, and a count reads up to 100,000 rows. The
    # lane finds out for each message whether it is still missed, as it must for those that change later.
    chosen, span, preview = await control.store.search(count)

    async def work(tx: Transaction) -> RedeliveryResult:
        listener = await own_listener(tx, principal, "write", path)
        already = await redeliveries.list_open(tx, listener.organization, listener.id, MAX_OPEN_REDELIVERIES)
        _require_open_slot(already, MAX_OPEN_REDELIVERIES, "redeliveries")
        made = Redelivery(
            organization=listener.organization,
            id=row_id,
            public_id=public_id,
            listener=listener.id,
            state="waiting",
            chosen=chosen,
            position=span[0],
            until_seq=span[1] - 1,
            selected=preview.selected,
            created_at=now,
            updated_at=now,
            pace=params.pace,
        )
        await control.count_creation(tx, principal, listener.organization, row_id)
        await redeliveries.insert(tx, made)
        # The feed entry makes the lane of the cursor reload, and start the redelivery.
        await feed.record(tx, "listener", listener.organization, listener.id)
        return RedeliveryResult(made, preview)

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> Redelivery:
    async def work(tx: Transaction) -> Redelivery:
        found = await redeliveries.get(tx, principal.organization, public_id)
        return await _own(tx, principal, "read", path, found=found)

    return await control.store.read(work)


async def page(
    control: ControlContext,
    principal: Principal,
    at: ListenerPath | ListenerDetails,
    selection: Selection = FIRST_PAGE,
) -> Listing[Redelivery]:
    async def work(tx: Transaction) -> Listing[Redelivery]:
        listener = await own_listener(tx, principal, "read", at)
        return await redeliveries.page(tx, listener.organization, listener.id, selection)

    return await control.store.read(work)


async def page_of_all(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[tuple[Redelivery, JobListener]]:
    """Return redeliveries of all listeners. Raises Forbidden if the caller may read some listeners only."""
    principal.require("listeners", "read")
    return await control.store.read(lambda tx: redeliveries.page_of_organization(tx, principal.organization, selection))


async def page_of_all_replays(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[tuple[Replay, JobListener]]:
    """Return replays of all listeners. Raises Forbidden if the caller may read some listeners only."""
    principal.require("listeners", "read")
    return await control.store.read(lambda tx: replays.page_of_organization(tx, principal.organization, selection))


async def cancel(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> None:
    """Delete a redelivery. Messages that it has already made due again stay due."""

    async def work(tx: Transaction) -> None:
        found = await redeliveries.get(tx, principal.organization, public_id)
        stored = control.require_match(await _own(tx, principal, "write", path, found=found))
        await redeliveries.delete(tx, stored)

    await control.write(work)


async def preview(
    control: ControlContext, principal: Principal, details: ListenerDetails, params: RedeliveryParams
) -> RedeliveryPreview:
    """Return what `create` would select for a listener that was just read, counted up to 10,000."""

    async def work(tx: Transaction) -> RedeliveryPreview:
        listener, facts = await own_with_facts(tx, principal, "write", details)
        of, head = recipient_of(listener, facts), facts.counts.head
        return (await _preview(tx, of, head, params, customer=principal.customer, counted=_COUNTED_ON_PAGES))[-1]

    return await control.store.search(work)


async def _preview(
    tx: Transaction,
    of: Recipient,
    head: int,
    params: RedeliveryParams,
    *,
    customer: str | None,
    counted: int = redeliveries.COUNTED,
) -> tuple[MissedSelection, Span, RedeliveryPreview]:
    """Return the selection, the seqs between which its messages lie, and their number."""
    if params.messages is not None:
        seqs, acknowledged = await _settled_seqs(tx, of, params.messages, customer)
        ids = sorted(seqs, key=seqs.__getitem__)
        chosen = MissedSelection(tuple(sorted(seqs.values())), acknowledged=tuple(sorted(acknowledged)))
        preview = RedeliveryPreview(len(seqs), ids[0], ids[-1]) if ids else RedeliveryPreview(0, "", "")
        return chosen, (chosen.seqs[0] - 1, chosen.seqs[-1] + 1) if chosen.seqs else (0, 1), preview
    # The selection ends at the present head: messages that are missed later are not part of it.
    times = Selection(created_after=params.created_after, created_before=params.created_before)
    within = intersect((of.start_seq, head + 1), await span_of_times(tx, of.organization, of.queue, times))
    low, high = intersect(within, WHOLE_LOG)
    span = (low, max(high, low + 1))
    chosen = MissedSelection(reason=params.reason)
    return chosen, span, await redeliveries.preview(tx, of, chosen, span, counted=counted)


async def _settled_seqs(
    tx: Transaction, of: Recipient, ids: Sequence[str], customer: str | None
) -> tuple[dict[str, int], set[int]]:
    """Return the seqs of missed and acknowledged messages by id, and the acknowledged ones. Raises Unprocessable."""
    rows = await rows_by_id(tx, of.organization, dict.fromkeys(ids)) if ids else []
    seqs = {str(row[2]): int(row[1][2]) for row in rows if row[1][1] == of.queue and row[7] != WAITING}
    states = await recipients.states_of(tx, of, list(seqs.values()))
    passed = [seq for seq, state in states.items() if state == "acknowledged"]
    acknowledged = await redeliveries.acknowledged_among(tx, of, passed)
    missed_ones = {seq for seq, state in states.items() if state == "missed"}
    # A message that the filter skipped looks like an acknowledged one once its attempts would have been deleted.
    unknown = "has no acknowledged attempt that is still kept; a replay from and until this message sends it again"
    other = "is not the id of a message that this listener has missed or acknowledged"
    if customer is not None:
        # Both faults have the same text: a customer must not learn which ids other customers' messages have.
        other = unknown = "is not the id of a message that the endpoint has missed, or acknowledged recently"
    faults = []
    for index, public_id in enumerate(ids):
        seq = seqs.get(public_id, 0)
        if seq <= of.start_seq or (seq not in missed_ones and seq not in passed):
            faults.append(Fault(f"/messages/{index}", other))
        elif seq not in missed_ones and seq not in acknowledged:
            faults.append(Fault(f"/messages/{index}", unknown))
    require_none(faults[:_FAULTS_SHOWN])
    return seqs, acknowledged


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
    """Id of the first message; "" if there is none."""
    last: str
    """Id of the last message; "" if there is none."""


async def create_replay(
    control: ControlContext, principal: Principal, path: ListenerPath, params: ReplayParams
) -> ReplayResult:
    """Create a replay; a dry run only counts the messages, and takes no lock to do so.

    Raises Unprocessable for messages of another queue and for an invalid filter, Conflict if too many replays are open
    or the listener is in pull mode, and, in the portal, Forbidden unless the queue is the customer's.
    """
    check_filter(params.filter)
    now, row_id = control.clock.now(), control.row_ids.next()

    async def work(tx: Transaction) -> ReplayResult:
        listener, facts = await own_with_facts(tx, principal, "write", path)
        principal.require_customer(listener.queue_customer)
        from_seq, until_seq, preview = await _replay_preview(tx, listener, facts, params)
        if params.dry_run:
            return preview
        already = await replays.list_open(tx, listener.organization, listener.id, MAX_OPEN_REPLAYS)
        _require_open_slot(already, MAX_OPEN_REPLAYS, "replays")
        made = Replay(
            organization=listener.organization,
            id=row_id,
            public_id=event_id_of(row_id),
            listener=listener.id,
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
        await control.count_creation(tx, principal, listener.organization, row_id)
        await replays.insert(tx, made)
        # The feed entry makes the owner of the live cursor reload the listener, and start the replay.
        await feed.record(tx, "listener", listener.organization, listener.id)
        return msgspec.structs.replace(preview, replay=made)

    return await (control.preview(work) if params.dry_run else control.write(work))


async def preview_replay(
    control: ControlContext, principal: Principal, details: ListenerDetails, params: ReplayParams
) -> ReplayResult:
    """Return what `create_replay` would select for a listener that was just read."""

    async def work(tx: Transaction) -> ReplayResult:
        listener, facts = await own_with_facts(tx, principal, "write", details)
        principal.require_customer(listener.queue_customer)
        return (await _replay_preview(tx, listener, facts, params))[-1]

    return await control.store.search(work)


async def _replay_preview(
    tx: Transaction, listener: Listener, facts: ListenerFacts, params: ReplayParams
) -> tuple[int, int, ReplayResult]:
    """Return the first and the last seq of the range, and the preview of it. Raises what `create_replay` raises."""
    if listener.mode == "pull":
        detail = "This listener is in pull mode. Only listeners in push mode support replays."
        raise Conflict(detail, code="wrong_mode")
    first, last = await _range(tx, listener, facts, params)
    ends = await replays.ends_of(tx, listener.organization, listener.queue, first, last=last)
    selected = await replays.count_of(tx, listener.organization, listener.queue, first, last=last)
    return first, last, ReplayResult(None, selected, *ends)


async def get_replay(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> Replay:
    async def work(tx: Transaction) -> Replay:
        return await _own(tx, principal, "read", path, found=await replays.get(tx, principal.organization, public_id))

    return await control.store.read(work)


async def page_of_replays(
    control: ControlContext,
    principal: Principal,
    at: ListenerPath | ListenerDetails,
    selection: Selection = FIRST_PAGE,
) -> Listing[Replay]:
    async def work(tx: Transaction) -> Listing[Replay]:
        listener = await own_listener(tx, principal, "read", at)
        return await replays.page(tx, listener.organization, listener.id, selection)

    return await control.store.read(work)


async def waits_for_turns(control: ControlContext, principal: Principal, shown: Sequence[Replay]) -> bool:
    """Return whether any of the replays waits while other replays have all slots of the organization."""
    if all(each.state != "waiting" for each in shown):
        return False
    return not await control.store.read(partial(replay_slots.has_free, organization=principal.organization))


async def cancel_replay(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> None:
    """Delete a replay. Requests in flight finish, but are not counted."""
    job_id = control.row_ids.next()

    async def work(tx: Transaction) -> None:
        found = await replays.get(tx, principal.organization, public_id)
        stored = control.require_match(await _own(tx, principal, "write", path, found=found))
        await replays.delete(tx, stored, job_id)
        # The feed entry stops its lane now, not only when it next stores an outcome.
        await feed.record(tx, "listener", stored.organization, stored.listener)

    await control.write(work)


async def _range(tx: Transaction, listener: Listener, facts: ListenerFacts, params: ReplayParams) -> tuple[int, int]:
    """Return the first and the last seq of the range. The last one of an empty range is before the first one."""
    below, head = facts.tail, facts.counts.head
    last_before = partial(last_seq_stored_before, tx, listener.organization, listener.queue, (below, head))
    if params.from_message is not None:
        first = await _seq_of(tx, listener, params.from_message, "/from_message")
    else:
        first = 1 + await last_before(before=params.from_at or 0)
    if params.until_message is not None:
        last = await _seq_of(tx, listener, params.until_message, "/until_message")
        if params.from_message is not None and last < first:
            raise invalid("/until_message", "must not be before from_message in the queue", code="conflicting_fields")
    elif params.until_at is not None:
        if params.from_at is not None and params.until_at < params.from_at:
            raise invalid("/until_at", "must not be earlier than from_at", code="conflicting_fields")
        last = await last_before(before=params.until_at + 1)
    else:
        last = head
    # Retention may have deleted the start of the range, and a time may lie beyond its end.
    first = max(first, below + 1)
    return first, max(min(last, head), first - 1)


async def _seq_of(tx: Transaction, listener: Listener, public_id: str, pointer: str) -> int:
    for _, (_, queue, seq), *_ in await rows_by_id(tx, listener.organization, [public_id]):
        if queue == listener.queue:
            return int(seq)
    raise invalid(pointer, "is not the id of a stored message of this queue", code="unknown_reference")


async def _own(tx: Transaction, principal: Principal, access: Access, path: ListenerPath, *, found: Job | None) -> Job:
    """Return the redelivery or replay if it belongs to the listener at the path. Raises NotFound and Forbidden."""
    listener = await own_listener(tx, principal, access, path)
    return require_found(found if found is not None and found.listener == listener.id else None)


def _require_open_slot(jobs: Sequence[Job], limit: int, noun: str) -> None:
    """Raise Conflict if the listener has as many open jobs as the limit allows."""
    if len(jobs) >= limit:
        detail = f"This listener has {limit} unfinished {noun}. Wait until one finishes, or cancel one."
        raise Conflict(detail, code="limit_reached")
