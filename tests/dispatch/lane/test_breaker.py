"""Lanes of inactive listeners: the circuit breaker, the sweep, and automatic disabling."""

import msgspec
import pytest

from discue.dispatch.lane import breaker
from discue.dispatch.lane.breaker import FAILURES_IN_A_ROW, CircuitBreaker
from discue.dispatch.lane.context import Tuning
from discue.dispatch.lane.states import BreakerState
from discue.domain.listener_health import Liveness, after_probe
from discue.domain.model import Listener, Queue
from discue.store.listeners import ListenerHealth, Sweep
from tests.dispatch.stage import DAY_MS, LIMITS, Stage, badly, well

HOUR_MS = 3_600_000
FAILURE_INTERVAL_MS = 6 * HOUR_MS
IN_FLIGHT = LIMITS.listener_max_in_flight


async def _inactive(stage: Stage) -> tuple[Queue, Listener]:
    queue, listener = await stage.running()
    await stage.probe(503, times=3)
    return queue, listener


async def _inactive_after_failures(stage: Stage, messages: int) -> tuple[Queue, Listener]:
    """A listener that became inactive while its retries were in flight: these have failed, too."""
    queue, listener = await stage.running()
    await stage.publish(queue, messages)
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.probe(503, times=3)
    await stage.end(stage.courier.in_flight[::], badly())
    return queue, listener


async def test_inactive_listener_receives_nothing_and_uses_no_attempt(stage: Stage) -> None:
    queue, listener = await _inactive_after_failures(stage, 2)
    await stage.publish(queue, 3)
    sent = len(stage.courier.sent)
    for _ in range(60):
        await stage.advance(60_000)
        await stage.answer_probes(503)
    assert len(stage.courier.sent) == sent
    assert (await stage.counts(listener)).pending == 5
    assert [attempts for _, _, attempts in await stage.delivery_rows(listener)] == [sent // 2] * 2
    assert stage.dispatcher._context.budget.held == 0


async def test_log_has_state_changes_and_failed_attempts(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    queue, _ = await stage.running()
    caplog.set_level("INFO")
    await stage.probe(503, times=3)
    await stage.probe(200, times=3)
    for outcome in (well(), badly(no_retry=True)):
        await stage.publish(queue)
        await stage.end(stage.courier.in_flight[0], outcome)
    caplog.set_level("DEBUG")
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], well())
    assert [(each.levelname, each.message) for each in caplog.records if each.name == "discue.test"] == [
        ("WARNING", "listener_inactive"),
        ("INFO", "listener_recovered"),
        ("WARNING", "attempt"),
        ("DEBUG", "attempt"),
    ]


async def test_requests_in_flight_end_normally_when_the_listener_becomes_inactive(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 2)
    await stage.probe(503, times=3)
    first, second = stage.courier.in_flight
    await stage.end(first, well())
    await stage.end(second, badly())
    assert (await stage.counts(listener)).acknowledged == 1
    assert await stage.delivery_rows(listener) == [(2, "retry", 1)]


async def test_trials_double_after_a_good_probe_until_the_breaker_closes(stage: Stage) -> None:
    queue, listener = await _inactive(stage)
    ids = await stage.publish(queue, 500)
    await stage.probe()
    waves = []
    while stage.courier.in_flight:
        waves.append(len(stage.courier.in_flight))
        await stage.end(stage.courier.in_flight[::], well())
    assert waves[:6] == [1, 2, 4, 8, 16, 32]
    assert waves[6] == IN_FLIGHT
    assert sum(waves) == 500
    assert [sent.message_id for sent in stage.courier.sent][:3] == ids[:3]
    # Enough messages were acknowledged: it is not inactive, although one probe is missing to call it stable.
    assert (await stage.liveness(listener)).state == "unstable"
    assert (await stage.counts(listener)).acknowledged == 500


async def test_listener_that_acknowledges_enough_messages_stays_open_for_a_new_owner(stage: Stage) -> None:
    queue, listener = await _inactive(stage)
    await stage.publish(queue, 100)
    await stage.probe()
    await stage.end_all(well())
    await stage.start()
    await stage.publish(queue, 100)
    assert len(stage.courier.in_flight) == IN_FLIGHT
    await stage.end_all(well())
    await stage.probe(503)
    assert (await stage.liveness(listener)).state == "unstable"


async def test_listener_without_a_liveness_url_is_sent_everything_and_never_probed(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization())
    await stage.start()
    listener = await stage.listener(queue, liveness_url="")
    await stage.publish(queue, 3)
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.advance(DAY_MS)
    await stage.end_all(well())
    assert (await stage.counts(listener)).acknowledged == 3
    assert (await stage.liveness(listener)).state == "unknown"
    assert stage.scout.asked == []


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_url_that_is_no_liveness_endpoint_never_stops_a_listener(stage: Stage, status: int) -> None:
    queue, listener = await stage.running()
    await stage.probe(status, times=5)
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], well())
    await stage.advance(60_000)
    found = await stage.liveness(listener)
    assert (found.state, found.failure_count) == ("unknown", 5)
    assert found.last_failure_msg == f"answered {status}: not a liveness endpoint"


