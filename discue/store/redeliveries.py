"""Redeliveries: previews, and batches of deliveries to make due again. Their rows are like those of replays."""

from collections.abc import Callable, Container, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Final, Generic, TypeVar

import msgspec

from discue.domain.causes import plain_reason
from discue.domain.model import Erasure, JobListener, MissedSelection, Redelivery, Replay
from discue.domain.window import Interval, subtract, to_intervals, total_length
from discue.store import delivery_rows
from discue.store.delivery_rows import KeyRow
from discue.store.engine import CursorKey, MissedRange, Row, Transaction, Value
from discue.store.pagination import LARGEST, Listing, Selection, Span, Table, listed
from discue.store.recipients import Recipient, missed_range
from discue.store.tables import (
    at_given,
    by_index,
    placeholders,
    prefixed,
    read_number,
    read_one,
    row_reader,
    rows_among,
    rows_at,
    rows_given,
)

Job = TypeVar("Job", Redelivery, Replay, Erasure)
"""A job that has a `JobTable`."""

_JOINED: Final = """
    JOIN listener l ON l.organization = j.organization AND l.id = j.listener
    JOIN queue q ON q.organization = l.organization AND q.id = l.queue
    WHERE j.organization = $1 AND l.deleted_at IS NULL AND q.deleted_at IS NULL"""


class JobPreview(msgspec.Struct, frozen=True):
    """The number of messages that a job selects, and the ids of the first and last one; empty if there are none."""

    selected: int
    first: str
    last: str
    is_at_least: bool = False
    """Whether there may be more than were counted."""


class JobTable(Generic[Job]):
    """The jobs of one kind."""

    def __init__(self, name: str, job: type[Job], spec_field: str, spec: object, *, owner: str = "listener") -> None:
        """`spec_field`, of type `spec`, is stored as JSON in the column `spec`. `owner` is the owner's column."""
        fields: list[str] = [field.name for field in msgspec.structs.fields(job)]
        columns = ", ".join(["id", *(name for name in fields if name not in {"id", spec_field})])
        selected = f"SELECT {columns}, spec FROM {name} WHERE organization = $1"
        self.name = name
        self._get = f"{selected} AND public_id = $2"
        self._of_owner = f"{selected} AND {owner} = $2"
        self._open = f"{self._of_owner} AND ended_at IS NULL ORDER BY id LIMIT $3"
        self._of_organization = f"""
            SELECT {prefixed("j", columns)}, j.spec, l.public_id, l.alias, q.public_id FROM {name} j {_JOINED}"""
        self._insert = f"INSERT INTO {name} ({columns}, spec) VALUES ({placeholders(1, len(fields))})"
        self._delete = f"DELETE FROM {name} WHERE organization = $1 AND id = $2"
        decode = msgspec.json.Decoder(spec).decode
        self._from_row: Callable[[Row], Job] = row_reader(job, f"{columns}, {spec_field}", **{spec_field: decode})
        self._values: Callable[[Job], Row] = attrgetter(*columns.split(", "))
        self._spec: Callable[[Job], object] = attrgetter(spec_field)

    async def get(self, tx: Transaction, organization: int, public_id: str) -> Job | None:
        return await read_one(tx, self._from_row, self._get, organization, public_id)

    async def page(self, tx: Transaction, organization: int, owner: int, selection: Selection) -> Listing[Job]:
        table = Table(self.name, self._of_owner, (organization, owner), alias_column="public_id")
        return await listed(tx, table, selection, self._from_row)

    async def page_of_organization(
        self, tx: Transaction, organization: int, selection: Selection
    ) -> Listing[tuple[Job, JobListener]]:
        """Read the jobs of all listeners."""
        sql, values = self._of_organization, (organization,)
        table = Table(self.name, sql, values, "j.id", prefix="j.", alias_column="public_id")
        return await listed(tx, table, selection, lambda row: (self._from_row(row[:-3]), JobListener(*row[-3:])))

    async def list_open(self, tx: Transaction, organization: int, listener: int, limit: int) -> list[Job]:
        """Read jobs that have not ended, oldest first."""
        return [self._from_row(row) for row in await tx.rows(self._open, organization, listener, limit)]

    async def insert(self, tx: Transaction, made: Job) -> None:
        await tx.execute(self._insert, *self._values(made), msgspec.json.encode(self._spec(made)).decode())

    async def delete(self, tx: Transaction, job: Job, purge_id: int) -> bool:
        """Delete a job. Returns whether it existed. A batch in progress is still stored, but not counted.

        `purge_id` is the id for the job that removes what a replay leaves.
        """
        del purge_id
        return await tx.execute(self._delete, job.organization, job.id) == 1


