"""The activity of an organization or a listener in the past day, for charts and rates."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Final, TypeAlias

import msgspec

from discue.control.context import ControlContext
from discue.domain.model import Listener
from discue.store import tallies
from discue.store.tallies import ListenerTally

_LATE_PERIODS: Final = 12
"""An hour. Counts are stored within seconds, or when the store is back: older ones are taken as final."""
_KINDS: Final = (tallies.MESSAGE_ADDED, tallies.MESSAGE_PUBLISHED_OK, tallies.MESSAGE_PUBLISHED_NOT_OK)
_MINUTE_MS: Final = 60_000


class Activity(msgspec.Struct, frozen=True):
    """The activity of an organization in one period of five minutes."""

    started_at: int
    """Milliseconds since the epoch."""
    published: int = 0
    acknowledged: int = 0
    failed: int = 0


async def past_day(control: ControlContext, organization: int, now: int) -> Sequence[Activity]:
    """Return the activity of the past 24 hours, the oldest period first. The last period has not ended.

    Pages that show the day reload at each change. Final counts are cached, so a reload reads only the past hour.
    """
    periods = tallies.past_day(now)
    start = periods.start * tallies.PERIOD_MS
    known: Sequence[Activity] = control.activities.get(organization) or ()
    if known and known[0].started_at > start:
        # The clock was set back.
        known = ()
    settled = [each for each in known if each.started_at >= start]
    first = periods.start + len(settled)
    rows = await control.store.read(lambda tx: tallies.since(tx, organization, first))
    counts = {(period, kind): n for period, kind, n in rows}
    found = settled + [
        Activity(period * tallies.PERIOD_MS, *(counts.get((period, kind), 0) for kind in _KINDS))
        for period in range(first, periods.stop)
    ]
    control.activities.put(organization, found[: -1 - _LATE_PERIODS], ())
    return found


def rate_a_minute(before: int, current: int, elapsed_ms: int) -> float:
    """Return the average per minute over the past five minutes.

    `current` was counted in the period that has begun `elapsed_ms` ago, and `before` in the one before it. Of `before`,
    only the part within the five minutes counts, as if it had been even.
    """
    overlap = max(0.0, 1 - elapsed_ms / tallies.PERIOD_MS)
    return (before * overlap + current) * _MINUTE_MS / tallies.PERIOD_MS


ActivityMark: TypeAlias = tuple[int, int]
"""A value that differs after messages, attempts or changes of resources: a period, and what was counted since."""


async def activity_mark(control: ControlContext, organization: int) -> ActivityMark:
    """Return the mark of the present, in one statement on a few rows."""
    period = tallies.period_of(control.clock.now()) - 1
    return period, await control.store.read(lambda tx: tallies.count_all(tx, organization, period))


PERIODS_AN_HOUR: Final = 12

NOTHING: Final = ListenerTally()


class ListenerPeriod(msgspec.Struct, frozen=True):
    """The outcomes of a listener's deliveries in one period of five minutes."""

    started_at: int
    """Milliseconds since the epoch."""
    tally: ListenerTally = NOTHING


def total(periods: Sequence[ListenerPeriod]) -> ListenerTally:
    return reduce(ListenerTally.plus, (each.tally for each in periods), NOTHING)


async def of_listener(control: ControlContext, listener: Listener) -> Sequence[ListenerPeriod]:
    """Return the periods of the past 24 hours, the oldest first; the last one has not ended.

    The caller has checked that the listener may be read. Counts of other workers arrive up to a minute late, and a
    worker that was killed never stored its last minute.
    """
    periods = tallies.past_day(control.clock.now())
    key = (listener.organization, listener.id)
    stored = await control.store.read(lambda tx: tallies.of_listener(tx, *key, periods.start))
    here = control.store.listener_counts.of_listener(*key, periods)
    return [
        ListenerPeriod(period * tallies.PERIOD_MS, stored.get(period, NOTHING).plus(here.get(period, NOTHING)))
        for period in periods
    ]


async def past_hour(control: ControlContext, listeners: Sequence[Listener]) -> Mapping[int, ListenerTally]:
    """Return the sums of the past hour of listeners of one organization, by their row ids."""
    if not listeners:
        return {}
    hour = tallies.past_day(control.clock.now())[-PERIODS_AN_HOUR:]
    organization, ids = listeners[0].organization, [each.id for each in listeners]
    stored = await control.store.read(lambda tx: tallies.sums_of_listeners(tx, organization, ids, hour.start))
    counts = control.store.listener_counts
    return {
        each: reduce(
            ListenerTally.plus, counts.of_listener(organization, each, hour).values(), stored.get(each, NOTHING)
        )
        for each in ids
    }