async def test_failed_probes_do_not_stop_a_listener_that_acknowledges(stage: Stage) -> None:
    queue, listener = await stage.running()
    for _ in range(6):
        await stage.publish(queue)
        await stage.end(stage.courier.in_flight[0], well())
        await stage.probe(503)
    found = await stage.liveness(listener)
    assert (found.state, found.last_failure_msg) == ("unstable", "answered 503")
    await stage.probe(503, times=3)
    await stage.publish(queue)
    assert stage.courier.in_flight == []
    assert (await stage.liveness(listener)).state == "inactive"


@pytest.mark.parametrize("restarts", [False, True])
async def test_failed_probe_by_a_clock_that_was_behind_is_later_than_an_acknowledgement(
    stage: Stage, *, restarts: bool
) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], well())
    await stage.probe(503, times=3)
    stage.clock.set_by(-HOUR_MS)
    await stage.probe(503)
    if restarts:
        await stage.start()
    stage.clock.set_by(HOUR_MS)
    await stage.publish(queue)
    await stage.probe(503)
    assert stage.courier.in_flight == []
    assert (await stage.liveness(listener)).state == "inactive"


async def test_failed_probes_count_after_an_acknowledgement_by_a_clock_that_was_ahead(stage: Stage) -> None:
    queue, listener = await stage.running()
    stage.clock.set_by(HOUR_MS)
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], well())
    stage.clock.set_by(-HOUR_MS)
    await stage.probe(503, times=4)
    await stage.publish(queue)
    assert stage.courier.in_flight == []
    assert (await stage.liveness(listener)).state == "inactive"


async def test_inactive_listener_whose_url_is_no_liveness_endpoint_any_more_gets_a_trial_per_probe(
    stage: Stage,
) -> None:
    queue, listener = await _inactive(stage)
    await stage.publish(queue, 10)
    for sent in (1, 2):
        await stage.probe(404)
        assert len(stage.courier.sent) == sent
        await stage.end(stage.courier.in_flight[0], badly())
        assert stage.courier.in_flight == []
    await stage.probe(404)
    await stage.end(stage.courier.in_flight[0], well())
    assert len(stage.courier.in_flight) == 2
    await stage.probe(404)
    assert (await stage.liveness(listener)).state == "unknown"
    assert len(stage.courier.in_flight) == 9


async def test_inactive_listener_is_open_at_once_when_its_liveness_url_is_removed(stage: Stage) -> None:
    queue, listener = await _inactive_after_failures(stage, 5)
    sent = len(stage.courier.sent)
    await stage.configure(listener, liveness_url="")
    assert len(stage.courier.sent) == sent + 5
    await stage.end_all(well())
    assert (await stage.counts(listener)).acknowledged == 5
    asked = len(stage.scout.asked)
    await stage.advance(DAY_MS)
    assert len(stage.scout.asked) == asked
    await stage.start()
    await stage.publish(queue)
    assert len(stage.courier.in_flight) == 1


async def test_failed_trial_opens_the_breaker_until_the_next_good_probe(stage: Stage) -> None:
    queue, listener = await _inactive(stage)
    await stage.publish(queue, 100)
    await stage.probe()
    await stage.end(stage.courier.in_flight[0], badly())
    assert stage.courier.in_flight == []
    await stage.advance(4_000)
    assert len(stage.courier.sent) == 1
    # The next one makes it inactive still, but the one before was good: it takes two in a row.
    await stage.probe(503)
    assert len(stage.courier.sent) == 1
    await stage.probe()
    assert len(stage.courier.in_flight) == 1
    await stage.probe()
    assert (await stage.liveness(listener)).state == "stable"
    assert len(stage.courier.in_flight) == IN_FLIGHT


async def test_requests_in_flight_before_the_breaker_half_opens_are_no_trials(stage: Stage) -> None:
    queue, _ = await stage.running()
    await stage.publish(queue, 5)
    await stage.probe(503, times=3)
    await stage.publish(queue, 5)
    before = stage.courier.in_flight[::]
    await stage.probe()
    assert len(stage.courier.in_flight) == 6
    await stage.end(before, badly())
    assert len(stage.courier.in_flight) == 1
    await stage.end(stage.courier.in_flight[0], well())
    assert len(stage.courier.in_flight) == 2


