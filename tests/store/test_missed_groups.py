"""Groups of missed messages: what a cursor has missed for one cause, counted by an index."""

import time
from functools import partial
from typing import cast

import pytest

from discue.domain.causes import MOST_CAUSES, Cause, plain
from discue.domain.model import Listener
from discue.store import missed, missed_groups, purge
from discue.store.engine import DeliveryRow, MissedRange, Row, Transaction, Value
from discue.store.missed_groups import MissedGroup
from discue.store.missed_scan import position_of
from discue.store.pagination import Listing, Selection
from discue.store.store import Store
from tests.store.rows import a_settle, public_id, publish, row_id, stored_listener, stored_organization, stored_queue
from tests.support.clocks import NOON

OURS = row_id(1)
UNKNOWN = Cause(1 << 62, "final_status", 422, "order 17 is unknown")
DOWN = Cause((1 << 62) + 1, "attempts_used_up", 503, "down")
CAUSES = tuple(Cause((1 << 62) + number, "attempts_used_up", 500 + number, f"cause {number}") for number in range(6))
SOME_CAUSES = 6
FEW_SECONDS = 1.0


async def _listener(store: Store, messages: int = 12) -> Listener:
    await stored_organization(store, 1)
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await publish(store, queue, [public_id(100 + number) for number in range(messages)])
    return listener


def _row(seq: int, cause: Cause) -> DeliveryRow:
    return DeliveryRow(seq, "missed", 1, NOON + seq, cause.reason, cause=cause.id)


async def _missed(store: Store, listener: Listener) -> None:
    rows = (_row(1, UNKNOWN), _row(2, DOWN), _row(4, UNKNOWN), _row(5, plain("too_old")))
    ranges = (MissedRange(7, 9, "too_old", NOON + 7),)
    await store.settle(
        a_settle(listener, 9, missed=7, delivery_rows=rows, missed_ranges=ranges, causes=(UNKNOWN, DOWN))
    )


async def _groups(store: Store, selection: Selection | None = None) -> Listing[MissedGroup]:
    return await store.load(lambda tx: missed_groups.page(tx, OURS, selection or Selection()))


async def test_group_has_the_messages_of_one_cause(store: Store) -> None:
    listener = await _listener(store)
    await _missed(store, listener)
    shown = [
        (each.reason, each.status, each.text, each.count, each.first_at - NOON, each.last_at - NOON)
        for each in (await _groups(store)).items
    ]
    assert shown == [
        ("too_old", 0, "", 4, 5, 7),
        ("final_status", 422, "order 17 is unknown", 2, 1, 4),
        ("attempts_used_up", 503, "down", 1, 2, 2),
    ]


@pytest.mark.parametrize(
    ("cause", "seqs"), [(UNKNOWN, [4, 1]), (DOWN, [2]), (plain("too_old"), [9, 8, 7, 5]), (plain("expired"), [])]
)
async def test_messages_of_a_group_are_listed(store: Store, cause: Cause, seqs: list[int]) -> None:
    listener = await _listener(store)
    await _missed(store, listener)
    group = position_of((listener.id, cause.id))
    for per_page in (1, 2, 10):
        found: list[int] = []
        after = None
        while len(found) <= len(seqs):
            selection = Selection(per_page=per_page, group=group, after=after)
            page = await store.search(partial(missed.page, organization=OURS, selection=selection))
            found += [each.seq for each in page.items]
            after = page.resumes_after
            if after is None:
                break
        assert found == seqs


async def test_cause_of_a_missed_delivery_survives_changes_of_its_row(store: Store) -> None:
    listener = await _listener(store)
    await _missed(store, listener)
    again = DeliveryRow(1, "missed", 1, NOON + 1, UNKNOWN.reason, key_hash=7, blocked=3)
    await store.settle(a_settle(listener, 9, version=1, missed=7, delivery_rows=(again,)))
    assert [each.count for each in (await _groups(store)).items] == [4, 2, 1]
    rows = await store.read(lambda tx: tx.rows("SELECT missed_version FROM delivery WHERE seq = 1"))
    assert [tuple(row) for row in rows] == [(0,)]


async def test_cause_without_missed_messages_is_deleted(store: Store) -> None:
    listener = await _listener(store)
    await _missed(store, listener)
    retried = DeliveryRow(2, "retry", 0, NOON, "")
    await store.settle(a_settle(listener, 9, version=1, missed=6, retrying=1, delivery_rows=(retried,)))
    through = await store.write(partial(purge.delete_unused_causes, after=(0, 0, 0)))
    assert through == (OURS, listener.id, DOWN.id)
    assert await store.write(partial(purge.delete_unused_causes, after=through)) is None
    left = await store.read(lambda tx: tx.rows("SELECT text FROM missed_cause"))
    assert [row[0] for row in left] == [UNKNOWN.text]


async def _fill(store: Store, listener: Listener, count: int) -> None:
    step = 5_000
    for version, start in enumerate(range(0, count, step)):
        rows = tuple(_row(seq, CAUSES[seq % SOME_CAUSES]) for seq in range(start + 1, start + step + 1))
        await store.settle(
            a_settle(listener, start + step, version=version, missed=start + step, delivery_rows=rows, causes=CAUSES)
        )


async def test_hundred_thousand_misses_of_six_causes_are_six_groups_within_a_second(store: Store) -> None:
    listener = await _listener(store)
    await _fill(store, listener, 100_000)
    began = time.monotonic()
    found = await _groups(store)
    took = time.monotonic() - began
    assert took < FEW_SECONDS
    assert sum(each.count for each in found.items) == 100_000
    assert len(found.items) == SOME_CAUSES


@pytest.mark.parametrize(
    ("of_one", "values", "index"),
    [
        ("", (OURS,), "delivery_missed_cause (organization=?)"),
        (" AND listener = $2", (OURS, row_id(11)), "delivery_missed_cause (organization=? AND listener=?)"),
    ],
)
async def test_groups_are_counted_by_an_index_alone(
    store: Store, of_one: str, values: tuple[int, ...], index: str
) -> None:
    listener = await _listener(store)
    await _missed(store, listener)
    if store.engine.__class__.__module__.startswith("discue.store.sqlite"):

        async def plan(tx: Transaction) -> list[str]:
            rows = await tx.rows("EXPLAIN QUERY PLAN " + missed_groups._COUNTED.format(of_one), *values)
            return [row[3] for row in rows]

        steps = await store.read(plan)
        assert len(steps) == 1
        assert f"USING COVERING INDEX {index}" in steps[0]


class _Counting:
    """A transaction that counts the rows of its statements."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.row = tx.row
        self.read = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._tx, name)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        found = await self._tx.rows(sql, *values)
        self.read += len(found)
        return found


async def test_groups_of_a_listener_are_counted_without_those_of_others(store: Store) -> None:
    listener = await _listener(store)
    await _missed(store, listener)
    other = await stored_listener(store, await stored_queue(store, OURS, 12), 13)

    async def page(tx: Transaction) -> int:
        counting = _Counting(tx)
        selection = Selection(listener=other.public_id)
        assert not (await missed_groups.page(cast("Transaction", counting), OURS, selection)).items
        return counting.read

    assert await store.read(page) == 0


def test_bound_of_causes_leaves_room_for_six() -> None:
    assert MOST_CAUSES > SOME_CAUSES
