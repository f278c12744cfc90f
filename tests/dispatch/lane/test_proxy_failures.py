"""Deliveries that wait because the egress proxy failed: no attempt counts, and the lane pauses."""

import pytest

from discue.domain.attempts import Outcome
from discue.domain.messages import MessageOptions
from discue.domain.model import DeliveryOptions
from discue.domain.retry import RetryOptions
from tests.dispatch.replays import ask, deliver_all, of_replays, stored
from tests.dispatch.stage import DAY_MS, Stage, badly, well

LONGEST_PAUSE_MS = 33_000
FAILED = Outcome(0, "egress_proxy", "The egress proxy cannot be reached.", 1, cause="The connection was refused.")


async def attempts_stored(stage: Stage) -> int:
    [(count,)] = await stage.rows("SELECT count(*) FROM attempt")
    return int(count)


async def until_sent(stage: Stage) -> int:
    """Let time pass until a request is in flight. Returns the milliseconds."""
    passed = 0
    while not stage.courier.in_flight:
        await stage.advance(100)
        passed += 100
        assert passed <= LONGEST_PAUSE_MS
    return passed


async def test_failure_of_the_proxy_counts_no_attempt_however_long_it_lasts(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(retry=RetryOptions(attempts=1)))
    [message] = await stage.publish(queue)
    for _ in range(20):
        await stage.end_all(FAILED)
        assert await stage.delivery_rows(listener) == [(1, "retry", 0)]
        await until_sent(stage)
        stage.clock.advance(DAY_MS)
    assert [(sent.message_id, sent.number) for sent in stage.courier.sent] == [(message, 1)] * 21
    await stage.assert_counts(listener, missed=0, acknowledged=0, retrying=1, last_failure_at=0)
    assert (await stage.stored(listener)).status == "enabled"
    assert await attempts_stored(stage) == 0
    assert stage.store.measures.proxy_failures == 20
    await stage.end_all(well())
    await stage.assert_counts(listener, acknowledged=1, retrying=0)
    assert await attempts_stored(stage) == 1


async def test_attempts_before_and_after_keep_their_numbers(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    for outcome in (badly(), FAILED, badly(), FAILED, well()):
        await stage.advance(600_000)
        await stage.end(stage.courier.in_flight[0], outcome)
    assert [sent.number for sent in stage.courier.sent] == [1, 2, 2, 3, 3]
    assert await stage.rows("SELECT number FROM attempt ORDER BY number") == [(1,), (2,), (3,)]
    await stage.assert_counts(listener, acknowledged=1)


async def test_paused_lane_sends_nothing_holds_nothing_and_has_one_timer(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=4))
    await stage.publish(queue, 500)
    await stage.end(stage.courier.in_flight[::], FAILED)
    assert len(stage.courier.sent) == 4
    await stage.publish(queue, 500)
    await stage.advance(900)
    assert len(stage.courier.sent) == 4
    assert stage.dispatcher._context.budget.held == 0
    [lane] = stage.lanes
    assert lane.wakes_at == lane.limits.paused_until > stage.clock.now()
    assert await stage.delivery_rows(listener) == [(seq, "retry", 0) for seq in range(1, 5)]
    # What is sent next is half of what failed together.
    await until_sent(stage)
    assert len(stage.courier.in_flight) == 2


async def test_pauses_become_longer_until_a_request_gets_through(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=1))
    await stage.publish(queue, 100)
    pauses = []
    for _ in range(8):
        await stage.end_all(FAILED)
        pauses.append(await until_sent(stage))
    expected = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
    assert [0.9 * each - 1 <= pause <= 1.1 * each + 100 for each, pause in zip(expected, pauses, strict=True)] == [
        True
    ] * 8
    # In the only slot, a new message took a turn with each retry.
    assert len(await stage.delivery_rows(listener)) <= 5
    # A failure of the listener is a request that got through.
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.end(stage.courier.in_flight[0], FAILED)
    assert await until_sent(stage) <= 1_200
    await deliver_all(stage)
    await stage.advance(60_000)
    await deliver_all(stage)
    await stage.assert_counts(listener, acknowledged=100, missed=0)


async def test_requests_in_flight_get_their_outcomes_during_a_pause(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=3))
    await stage.publish(queue, 9)
    first, second, third = stage.courier.in_flight
    await stage.end(first, FAILED)
    await stage.end(second, well())
    await stage.end(third, badly())
    await stage.assert_counts(listener, acknowledged=1, retrying=2)
    assert len(stage.courier.sent) == 3


async def test_other_listeners_continue(stage: Stage) -> None:
    queue, _ = await stage.running()
    other = await stage.listener(queue)
    await stage.publish(queue, 2)
    await stage.end([each for each in stage.courier.in_flight if each.listener_id != other.public_id], FAILED)
    await stage.publish(queue, 3)
    assert [each.listener_id for each in stage.courier.in_flight] == [other.public_id] * 5


