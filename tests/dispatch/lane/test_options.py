"""Delivery options of listeners, queues and messages: headers, timeout, limits, retries, expiry."""

import msgspec
import pytest

from discue.domain.messages import MessageOptions
from discue.domain.model import DeliveryOptions
from discue.domain.rate import RateLimit
from discue.domain.retry import RetryOptions
from discue.store import queues
from discue.store.engine import Transaction
from tests.dispatch.stage import Stage, badly, well


async def _due_in(stage: Stage) -> int:
    [(due_at,)] = await stage.rows("SELECT due_at FROM delivery WHERE state = 'retry'")
    return int(due_at - stage.clock.now())


async def _missed(stage: Stage) -> list[tuple[str, int]]:
    return [
        (row[0], row[1]) for row in await stage.rows("SELECT reason, attempts FROM delivery WHERE state = 'missed'")
    ]


async def test_a_listeners_headers_and_timeout_go_with_every_request(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions(headers=(("X-Shop", "north"),), timeout_seconds=3))
    await stage.publish(queue)
    [sent] = stage.courier.sent
    assert (sent.request.headers, sent.request.timeout_ms) == ((("X-Shop", "north"),), 3_000)


async def test_options_go_with_messages_that_are_read_from_the_log(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions())
    await stage.publish_with(queue, MessageOptions(headers=(("X-Trace", "7"),)))
    await stage.start()
    assert [sent.request.headers for sent in stage.courier.in_flight] == [(("X-Trace", "7"),)]
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.advance(6_000)
    assert [sent.request.headers for sent in stage.courier.in_flight] == [(("X-Trace", "7"),)]


async def test_a_listener_has_its_own_limit_of_requests_in_flight_and_a_change_of_it_counts_at_once(
    stage: Stage,
) -> None:
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=2))
    await stage.publish(queue, 9)
    assert len(stage.courier.in_flight) == 2
    await stage.configure(listener, options=DeliveryOptions(max_in_flight=5))
    assert len(stage.courier.in_flight) == 5


async def test_a_listeners_own_schedule_decides_when_it_is_tried_again(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(retry=RetryOptions(schedule=(60,), jitter=0.0)))
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    assert await _due_in(stage) == 60_000
    await stage.advance(60_000)
    await stage.end(stage.courier.in_flight[0], badly())
    assert await _missed(stage) == [("attempts_used_up", 2)]
    assert (await stage.counts(listener)).missed == 1


async def test_retry_options_of_a_message_win_over_the_listener_and_those_over_the_queue(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions(retry=RetryOptions(schedule=(60, 60))))

    async def work(tx: Transaction) -> None:
        await queues.update(tx, msgspec.structs.replace(queue, retry=RetryOptions(schedule=(30,), jitter=0.0)))

    await stage.store.write(work)
    await stage.follow("queue", queue.organization, queue.id)
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    assert await _due_in(stage) == 60_000
    await stage.publish_with(queue, MessageOptions(retry=RetryOptions(attempts=1)))
    await stage.end(stage.courier.in_flight[0], badly())
    assert await _missed(stage) == [("attempts_used_up", 1)]


@pytest.mark.parametrize("is_enabled", [True, False])
async def test_expired_message_is_missed_and_not_sent(stage: Stage, *, is_enabled: bool) -> None:
    queue, listener = await stage.running(DeliveryOptions())
    if is_enabled:
        await stage.publish_with(queue, MessageOptions(), stage.clock.now() + 1_000)
        await stage.end(stage.courier.in_flight[0], badly())
    else:
        listener = await stage.configure(listener, status="disabled")
        await stage.publish_with(queue, MessageOptions(), stage.clock.now() + 1_000)
    await stage.advance(6_000)
    if not is_enabled:
        await stage.configure(listener, status="enabled")
    assert stage.courier.in_flight == []
    await stage.assert_counts(listener, missed=1, pending=0)


async def test_rate_limit_allows_a_burst_and_then_a_steady_rate(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions(rate_limit=RateLimit(2, 3)))
    ids = await stage.publish(queue, 7)
    assert stage.courier.ids() == ids[:3]
    await stage.advance(499)
    assert len(stage.courier.sent) == 3
    await stage.advance(1)
    assert len(stage.courier.sent) == 4
    await stage.advance(1_000)
    assert [sent.message_id for sent in stage.courier.sent] == ids[:6]


async def test_retries_keep_to_the_rate_limit_too(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions(rate_limit=RateLimit(1, 1)))
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.publish(queue, 6)
    for count in range(2, 7):
        await stage.advance(1_000)
        assert len(stage.courier.sent) == count


async def test_takeover_does_not_start_with_a_burst(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions(rate_limit=RateLimit(1, 5), max_in_flight=50))
    await stage.publish(queue, 20)
    assert len(stage.courier.sent) == 5
    before = len(stage.courier.sent)
    await stage.start()
    assert len(stage.courier.sent) == before or stage.courier.sent == []
    sent = len(stage.courier.sent)
    await stage.advance(1_000)
    assert len(stage.courier.sent) == sent + 1


async def test_a_rate_limit_that_is_lifted_holds_nothing_back(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(rate_limit=RateLimit(1, 1)))
    await stage.publish(queue, 9)
    assert len(stage.courier.sent) == 1
    await stage.configure(listener, options=DeliveryOptions())
    assert len(stage.courier.sent) == 9


async def test_overload_lowers_the_concurrency_and_recovery_raises_it(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions(max_in_flight=8))
    await stage.publish(queue, 40)
    await stage.end(stage.courier.in_flight[:8], badly(429))
    assert len(stage.courier.in_flight) == 4
    await stage.end(stage.courier.in_flight[0], badly(0, error="timeout"))
    await stage.end(stage.courier.in_flight[::], well())
    assert len(stage.courier.in_flight) == 3
    await stage.end(stage.courier.in_flight[::], well())
    assert len(stage.courier.in_flight) == 4
