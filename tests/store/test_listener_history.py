"""Tallies older than a day are moved once into sums of three hours, which are deleted after a month."""

from collections.abc import Sequence
from functools import partial

import pytest

from discue.dashboard import history
from discue.dashboard.history import TOGETHER
from discue.store import tallies
from discue.store.store import Store
from discue.store.tables import read_number
from discue.store.tallies import PERIODS_A_DAY, ListenerTally, past_day, period_of
from tests.support.clocks import NOON

_NOW = period_of(NOON)
_OLD = (_NOW - 2 * PERIODS_A_DAY) // TOGETHER * TOGETHER
"""The first period of a sum of three hours, two days ago."""


async def _add(store: Store, *counted: tuple[int, int, int]) -> None:
    """Add tallies: listener, period and number of acknowledged attempts. One attempt more has failed."""
    rows = [((1, listener, period), ListenerTally(n, n + 1, 0)) for listener, period, n in counted]
    await store.write(partial(tallies.add_of_listeners, counted=rows))


async def _move(store: Store) -> None:
    while await store.write(partial(history.move_old, before=NOON)):
        pass


async def _read(store: Store, listener: int) -> Sequence[tuple[int, ...]]:
    periods = range(_OLD, past_day(NOON).start)
    return sorted(map(tuple, await store.read(lambda tx: history.read(tx, 1, listener, periods))))


async def test_old_tallies_become_sums_of_three_hours_for_listener_and_organization(store: Store) -> None:
    recent = past_day(NOON).start
    await _add(store, (7, _OLD, 1), (7, _OLD + TOGETHER - 1, 2), (7, _OLD + TOGETHER, 4), (8, _OLD, 8), (7, recent, 16))
    before = await _read(store, 7)
    assert [row[1] for row in before] == [1, 2, 4]
    await _move(store)
    assert await _read(store, 7) == [(_OLD, 3, 5), (_OLD + TOGETHER, 4, 5)]
    assert await _read(store, 8) == [(_OLD, 8, 9)]
    assert await _read(store, 0) == [(_OLD, 11, 14), (_OLD + TOGETHER, 4, 5)]
    kept = await store.read(lambda tx: tallies.of_listener(tx, 1, 7, 0))
    assert dict(kept) == {recent: ListenerTally(16, 17, 0)}


async def test_tallies_that_arrive_late_are_added(store: Store) -> None:
    for _ in range(2):
        await _add(store, (7, _OLD, 1))
        await _move(store)
    assert await _read(store, 7) == [(_OLD, 2, 4)]


async def test_moves_are_bounded_and_lose_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_ROWS_A_STEP", 3)
    await _add(store, *((7, _OLD + each, 1) for each in range(10)))
    assert await store.write(partial(history.move_old, before=NOON)) == 3
    await _move(store)
    assert await _read(store, 7) == [(_OLD, 10, 20)]


async def test_sums_older_than_a_month_are_deleted(store: Store) -> None:
    await _add(store, (7, _NOW - 32 * PERIODS_A_DAY, 1), (7, _OLD, 1))
    await _move(store)
    while await store.write(partial(history.delete_old, before=NOON)):
        pass
    count = "SELECT count(*) FROM listener_history"
    assert await store.read(lambda tx: read_number(tx, count)) == 2
    assert await _read(store, 7) == [(_OLD, 1, 2)]