async def test_order_of_a_key_is_kept(stage: Stage) -> None:
    queue, listener = await stage.running(ordered=True)
    ids = await stage.publish_keyed(queue, "a", "b", "a", "a")
    await stage.end(stage.courier.in_flight[::], FAILED)
    ids += await stage.publish_keyed(queue, "b", "a")
    await until_sent(stage)
    sent = [each.message_id for each in await deliver_all(stage)]
    assert [each for each in sent if each in ids[1::3]] == [ids[1], ids[4]]
    assert [each for each in sent if each not in ids[1::3]] == [ids[0], ids[2], ids[3], ids[5]]
    await stage.assert_counts(listener, acknowledged=6, retrying=0)


async def test_replay_pauses_with_its_listener(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 5)
    await deliver_all(stage)
    asked = await ask(stage, listener, 1, 5)
    await stage.end(stage.courier.in_flight[::], FAILED)
    assert len(of_replays(stage.courier.sent)) == 5
    await stage.publish(queue)
    assert stage.courier.in_flight == []
    await until_sent(stage)
    await deliver_all(stage)
    done = await stored(stage, asked)
    assert (done.state, done.delivered, done.failed) == ("done", 5, 0)
    await stage.assert_counts(listener, acknowledged=6)


async def test_request_that_outlasts_its_lane_counts_no_attempt_either(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization())
    await stage.start()
    first = stage.worker
    listener = await stage.listener(queue)
    await stage.publish(queue, 2)
    second = await stage.join()
    await stage.move(first, second)
    await stage.end(first.courier.in_flight[::], FAILED)
    assert await stage.delivery_rows(listener) == [(1, "retry", 0), (2, "retry", 0)]
    assert await attempts_stored(stage) == 0
    await stage.check_inherited()
    assert [each.number for each in second.courier.in_flight] == [1, 1]
    await stage.end(second.courier.in_flight[::], well())
    await stage.assert_counts(listener, acknowledged=2, retrying=0)


async def test_circuit_breaker_and_probes_do_not_follow_the_proxy(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.probe(error="egress_proxy", times=5)
    assert (await stage.liveness(listener)).failure_count == 0
    await stage.probe(503, times=3)
    await stage.publish(queue, 2)
    await stage.probe(200)
    [lane] = stage.lanes
    # The only trial.
    await stage.end(stage.courier.in_flight[0], FAILED)
    assert lane.limits.breaker.state.value == "half_open"
    await until_sent(stage)
    assert len(stage.courier.in_flight) == 1
    await deliver_all(stage)
    await stage.assert_counts(listener, acknowledged=2)


async def test_request_that_was_in_flight_before_the_trials_is_not_a_trial_later(stage: Stage) -> None:
    queue, _ = await stage.running()
    await stage.publish(queue, 1)
    await stage.probe(503, times=3)
    await stage.publish(queue, 5)
    await stage.probe(200)
    # The earlier request, and one trial.
    earlier, _ = stage.courier.in_flight
    await stage.end(earlier, FAILED)
    await stage.advance(LONGEST_PAUSE_MS)
    assert len(stage.courier.in_flight) == 1


async def test_clock_that_is_set_back_ends_a_pause(stage: Stage) -> None:
    queue, _ = await stage.running()
    await stage.publish(queue)
    await stage.end_all(FAILED)
    stage.clock.set_by(-3_600_000)
    await stage.publish(queue)
    await stage.advance(5_000)
    assert len(stage.courier.in_flight) >= 1


async def test_another_target_ends_a_pause(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 2)
    await stage.end(stage.courier.in_flight[::], FAILED)
    await stage.publish(queue)
    await stage.configure(listener, notify_url="https://other.example/hook")
    assert len(stage.courier.in_flight) == 1


async def test_messages_expire_while_they_wait(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish_with(queue, MessageOptions(), stage.clock.now() + 500)
    await stage.end_all(FAILED)
    await stage.advance(1_200)
    assert stage.courier.in_flight == []
    await stage.assert_counts(listener, missed=1, pending=0)


@pytest.mark.parametrize("has_waiting", [True, False])
async def test_lane_survives_while_it_waits(stage: Stage, *, has_waiting: bool) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    await stage.end_all(FAILED)
    if not has_waiting:
        await until_sent(stage)
        await stage.end_all(well())
    await stage.drop_idle()
    await stage.advance(LONGEST_PAUSE_MS)
    await stage.publish(queue)
    await deliver_all(stage)
    await stage.assert_counts(listener, acknowledged=2)
