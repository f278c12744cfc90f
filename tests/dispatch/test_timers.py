"""Timers when the wall clock is set back: a wait of a second stays one, whatever the clock showed when it began."""

import asyncio

import pytest

from discue.dispatch.lane.breaker import PAUSE_MS
from discue.dispatch.lane.context import Tuning
from discue.dispatch.timers import Timers
from discue.domain.listener_health import IDLE_INTERVAL_MS
from discue.domain.model import DeliveryOptions
from discue.domain.rate import RateLimit
from tests.dispatch.lane.test_redelivery import redeliver
from tests.dispatch.stage import Stage, badly
from tests.support.clocks import StandingClock
from tests.support.pull_consumers import pull_fixture

HOUR_MS = 3_600_000


class Recording:
    """A sleeper that notes how it is woken."""

    is_closed = False

    def __init__(self) -> None:
        self.wakes_at = 0
        self.woken: list[str] = []

    def wake(self) -> None:
        self.woken.append("due")

    def on_clock_set_back(self, _now: int) -> None:
        self.woken.append("set back")


async def test_timers_wake_everybody_once_when_the_clock_was_set_back() -> None:
    clock, sleepers = StandingClock(), [Recording() for _ in range(3)]
    timers = Timers(clock)
    clock.set_by(HOUR_MS)
    for sleeper in sleepers:
        timers.wake_at(sleeper, clock.now() + 2_000)
        timers.wake_at(sleeper, clock.now() + 1_000)
    clock.set_by(-HOUR_MS)
    timers.wake_due()
    timers.wake_due()
    timers.stop()
    assert [sleeper.woken for sleeper in sleepers] == [["set back"]] * 3
    assert len(timers._due) == 0


async def test_timers_wake_the_others_when_the_clock_was_set_back_and_a_sleeper_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, failing, other, errors = StandingClock(), Recording(), Recording(), list[BaseException]()

    def fail(_now: int) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(failing, "on_clock_set_back", fail)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    timers = Timers(clock)
    clock.set_by(HOUR_MS)
    for sleeper in (failing, other):
        timers.wake_at(sleeper, clock.now() + 1_000)
    clock.set_by(-HOUR_MS)
    timers.wake_due()
    timers.stop()
    assert other.woken == ["set back"]
    assert [str(error) for error in errors] == ["a bug"]


async def test_timers_continue_after_a_sleeper_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, failing, other, woken = StandingClock(), Recording(), Recording(), asyncio.Event()

    def fail() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(failing, "wake", fail)
    monkeypatch.setattr(other, "wake", woken.set)
    timers = Timers(clock)
    for sleeper in (failing, other):
        timers.wake_at(sleeper, clock.now() + 1_000)
    clock.advance(1_000)
    timers.stop()  # as if it had fired
    with pytest.raises(RuntimeError):
        timers.wake_due()
    async with asyncio.timeout(20):
        await woken.wait()
    timers.stop()


async def test_timers_overlook_a_correction_of_less_than_a_second() -> None:
    clock, sleeper = StandingClock(), Recording()
    timers = Timers(clock)
    timers.wake_at(sleeper, clock.now() + 1_000)
    for _ in range(5):
        clock.set_by(-999)
        timers.wake_due()
    timers.stop()
    assert sleeper.woken == []


async def test_a_timer_notices_by_itself_that_the_clock_was_set() -> None:
    """Nothing else may ever wake a lane that waits for its rate."""
    clock, sleeper = StandingClock(), Recording()
    timers = Timers(clock)
    timers.wake_at(sleeper, clock.now() + HOUR_MS)
    loop = asyncio.get_running_loop()
    assert timers._timer is not None
    assert timers._timer.when() - loop.time() <= 5.01
    timers.stop()


async def test_rate_limit_holds_nothing_back_for_longer_when_the_clock_is_set_back(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions(rate_limit=RateLimit(1, 1)))
    stage.clock.set_by(HOUR_MS)
    ids = await stage.publish(queue, 3)
    stage.clock.set_by(-HOUR_MS)
    await stage.advance(1_000)
    assert [sent.message_id for sent in stage.courier.sent] == ids[:2]
    await stage.advance(1_000)
    assert [sent.message_id for sent in stage.courier.sent] == ids


async def test_throttle_pauses_for_no_longer_when_the_clock_is_set_back(stage: Stage) -> None:
    stage.tuning = Tuning(throttle_rows=3, throttle_failures=3)
    queue, _ = await stage.running(DeliveryOptions(max_in_flight=1))
    stage.clock.set_by(HOUR_MS)
    ids = await stage.publish(queue, 10)
    await stage.end_all(badly())
    started = {sent.message_id for sent in stage.courier.sent}
    assert len(started) < len(ids)
    stage.clock.set_by(-HOUR_MS)
    await stage.advance(1)
    await stage.advance(PAUSE_MS)
    assert len({sent.message_id for sent in stage.courier.sent} - started) == 1


async def test_probes_go_on_when_the_clock_is_set_back(stage: Stage) -> None:
    await stage.running()
    stage.clock.set_by(HOUR_MS)
    await stage.probe(times=2)
    asked = len(stage.scout.asked)
    stage.clock.set_by(-HOUR_MS)
    await stage.advance(1)
    await stage.advance(IDLE_INTERVAL_MS)
    assert len(stage.scout.asked) == asked + 1


async def test_redelivery_goes_on_when_the_clock_is_set_back(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 12)
    await stage.end_all(badly(no_retry=True))
    stage.courier.sent.clear()
    stage.clock.set_by(HOUR_MS)
    await redeliver(stage, listener, pace=10)
    assert len(stage.courier.sent) == 10
    await stage.end_all(badly(no_retry=True))
    stage.clock.set_by(-HOUR_MS)
    await stage.advance(1_000)
    assert len(stage.courier.sent) == 12


async def test_long_poll_ends_when_the_clock_is_set_back(stage: Stage) -> None:
    at = await pull_fixture(stage)
    stage.clock.set_by(HOUR_MS)
    waiting = await at.begin_waiting()
    stage.clock.set_by(-HOUR_MS)
    await at.advance(1)
    assert await asyncio.wait_for(waiting, 1) == []
