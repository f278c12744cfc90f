"""Tallies of listeners: their acknowledged, failed and missed deliveries by period of five minutes.

A worker counts what its settles have stored, and adds the counts to the table about once a minute: a row per listener
and period is written five times at most, however many attempts it counts. A worker that is killed loses what it has
not added yet.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from discue.store.engine import Settle, Transaction
from discue.store.tables import chunks, rows_among, statement_of_rows
from discue.store.tallies import IDS_A_PERIOD, period_of

ROWS_A_STEP: Final = 500

_COLUMNS: Final = "organization, listener, period, acknowledged, failed, missed"
_ADD: Final = statement_of_rows(
    lambda values: (
        f"""
    INSERT INTO listener_tally ({_COLUMNS}) VALUES {values}
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
_DELETE_OLD: Final = """
    DELETE FROM listener_tally WHERE (organization, listener, period) IN (
        SELECT organization, listener, period FROM listener_tally WHERE period < $1 ORDER BY period LIMIT $2
    )"""


class ListenerTally(NamedTuple):
    """The attempts of a listener that were acknowledged and that failed, and its missed deliveries."""

    acknowledged: int = 0
    failed: int = 0
    missed: int = 0

    def plus(self, other: "ListenerTally") -> "ListenerTally":
        """Return the sums."""
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

    def take(self, most: int = ROWS_A_STEP) -> list[tuple[TallyKey, ListenerTally]]:
        """Remove counts and return them. They are lost unless the caller stores them."""
        taken = list(self._counts)[:most]
        return [(key, ListenerTally(*self._counts.pop(key))) for key in taken]

    def of_listener(self, organization: int, listener: int, periods: range) -> dict[int, ListenerTally]:
        """Return the counts of a listener by period."""
        # Each period is looked up: a worker with many listeners has far more counts than a day has periods.
        found = ((period, self._counts.get((organization, listener, period))) for period in periods)
        return {period: ListenerTally(*counted) for period, counted in found if counted is not None}


async def add(tx: Transaction, counted: Collection[tuple[TallyKey, ListenerTally]]) -> None:
    """Add counts to those of other workers."""
    # All workers lock the rows in this order: otherwise two could deadlock.
    for chunk in chunks(sorted(counted)):
        await tx.execute(_ADD(len(chunk)), *[value for key, tally in chunk for value in (*key, *tally)])


async def of_listener(
    tx: Transaction, organization: int, listener: int, first_period: int
) -> Mapping[int, ListenerTally]:
    """Read the tallies of a listener by period, the oldest first. Periods without any are absent."""
    rows = await tx.rows(_OF_LISTENER, organization, listener, first_period)
    return {period: ListenerTally(*counts) for period, *counts in rows}


async def sums(
    tx: Transaction, organization: int, listeners: Sequence[int], first_period: int
) -> Mapping[int, ListenerTally]:
    """Read the sums of several listeners from a period on. Listeners without any are absent."""
    rows = await rows_among(tx, _SUMS, (organization, first_period), listeners)
    return {listener: ListenerTally(*counts) for listener, *counts in rows}


async def delete_old(tx: Transaction, before: int) -> int:
    """Delete some tallies of periods before one, of all organizations, and return how many."""
    return await tx.execute(_DELETE_OLD, before, ROWS_A_STEP)
