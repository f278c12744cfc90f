"""Tallies: counts by organization, kind and period of five minutes, written in the commits that they count.

A count is spread over slots. Commits that run concurrently use different slots, so that none waits for another. The
requests that workers have taken from a caller's limit per minute are counted separately.

Listeners have tallies of their own: their acknowledged, failed and missed deliveries. A worker counts what its settles
have stored, and adds the counts to the table about once a minute: a row per listener and period is written five times
at most. A worker that is killed loses what it has not added yet.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from discue.domain.attempts import Attempt
from discue.domain.ids import row_id_at
from discue.domain.quotas import ResourceQuotaName
from discue.domain.rate import MINUTE_MS, granted_share
from discue.store.engine import Row, Settle, Transaction
from discue.store.tables import chunks, delete_older, delete_oldest, read_number, rows_among, statement_of_rows

PERIOD_MS: Final = 300_000
PERIODS_A_DAY: Final = 288

CURRENT: Final = 0
"""The period of current amounts, which also decrease."""

SCHEDULE_BYTES: Final = 0
"""The size of the schedules of all existing queues, in the period CURRENT."""
MESSAGE_ADDED: Final = 1
BYTES_STORED: Final = 2
"""The size of all messages, in the period CURRENT."""
RESPONSE_BYTES: Final = 1_004
"""The size of the responses stored for idempotency keys, in the period CURRENT."""
MESSAGE_PUBLISHED_OK: Final = 3
MESSAGE_PUBLISHED_NOT_OK: Final = 4

EventKind = Literal[
    "api_key_added",
    "api_key_updated",
    "api_key_deleted",
    "queue_added",
    "queue_updated",
    "queue_deleted",
    "listener_added",
    "listener_updated",
    "listener_deleted",
    "organization_added",
    "organization_updated",
    "organization_deleted",
    "domain_added",
    "domain_updated",
    "domain_deleted",
    "user_added",
    "user_updated",
    "user_deleted",
    "lockout",
    "topic_added",
    "topic_updated",
    "topic_deleted",
    "channel_added",
    "channel_updated",
    "channel_deleted",
    "session_added",
    "session_deleted",
    "second_factor_added",
    "second_factor_deleted",
    "portal_session_added",
    "portal_session_deleted",
    "event_type_added",
    "event_type_updated",
    "event_type_deleted",
    "source_added",
    "source_updated",
    "source_deleted",
    "erasure_added",
]
"""Events of the control plane. Databases contain their numbers, which follow from this order: append new ones only."""

EVENT_KINDS: Final = {
    "message_added": MESSAGE_ADDED,
    "message_published_ok": MESSAGE_PUBLISHED_OK,
    "message_published_not_ok": MESSAGE_PUBLISHED_NOT_OK,
    **{kind: number for number, kind in enumerate(get_args(EventKind), MESSAGE_PUBLISHED_NOT_OK + 1)},
}
"""How each event is counted."""

WORK_SLOT: Final = 3
"""The slot of works. They are few."""

_SLOTS_A_WORKER: Final = 4
# Dividing an id by this is cheaper than computing its millisecond first: it runs for each attempt.
IDS_A_PERIOD: Final = row_id_at(PERIOD_MS)

_ADD: Final = """
    INSERT INTO tally (organization, period, kind, slot, n) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = tally.n + excluded.n"""
_SINCE: Final = """
    SELECT period, kind, CAST(sum(n) AS BIGINT) FROM tally WHERE organization = $1 AND period >= $2
    GROUP BY period, kind"""
_ALL: Final = "SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM tally WHERE organization = $1 AND period >= $2"
_CURRENT: Final = """
    SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM tally
    WHERE organization = $1 AND period = 0 AND kind IN ($2, $3, $4)"""
_DELETE_OLD: Final = """
    DELETE FROM tally WHERE organization = $1 AND period > 0 AND period < $2
    AND period <= (SELECT min(period) + $3 FROM tally WHERE organization = $1 AND period > 0)"""


class TallyEntry(NamedTuple):
    """A row of the table without its slot."""

    organization: int
    period: int
    kind: int
    n: int


def slot_of(worker_slot: int, stream: int) -> int:
    """Return the slot of a worker's sequence of commits. A worker has at most two for appends and two for settles."""
    return worker_slot * _SLOTS_A_WORKER + stream