async def test_retries_of_a_recovered_listener_are_sent_at_once_in_log_order(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 40)
    # Each has failed another number of times, so that they are due in another order than they were published.
    for number in range(3):
        await stage.end(
            [sent for sent in stage.courier.in_flight if ids.index(sent.message_id) >= 13 * number], badly()
        )
        await stage.end(stage.courier.in_flight[::], badly())
        await stage.advance(200_000)
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.probe(503, times=3)
    await stage.end(stage.courier.in_flight[::], badly())
    due = {row[0] for row in await stage.rows("SELECT due_at FROM delivery WHERE state = 'retry'")}
    assert max(due) > stage.clock.now() + 60_000
    sent = len(stage.courier.sent)
    await stage.probe()
    await stage.end_all(well())
    assert [each.message_id for each in stage.courier.sent[sent:]] == ids
    assert (await stage.counts(listener)).acknowledged == 40
    assert await stage.delivery_rows(listener) == []


async def test_sweep_changes_no_row_and_sends_each_retry_once(stage: Stage) -> None:
    stage.tuning = Tuning(due_rows=4)
    _, listener = await _inactive_after_failures(stage, 30)
    before = await stage.rows("SELECT seq, due_at FROM delivery ORDER BY seq")
    await stage.probe()
    assert await stage.rows("SELECT seq, due_at FROM delivery ORDER BY seq") == before
    await stage.probe()
    rounds = 0
    while stage.courier.in_flight:
        rounds += len(stage.courier.in_flight)
        await stage.end(stage.courier.in_flight[::], badly())
    # Every one of them once, and none twice.
    assert rounds == 30
    assert {state for _, state, _ in await stage.delivery_rows(listener)} == {"retry"}
    await stage.advance(DAY_MS)
    await stage.end_all(well())
    assert (await stage.counts(listener)).acknowledged == 30


async def test_failing_sweep_uses_attempts_of_a_limited_number_of_messages(
    stage: Stage,
) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 400)
    for_a_day = msgspec.structs.replace(badly(), retry_after_seconds=86_400)
    await stage.end_all(for_a_day)
    await stage.probe(503, times=3)
    before = {seq: attempts for seq, _, attempts in await stage.delivery_rows(listener)}
    sent = len(stage.courier.sent)
    await stage.probe(times=2)
    await stage.end_all(badly())
    assert FAILURES_IN_A_ROW <= len(stage.courier.sent) - sent <= FAILURES_IN_A_ROW + IN_FLIGHT + 1
    after = {seq: attempts for seq, _, attempts in await stage.delivery_rows(listener)}
    assert {after[seq] - attempts for seq, attempts in before.items()} == {0, 1}
    await stage.advance(2 * DAY_MS)
    await stage.end_all(well())
    assert (await stage.counts(listener)).acknowledged == 400


async def test_next_owner_continues_the_sweep(stage: Stage) -> None:
    stage.tuning = Tuning(due_rows=4)
    queue, listener = await stage.running()
    await stage.publish(queue, 50)
    for _ in range(2):
        await stage.end(stage.courier.in_flight[::], badly())
        await stage.advance(40_000)
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.probe(503, times=3)
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.probe(times=2)
    for _ in range(3):
        await stage.end(stage.courier.in_flight[0], well())
    giver = stage.worker
    taker = await stage.join()
    await stage.move(giver, taker)
    await stage.end(giver.courier.in_flight[::], well())
    await stage.check_inherited()
    while taker.courier.in_flight:
        await stage.end(taker.courier.in_flight[::], well())
    assert (await stage.counts(listener)).acknowledged == 50
    assert await stage.delivery_rows(listener) == []


@pytest.mark.parametrize("good_probes", [0, 1])
async def test_restart_does_not_close_an_open_breaker(stage: Stage, good_probes: int) -> None:
    queue, _ = await _inactive(stage)
    await stage.publish(queue, 100)
    await stage.probe(times=good_probes)
    await stage.start()
    assert len(stage.courier.in_flight) == good_probes
    await stage.probe(times=2)
    assert len(stage.courier.in_flight) == IN_FLIGHT


async def test_old_messages_of_an_inactive_listener_are_missed(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 1)
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.probe(503, times=3)
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.publish(queue, 4)
    stage.clock.advance(31 * DAY_MS)
    await stage.miss_too_old()
    await stage.assert_counts(listener, missed=5, pending=0)


async def test_new_liveness_url_closes_the_breaker(stage: Stage) -> None:
    queue, listener = await _inactive(stage)
    await stage.publish(queue, 3)
    await stage.configure(listener, liveness_url="https://example.com/elsewhere")
    assert len(stage.courier.in_flight) == 3


