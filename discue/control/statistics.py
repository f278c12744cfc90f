"""How often what happened in an organization: read from counts, which every commit adds to."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from discue.control.context import ControlContext
from discue.domain.scopes import Principal
from discue.store import tallies
from discue.store.engine import Row

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

_NAMES: Final = {number: name for name, number in tallies.OF_EVENTS.items()}


class EventCounts(msgspec.Struct, frozen=True):
    """How many events of each type there were: what did not happen is not in them."""

    last_24_hours: Mapping[str, int]
    last_1_hours: Mapping[str, int]
    today_so_far: Mapping[str, int]


async def of_messages(control: ControlContext, principal: Principal) -> EventCounts:
    """Of the caller's organization. Windows begin with the period of five minutes that their start is in."""
    now = control.clock.now()
    starts = (now - DAY_MS, now - HOUR_MS, now - now % DAY_MS)
    first = tallies.period_of(starts[0])
    rows = await control.store.read(lambda tx: tallies.since(tx, principal.organization, first))
    return EventCounts(*(_counts(rows, tallies.period_of(start)) for start in starts))


def _counts(rows: list[Row], first: int) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for period, kind, n in rows:
        if period >= first and kind in _NAMES:
            counts[_NAMES[kind]] += n
    return counts