def period_of(millisecond: int) -> int:
    return millisecond // PERIOD_MS


def day_of(millisecond: int) -> range:
    """Return the periods of the day (UTC) that contains a time."""
    first = period_of(millisecond) // PERIODS_A_DAY * PERIODS_A_DAY
    return range(first, first + PERIODS_A_DAY)


def end_of(periods: range) -> int:
    """Return when a range of periods ends, in milliseconds since the epoch."""
    return periods.stop * PERIOD_MS


def past_day(now: int) -> range:
    """Return the periods of the past 24 hours. The last one has not ended."""
    end = period_of(now) + 1
    return range(end - PERIODS_A_DAY, end)


def attempt_entries(attempts: Iterable[Attempt]) -> list[TallyEntry]:
    """Count successful and failed attempts."""
    counts = Counter([(attempt.organization, attempt.id // IDS_A_PERIOD, not attempt.error) for attempt in attempts])
    return [
        TallyEntry(organization, period, MESSAGE_PUBLISHED_OK if ok else MESSAGE_PUBLISHED_NOT_OK, n)
        for (organization, period, ok), n in counts.items()
    ]


async def add(tx: Transaction, counted: Collection[TallyEntry]) -> None:
    """Add entries within the transaction of a work."""
    # All transactions lock the rows in this order: otherwise two could deadlock.
    for organization, period, kind, n in sorted(counted):
        await tx.execute(_ADD, organization, period, kind, WORK_SLOT, n)


async def add_one(tx: Transaction, entry: TallyEntry) -> int:
    """Add an entry within the transaction of a work, and return the new count of its row."""
    organization, period, kind, n = entry
    row = await tx.row(f"{_ADD} RETURNING n", organization, period, kind, WORK_SLOT, n)
    return int(row[0]) if row is not None else 0


async def subtract_bytes(tx: Transaction, organization: int, sizes: Collection[Row], kind: int = BYTES_STORED) -> int:
    """Subtract deleted messages or responses, given by their sizes, and return their number."""
    if sizes:
        await add(tx, [TallyEntry(organization, CURRENT, kind, -sum(size for (size,) in sizes))])
    return len(sizes)


async def since(tx: Transaction, organization: int, period: int) -> list[Row]:
    """Read (period, kind, n) from a period on."""
    return await tx.rows(_SINCE, organization, period)


async def count_all(tx: Transaction, organization: int, period: int) -> int:
    """Return how much was counted from a period on, of every kind."""
    return await read_number(tx, _ALL, organization, period)


async def bytes_stored(tx: Transaction, organization: int) -> int:
    """Return the size of an organization's messages, schedules and stored responses."""
    return await read_number(tx, _CURRENT, organization, BYTES_STORED, SCHEDULE_BYTES, RESPONSE_BYTES)


async def delete_old(tx: Transaction, organization: int, before: int, periods: int) -> int:
    """Delete some of an organization's old counts, at most that many periods, and return how many rows."""
    return await tx.execute(_DELETE_OLD, organization, before, periods)


_COUNTED: Final[Mapping[ResourceQuotaName, str]] = {
    "queues": "queue WHERE organization = $1 AND deleted_at IS NULL AND is_system = 0",
    "listeners": "listener l JOIN queue q ON q.organization = l.organization AND q.id = l.queue "
    "WHERE l.organization = $1 AND l.deleted_at IS NULL AND q.deleted_at IS NULL",
    "topics": "topic WHERE organization = $1",
    "domains": "domain WHERE organization = $1",
    "api_keys": "api_key WHERE organization = $1",
    "users": "organization_user WHERE organization = $1",
    "portal_sessions": "portal_session WHERE organization = $1",
}
"""The rows of an organization that each quota counts."""
_MESSAGES: Final = """
    SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM tally
    WHERE organization = $1 AND period >= $2 AND period < $3 AND kind = $4"""


async def count_resources(tx: Transaction, organization: int, name: ResourceQuotaName, at_most: int) -> int:
    """Count resources of an organization, up to a limit."""
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {_COUNTED[name]} LIMIT $2) AS counted"
    return await read_number(tx, sql, organization, at_most)


async def count_messages(tx: Transaction, organization: int, periods: range, kind: int = MESSAGE_ADDED) -> int:
    """Count messages that were published in a range of periods."""
    return await read_number(tx, _MESSAGES, organization, periods.start, periods.stop, kind)


BUDGETS_A_STEP: Final = 500
MOST_BUDGETS: Final = 1_000_000
"""How many budgets are kept: a stranger may have any number of addresses."""

# Adds all that is wanted: the result tells how much of it was within the limit. At the limit no row is written.
_TAKE_BUDGET: Final = """
    INSERT INTO allowance (organization, caller, minute, taken) VALUES ($1, $2, $3, $4)
    ON CONFLICT (organization, caller, minute) DO UPDATE SET taken = allowance.taken + excluded.taken
    WHERE allowance.taken < $5 RETURNING taken"""
_RETURN_BUDGET: Final = """
    UPDATE allowance SET taken = taken - $1 WHERE organization = $2 AND caller = $3 AND minute = $4 AND taken >= $1"""


class BudgetRequest(msgspec.Struct, frozen=True, gc=False):
    """A request for a part of a caller's budget for one minute."""

    organization: int
    caller: int
    minute: int
    wanted: int
    limit: int
    returned: int = 0
    """Requests that were taken earlier and not used."""


class BudgetGrant(msgspec.Struct, frozen=True, gc=False):
    """The granted requests, and how many are left for all workers."""

    granted: int
    left: int


async def take_budgets(tx: Transaction, requests: Sequence[BudgetRequest]) -> list[BudgetGrant]:
    """Take from budgets, and answer each request, in their order.

    Workers sort their requests, so that they lock rows in the same order and cannot deadlock.
    """
    return [await _take(tx, request) for request in requests]


async def take_one(tx: Transaction, organization: int, subject: str, *, end: int, limit: int) -> bool:
    """Take one from the budget of a subject for a period, given by the millisecond of its end.

    Returns False if the budget is used up. The row has the last minute of the period, so it is kept until then.
    """
    request = BudgetRequest(organization, number_of(subject), (end - 1) // MINUTE_MS, 1, limit)
    return (await _take(tx, request)).granted == 1


def number_of(subject: str) -> int:
    """Return a number that identifies a subject without a row id as the caller of a budget."""
    return int.from_bytes(blake2b(subject.encode(), digest_size=8).digest()) >> 1


async def delete_old_budgets(tx: Transaction, before_minute: int) -> int:
    """Delete some budgets of past minutes, and return how many."""
    key = "organization, caller, minute"
    return await delete_older(tx, "allowance", key, "minute", before=before_minute, most=BUDGETS_A_STEP)


async def delete_beyond(tx: Transaction) -> int:
    """Delete some of the oldest budgets beyond `MOST_BUDGETS`, and return how many."""
    return await delete_oldest(tx, "allowance", "organization, caller, minute", "minute", kept=MOST_BUDGETS)


async def _take(tx: Transaction, request: BudgetRequest) -> BudgetGrant:
    if request.returned:
        await tx.execute(_RETURN_BUDGET, request.returned, request.organization, request.caller, request.minute)
    rows = await tx.rows(
        _TAKE_BUDGET, request.organization, request.caller, request.minute, request.wanted, request.limit
    )
    if not rows:
        return BudgetGrant(0, 0)
    taken: int = rows[0][0]
    return BudgetGrant(granted_share(request.wanted, request.limit, taken), max(0, request.limit - taken))


LISTENER_ROWS_A_STEP: Final = 500

_LISTENER_COLUMNS: Final = "organization, listener, period, acknowledged, failed, missed"
_ADD_OF_LISTENERS: Final = statement_of_rows(
    lambda values: (
        f"""
    INSERT INTO listener_tally ({_LISTENER_COLUMNS}) VALUES {values}
    ON CONFLICT (organization, listener, period) DO UPDATE SET
        acknowledged = listener_tally.acknowledged + excluded.acknowledged,
        failed = listener_tally.failed + excluded.failed,
        missed = listener_tally.missed + excluded.missed"""
    ),
    6,
)
_OF_LISTENER: Final = """
    SELECT period, acknowledged, failed, missed FROM listener_tally
    WHERE organization = $1 AND listener = $2 AND period >= $3 ORDER BY period"""
_SUMS: Final = """
    SELECT listener, CAST(sum(acknowledged) AS BIGINT), CAST(sum(failed) AS BIGINT), CAST(sum(missed) AS BIGINT)
    FROM listener_tally WHERE organization = $1 AND period >= $2 AND listener IN ({}) GROUP BY listener"""


class ListenerTally(NamedTuple):
    """The attempts of a listener that were acknowledged and that failed, and its missed deliveries."""

    acknowledged: int = 0
    failed: int = 0
    missed: int = 0

    def plus(self, other: "ListenerTally") -> "ListenerTally":
        """Return the sum of each count."""
        return ListenerTally(*map(sum, zip(self, other, strict=True)))


TallyKey = tuple[int, int, int]
"""Organization, listener and period."""


class ListenerCounts:
    """Counts that a worker has not added to the table yet: at most a minute of its listeners' settles."""

    def __init__(self) -> None:
        self._counts: dict[TallyKey, list[int]] = {}

    def count(self, settle: Settle) -> None:
        """Count the attempts and the missed deliveries of a settle that was stored."""
        attempts, misses = settle.attempts, settle.new_misses
        if attempts:
            # All of them ended within a moment: a settle that spans two periods counts for the first.
            period = attempts[0].id // IDS_A_PERIOD
        elif misses is not None:
            period = period_of(misses.since)
        else:
            return
        key = (settle.organization, settle.listener, period)
        counted = self._counts.get(key)
        if counted is None:
            counted = self._counts[key] = [0, 0, 0]
        for attempt in attempts:
            counted[1 if attempt.error else 0] += 1
        if misses is not None:
            counted[2] += misses.count

    def take(self, most: int = LISTENER_ROWS_A_STEP) -> list[tuple[TallyKey, ListenerTally]]:
        """Remove counts and return them. They are lost unless the caller stores them."""
        taken = list(self._counts)[:most]
        return [(key, ListenerTally(*self._counts.pop(key))) for key in taken]

    def of_listener(self, organization: int, listener: int, periods: range) -> dict[int, ListenerTally]:
        """Return the counts of a listener by period."""
        # Each period is looked up: a worker with many listeners has far more counts than a day has periods.
        found = ((period, self._counts.get((organization, listener, period))) for period in periods)
        return {period: ListenerTally(*counted) for period, counted in found if counted is not None}


async def add_of_listeners(tx: Transaction, counted: Collection[tuple[TallyKey, ListenerTally]]) -> None:
    """Add counts to those of other workers."""
    # All workers lock the rows in this order: otherwise two could deadlock.
    for chunk in chunks(sorted(counted)):
        await tx.execute(_ADD_OF_LISTENERS(len(chunk)), *[value for key, tally in chunk for value in (*key, *tally)])


async def of_listener(
    tx: Transaction, organization: int, listener: int, first_period: int
) -> Mapping[int, ListenerTally]:
    """Read the tallies of a listener by period, the oldest first. Periods without any are absent."""
    rows = await tx.rows(_OF_LISTENER, organization, listener, first_period)
    return {period: ListenerTally(*counts) for period, *counts in rows}


async def sums_of_listeners(
    tx: Transaction, organization: int, listeners: Sequence[int], first_period: int
) -> Mapping[int, ListenerTally]:
    """Read the sums of several listeners from a period on. Listeners without counts are absent."""
    rows = await rows_among(tx, _SUMS, (organization, first_period), listeners)
    return {listener: ListenerTally(*counts) for listener, *counts in rows}


async def delete_old_of_listeners(tx: Transaction, before: int) -> int:
    """Delete some tallies of periods before one, of all organizations, and return how many."""
    key = "organization, listener, period"
    return await delete_older(tx, "listener_tally", key, "period", before=before, most=LISTENER_ROWS_A_STEP)