REDELIVERY_TABLE: Final = JobTable("redelivery", Redelivery, "chosen", MissedSelection)


COUNTED: Final = 100_000
"""The largest number of rows that are counted: reads run on the event loop."""

_COUNT: Final = """
    SELECT count(*) FROM (
        SELECT seq FROM delivery
        WHERE organization = $1 AND listener = $2 AND seq > $3 AND seq < $4 AND state = 'missed' AND stream + 0 = 0{}
        LIMIT ${}
    ) AS counted"""
_RANGES: Final = """
    SELECT seq_from, seq_to FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_to > $3 AND seq_from < $4{} ORDER BY seq_from LIMIT ${}"""
_RANGES_COUNTED: Final = 10_000
_END: Final = """
    SELECT seq, id FROM (
        SELECT delivery.seq, log.id FROM delivery
        JOIN log ON log.queue = $1 AND log.organization = delivery.organization AND log.seq = delivery.seq
        WHERE delivery.organization = $2 AND delivery.listener = $3 AND delivery.seq > $4 AND delivery.seq < $5
            AND delivery.state = 'missed' AND delivery.stream + 0 = 0{{0}}
        ORDER BY delivery.seq {0} LIMIT 1) AS looked_at"""
_ENDS: Final = f"{_END.format('ASC')} UNION ALL {_END.format('DESC')}"

_ACKNOWLEDGED: Final = """
    SELECT seq FROM attempt
    WHERE organization = $1 AND queue = $2 AND listener = $3 AND replay IS NULL AND error = '' AND seq IN ({})"""


