"""Tallies of listeners: what settles have stored, by period of five minutes, added up over workers."""

from functools import partial

import pytest

from discue.domain.attempts import Attempt
from discue.domain.errors import Unavailable
from discue.domain.ids import row_id_at
from discue.domain.model import Listener, Queue
from discue.store import tallies
from discue.store.engine import NewMisses
from discue.store.store import Store
from discue.store.tallies import PERIOD_MS, ListenerTally, period_of
from tests.store.rows import a_settle, row_id, stored_listener
from tests.support.clocks import NOON

PERIOD = period_of(NOON)


def _attempts(listener: Listener, errors: str, at: int = NOON) -> tuple[Attempt, ...]:
    """Return an attempt for each character: a point for an acknowledged one, another character for a failed one."""
    return tuple(
        Attempt(row_id_at(at) + number, listener.organization, listener.id, listener.queue, number, 1, status, error, 5)
        for number, character in enumerate(errors, 1)
        for status, error in [(200, "") if character == "." else (503, "status")]
    )


async def _flush(store: Store) -> None:
    await store.write(partial(tallies.add_of_listeners, counted=store.listener_counts.take()))


async def _stored(store: Store, listener: Listener, first: int = PERIOD) -> dict[int, ListenerTally]:
    key = (listener.organization, listener.id, first)
    return dict(await store.read(lambda tx: tallies.of_listener(tx, *key)))


async def test_stored_settle_is_counted_for_its_listener_and_period(store: Store, queue: Queue) -> None:
    listener = await stored_listener(store, queue, 20)
    missed = NewMisses(NOON, 3, {"expired": 3})
    assert await store.settle(a_settle(listener, attempts=_attempts(listener, "..x.x"), new_misses=missed))
    later = _attempts(listener, ".", NOON + PERIOD_MS)
    assert await store.settle(a_settle(listener, version=1, attempts=later))

    expected = {PERIOD: ListenerTally(3, 2, 3), PERIOD + 1: ListenerTally(1, 0, 0)}
    assert store.listener_counts.of_listener(listener.organization, listener.id, range(PERIOD, PERIOD + 2)) == expected
    assert await _stored(store, listener) == {}
    await _flush(store)
    assert await _stored(store, listener) == expected
    assert store.listener_counts.of_listener(listener.organization, listener.id, range(PERIOD, PERIOD + 2)) == {}


async def test_refused_settle_is_not_counted(store: Store, queue: Queue) -> None:
    listener = await stored_listener(store, queue, 20)
    assert not await store.settle(a_settle(listener, version=9, attempts=_attempts(listener, ".")))
    assert store.listener_counts.take() == []


async def test_misses_without_attempts_are_counted(store: Store, queue: Queue) -> None:
    listener = await stored_listener(store, queue, 20)
    assert await store.settle(a_settle(listener, new_misses=NewMisses(NOON, 7, {"too_old": 7})))
    assert store.listener_counts.take() == [((listener.organization, listener.id, PERIOD), ListenerTally(0, 0, 7))]


async def test_counts_of_two_workers_add_up(store: Store, second: Store, queue: Queue) -> None:
    listener, other = await stored_listener(store, queue, 20), await stored_listener(store, queue, 21)
    for version, worker in enumerate((store, second, store)):
        assert await worker.settle(a_settle(listener, version=version, attempts=_attempts(listener, ".x")))
        await _flush(worker)
    assert await second.settle(a_settle(other, attempts=_attempts(other, "...")))
    await _flush(second)

    async def sums(first: int) -> dict[int, ListenerTally]:
        ids = [listener.id, other.id, row_id(99)]
        return dict(await store.read(lambda tx: tallies.sums_of_listeners(tx, listener.organization, ids, first)))

    assert await sums(PERIOD) == {listener.id: ListenerTally(3, 3, 0), other.id: ListenerTally(3, 0, 0)}
    assert await sums(PERIOD + 1) == {}


async def test_counts_whose_write_failed_are_not_counted_twice(
    store: Store, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await stored_listener(store, queue, 20)
    assert await store.settle(a_settle(listener, attempts=_attempts(listener, ".")))
    with monkeypatch.context() as patched:

        async def away(_: object) -> None:
            raise Unavailable

        patched.setattr(store, "write", away)
        with pytest.raises(Unavailable):
            await _flush(store)
    await _flush(store)
    assert await _stored(store, listener) == {}


async def test_old_periods_are_deleted_in_steps(store: Store, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "LISTENER_ROWS_A_STEP", 2)
    listener = await stored_listener(store, queue, 20)
    keys = [(listener.organization, listener.id, PERIOD + number) for number in range(5)]
    await store.write(partial(tallies.add_of_listeners, counted=[(key, ListenerTally(1)) for key in keys]))
    deleted = [await store.write(partial(tallies.delete_old_of_listeners, before=PERIOD + 3)) for _ in range(3)]
    assert deleted == [2, 1, 0]
    assert sorted(await _stored(store, listener)) == [PERIOD + 3, PERIOD + 4]
