"""The past day of a listener, from what is stored and what this worker has not stored yet."""

from functools import partial

from discue.control import listener_activity, listeners, queues
from discue.control.context import ControlContext
from discue.control.listener_activity import NOTHING, total
from discue.control.listener_fields import ListenerFields
from discue.control.queues import QueueFields
from discue.domain.attempts import Attempt
from discue.domain.ids import row_id_at
from discue.store import listener_tallies
from discue.store.listener_tallies import ListenerTally
from discue.store.tallies import PERIOD_MS, PERIODS_A_DAY, period_of
from tests.store.rows import a_settle
from tests.support.cast import Cast

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
    await control.store.write(partial(listener_tallies.add, counted=counted))
    attempt = Attempt(row_id_at(now), *key, listener.queue, 1, 1, 503, "status", 5)
    assert await control.store.settle(a_settle(listener, attempts=(attempt,)))

    day = await listener_activity.of_listener(control, listener)
    assert len(day) == PERIODS_A_DAY
    assert day[-1].started_at == now // PERIOD_MS * PERIOD_MS
    assert day[-1].tally == ListenerTally(5, 2, 0)
    assert total(day) == ListenerTally(1_112, 2, 2)
    hour = await listener_activity.past_hour(control, [listener, quiet])
    assert hour == {listener.id: ListenerTally(12, 2, 2), quiet.id: NOTHING}
    assert await listener_activity.past_hour(control, []) == {}