async def acknowledged_among(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> set[int]:
    """Return those of some messages that a stored attempt acknowledged.

    Others that the cursor has passed may have been skipped by a filter, and are not counted as acknowledged.
    """
    return {row[0] for row in await rows_among(tx, _ACKNOWLEDGED, (of.organization, of.queue, of.listener), seqs)}


def _chosen_rows(chosen: MissedSelection, number: int) -> tuple[str, tuple[Value, ...]]:
    """Return the condition for missed rows of the selection, and its parameters, numbered from `number`."""
    if chosen.cause is not None:
        return f" AND delivery.cause = ${number}", (chosen.cause,)
    return ("", ()) if chosen.reason is None else (f" AND delivery.reason = ${number}", (chosen.reason,))


def _reason_of_ranges(chosen: MissedSelection) -> str | None:
    """Return the reason of the ranges in the selection: None for all ranges, "" for no range."""
    return chosen.reason if chosen.cause is None else plain_reason(chosen.cause) or ""


async def preview(
    tx: Transaction, of: Recipient, chosen: MissedSelection, span: Span, *, counted: int = COUNTED
) -> JobPreview:
    """Preview the missed messages of the selection between two seqs.

    At most `counted` messages with their own rows are counted, and those of the first 10,000 ranges.
    """
    (condition, values), reason = _chosen_rows(chosen, 5), _reason_of_ranges(chosen)
    key = (of.organization, of.listener)
    apart = await read_number(tx, _COUNT.format(condition, 5 + len(values)), *key, *span, *values, counted)
    of_reason, reasons = ("", ()) if reason is None else (" AND reason = $5", (reason,))
    ranges = await tx.rows(_RANGES.format(of_reason, 5 + len(reasons)), *key, *span, *reasons, _RANGES_COUNTED)
    within = [(max(first, span[0] + 1), min(last, span[1] - 1)) for first, last in ranges]
    found = await tx.rows(_ENDS.format(_chosen_rows(chosen, 6)[0]), of.queue, *key, *span, *values)
    ends = [(int(seq), str(public_id)) for seq, public_id in found]
    ends += await _ends_of_ranges(tx, of, within)
    first, last = (min(ends)[1], max(ends)[1]) if ends else ("", "")
    return JobPreview(apart + total_length(within), first, last, is_at_least=apart == counted)


_ENDS_AT_MOST: Final = 64
_GROWTH: Final = 16
_IN_RANGE: Final = """
    FROM log x WHERE x.organization = $1 AND x.queue = $2 AND x.seq >= given.low AND x.seq <= given.high
    ORDER BY x.seq"""
_ENDS_OF_RANGES: Final = f"""
    WITH given (organization, queue, low, high) AS ({{}})
    SELECT given.low, (SELECT x.seq {_IN_RANGE} LIMIT 1), (SELECT x.id {_IN_RANGE} LIMIT 1),
        (SELECT x.seq {_IN_RANGE} DESC LIMIT 1), (SELECT x.id {_IN_RANGE} DESC LIMIT 1)
    FROM given"""


async def _ends_of_ranges(tx: Transaction, of: Recipient, ranges: Sequence[Interval]) -> list[tuple[int, str]]:
    """Return the seqs and the ids of the first and the last message in some ranges, if there are any.

    Usually the first and the last range have these. Otherwise more ranges are read at once, so that few statements pass
    ranges whose messages are not kept any more.
    """
    first: list[tuple[int, str]] = []
    last: list[tuple[int, str]] = []
    passed, count = 0, 1
    while passed < len(ranges) and not (first and last):
        early = ranges[passed : passed + count] if not first else ()
        late = ranges[::-1][passed : passed + count] if not last else ()
        rows = await rows_given(tx, _ENDS_OF_RANGES, (of.organization, of.queue), [*early, *late])
        kept = {row[0]: row[1:] for row in rows if row[1] is not None}
        first += [kept[low][:2] for low, _ in early if low in kept]
        last += [kept[low][2:] for low, _ in late if low in kept]
        passed, count = passed + count, min(count * _GROWTH, _ENDS_AT_MOST)
    return [*first, *last]


STEP_ROWS: Final = 500
_ASKED_AT_ONCE: Final = 100
_RANGES_AT_ONCE: Final = 50

_OWN_ROWS: Final = """
    SELECT delivery.seq, log.seq IS NOT NULL FROM delivery
    LEFT JOIN log ON log.organization = delivery.organization AND log.queue = delivery.queue
        AND log.seq = delivery.seq
    WHERE delivery.organization = $1 AND delivery.listener = $2 AND delivery.state = 'missed'"""
_THERE: Final = f"{_OWN_ROWS} AND delivery.seq > $3 AND delivery.seq <= $4 AND delivery.stream + 0 = 0"
_APART: Final = f"""
    SELECT j.seq, log.seq IS NOT NULL, j.state, coalesce(j.missed_version, 0)
    FROM ({{}}) AS given JOIN delivery j ON {at_given("j")}
    LEFT JOIN log ON {by_index("log.organization", "j.organization")} AND log.queue = j.queue AND log.seq = j.seq"""
_WITH_ROW: Final = f"SELECT j.seq, j.state FROM ({{}}) AS given JOIN delivery j ON {at_given('j')}"
_RANGES_AFTER: Final = """
    SELECT seq_from, seq_to, reason, missed_at, missed_version FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_from > $3 AND seq_from <= $4 ORDER BY seq_from LIMIT $5"""
_LOG: Final = """
    SELECT seq FROM log WHERE organization = $1 AND queue = $2 AND seq >= $3 AND seq <= $4 AND kind = 0
    ORDER BY seq LIMIT $5"""
_KEYS_AT: Final = "SELECT seq, key_hash FROM log WHERE organization = $1 AND queue = $2 AND seq IN ({})"
# Adding 0 keeps the planner from using the primary key, which would read every missed delivery of the listener.
_OUTSTANDING: Final = f"""
    SELECT log.key_hash, e.seq FROM delivery e
    JOIN log ON {by_index("log.organization", "e.organization")} AND log.queue = e.queue AND log.seq = e.seq
    WHERE e.organization = $1 AND e.listener = $2 AND e.state <> 'missed' AND e.stream + 0 = 0
        AND e.redelivered_at IS NOT NULL"""
_LOG_AT: Final = "SELECT seq FROM log WHERE organization = $1 AND queue = $2 AND seq IN ({}) AND kind = 0"


class RangeCut(msgspec.Struct, frozen=True):
    """A part that is removed from a missed range."""

    whole: MissedRange
    taken: tuple[Interval, ...]
    there: tuple[int, ...]
    """The messages in the part that exist."""

    def without(self, seqs: Container[int]) -> "RangeCut":
        """Return the cut without some messages that exist."""
        left = [seq for seq in self.there if seq in seqs]
        inside = [[seq for seq in left if first <= seq <= last] for first, last in self.taken]
        parts = [subtract(part, to_intervals(some)) for part, some in zip(self.taken, inside, strict=True)]
        there = tuple(seq for seq in self.there if seq not in seqs)
        return RangeCut(self.whole, tuple(chain.from_iterable(parts)), there)


class RedeliveryBatch(msgspec.Struct, frozen=True):
    """Some deliveries of a redelivery, which proceeds to `position` with them."""

    redelivery: Redelivery
    apart: tuple[int, ...]
    """Seqs of missed messages that have their own row."""
    lost: tuple[int, ...]
    """Seqs among `apart` whose messages were deleted, and only these."""
    cuts: tuple[RangeCut, ...]
    position: int
    ends: bool
    """Whether the redelivery ends with this batch."""
    keys: tuple[KeyRow, ...] = ()
    """The rows that block keys."""
    acknowledged: tuple[int, ...] = ()
    """Seqs of acknowledged messages: they have no row, and exist."""
    deleted: tuple[int, ...] = ()
    """Seqs of acknowledged messages that were deleted. They stay counted as acknowledged."""
    waits_for: frozenset[int] = frozenset()
    """The seqs of redelivered messages that must be settled before the next ones of their keys are due."""

    @property
    def is_empty(self) -> bool:
        """Whether this step has nothing to do until a message that it waits for is settled."""
        return bool(self.waits_for) and not (self.redelivered or self.gone)

    @property
    def seqs(self) -> list[int]:
        """The messages that become due with this step, in order."""
        return sorted([*self.apart, *self.acknowledged, *(seq for cut in self.cuts for seq in cut.there)])

    @property
    def redelivered(self) -> int:
        return len(self.apart) + len(self.acknowledged) + sum(len(cut.there) for cut in self.cuts)

    @property
    def gone(self) -> int:
        return self.gone_missed + len(self.deleted)

    @property
    def gone_missed(self) -> int:
        """The number of missed messages that were deleted."""
        return len(self.lost) + sum(total_length(cut.taken) - len(cut.there) for cut in self.cuts)


async def next_batch(
    tx: Transaction, cursor: CursorKey, queue: int, rows: int = STEP_ROWS, *, ordered: bool = False
) -> RedeliveryBatch | None:
    """Read the next batch of the listener's oldest redelivery that has not ended; None if there is none.

    Its size is limited by the redelivery's rate for one second; in a trial, it has one message. In an ordered queue, it
    has at most one message of each key, and none of a key with another redelivered message that is not settled.
    """
    organization, listener, _ = cursor
    opened = await REDELIVERY_TABLE.list_open(tx, organization, listener, 1)
    if not opened:
        return None
    reading = _Reading(tx, opened[0], queue)
    is_trial = opened[0].tried < (opened[0].trial or 0)
    rows = 1 if is_trial else min(rows, opened[0].pace or rows)
    step = await reading.step(STEP_ROWS if ordered else rows, opened[0].until_seq)
    if ordered:
        step = await reading.in_key_order(step, rows)
    if is_trial and step.seqs:
        # The redelivery ends when this message is settled, not before.
        step = msgspec.structs.replace(step, ends=False)
    keys = await delivery_rows.blocking_rows_among(tx, cursor, (*step.apart, *step.lost))
    return msgspec.structs.replace(step, keys=tuple(keys)) if keys else step


class _Reading:
    def __init__(self, tx: Transaction, redelivery: Redelivery, queue: int) -> None:
        self._tx = tx
        self._redelivery = redelivery
        self._key = (redelivery.organization, redelivery.listener)
        self._log = (redelivery.organization, queue)
        chosen = redelivery.chosen
        self._before_version = LARGEST if chosen.before_version is None else chosen.before_version

    async def step(self, rows: int, until: int) -> RedeliveryBatch:
        """Read a batch of at most this many rows and messages up to a seq."""
        seqs = self._redelivery.chosen.seqs
        return await (self._of_span(rows, until) if seqs is None else self._of_messages(seqs, rows, until))

    async def in_key_order(self, step: RedeliveryBatch, rows: int) -> RedeliveryBatch:
        """Return the part of the batch with at most this many messages, each the only unsettled one of its key.

        The position stays before the first message that is left out, and later batches read on from there: what was
        taken is not missed any more, or was missed later than the selection. Acknowledged messages could be taken
        again: none follows the one that is left out.
        """
        holders: dict[int, int] = {row[0]: row[1] for row in await self._tx.rows(_OUTSTANDING, *self._key)}
        rows_of_keys = await rows_among(self._tx, _KEYS_AT, self._log, step.seqs)
        keys: dict[int, int] = {row[0]: row[1] for row in rows_of_keys if row[1] is not None}
        left, waits_for, chosen = list[int](), set[int](), self._redelivery.chosen
        is_cut = bool(chosen.acknowledged) or chosen.before_version is None
        for place, seq in enumerate(step.seqs):
            holder = holders.setdefault(keys[seq], seq) if seq in keys else seq
            if holder != seq or place - len(left) >= rows or (left and is_cut):
                left.append(seq)
                waits_for.add(holder)
        if not left:
            return step
        left_out = frozenset(left)
        return msgspec.structs.replace(
            step,
            apart=tuple(seq for seq in step.apart if seq not in left_out),
            acknowledged=tuple(seq for seq in step.acknowledged if seq not in left_out),
            deleted=tuple(seq for seq in step.deleted if seq < left[0]),
            cuts=tuple(cut.without(left_out) for cut in step.cuts),
            position=left[0] - 1,
            ends=False,
            waits_for=frozenset(waits_for),
        )

    async def _of_messages(self, seqs: Sequence[int], rows: int, until: int) -> RedeliveryBatch:
        waiting = [seq for seq in seqs if self._redelivery.position < seq <= until]
        asked = waiting[: min(rows, _ASKED_AT_ONCE)]
        if not asked:
            return self._step([], [], until, ends=True)
        rows_of_asked = await rows_at(self._tx, _APART, (*self._key, 0), asked)
        found = [row[:2] for row in rows_of_asked if row[2] == "missed" and row[3] < self._before_version]
        apart, acknowledged = {row[0] for row in found}, set(self._redelivery.chosen.acknowledged)
        cuts = await self._cuts_of([seq for seq in asked if seq not in apart and seq not in acknowledged])
        step = self._step(sorted(found), cuts, asked[-1], ends=len(asked) == len(waiting))
        again = [seq for seq in asked if seq in acknowledged]
        there = {row[0] for row in await rows_among(self._tx, _LOG_AT, self._log, again)}
        # Another redelivery may have made some due meanwhile.
        due = {row[0] for row in await rows_at(self._tx, _WITH_ROW, (*self._key, 0), again)}
        deleted = tuple(seq for seq in again if seq not in there and seq not in due)
        return msgspec.structs.replace(step, acknowledged=tuple(sorted(there - due)), deleted=deleted)

    async def _of_span(self, rows: int, until: int) -> RedeliveryBatch:
        span = (self._redelivery.position, until)
        found = await self._apart(span, rows)
        ranges = await self._ranges(span)
        # There may be others beyond these that were not read.
        last_known = min(
            found[-1][0] if len(found) == rows else until,
            ranges[-1].seq_to if len(ranges) >= _RANGES_AT_ONCE else until,
        )
        taken: list[Row] = []
        cuts: list[RangeCut] = []
        position, left = span[0], rows
        for first, each in self._in_order(found, ranges):
            if first > last_known:
                break
            if left == 0:
                return self._step(taken, cuts, position, ends=False)
            if isinstance(each, MissedRange):
                wanted = (max(first, span[0] + 1), min(each.seq_to, last_known))
                cuts.append(await self._cut(each, wanted, left))
                position, left = cuts[-1].taken[-1][1], left - len(cuts[-1].there)
                if position < wanted[1]:
                    return self._step(taken, cuts, position, ends=False)
            else:
                taken.append(each)
                position, left = first, left - 1
        return self._step(taken, cuts, last_known, ends=last_known >= until)

    def _in_order(self, found: Sequence[Row], ranges: Sequence[MissedRange]) -> list[tuple[int, Row | MissedRange]]:
        reason = _reason_of_ranges(self._redelivery.chosen)
        positions: list[tuple[int, Row | MissedRange]] = [(row[0], row) for row in found]
        positions += [(each.seq_from, each) for each in ranges if reason in (None, each.reason) and self._has(each)]
        return sorted(positions, key=itemgetter(0))

    async def _apart(self, span: Interval, limit: int) -> list[Row]:
        condition, values = _chosen_rows(self._redelivery.chosen, 5)
        values = (*values, self._before_version, limit)
        sql = f"""{_THERE}{condition} AND coalesce(delivery.missed_version, 0) < ${3 + len(values)}
            ORDER BY delivery.seq LIMIT ${4 + len(values)}"""
        return await self._tx.rows(sql, *self._key, *span, *values)

    def _has(self, missed: MissedRange) -> bool:
        return (missed.missed_version or 0) < self._before_version

    async def _ranges(self, span: Interval) -> list[MissedRange]:
        """Read the ranges that extend beyond the position."""
        around = await missed_range(self._tx, self._key, span[0])
        started = [around] if around is not None and around.seq_to > span[0] else []
        rows = await self._tx.rows(_RANGES_AFTER, *self._key, *span, _RANGES_AT_ONCE)
        return [*started, *(MissedRange(*row) for row in rows)]

    async def _cut(self, whole: MissedRange, wanted: Interval, limit: int) -> RangeCut:
        # A range may be far longer than the messages that are left of it: only these count against the limit.
        found = await self._tx.rows(_LOG, *self._log, *wanted, limit)
        there = tuple(row[0] for row in found)
        last = there[-1] if len(there) == limit else wanted[1]
        return RangeCut(whole, ((wanted[0], last),), there)

    async def _cuts_of(self, seqs: Sequence[int]) -> list[RangeCut]:
        """Return the cuts for messages in ranges, without those that are no longer missed."""
        ranges: dict[int, tuple[MissedRange, list[int]]] = {}
        around: MissedRange | None = None
        for seq in seqs:
            if around is None or seq > around.seq_to:
                around = await missed_range(self._tx, self._key, seq)
            if around is not None and around.seq_from <= seq <= around.seq_to and self._has(around):
                ranges.setdefault(around.seq_from, (around, []))[1].append(seq)
        cuts = []
        for whole, chosen in ranges.values():
            there = sorted(row[0] for row in await rows_among(self._tx, _LOG_AT, self._log, chosen))
            cuts.append(RangeCut(whole, tuple(to_intervals(chosen)), tuple(there)))
        return cuts

    def _step(self, found: Sequence[Row], cuts: Sequence[RangeCut], position: int, *, ends: bool) -> RedeliveryBatch:
        return RedeliveryBatch(
            self._redelivery,
            tuple(row[0] for row in found if row[1]),
            tuple(row[0] for row in found if not row[1]),
            tuple(cuts),
            position,
            ends,
        )
