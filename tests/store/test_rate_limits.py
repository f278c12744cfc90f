"""Granted requests never exceed the limit, regardless of the order in which workers take them."""

import asyncio
from functools import partial

from discue.store import tallies
from discue.store.engine import Transaction
from discue.store.store import Store
from discue.store.tallies import BudgetGrant, BudgetRequest

MINUTE = 29_166_666


def _wish(wanted: int, limit: int = 100, caller: int = 7, minute: int = MINUTE) -> BudgetRequest:
    return BudgetRequest(1, caller, minute, wanted, limit)


async def _take(store: Store, *wishes: BudgetRequest) -> list[BudgetGrant]:
    return await store.write(partial(tallies.take_budgets, requests=wishes))


async def _rows(store: Store) -> int:
    async def work(tx: Transaction) -> int:
        row = await tx.row("SELECT count(*) FROM allowance")
        return int(row[0]) if row else 0

    return await store.read(work)


async def test_granted_requests_reduce_the_budget(store: Store) -> None:
    assert await _take(store, _wish(30)) == [BudgetGrant(30, 70)]
    assert await _take(store, _wish(60)) == [BudgetGrant(60, 10)]
    assert await _take(store, _wish(60)) == [BudgetGrant(10, 0)]
    assert await _take(store, _wish(1)) == [BudgetGrant(0, 0)]


async def test_callers_and_minutes_have_separate_budgets(store: Store) -> None:
    taken = await _take(store, _wish(100), _wish(100, caller=8), _wish(100, minute=MINUTE + 1))
    assert [each.granted for each in taken] == [100, 100, 100]


async def test_a_raised_limit_leaves_more_and_a_lowered_one_nothing(store: Store) -> None:
    await _take(store, _wish(50))
    assert await _take(store, _wish(10, limit=55)) == [BudgetGrant(5, 0)]
    assert await _take(store, _wish(10, limit=40)) == [BudgetGrant(0, 0)]
    assert await _take(store, _wish(10, limit=200)) == [BudgetGrant(10, 130)]


async def test_unused_part_of_a_slice_can_be_returned(store: Store) -> None:
    await _take(store, _wish(90))
    wish = tallies.BudgetRequest(1, 7, MINUTE, 2, 10, returned=85)
    assert await _take(store, wish) == [BudgetGrant(2, 3)]


async def test_concurrent_takers_share_the_limit_exactly(store: Store) -> None:
    wishes = [(_wish(wanted, caller=1), _wish(wanted, caller=2)) for wanted in (3, 7, 11) * 8]
    taken = await asyncio.gather(*(_take(store, *pair) for pair in wishes))
    assert sum(first.granted for first, _ in taken) == 100
    assert sum(second.granted for _, second in taken) == 100


async def test_old_minutes_are_deleted_in_steps(store: Store) -> None:
    await _take(store, *(_wish(1, caller=caller) for caller in range(tallies.BUDGETS_A_STEP + 5)))
    await _take(store, _wish(1, minute=MINUTE + 1))
    forget = partial(tallies.delete_old_budgets, before_minute=MINUTE + 1)
    assert [await store.write(forget) for _ in range(3)] == [tallies.BUDGETS_A_STEP, 5, 0]
    assert await _rows(store) == 1
