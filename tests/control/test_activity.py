"""The activity of organizations and listeners in the past day. Final counts of organizations are read once."""

from functools import partial

from discue.control import activity, listeners, queues
from discue.control.activity import NOTHING, Activity, past_day, total
from discue.control.context import ControlContext
from discue.control.listener_fields import ListenerFields
from discue.control.queues import QueueFields
from discue.domain.attempts import Attempt
from discue.domain.ids import row_id_at
from discue.store import tallies
from discue.store.tallies import PERIOD_MS, PERIODS_A_DAY, ListenerTally, TallyEntry, period_of
from tests.store.rows import a_settle
from tests.support.cast import Cast
from tests.support.clocks import NOON

HOUR = 12
"""In periods."""


async def test_counts_of_the_past_hour_are_read_again_and_older_ones_are_not(
    cast: Cast, control: ControlContext
) -> None:
    organization = cast.alice.principal.organization

    async def count(back: int, kind: int, n: int) -> None:
        entry = TallyEntry(organization, period_of(NOON) - back, kind, n)
        await control.store.write(partial(tallies.add, counted=[entry]))

    async def found(now: int = NOON) -> dict[int, tuple[int, int, int]]:
        day = await past_day(control, organization, now)
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


ENDPOINT = ListenerFields(notify_url="https://example.com/", liveness_url="https://example.com/")


async def test_past_day_has_stored_counts_and_those_of_this_minute(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    queue = (await queues.create(control, alice, QueueFields())).queue
    listener = (await listeners.create(control, alice, queue.public_id, ENDPOINT)).listener
    quiet = (await listeners.create(control, alice, queue.public_id, ENDPOINT)).listener
    now = control.clock.now()
    key = (listener.organization, listener.id)
    stored = {
        0: ListenerTally(5, 1, 0),
        11: ListenerTally(7, 0, 2),
        12: ListenerTally(100, 0, 0),
        PERIODS_A_DAY - 1: ListenerTally(1_000, 0, 0),
        PERIODS_A_DAY: ListenerTally(10_000, 0, 0),
    }
    counted = [((*key, period_of(now) - back), tally) for back, tally in stored.items()]
    await control.store.write(partial(tallies.add_of_listeners, counted=counted))
    attempt = Attempt(row_id_at(now), *key, listener.queue, 1, 1, 503, "status", 5)
    assert await control.store.settle(a_settle(listener, attempts=(attempt,)))

    day = await activity.of_listener(control, listener)
    assert len(day) == PERIODS_A_DAY
    assert day[-1].started_at == now // PERIOD_MS * PERIOD_MS
    assert day[-1].tally == ListenerTally(5, 2, 0)
    assert total(day) == ListenerTally(1_112, 2, 2)
    hour = await activity.past_hour(control, [listener, quiet])
    assert hour == {listener.id: ListenerTally(12, 2, 2), quiet.id: NOTHING}
    assert await activity.past_hour(control, []) == {}
