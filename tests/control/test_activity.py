"""The activity of the past day: periods that no longer change are read once."""

from functools import partial

from discue.control.activity import Activity, ActivityCache
from discue.control.context import ControlContext
from discue.store import tallies
from discue.store.tallies import PERIOD_MS, PERIODS_A_DAY, TallyEntry, period_of
from tests.support.cast import Cast
from tests.support.clocks import NOON

HOUR = 12
"""In periods."""


async def test_counts_of_the_past_hour_are_read_again_and_older_ones_are_not(
    cast: Cast, control: ControlContext
) -> None:
    organization, cache = cast.alice.principal.organization, ActivityCache()

    async def count(back: int, kind: int, n: int) -> None:
        entry = TallyEntry(organization, period_of(NOON) - back, kind, n)
        await control.store.write(partial(tallies.add, counted=[entry]))

    async def found(now: int = NOON) -> dict[int, tuple[int, int, int]]:
        day = await cache.past_day(control.store, organization, now)
        assert [each.started_at for each in day] == [
            (period_of(now) - back) * PERIOD_MS for back in reversed(range(PERIODS_A_DAY))
        ]
        return {
            (NOON - each.started_at) // PERIOD_MS: (each.published, each.acknowledged, each.failed)
            for each in day
            if each != Activity(each.started_at)
        }

    await count(PERIODS_A_DAY, tallies.MESSAGE_ADDED, 9)
    await count(PERIODS_A_DAY - 1, tallies.MESSAGE_ADDED, 1)
    await count(HOUR + 1, tallies.MESSAGE_PUBLISHED_OK, 2)
    await count(HOUR, tallies.MESSAGE_PUBLISHED_NOT_OK, 3)
    before = {PERIODS_A_DAY - 1: (1, 0, 0), HOUR + 1: (0, 2, 0), HOUR: (0, 0, 3)}
    assert await found() == before

    await count(HOUR + 1, tallies.MESSAGE_PUBLISHED_OK, 100)
    await count(HOUR, tallies.MESSAGE_PUBLISHED_NOT_OK, 100)
    await count(0, tallies.MESSAGE_ADDED, 4)
    assert await found() == {**before, HOUR: (0, 0, 103), 0: (4, 0, 0)}
    assert await found(NOON + PERIOD_MS) == {HOUR + 1: (0, 2, 0), HOUR: (0, 0, 103), 0: (4, 0, 0)}
    set_back = await found(NOON - PERIOD_MS)
    assert set_back == {
        PERIODS_A_DAY: (9, 0, 0),
        PERIODS_A_DAY - 1: (1, 0, 0),
        HOUR + 1: (0, 102, 0),
        HOUR: (0, 0, 103),
    }
