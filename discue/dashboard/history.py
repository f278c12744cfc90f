"""Charts of attempts over 1 hour to 30 days, and the sums that charts of more than a day read.

Retention moves the tallies of listeners that are older than a day into `listener_history`: sums over three hours, for
each listener and, as listener 0, for its organization. Publishing and delivery do no additional work for them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from discue.control.activity import Activity
from discue.dashboard.charts import columns
from discue.dashboard.visit import Visit
from discue.store.engine import Row, Transaction
from discue.store.tables import chunks, delete_older, statement_of_rows
from discue.store.tallies import PERIOD_MS, PERIODS_A_DAY, past_day

TOGETHER: Final = 36
"""Number of periods of five minutes in a row of `listener_history`: three hours."""
_DAYS_KEPT: Final = 31
_ROWS_A_STEP: Final = 500
_ORGANIZATION: Final = 0
"""The listener id of the sums over all listeners."""

_MOVE: Final = """
    DELETE FROM listener_tally WHERE (organization, listener, period) IN (
        SELECT organization, listener, period FROM listener_tally WHERE period < $1 ORDER BY period LIMIT $2)
    RETURNING organization, listener, period, acknowledged, failed"""
_ADD: Final = statement_of_rows(
    lambda values: (
        f"""
    INSERT INTO listener_history (organization, listener, period, acknowledged, failed) VALUES {values}
    ON CONFLICT (organization, listener, period) DO UPDATE SET
        acknowledged = listener_history.acknowledged + excluded.acknowledged,
        failed = listener_history.failed + excluded.failed"""
    ),
    5,
)
# Tallies can be a little older than a day, until retention has moved them.
_READ: Final = """
    SELECT * FROM (
        SELECT period, acknowledged, failed FROM listener_history
        WHERE organization = $1 AND listener = $2 AND period >= $3 LIMIT 1000) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT period, acknowledged, failed FROM listener_tally
        WHERE organization = $1 AND listener = $2 AND period >= $3 AND period < $4 LIMIT 1000) AS looked_at"""


class ChartRange(NamedTuple):
    """A time range that a chart can show."""

    title: str
    periods: int
    """The length, in periods of five minutes."""
    column: int
    """The length of a column, in periods."""
    labelled: int
    """The distance between the labels of the axis, in periods."""


RANGES: Final[Mapping[str, ChartRange]] = {
    "1h": ChartRange("1 hour", 12, 1, 3),
    "24h": ChartRange("24 hours", PERIODS_A_DAY, 6, 48),
    "7d": ChartRange("7 days", 7 * PERIODS_A_DAY, 36, PERIODS_A_DAY),
    "30d": ChartRange("30 days", 30 * PERIODS_A_DAY, 144, 5 * PERIODS_A_DAY),
}
DEFAULT: Final = "24h"


async def drawn(visit: Visit, day: Sequence[Activity], listener: int = _ORGANIZATION) -> dict[str, object]:
    """Return the template values of a chart of the range in the query. `day` is the activity of the past 24 hours."""
    name = visit.query.get("range", "")
    name = name if name in RANGES else DEFAULT
    chosen = RANGES[name]
    shown: Sequence[Activity] = day[-chosen.periods :]
    if chosen.periods > PERIODS_A_DAY:
        own, now = visit.principal.organization, past_day(visit.now)
        first = (now.stop - chosen.periods) // TOGETHER
        older = range(first * TOGETHER, now.start)
        rows = await visit.control.store.read(lambda tx: read(tx, own, listener, older))
        shown = _summed(rows, day, range(first, (now.stop - 1) // TOGETHER + 1))
    return {
        "chart": columns(shown, chosen.column * PERIOD_MS, chosen.labelled * PERIOD_MS),
        "range": name,
        "ranges": RANGES,
        "default_range": DEFAULT,
        "kept_since": visit.now - visit.control.settings.attempt_retention_seconds * 1_000,
    }


def _summed(rows: Sequence[Row], day: Sequence[Activity], found: range) -> Sequence[Activity]:
    """Return the activity in steps of three hours, from the rows of `read` and the activity of the past day."""
    good, bad = Counter[int](), Counter[int]()
    recent = [(each.started_at // PERIOD_MS, each.acknowledged, each.failed) for each in day]
    for period, acknowledged, failed in [*rows, *recent]:
        good[period // TOGETHER] += acknowledged
        bad[period // TOGETHER] += failed
    return [Activity(each * TOGETHER * PERIOD_MS, 0, good[each], bad[each]) for each in found]


async def read(tx: Transaction, organization: int, listener: int, periods: range) -> Sequence[Row]:
    """Read the sums since the first period, and the tallies not yet moved: rows of period, acknowledged and failed."""
    return await tx.rows(_READ, organization, listener, periods.start, periods.stop)


async def move_old(tx: Transaction, before: int) -> int:
    """Move some tallies older than a day before `before` (ms since the epoch) into sums, and return how many."""
    # One statement deletes and returns the rows, so two leaders never add the same ones.
    rows = await tx.rows(_MOVE, past_day(before).start, _ROWS_A_STEP)
    good, bad = Counter[tuple[int, int, int]](), Counter[tuple[int, int, int]]()
    for organization, listener, period, acknowledged, failed in rows:
        for key in (organization, listener, period - period % TOGETHER), (organization, 0, period - period % TOGETHER):
            good[key] += acknowledged
            bad[key] += failed
    # Sorted by key, so that two leaders cannot deadlock.
    for chunk in chunks(sorted(good)):
        await tx.execute(_ADD(len(chunk)), *[value for key in chunk for value in (*key, good[key], bad[key])])
    return len(rows)


async def delete_old(tx: Transaction, before: int) -> int:
    """Delete some sums older than 31 days before `before` (ms since the epoch), and return how many."""
    first, key = past_day(before).stop - _DAYS_KEPT * PERIODS_A_DAY, "organization, listener, period"
    return await delete_older(tx, "listener_history", key, "period", before=first, most=_ROWS_A_STEP)
