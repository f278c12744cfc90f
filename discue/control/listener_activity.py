"""The outcomes of a listener's deliveries in the past day, for charts and rates."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Final

import msgspec

from discue.control.context import ControlContext
from discue.domain.model import Listener
from discue.store import listener_tallies, tallies
from discue.store.listener_tallies import ListenerTally

PERIODS_AN_HOUR: Final = 12

NOTHING: Final = ListenerTally()


class ListenerPeriod(msgspec.Struct, frozen=True):
    """The outcomes of a listener's deliveries in one period of five minutes."""

    started_at: int
    """Milliseconds since the epoch."""
    tally: ListenerTally = NOTHING


def total(periods: Sequence[ListenerPeriod]) -> ListenerTally:
    """Return the sums of all periods."""
    return reduce(ListenerTally.plus, (each.tally for each in periods), NOTHING)


async def of_listener(control: ControlContext, listener: Listener) -> Sequence[ListenerPeriod]:
    """Return the periods of the past 24 hours, the oldest first; the last one has not ended.

    The caller has checked that the listener may be read. Counts of other workers arrive up to a minute late, and a
    worker that was killed never stored its last minute.
    """
    periods = tallies.past_day(control.clock.now())
    key = (listener.organization, listener.id)
    stored = await control.store.read(lambda tx: listener_tallies.of_listener(tx, *key, periods.start))
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
    stored = await control.store.read(lambda tx: listener_tallies.sums(tx, organization, ids, hour.start))
    counts = control.store.listener_counts
    return {
        each: reduce(
            ListenerTally.plus, counts.of_listener(organization, each, hour).values(), stored.get(each, NOTHING)
        )
        for each in ids
    }