async def test_new_notify_url_of_an_inactive_listener_keeps_the_breaker_open(stage: Stage) -> None:
    queue, listener = await _inactive(stage)
    await stage.publish(queue, 3)
    await stage.configure(listener, notify_url="https://example.com/elsewhere")
    assert stage.courier.sent == []
    await stage.probe()
    await stage.end(stage.courier.in_flight[0], badly())
    assert stage.courier.in_flight == []
    await stage.configure(listener, notify_url="https://example.com/again")
    assert len(stage.courier.in_flight) == 1


async def test_listener_enabled_while_inactive_waits_for_a_good_probe(stage: Stage) -> None:
    queue, listener = await _inactive(stage)
    await stage.configure(listener, status="disabled")
    await stage.publish(queue)
    await stage.configure(listener, status="enabled")
    assert stage.courier.sent == []
    await stage.probe()
    assert len(stage.courier.sent) == 1


async def test_one_inactive_listener_delays_no_other(stage: Stage) -> None:
    queue, _ = await stage.running()
    other = await stage.listener(queue)
    await stage.advance(3_500)
    for _ in range(4):
        for asked in tuple(stage.scout.in_flight):
            asked.end(200 if asked.url == other.liveness_url else 503)
        await stage.advance(34_000)
    await stage.publish(queue, 3)
    assert {sent.listener_id for sent in stage.courier.sent} == {other.public_id}


async def _failing_for(stage: Stage, milliseconds: int, queue: Queue) -> None:
    """Let an attempt fail every six hours, and all probes succeed."""
    for _ in range(milliseconds // FAILURE_INTERVAL_MS):
        await stage.publish(queue)
        await stage.end(stage.courier.in_flight[::], badly(no_retry=True))
        await stage.advance(FAILURE_INTERVAL_MS)
        await stage.answer_probes()


async def test_listener_that_only_fails_for_five_days_is_disabled(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    queue, listener = await stage.running()
    await _failing_for(stage, 5 * DAY_MS, queue)
    assert (await stage.stored(listener)).status == "enabled"
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    assert (await stage.stored(listener)).status == "disabled"
    assert [record.message for record in caplog.records].count("listener_disabled") == 1
    waiting = await stage.publish(queue, 3)
    await stage.advance(DAY_MS)
    assert stage.courier.in_flight == []
    await stage.configure(listener, status="enabled")
    assert set(stage.courier.ids()) >= set(waiting)
    assert len(stage.courier.in_flight) == 4
    # Earlier failures do not count any more.
    await stage.end(stage.courier.in_flight[::], badly())
    assert (await stage.stored(listener)).status == "enabled"


async def test_success_or_new_configuration_restarts_the_five_days(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _failing_for(stage, 4 * DAY_MS, queue)
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[::], well())
    await _failing_for(stage, 4 * DAY_MS, queue)
    await stage.configure(listener, alias="another")
    await _failing_for(stage, 4 * DAY_MS, queue)
    assert (await stage.stored(listener)).status == "enabled"


async def test_five_days_of_failures_survive_a_restart(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _failing_for(stage, 3 * DAY_MS, queue)
    await stage.start()
    await _failing_for(stage, 2 * DAY_MS, queue)
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[::], badly())
    stored = await stage.stored(listener)
    assert (stored.status, stored.disabled_by) == ("disabled", "failing")


INACTIVE = Liveness("inactive", 0, 3, in_a_row=-3)
COMING_BACK = after_probe(INACTIVE, "", 0, 1)


def _trials(found: CircuitBreaker) -> int:
    assert found.state is BreakerState.HALF_OPEN
    return found.trials


def test_enough_successful_trials_close_the_breaker() -> None:
    found = CircuitBreaker(ListenerHealth(COMING_BACK))
    for seq in range(breaker.MOST_TRIALS - 1):
        assert _trials(found) == seq + 1
        found.on_success(seq, 1)
    found.on_success(breaker.MOST_TRIALS, 1)
    assert found.is_closed
    found.on_failure(1, 1)
    assert found.is_closed


def test_late_success_does_not_close_an_open_breaker() -> None:
    found = CircuitBreaker(ListenerHealth(INACTIVE))
    found.on_success(3, 1)
    assert found.is_open


async def test_the_sweep_is_stored_until_it_is_over(stage: Stage) -> None:
    stage.tuning = Tuning(due_rows=4)
    _, listener = await _inactive_after_failures(stage, 20)
    await stage.probe()
    assert await _sweep(stage, listener) == Sweep(0, 20)
    await stage.end(stage.courier.in_flight[0], well())
    await stage.probe()
    swept = await _sweep(stage, listener)
    assert (swept.through > 0, swept.until) == (True, 20)
    await stage.end_all(well())
    await stage.probe()
    await stage.advance(60_000)
    assert not (await _sweep(stage, listener)).is_on


async def _sweep(stage: Stage, listener: Listener) -> Sweep:
    [row] = await stage.rows("SELECT swept_through, sweep_until FROM liveness WHERE listener = $1", listener.id)
    return Sweep(*row)
