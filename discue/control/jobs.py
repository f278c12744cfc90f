"""Jobs that send messages to a listener again: redeliveries and replays.

A redelivery makes missed deliveries due again. A replay sends a range of the queue's log. Both are created, read and
cancelled alike by `Jobs`, whose subclasses say what differs.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

import msgspec

from discue.control.context import ControlContext, require_found, require_none
from discue.control.listeners import ListenerDetails, ListenerPath, own_listener, own_with_facts, recipient_of
from discue.domain.errors import Conflict, Fault, invalid
from discue.domain.filter_parser import check_filter
from discue.domain.ids import event_id_of
from discue.domain.model import JobListener, Listener, MissedSelection, Redelivery, Replay, ReplaySpec
from discue.domain.scopes import Access, Principal
from discue.store import feed, recipients, redeliveries, replays
from discue.store.engine import Transaction
from discue.store.listeners import ListenerFacts
from discue.store.message_log import WHOLE_LOG, last_seq_stored_before, rows_by_id, span_of_times
from discue.store.missed_scan import POSITION_PATTERN, key_of
from discue.store.pagination import FIRST_PAGE, Listing, Selection, Span, intersect
from discue.store.recipients import Recipient
from discue.store.redeliveries import REDELIVERY_TABLE, JobPreview, JobTable
from discue.store.replays import REPLAY_TABLE

Job = TypeVar("Job", Redelivery, Replay)

MAX_OPEN_REDELIVERIES: Final = 10
TRIALS: Final = range(1, 101)
"""Number of messages that a trial can have."""
MAX_OPEN_REPLAYS: Final = 3

_FAULTS_SHOWN: Final = 10
_MODE: Final = "wrong_mode"
_COUNTED_ON_PAGES: Final = 10_000
"""Counting as many as the API does would take longer than a page may."""


class JobParams(msgspec.Struct, frozen=True, kw_only=True):
    """The options of every job."""

    pace: int | None = None
    """Messages per second. None: no limit."""
    dry_run: bool = False


class RedeliveryParams(JobParams, frozen=True):
    """A selection of messages by id, or of missed ones by reason, group and time. By default: all missed ones."""

    messages: tuple[str, ...] | None = None
    reason: str | None = None
    group: str | None = None
    """The public id of a group of missed messages."""
    trial: int | None = None
    """Number of messages that must be acknowledged, one after the other, before the others become due."""
    created_after: int | None = None
    """Selects messages that were stored later than this, in milliseconds since the epoch."""
    created_before: int | None = None
    """Selects messages that were stored earlier than this, in milliseconds since the epoch."""


class ReplayParams(JobParams, frozen=True):
    """A range of the log, ends included, and a filter. It starts and ends at a time or a message, by default now."""

    from_at: int | None = None
    """Milliseconds since the epoch, like `until_at`."""
    from_message: str | None = None
    until_at: int | None = None
    until_message: str | None = None
    filter: str | None = None


Params = TypeVar("Params", bound=JobParams)


class JobResult(msgspec.Struct, Generic[Job], frozen=True):
    """A new job, None after a dry run, and the messages that it selects."""

    job: Job | None
    preview: JobPreview


OwnListener = tuple[Listener, ListenerFacts]
Selected = tuple[Mapping[str, Any], JobPreview]
"""The fields of a new job that say what it selects, and the preview of it."""


class Jobs(ABC, Generic[Job, Params]):
    """The jobs of one kind: creates, reads and cancels them."""

    def __init__(self, table: JobTable[Job], job: type[Job], noun: str, most_open: int) -> None:
        self.table: JobTable[Job] = table
        self._job: type[Job] = job
        self._noun = noun
        self._most_open = most_open
        """How many jobs of a listener may be unfinished."""

    def check(self, params: Params) -> None:
        """Raise Unprocessable for parameters that cannot be used."""

    def require(self, principal: Principal, listener: Listener) -> None:
        """Raise Conflict or Forbidden if the listener may not have such a job."""

    @abstractmethod
    async def select(
        self, tx: Transaction, principal: Principal, at: OwnListener, params: Params, *, counted: int
    ) -> Selected:
        """Select messages, and count them up to a number. Raises Unprocessable for messages that cannot be selected."""

    async def create(
        self, control: ControlContext, principal: Principal, path: ListenerPath, params: Params
    ) -> JobResult[Job]:
        """Create a job; a dry run only counts the messages.

        The count takes no lock. Messages that are stored or missed meanwhile are not part of it. Raises what `check`,
        `require` and `select` raise, and Conflict if too many jobs of this kind are unfinished.
        """
        self.check(params)
        now, row_id = control.clock.now(), control.row_ids.next()

        async def select(tx: Transaction) -> Selected:
            return await self._select(tx, principal, path, params, counted=redeliveries.COUNTED)

        async def dry_run(tx: Transaction) -> JobResult[Job]:
            return JobResult(None, (await select(tx))[1])

        if params.dry_run:
            return await control.preview(dry_run)
        # Before the transaction: every change of the control plane waits for it, and a count reads up to 100,000 rows.
        # The lane finds out for each message whether it is still there, and still missed, as it must for those that
        # change later.
        selected, preview = await control.store.search(select)

        async def work(tx: Transaction) -> JobResult[Job]:
            listener = await own_listener(tx, principal, "write", path)
            self.require(principal, listener)
            await self._require_open_slot(tx, listener)
            made = self._job(
                organization=listener.organization,
                id=row_id,
                public_id=event_id_of(row_id),
                listener=listener.id,
                state="waiting",
                selected=preview.selected,
                created_at=now,
                updated_at=now,
                pace=params.pace,
                **selected,
            )
            await control.count_creation(tx, principal, listener.organization, row_id)
            await self.table.insert(tx, made)
            # The feed entry makes the owner of the live cursor reload the listener, and start the job.
            await feed.record(tx, "listener", listener.organization, listener.id)
            return JobResult(made, preview)

        return await control.write(work)

    async def preview(
        self, control: ControlContext, principal: Principal, details: ListenerDetails, params: Params
    ) -> JobPreview:
        """Return what `create` would select for a listener that was just read, counted up to 10,000."""

        async def work(tx: Transaction) -> JobPreview:
            return (await self._select(tx, principal, details, params, counted=_COUNTED_ON_PAGES))[1]

        return await control.store.search(work)

    async def get(self, control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> Job:
        return await control.store.read(lambda tx: self._own(tx, principal, "read", path, public_id=public_id))

    async def page(
        self,
        control: ControlContext,
        principal: Principal,
        at: ListenerPath | ListenerDetails,
        selection: Selection = FIRST_PAGE,
    ) -> Listing[Job]:
        async def work(tx: Transaction) -> Listing[Job]:
            listener = await own_listener(tx, principal, "read", at)
            return await self.table.page(tx, listener.organization, listener.id, selection)

        return await control.store.read(work)

    async def page_of_all(
        self, control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
    ) -> Listing[tuple[Job, JobListener]]:
        """Return the jobs of all listeners. Raises Forbidden if the caller may read some listeners only."""
        principal.require("listeners", "read")
        return await control.store.read(
            lambda tx: self.table.page_of_organization(tx, principal.organization, selection)
        )

    async def cancel(self, control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> None:
        """Delete a job.

        Messages that are due again stay due. Requests of a replay in flight finish, but are not counted.
        """
        purge_id = control.row_ids.next()

        async def work(tx: Transaction) -> None:
            stored = control.require_match(await self._own(tx, principal, "write", path, public_id=public_id))
            await self.table.delete(tx, stored, purge_id)
            # The feed entry stops the lane of a replay now, not only when it next stores an outcome.
            await feed.record(tx, "listener", stored.organization, stored.listener)

        await control.write(work)

    async def _select(
        self,
        tx: Transaction,
        principal: Principal,
        at: ListenerPath | ListenerDetails,
        params: Params,
        *,
        counted: int,
    ) -> Selected:
        found = await own_with_facts(tx, principal, "write", at)
        self.require(principal, found[0])
        return await self.select(tx, principal, found, params, counted=counted)

    async def _require_open_slot(self, tx: Transaction, listener: Listener) -> None:
        already = await self.table.list_open(tx, listener.organization, listener.id, self._most_open)
        if len(already) >= self._most_open:
            rule = f"This listener has {self._most_open} unfinished {self._noun}."
            raise Conflict(f"{rule} Wait until one finishes, or cancel one.", code="limit_reached")

    async def _own(
        self, tx: Transaction, principal: Principal, access: Access, path: ListenerPath, *, public_id: str
    ) -> Job:
        """Return the job if it belongs to the listener at the path. Raises NotFound and Forbidden."""
        found = await self.table.get(tx, principal.organization, public_id)
        listener = await own_listener(tx, principal, access, path)
        return require_found(found if found is not None and found.listener == listener.id else None)


async def waits_for_turns(control: ControlContext, principal: Principal, shown: Sequence[Replay]) -> bool:
    """Return whether any of the replays waits while other replays have all slots of the organization."""
    if all(each.state != "waiting" for each in shown):
        return False
    return not await control.store.read(partial(replays.has_free_slot, organization=principal.organization))


async def _settled_seqs(
    tx: Transaction, of: Recipient, ids: Sequence[str], customer: str | None
) -> tuple[dict[str, int], set[int]]:
    """Return the seqs of missed and acknowledged messages by id, and the acknowledged ones. Raises Unprocessable."""
    rows = await rows_by_id(tx, of.organization, dict.fromkeys(ids)) if ids else []
    seqs = {row.id: row.seq for row in rows if row.queue == of.queue and not row.is_delayed}
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
    require_none(faults[:_FAULTS_SHOWN], code="unknown_reference")
    return seqs, acknowledged


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
    for row in await rows_by_id(tx, listener.organization, [public_id]):
        if row.queue == listener.queue:
            return row.seq
    raise invalid(pointer, "is not the id of a stored message of this queue", code="unknown_reference")


class _Redeliveries(Jobs[Redelivery, RedeliveryParams]):
    async def select(
        self, tx: Transaction, principal: Principal, at: OwnListener, params: RedeliveryParams, *, counted: int
    ) -> Selected:
        of, head = recipient_of(*at), at[1].counts.head
        fields: dict[str, Any] = {}
        if params.trial is not None:
            if at[0].mode == "pull":
                raise Conflict("This listener is in pull mode. Only listeners in push mode support trials.", code=_MODE)
            fields["trial"] = params.trial
        cause = None
        if params.group is not None:
            listener, cause = key_of(params.group) if re.fullmatch(POSITION_PATTERN, params.group) else (0, 0)
            if listener != of.listener:
                rule = "is not the id of a group of this listener's missed messages"
                raise invalid("/group", rule, code="unknown_reference")
        # Read before the messages: messages that become missed from now on have this version or a later one.
        version = at[1].version
        if params.messages is not None:
            seqs, acknowledged = await _settled_seqs(tx, of, params.messages, principal.customer)
            ids = sorted(seqs, key=seqs.__getitem__)
            chosen = MissedSelection(
                tuple(sorted(seqs.values())), before_version=version, acknowledged=tuple(sorted(acknowledged))
            )
            span = (chosen.seqs[0] - 1, chosen.seqs[-1] + 1) if chosen.seqs else (0, 1)
            preview = JobPreview(len(seqs), ids[0], ids[-1]) if ids else JobPreview(0, "", "")
            return {**fields, **_between(span, chosen)}, preview
        # The selection ends at the present head: messages that are missed later are not part of it.
        times = Selection(created_after=params.created_after, created_before=params.created_before)
        within = intersect((of.start_seq, head + 1), await span_of_times(tx, of.organization, of.queue, times))
        low, high = intersect(within, WHOLE_LOG)
        span = (low, max(high, low + 1))
        chosen = MissedSelection(reason=params.reason, cause=cause, before_version=version)
        return {**fields, **_between(span, chosen)}, await redeliveries.preview(tx, of, chosen, span, counted=counted)


def _between(span: Span, chosen: MissedSelection) -> Mapping[str, Any]:
    return {"chosen": chosen, "position": span[0], "until_seq": span[1] - 1}


class _Replays(Jobs[Replay, ReplayParams]):
    def check(self, params: ReplayParams) -> None:
        check_filter(params.filter)

    async def select(
        self, tx: Transaction, principal: Principal, at: OwnListener, params: ReplayParams, *, counted: int
    ) -> Selected:
        """Select a range. Its last seq is before the first one if it is empty."""
        del principal, counted
        listener, facts = at
        first, last = await _range(tx, listener, facts, params)
        ends = await replays.ends_of(tx, listener.organization, listener.queue, first, last=last)
        selected = await replays.count_of(tx, listener.organization, listener.queue, first, last=last)
        fields = {"from_seq": first, "until_seq": last, "position": first - 1, "spec": ReplaySpec(params.filter)}
        return fields, JobPreview(selected, *ends)

    def require(self, principal: Principal, listener: Listener) -> None:
        # In the portal, replays need a queue of the customer.
        principal.require_customer(listener.queue_customer)
        if listener.mode == "pull":
            detail = "This listener is in pull mode. Only listeners in push mode support replays."
            raise Conflict(detail, code=_MODE)


REDELIVERIES: Final = _Redeliveries(REDELIVERY_TABLE, Redelivery, "redeliveries", MAX_OPEN_REDELIVERIES)
REPLAYS: Final = _Replays(REPLAY_TABLE, Replay, "replays", MAX_OPEN_REPLAYS)
