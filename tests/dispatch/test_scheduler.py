"""Delayed messages on lanes, with a clock that stands still: not early, not twice, to those who were there."""

import asyncio
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.api.message_options import LONGEST_DELAY_SECONDS, due_at
from discue.dispatch.scheduler import Scheduler
from discue.errors import Unprocessable
from discue.model import MessageOptions, Queue
from discue.store import messages
from discue.store.engine import Appended
from tests.dispatch.stage import Stage, well


class Scheduling:
    """The scheduler of a stage's worker. `keeps_house` says whether it is this worker's turn."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.keeps_house = True
        self.scheduler = Scheduler(stage.store, stage.dispatcher, stage.clock, keeps_house=lambda: self.keeps_house)
        dispatcher, scheduler = stage.dispatcher, self.scheduler

        def appended(appended: Appended) -> None:
            dispatcher.appended(appended)
            scheduler.appended(appended)

        stage.store.appended = appended

    async def deliver(self) -> None:
        await self.scheduler.deliver_due()
        await self._stage.quiet()


async def _begun(stage: Stage) -> tuple[Queue, Scheduling]:
    queue = await stage.queue(await stage.organization())
    await stage.start()
    return queue, Scheduling(stage)


async def _delayed(stage: Stage, queue: Queue, milliseconds: int) -> str:
    return await stage.publish_with(queue, MessageOptions(deliver_at=stage.clock.now() + milliseconds))


async def test_a_delayed_message_is_sent_when_it_is_due_and_not_before(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    listener = await stage.listener(queue)
    message = await _delayed(stage, queue, 5_000)
    stage.clock.advance(4_999)
    await scheduling.deliver()
    assert stage.courier.ids() == []
    stage.clock.advance(1)
    await scheduling.deliver()
    await scheduling.deliver()
    assert stage.courier.ids() == [message]
    assert stage.courier.under_way[0].request.body == b'"hello"'
    await stage.end(stage.courier.under_way, well())
    counts = await stage.counts(listener)
    assert (counts.acknowledged, counts.pending, counts.missed) == (1, 0, 0)


async def test_what_is_not_due_holds_nothing_up(stage: Stage) -> None:
    queue, _ = await _begun(stage)
    listener = await stage.listener(queue)
    await _delayed(stage, queue, 5_000)
    at_once = await stage.publish(queue, 3)
    assert stage.courier.ids() == at_once
    await stage.end(tuple(stage.courier.under_way), well())
    assert (await stage.counts(listener)).pending == 0
    await stage.start()
    assert stage.courier.ids() == []


async def test_it_reaches_no_listener_that_is_younger(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    old = await stage.listener(queue)
    message = await _delayed(stage, queue, 5_000)
    young = await stage.listener(queue)
    stage.clock.advance(5_000)
    await scheduling.deliver()
    assert [(sent.message_id, sent.listener_id) for sent in stage.courier.under_way] == [(message, old.public_id)]
    later = await stage.publish(queue)
    assert [sent.message_id for sent in stage.courier.sent if sent.listener_id == young.public_id] == later
    await stage.end(tuple(stage.courier.under_way), well())
    assert (await stage.counts(young)).acknowledged == 1
    assert (await stage.counts(young)).pending == 0


async def test_one_that_was_deleted_before_its_time_is_never_sent(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    message = await _delayed(stage, queue, 5_000)
    await stage.delete_message(queue, message)
    stage.clock.advance(5_000)
    await scheduling.deliver()
    assert stage.courier.sent == []


async def test_it_is_sent_after_a_crash_too(stage: Stage) -> None:
    queue, _ = await _begun(stage)
    await stage.listener(queue)
    message = await _delayed(stage, queue, 5_000)
    await stage.start()
    stage.clock.advance(5_000)
    await Scheduling(stage).deliver()
    assert stage.courier.ids() == [message]


async def test_it_has_not_waited_too_long_when_it_is_due(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    message = await _delayed(stage, queue, stage.limits.deadline_ms + 5_000)
    stage.clock.advance(stage.limits.deadline_ms + 5_000)
    await stage.dispatcher.miss_too_old()
    await scheduling.deliver()
    assert stage.courier.ids() == [message]


async def test_another_worker_delivers_what_this_one_leaves_to_it(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    await _delayed(stage, queue, 0)
    scheduling.keeps_house = False
    await scheduling.deliver()
    assert stage.courier.sent == []


async def test_what_is_published_sooner_wakes_whoever_waits(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    scheduler = scheduling.scheduler
    await scheduling.deliver()
    known = [scheduler.next_at]
    for milliseconds in (9_000, 5_000, 7_000):
        await _delayed(stage, queue, milliseconds)
    known.append(scheduler.next_at)
    assert known == [None, stage.clock.now() + 5_000]
    message = await _delayed(stage, queue, 1)
    stage.clock.advance(1)
    async with asyncio.timeout(5):
        await scheduler.round()
    await stage.quiet()
    assert stage.courier.ids() == [message]
    assert scheduler.next_at == stage.clock.now() + 4_999


async def test_what_others_published_is_known_by_polling_and_waits_for_whoever_keeps_house(stage: Stage) -> None:
    queue, _ = await _begun(stage)
    await stage.listener(queue)
    message = await _delayed(stage, queue, 5_000)
    newcomer = Scheduling(stage)
    newcomer.keeps_house = False
    newcomer.scheduler.polled((await stage.store.engine.poll(())).scheduled_at)
    assert newcomer.scheduler.next_at == stage.clock.now() + 5_000
    stage.clock.advance(5_000)
    await newcomer.scheduler.round()
    assert stage.courier.sent == []
    newcomer.keeps_house = True
    async with asyncio.timeout(5):
        await newcomer.scheduler.round()
    await stage.quiet()
    assert stage.courier.ids() == [message]
    assert (await stage.store.engine.poll(())).scheduled_at is None


async def test_many_that_are_due_at_once_all_go_out_in_their_order(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    published = [await _delayed(stage, queue, 5_000) for _ in range(600)]
    stage.clock.advance(5_000)
    await scheduling.deliver()
    while stage.courier.under_way:
        await stage.end(tuple(stage.courier.under_way), well())
    assert [sent.message_id for sent in stage.courier.sent] == published


async def test_a_deleted_one_that_was_due_is_gone(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    message = await _delayed(stage, queue, 1)
    stage.clock.advance(1)
    await scheduling.deliver()
    await stage.delete_message(queue, message)
    assert await stage.store.read(partial(messages.get, queue=queue, public_id=message)) is None


NOW = 1_800_000_000_000
ANY_INSTANT = st.integers(-NOW, 3 * NOW)


@given(ANY_INSTANT)
def test_an_instant_is_kept_as_it_is_unless_it_has_passed(deliver_at: int) -> None:
    if not 0 <= deliver_at <= NOW + LONGEST_DELAY_SECONDS * 1_000:
        with pytest.raises(Unprocessable, match="/deliver_at"):
            due_at(deliver_at, None, "", NOW)
    else:
        assert due_at(deliver_at, None, "", NOW) == (deliver_at if deliver_at > NOW else None)


@given(st.integers(-10, 2 * LONGEST_DELAY_SECONDS))
def test_a_delay_ends_so_many_seconds_from_now(delay: int) -> None:
    if not 0 <= delay <= LONGEST_DELAY_SECONDS:
        with pytest.raises(Unprocessable, match="/delay"):
            due_at(None, delay, "", NOW)
    else:
        assert (due_at(None, delay, "", NOW) or NOW) == NOW + delay * 1_000


@given(ANY_INSTANT, st.integers())
def test_an_instant_and_a_delay_are_too_much(deliver_at: int, delay: int) -> None:
    with pytest.raises(Unprocessable, match="/messages/3/delay"):
        due_at(deliver_at, delay, "/messages/3", NOW)


@given(st.lists(st.integers(0, LONGEST_DELAY_SECONDS), min_size=2))
def test_who_waits_longer_is_due_later(delays: list[int]) -> None:
    times = [due_at(None, delay, "", NOW) or NOW for delay in sorted(delays)]
    assert all(one <= other for one, other in pairwise(times))
