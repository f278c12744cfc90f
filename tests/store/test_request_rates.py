"""Rate limits as a worker keeps them: over a real store, with a clock that stands still."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from discue.auth.rate_limiter import RateLimiter, address_caller
from discue.domain.errors import StoreUnavailable
from discue.domain.rate import MINUTE_MS, UNLIMITED, RateLimitKey
from discue.store.engine import Transaction
from discue.store.store import Store
from tests.support.clocks import NOON, StandingClock

LARGE = RateLimitKey(1, 7, 60_000)
SMALL = RateLimitKey(1, 7, 20)
START = NOON // MINUTE_MS * MINUTE_MS


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(START + 5_000)


class Writes:
    """Counts what is written, and fails while it `is_down`."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.is_down = False
        self._write = store.write
        monkeypatch.setattr(store, "write", self._counted)

    async def _counted(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        self.count += 1
        if self.is_down:
            raise StoreUnavailable
        return await self._write(work)


@pytest.fixture
def writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(store, monkeypatch)


@pytest.fixture
def rates(store: Store, clock: StandingClock) -> RateLimiter:
    return RateLimiter(store, clock)


async def _admitted(rates: RateLimiter, caller: RateLimitKey, requests: int) -> int:
    allowances = await asyncio.gather(*(rates.take(caller) for _ in range(requests)))
    return sum(not allowance.refused for allowance in allowances)


async def _until_refused(rates: RateLimiter, caller: RateLimitKey) -> int:
    admitted = 0
    while not (rates.take_now(caller) or await rates.take(caller)).refused:
        admitted += 1
    return admitted


async def test_response_reports_the_rest_and_the_end_of_the_minute(rates: RateLimiter) -> None:
    first, second = await rates.take(SMALL), await rates.take(SMALL)
    assert (first.limit, first.remaining, first.refused) == (20, 19, False)
    assert second.remaining == 18
    assert first.reset_at == START // 1_000 + 60


async def test_beyond_a_small_limit_everything_is_refused_until_the_minute_ends(
    rates: RateLimiter, clock: StandingClock
) -> None:
    assert await _admitted(rates, SMALL, 50) == 20
    refused = await rates.take(SMALL)
    assert (refused.remaining, refused.refused) == (0, True)
    assert rates.refusal(refused, "rate_limit").retry_after_seconds == 55
    clock.advance(55_000)
    assert await _admitted(rates, SMALL, 50) == 20


async def test_requests_that_wait_for_one_slice_share_a_write(rates: RateLimiter, writes: Writes) -> None:
    assert await _admitted(rates, LARGE, 400) == 400
    assert writes.count <= 2


async def test_a_busy_key_costs_few_writes_and_gets_all_of_its_limit(rates: RateLimiter, writes: Writes) -> None:
    assert 57_000 <= await _until_refused(rates, LARGE) <= 60_000
    assert writes.count < 155
    asked = writes.count
    assert await _until_refused(rates, LARGE) == 0
    assert writes.count == asked


async def test_a_slice_is_taken_before_the_last_one_is_used_up(rates: RateLimiter, writes: Writes) -> None:
    await rates.take(LARGE)
    for _ in range(3_000):
        assert rates.take_now(LARGE) is not None
        if rates._refilling is not None:
            await rates._refilling
    assert writes.count > 5


@pytest.mark.parametrize("caller", [RateLimitKey(1, 7, 30), RateLimitKey(1, 7, 500), RateLimitKey(1, 7, 5_000)])
async def test_workers_share_one_rate_limit(store: Store, clock: StandingClock, caller: RateLimitKey) -> None:
    workers = [RateLimiter(store, clock) for _ in range(3)]
    for rates in workers:
        assert not (await rates.take(caller)).refused
    admitted = 3 + sum(await asyncio.gather(*(_until_refused(rates, caller) for rates in workers)))
    assert 0.95 * caller.limit <= admitted <= caller.limit


async def test_a_changed_limit_holds_at_once(rates: RateLimiter) -> None:
    assert await _admitted(rates, RateLimitKey(1, 7, 20), 30) == 20
    assert await _admitted(rates, RateLimitKey(1, 7, 30), 30) == 10
    assert await _admitted(rates, RateLimitKey(1, 7, 25), 30) == 0
    assert await _admitted(rates, RateLimitKey(1, 7, 0), 30) == 30


async def test_under_a_lower_limit_only_requests_that_were_made_count(rates: RateLimiter) -> None:
    assert await _admitted(rates, LARGE, 5) == 5
    assert await _admitted(rates, SMALL, 50) == 15


async def test_no_limit_is_said_as_the_largest_number(rates: RateLimiter, writes: Writes) -> None:
    allowance = await rates.take(RateLimitKey(1, 7, 0))
    assert (allowance.limit, allowance.remaining, allowance.refused) == (UNLIMITED, UNLIMITED, False)
    assert writes.count == 0


async def test_a_clock_that_is_set_back_opens_no_second_budget(rates: RateLimiter, clock: StandingClock) -> None:
    assert await _admitted(rates, SMALL, 30) == 20
    clock.advance(-30_000)
    assert await _admitted(rates, SMALL, 30) == 0
    clock.advance(30_000)
    assert await _admitted(rates, SMALL, 30) == 0


async def test_while_the_store_is_down_each_worker_admits_the_limit_by_itself(
    rates: RateLimiter, store: Store, clock: StandingClock, writes: Writes
) -> None:
    writes.is_down = True
    assert await _admitted(rates, SMALL, 50) == 20
    # Once it works again what was admitted meanwhile is taken.
    writes.is_down = False
    clock.advance(1_000)
    await rates.take(SMALL)
    if rates._refilling is not None:
        await rates._refilling
    assert await _admitted(rates, SMALL, 50) == 0
    assert await _admitted(RateLimiter(store, clock), SMALL, 50) == 0


async def test_request_that_does_not_wait_counts_and_is_refused_beyond_the_limit(rates: RateLimiter) -> None:
    for _ in range(5):
        assert not rates.count(SMALL).refused
    assert await _admitted(rates, SMALL, 50) == 15
    assert rates.count(SMALL).refused


async def test_cancelled_waiter_takes_no_request_from_others(rates: RateLimiter) -> None:
    waiting = asyncio.ensure_future(rates.take(SMALL))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert 19 <= await _admitted(rates, SMALL, 50) <= 20


async def test_looking_counts_nothing(rates: RateLimiter, writes: Writes) -> None:
    assert rates.peek(SMALL).remaining == 20
    await rates.take(SMALL)
    assert [rates.peek(SMALL).remaining for _ in range(3)] == [19, 19, 19]
    assert writes.count == 1


async def test_many_callers_are_remembered_up_to_a_bound(store: Store, clock: StandingClock) -> None:
    rates = RateLimiter(store, clock, entries=10)
    for number in range(100):
        await rates.take(RateLimitKey(1, number, 60_000))
        await rates.take(LARGE)
    assert len(rates._recent) + len(rates._earlier) <= 22
    assert rates.peek(LARGE).remaining == 60_000 - 101


def test_addresses_are_told_apart_by_a_number_that_fits_a_column() -> None:
    numbers = {address_caller(f"192.0.2.{number}", 5).caller for number in range(256)}
    assert len(numbers) == 256
    assert all(0 <= number < 2**63 for number in numbers)
    assert address_caller("192.0.2.1", 5) == address_caller("192.0.2.1", 5)
