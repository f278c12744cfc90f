"""KeyedSemaphore: order, timeouts, cancellation and the cap on waiters."""

import asyncio

import pytest

from discue.auth.keyed_semaphore import KeyedSemaphore
from discue.domain.errors import Overloaded

pytestmark = pytest.mark.usefixtures("runner")

KEY = "a"


def semaphore(*, max_waiting: int = 10, timeout_seconds: float | None = None, limit: int = 1) -> KeyedSemaphore[str]:
    return KeyedSemaphore(limit=limit, max_waiting=max_waiting, refusal=Overloaded, timeout_seconds=timeout_seconds)


class Holder:
    """A task that holds a slot until it is told to release it."""

    def __init__(self, semaphore: KeyedSemaphore[str], key: str = KEY) -> None:
        self._semaphore = semaphore
        self._key = key
        self._released = asyncio.Event()
        self.is_holding = False
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        async with self._semaphore.hold(self._key):
            self.is_holding = True
            await self._released.wait()

    async def release(self) -> None:
        self._released.set()
        await self.task


async def holders(semaphore: KeyedSemaphore[str], count: int) -> list[Holder]:
    started = [Holder(semaphore) for _ in range(count)]
    await _settle()
    return started


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_of_a_key_are_given_one_at_a_time_in_order_of_arrival() -> None:
    keyed = semaphore()
    first, second, third = await holders(keyed, 3)
    assert [each.is_holding for each in (first, second, third)] == [True, False, False]
    await first.release()
    await _settle()
    assert [each.is_holding for each in (second, third)] == [True, False]
    await second.release()
    await third.release()
    assert len(keyed) == 0


async def test_limit_is_the_number_of_holders_per_key() -> None:
    keyed = semaphore(limit=2)
    started = await holders(keyed, 3)
    assert [each.is_holding for each in started] == [True, True, False]
    for each in started:
        await each.release()


async def test_other_keys_do_not_wait() -> None:
    keyed = semaphore()
    started = [Holder(keyed), Holder(keyed, "b")]
    await _settle()
    assert all(each.is_holding for each in started)
    assert len(keyed) == 2
    for each in started:
        await each.release()


async def test_waiter_that_times_out_is_refused_and_the_others_go_on() -> None:
    keyed = semaphore(timeout_seconds=0.0)
    (first,) = await holders(keyed, 1)
    with pytest.raises(Overloaded):
        await Holder(keyed).task
    keyed.timeout_seconds = None
    (patient,) = await holders(keyed, 1)
    await first.release()
    await patient.release()
    assert len(keyed) == 0


async def test_cancelled_waiter_is_skipped() -> None:
    keyed = semaphore()
    first, cancelled, last = await holders(keyed, 3)
    cancelled.task.cancel()
    await _settle()
    await first.release()
    await last.release()
    assert len(keyed) == 0


async def test_waiter_cancelled_as_its_turn_comes_passes_the_slot_on() -> None:
    keyed = semaphore()
    first, cancelled, last = await holders(keyed, 3)
    release = asyncio.ensure_future(first.release())
    await asyncio.sleep(0)
    cancelled.task.cancel()
    await release
    await last.release()
    assert len(keyed) == 0


async def test_waiters_beyond_the_cap_are_refused() -> None:
    keyed = semaphore(max_waiting=1)
    first, waiting = await holders(keyed, 2)
    with pytest.raises(Overloaded):
        await Holder(keyed).task
    await first.release()
    await waiting.release()


async def test_cap_per_key_leaves_room_for_other_keys() -> None:
    keyed = KeyedSemaphore[str](limit=1, max_waiting=10, max_users=3, max_users_per_key=2, refusal=Overloaded)
    first, waiting = await holders(keyed, 2)
    with pytest.raises(Overloaded):
        await Holder(keyed).task
    async with keyed.hold("another"):
        pass
    await first.release()
    await waiting.release()
    assert len(keyed) == 0


async def test_cap_on_users_includes_holders_of_different_keys() -> None:
    keyed = KeyedSemaphore[str](limit=1, max_waiting=10, max_users=2, refusal=Overloaded)
    started = [Holder(keyed, "a"), Holder(keyed, "b")]
    await _settle()
    assert all(each.is_holding for each in started)
    with pytest.raises(Overloaded):
        async with keyed.hold("c"):
            pass
    assert len(keyed) == 2, "a refused caller leaves nothing behind"
    await started[0].release()
    async with keyed.hold("c"):
        pass
    await started[1].release()
    assert len(keyed) == 0
