"""Pull mode: any worker leases messages to consumers until each is settled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from discue.auth.keyed_semaphore import KeyedSemaphore
from discue.control.pulls import PullTarget
from discue.dispatch.lane.breaker import PAUSE_MS
from discue.dispatch.pull.broker import Waiters
from discue.dispatch.pull.receive import RoundResult
from discue.domain.errors import Conflict, NotFound, Overloaded
from discue.domain.messages import MessageOptions
from discue.domain.model import DeliveryOptions
from discue.domain.retry import RetryOptions
from discue.store.engine import LogPage, Transaction
from discue.store.ledger import DEFAULT_MAX_BYTES
from tests.dispatch.lane.test_redelivery import redeliver
from tests.dispatch.stage import DAY_MS, Stage
from tests.support.clocks import StandingClock
from tests.support.messages import read_deliveries, read_message
from tests.support.pull_consumers import LEASE_MS, PullFixture, another_listener, pull, pull_fixture

TWICE = DeliveryOptions(retry=RetryOptions(schedule=(5,), attempts=2, jitter=0.0))


async def _states(at: PullFixture, ids: list[str]) -> list[tuple[str, int]]:
    async def work(tx: Transaction) -> list[tuple[str, int]]:
        found = [await read_message(tx, at.queue, each) for each in ids]
        return [(each.state, each.attempts) for one in found if one for each in await read_deliveries(tx, one)]

    return await at.stage.store.read(work)


async def test_acknowledged_message_is_settled_and_counted(stage: Stage) -> None:
    at = await pull_fixture(stage)
    ids = await at.publish(3)
    handed = await at.pull()
    stage.clock.advance(1_200)
    assert await at.say("acknowledge", handed[:2]) == ["acknowledged"] * 2
    await stage.assert_counts(at.listener, acknowledged=2, pending=1, last_success_at=stage.clock.now())
    assert await at.attempts() == [(1, 1, "", 1_200), (2, 1, "", 1_200)]
    assert await at.delivery_rows() == [(3, "leased", 1)]
    assert await _states(at, ids) == [("acknowledged", 1), ("acknowledged", 1), ("pending", 0)]
    assert await at.say("acknowledge", handed) == ["settled", "settled", "acknowledged"]
    assert (await stage.counts(at.listener)).acknowledged == 3


async def test_expired_lease_makes_the_message_due_and_its_receipt_invalid(stage: Stage) -> None:
    at = await pull_fixture(stage)
    ids = await at.publish(2)
    first = await at.pull(1)
    assert first[0].leased_until == stage.clock.now() + LEASE_MS
    stage.clock.advance(LEASE_MS - 1)
    assert await at.pulled(1) == ids[1:]
    stage.clock.advance(1)
    again = await at.pull()
    assert [(each.entry.id, each.attempt) for each in again] == [(ids[0], 2)]
    assert await at.say("acknowledge", first) == ["expired"]
    assert await at.say("acknowledge", again) == ["acknowledged"]
    assert await at.attempts() == [(1, 1, "lease_expired", LEASE_MS), (1, 2, "", 0)]


async def test_late_acknowledgement_counts_until_the_message_is_leased_again(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await at.publish()
    handed = await at.pull()
    stage.clock.advance(10 * LEASE_MS)
    assert await at.say("acknowledge", handed) == ["acknowledged"]
    assert await at.pull() == []


async def test_lease_has_the_length_of_the_listener_and_can_be_extended(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(lease_seconds=5))
    await at.publish()
    handed = await at.pull()
    stage.clock.advance(4_000)
    assert await at.say("extend", handed, 60) == ["extended"]
    stage.clock.advance(59_999)
    assert await at.pull() == []
    assert await at.say("extend", handed) == ["extended"]
    stage.clock.advance(4_999)
    assert await at.pull() == []
    stage.clock.advance(1)
    assert [each.attempt for each in await at.pull()] == [2]


async def test_released_message_is_due_again_without_an_attempt(stage: Stage) -> None:
    at = await pull_fixture(stage, TWICE)
    await at.publish(2)
    for _ in range(5):
        handed = await at.pull()
        assert [each.attempt for each in handed] == [1, 1]
        assert await at.say("release", handed) == ["released"] * 2
    handed = await at.pull(1)
    assert await at.say("release", handed, 7) == ["released"]
    assert [each.entry.seq for each in await at.pull()] == [2]
    stage.clock.advance(7_000)
    assert [each.entry.seq for each in await at.pull()] == [1]
    assert await at.attempts() == []


async def test_released_message_is_due_at_once_on_a_worker_whose_clock_is_behind(stage: Stage) -> None:
    at = await pull_fixture(stage)
    ids = await at.publish()
    handed = await at.pull()
    behind = at.worker(StandingClock(stage.clock.now() + 100))
    stage.clock.advance(200)
    assert await at.say("release", handed) == ["released"]
    assert [each.entry.id for each in await at.pull(worker=behind)] == ids


async def test_rejected_message_is_retried_by_the_retry_policy_until_it_is_missed(stage: Stage) -> None:
    at = await pull_fixture(stage, TWICE)
    ids = await at.publish()
    assert await at.say("reject", await at.pull()) == ["rejected"]
    assert await _states(at, ids) == [("retrying", 1)]
    stage.clock.advance(4_999)
    assert await at.pull() == []
    stage.clock.advance(1)
    handed = await at.pull()
    assert [each.attempt for each in handed] == [2]
    assert await at.say("reject", handed) == ["rejected"]
    assert await at.delivery_rows() == [(1, "missed", 2)]
    assert await stage.missed(at.listener) == ids
    await stage.assert_counts(at.listener, missed=1, pending=0)
    assert [error for _, _, error, _ in await at.attempts()] == ["rejected", "rejected"]
    assert await at.say("acknowledge", handed) == ["settled"]


async def test_leased_messages_are_limited_by_the_listener(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(max_in_flight=3))
    await at.publish(9)
    handed = await at.pull()
    assert len(handed) == 3
    assert await at.pull() == []
    await at.say("acknowledge", handed[:1])
    assert [each.entry.seq for each in await at.pull()] == [4]
    stage.clock.advance(LEASE_MS)
    assert [each.entry.seq for each in await at.pull()] == [2, 3, 4]


async def test_organization_without_memory_leases_nothing_and_settles_its_messages(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await at.publish(2)
    handed = await at.pull(most=1)
    ledger = stage.store.ledger
    with ledger.hold(at.place.organization, DEFAULT_MAX_BYTES // 2):
        assert await at.pull() == []
        assert set(ledger.take_pressed()) == {at.place.organization}
        waiting = await at.begin_waiting()
        assert await at.say("acknowledge", handed) == ["acknowledged"]
        await at.idle()
        assert not waiting.done()
    await at.advance(250)
    assert [each.entry.seq for each in await waiting] == [2]


async def test_long_poll_returns_a_message_as_soon_as_it_is_published(stage: Stage) -> None:
    at = await pull_fixture(stage)
    first, second = await at.begin_waiting(), await at.begin_waiting()
    (published,) = await at.publish()
    assert [each.entry.id for each in await first] == [published]
    await at.idle()
    assert not second.done()
    await at.advance(20_000)
    assert await second == []
    assert at.pulls._waiters == {}
    assert at.pulls.queues == ()


async def test_long_poll_returns_a_message_that_becomes_due(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await at.publish()
    await at.pull()
    waiting = await at.begin_waiting(wait_ms=2 * LEASE_MS)
    await at.advance(LEASE_MS - 1)
    assert not waiting.done()
    await at.advance(1)
    assert [each.attempt for each in await waiting] == [2]


async def test_long_poll_returns_a_message_that_another_consumer_released(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await at.publish()
    handed = await at.pull()
    waiting = await at.begin_waiting()
    await at.say("release", handed)
    assert [each.attempt for each in await waiting] == [1]


async def test_consumer_that_is_gone_has_no_message_leased(stage: Stage) -> None:
    at = await pull_fixture(stage)
    gone = await at.begin_waiting()
    gone.cancel()
    (published,) = await at.publish()
    await at.idle()
    assert await at.pulled() == [published]


@asynccontextmanager
async def _busy(at: PullFixture) -> AsyncIterator[None]:
    """Keep rounds waiting for their turn."""
    rounds = at.pulls.context.rounds = KeyedSemaphore[int](limit=1, max_waiting=9, refusal=Overloaded)
    async with rounds.hold(at.place.organization):
        yield


async def _wait(at: PullFixture, milliseconds: int) -> None:
    """Advance the clock while rounds wait."""
    at.stage.clock.advance(milliseconds)
    at.pulls.timers.wake_due()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_poll_whose_round_waits_ends_half_a_second_late(stage: Stage) -> None:
    at = await pull_fixture(stage)
    waiting = await at.begin_waiting(wait_ms=1_000)
    async with _busy(at):
        (published,) = await at.publish()
        await _wait(at, 1_000)
        await _wait(at, 499)
        assert not waiting.done()
        await _wait(at, 1)
        assert waiting.result() == []
    await at.idle()
    assert await at.pulled() == [published]


async def test_poll_does_not_end_before_its_first_round(stage: Stage) -> None:
    at = await pull_fixture(stage)
    (published,) = await at.publish()
    async with _busy(at):
        waiting = asyncio.get_running_loop().create_task(at.pulled())
        await _wait(at, LEASE_MS)
        assert not waiting.done()
    assert await waiting == [published]


async def test_poll_that_arrives_during_a_round_gets_messages_from_the_next_one(stage: Stage) -> None:
    at = await pull_fixture(stage)
    _, second = await at.publish(2)
    handed = await at.pull(1)
    async with _busy(at):
        deciding = asyncio.get_running_loop().create_task(at.say("acknowledge", handed))
        await _wait(at, 1)
        pulling = asyncio.get_running_loop().create_task(at.pulled())
        await _wait(at, 1)
    assert await deciding == ["acknowledged"]
    assert await pulling == [second]


async def test_poll_stops_looking_for_more_half_a_second_after_its_deadline(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(filter='{"key": "none"}'))
    await at.publish(300)
    page = stage.store.page
    read: list[int] = []

    async def page_of_a_busy_store(organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> LogPage:
        read.append(after)
        stage.clock.advance(300)
        return await page(organization, queue, after, rows, max_bytes=max_bytes)

    stage.store.page = page_of_a_busy_store  # type: ignore[method-assign]
    assert await at.pulled() == []
    assert read == [0, 128]


async def test_message_for_a_consumer_that_leaves_meanwhile_is_released(stage: Stage) -> None:
    at = await pull_fixture(stage)
    gone = await at.begin_waiting()
    on_round = at.pulls.on_round

    def leave_first(waiters: Waiters, result: RoundResult) -> None:
        gone.cancel()
        on_round(waiters, result)

    at.pulls.on_round = leave_first  # type: ignore[method-assign]
    (published,) = await at.publish()
    await asyncio.wait({gone})
    assert gone.cancelled()
    await at.idle()
    assert await at.pulled() == [published]
    assert [row[2] for row in await at.delivery_rows()] == [1]


async def test_long_polls_read_nothing_while_they_wait(stage: Stage) -> None:
    at = await pull_fixture(stage)
    waiting = [await at.begin_waiting() for _ in range(100)]
    asked: list[Any] = []
    read = stage.store.read

    def counted(work: Any) -> Any:
        asked.append(work)
        return read(work)

    stage.store.read = counted  # type: ignore[method-assign]
    await at.advance(19_999)
    assert asked == []
    assert len(at.pulls.timers._due) == 1
    await at.advance(1)
    assert [await each for each in waiting] == [[]] * 100
    assert asked == []


async def test_messages_that_the_filter_rejects_are_skipped_for_good(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(filter='{"data": {"kind": "wanted"}}'))
    await stage.append(at.queue, 300, body=b'{"kind":"other"}')
    wanted = (await stage.append(at.queue, 1, body=b'{"kind":"wanted"}')).entries[0].id
    assert await at.pulled() == [wanted]
    await stage.assert_counts(at.listener, position=301, pending=1, acknowledged=0)


async def test_one_request_skips_a_limited_number_of_messages(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(filter='{"data": {"kind": "wanted"}}'))
    for _ in range(3):
        await stage.append(at.queue, 500, body=b'{"kind":"other"}')
    assert await at.pulled() == []
    position = (await stage.counts(at.listener)).position
    assert 0 < position < 1_500
    assert await at.pulled() == []
    assert (await stage.counts(at.listener)).position > position


async def test_deleted_messages_are_skipped_and_their_deliveries_settled(stage: Stage) -> None:
    at = await pull_fixture(stage, TWICE)
    ids = await at.publish(4)
    handed = await at.pull(2)
    for each in (ids[0], ids[2]):
        await stage.delete_message(at.queue, each)
    await at.say("reject", handed[:1])
    stage.clock.advance(LEASE_MS)
    assert await at.pulled() == [ids[1], ids[3]]
    assert (await stage.counts(at.listener)).pending == 2


async def test_messages_that_expired_or_waited_too_long_are_missed(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await stage.publish_with(at.queue, MessageOptions(), expires_at=stage.clock.now() + 10)
    leased = await at.publish()
    assert len(await at.pull(2)) == 2
    await stage.publish_with(at.queue, MessageOptions(), expires_at=stage.clock.now() + 10)
    stage.clock.advance(LEASE_MS)
    assert await at.pulled() == leased
    assert (await stage.counts(at.listener)).missed == 2
    old = await at.publish(3)
    stage.clock.advance(31 * DAY_MS)
    new = await at.publish()
    assert await at.pulled() == new
    assert (await stage.counts(at.listener)).missed == 6
    assert {*leased, *old} < set(await stage.missed(at.listener))


async def test_messages_that_are_too_old_are_missed_without_consumers(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await at.publish(4)
    assert len(await at.pull(2)) == 2
    await at.pulls.miss_too_old()
    assert (await stage.counts(at.listener)).missed == 0
    stage.clock.advance(31 * DAY_MS)
    await at.publish()
    await at.pulls.miss_too_old()
    await stage.assert_counts(at.listener, missed=4, pending=1, position=4)


async def test_messages_that_are_too_old_are_missed_only_if_the_filter_accepts_them(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(filter='{"data": {"kind": "wanted"}}'))
    await stage.append(at.queue, 400, body=b'{"kind":"other"}')
    wanted = (await stage.append(at.queue, 1, body=b'{"kind":"wanted"}')).entries[0].id
    await stage.append(at.queue, 300, body=b'{"kind":"other"}')
    stage.clock.advance(31 * DAY_MS)
    await stage.append(at.queue, 1, body=b'{"kind":"wanted"}')
    await at.pulls.miss_too_old()
    await stage.assert_counts(at.listener, missed=1, pending=1, position=701)
    assert await stage.missed(at.listener) == [wanted]


async def test_disabled_listener_leases_nothing_and_accepts_decisions(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await at.publish(2)
    handed = await at.pull(1)
    await stage.configure(at.listener, status="disabled")
    with pytest.raises(Conflict):
        await at.pull()
    assert await at.say("acknowledge", handed) == ["acknowledged"]
    await stage.configure(at.listener, status="enabled")
    assert len(await at.pull()) == 1
    waiting = await at.begin_waiting()
    await stage.configure(at.listener, status="disabled")
    at.pulls.on_change("listener", at.place.organization, at.listener.id)
    with pytest.raises(Conflict):
        await waiting


async def test_deleted_listener_cannot_be_pulled_from(stage: Stage) -> None:
    at = await pull_fixture(stage)
    waiting = await at.begin_waiting()
    await stage.delete_listener(at.listener)
    at.pulls.on_change("listener", at.place.organization, at.listener.id)
    for asked in (waiting, at.pull(), at.pulls.decide(at.place, [])):
        with pytest.raises(NotFound):
            await asked


async def test_lanes_ignore_listeners_in_pull_mode(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await stage.start()
    stage.store.on_append = [at.pulls.on_appended]
    assert stage.lanes == []
    assert (await stage.store.engine.poll(())).free == ()
    ids = await at.publish(2)
    assert await at.pulled() == ids


async def test_two_listeners_of_a_queue_get_every_message_each(stage: Stage) -> None:
    at = await pull_fixture(stage)
    other = await another_listener(stage, at.queue, number=901)
    ids = await at.publish(3)
    assert await at.pulled() == ids
    assert await other.pulled() == ids
    with pytest.raises(NotFound):
        await pull(at.pulls, PullTarget(at.place.organization + 1, at.place.listener, at.place.queue), 1, 0)


async def test_consumer_that_always_fails_does_not_turn_the_backlog_into_rows(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(max_in_flight=500))
    for _ in range(4):
        await stage.append(at.queue, 500)
    for _ in range(10):
        for _ in range(2):
            handed = await at.pull(100)
            await at.say("reject", handed)
            stage.clock.advance(1)
    rows = len(await at.delivery_rows())
    assert rows == 1_000
    stage.clock.advance(30_000)
    handed = [each for each in await at.pull(1_000) if each.attempt == 1]
    assert len(handed) <= 1
    assert await at.pull(100) != []


async def test_expired_lease_of_a_message_that_is_too_old_leaves_an_attempt_record(stage: Stage) -> None:
    at = await pull_fixture(stage)
    ids = await at.publish()
    await at.pull()
    stage.clock.advance(31 * DAY_MS)
    await at.pulls.miss_too_old()
    assert await at.attempts() == [(1, 1, "lease_expired", LEASE_MS)]
    assert await stage.missed(at.listener) == ids
    assert (await stage.counts(at.listener)).missed == 1


async def test_new_messages_are_tried_while_retries_keep_failing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discue.dispatch.pull.session.RETRYING_LIMIT", 20)
    at = await pull_fixture(stage, DeliveryOptions(retry=RetryOptions(schedule=(20,), attempts=9, jitter=0.0)))
    await at.publish(30)
    for _ in range(20):
        await at.say("reject", await at.pull(1))
        await at.advance(1_000)
    begun = stage.clock.now() - 1_000
    tried = []
    for _ in range(70):
        handed = await at.pull(2, worker=at.worker())
        await at.say("reject", handed)
        tried += [(each.entry.seq, stage.clock.now() - begun) for each in handed if each.attempt == 1]
        await at.advance(1_000)
    assert tried == [(21, PAUSE_MS), (22, 2 * PAUSE_MS)]


async def test_stopping_worker_ends_all_long_polls(stage: Stage) -> None:
    at = await pull_fixture(stage)
    waiting = [await at.begin_waiting() for _ in range(3)]
    at.pulls.close()
    assert await asyncio.gather(*waiting) == [[]] * 3
    assert await pull(at.pulls, at.place, 1, 20_000) == []


async def test_redelivered_messages_are_leased_again(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(retry=RetryOptions(attempts=1)))
    ids = await at.publish(3)
    await at.say("reject", await at.pull())
    old = await at.publish(2)
    stage.clock.advance(31 * DAY_MS)
    await at.pulls.miss_too_old()
    assert (await stage.counts(at.listener)).missed == 5
    waiting = await at.begin_waiting()
    await redeliver(stage, at.listener)
    at.pulls.on_change("listener", at.place.organization, at.listener.id)
    handed = await waiting
    assert [(each.entry.id, each.attempt) for each in handed] == [(each, 1) for each in (*ids, *old)]
    await stage.assert_counts(at.listener, missed=0, pending=5)
    await at.say("acknowledge", handed)
    assert (await stage.counts(at.listener)).acknowledged == 5


async def test_redelivery_keeps_its_rate(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(retry=RetryOptions(attempts=1)))
    await at.publish(5)
    await at.say("reject", await at.pull())
    await redeliver(stage, at.listener, pace=2)
    assert len(await at.pull()) == 2
    assert await at.pull() == []
    waiting = await at.begin_waiting()
    await at.advance(1_000)
    assert len(await waiting) == 2
    stage.clock.advance(1_000)
    assert len(await at.pull()) == 1


async def test_changed_api_key_ends_its_long_polls(stage: Stage) -> None:
    at = await pull_fixture(stage)
    loop = asyncio.get_running_loop()
    mine, another = [loop.create_task(pull(at.pulls, at.place, 1, 20_000, key)) for key in (7, 8)]
    await at.idle()
    at.pulls.on_change("api_key", at.place.organization, 7)
    assert await mine == []
    assert not another.done()
    ids = await at.publish()
    assert [each.entry.id for each in await another] == ids


async def test_acknowledgement_that_frees_a_slot_wakes_long_polls(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(max_in_flight=1))
    ids = await at.publish(2)
    handed = await at.pull()
    waiting = await at.begin_waiting()
    await at.say("acknowledge", handed)
    assert [each.entry.id for each in await waiting] == ids[1:]


async def test_snapshot_from_before_a_lost_connection_is_discarded(stage: Stage) -> None:
    at = await pull_fixture(stage)
    (lost,) = await at.publish()
    page = stage.store.page
    losses = [lost]

    async def lose_a_message_meanwhile(
        organization: int, queue: int, after: int, rows: int, *, max_bytes: int
    ) -> LogPage:
        found = await page(organization, queue, after, rows, max_bytes=max_bytes)
        if losses:
            # Another server takes over, which had not got the last message.
            await stage.delete_message(at.queue, losses.pop())
            at.pulls.invalidate()
        return found

    stage.store.page = lose_a_message_meanwhile  # type: ignore[method-assign]
    assert await at.pulled() == []
    assert await at.delivery_rows() == []
