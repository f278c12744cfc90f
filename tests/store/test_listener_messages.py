"""Lists of a listener's messages by state: whatever happened to them, the list has what each message says itself."""

import asyncio
import tempfile
from collections.abc import Collection
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discue.domain.errors import BadRequest
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import StoredMessage
from discue.domain.model import DeliveryState, Listener, Queue
from discue.domain.window import Window
from discue.store import listener_states, listeners, message_filters, messages, queues
from discue.store.engine import Append, DeliveryRow, MissedRange, NewEntry, Settle, Transaction
from discue.store.pagination import Listing, ScanLimits, Selection
from discue.store.store import Store
from tests.store.rows import (
    a_queue,
    a_settle,
    append_all,
    public_id,
    row_id,
    stored_listener,
    stored_organization,
    stored_queue,
)
from tests.store.walks import Pages, backwards, check, forwards
from tests.support.clocks import NOON
from tests.support.everywhere import EVERYWHERE
from tests.support.memory import folder_in_memory
from tests.support.messages import read_deliveries, read_message
from tests.support.stores import ENGINES, opened_store

OURS = row_id(1)
FIRST = 100
STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)
ALIASES = (None, "orders", "bills")

ACKNOWLEDGED = ""
EXCEPTIONS = (
    ("retry", 0, ""),
    ("retry", 2, ""),
    ("sending", 1, ""),
    ("sending", 3, ""),
    ("ended", 2, ""),
    ("ended", 12, "attempts_used_up"),
    ("missed", 12, "attempts_used_up"),
)


class World(NamedTuple):
    """The messages before and after the creation of a listener, and their deliveries.

    `fates` are those of messages from the listener's first on: of each whether it is settled, and its exception.
    Unsettled messages at the end stay pending. `ranges` are lengths of missed ranges and of gaps between them.
    """

    before: int
    fates: list[tuple[bool, tuple[str, int, str] | None]]
    behind: int
    ranges: list[tuple[int, int]]
    deleted: set[int]
    aliases: list[int]


worlds = st.builds(
    World,
    before=st.integers(0, 4),
    fates=st.lists(
        st.tuples(st.booleans(), st.one_of(st.none(), st.none(), st.sampled_from(EXCEPTIONS))), min_size=1, max_size=24
    ),
    behind=st.integers(0, 24),
    ranges=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), max_size=3),
    deleted=st.sets(st.integers(1, 28), max_size=6),
    aliases=st.lists(st.integers(0, 2), min_size=28, max_size=28),
)


async def _made(store: Store, world: World) -> tuple[Queue, Listener]:
    await stored_organization(store, 1)
    queue = await stored_queue(store, OURS, 10)
    other = await stored_queue(store, OURS, 11)
    await _publish(store, queue, world, range(world.before))
    listener = await stored_listener(store, queue, 20)
    total = world.before + len(world.fates)
    await _publish(store, queue, world, range(world.before, total))
    await _publish(store, other, world, range(40, 43))
    await store.settle(_settle(listener, world))
    await store.write(partial(_delete_messages, queue=queue, seqs=world.deleted))
    return queue, listener


async def _delete_messages(tx: Transaction, queue: Queue, seqs: set[int]) -> None:
    for seq in seqs:
        await tx.execute("DELETE FROM log WHERE queue = $1 AND seq = $2", queue.id, seq)


async def _publish(store: Store, queue: Queue, world: World, indexes: Collection[int]) -> None:
    appends = []
    for index in indexes:
        alias = ALIASES[world.aliases[index % len(world.aliases)]]
        entry = NewEntry(public_id(FIRST + index), JSON_VALUE, b"1", alias)
        appends.append(Append(OURS, queue.id, queue.config_version, NOON + FIRST + index // 2, (entry,)))
    await append_all(store, appends)


def _settle(listener: Listener, world: World) -> Settle:
    window = Window(world.before)
    window.settle_through(world.before + min(world.behind, len(world.fates)))
    delivery_rows = []
    for seq, (settled, exception) in enumerate(world.fates, world.before + 1):
        if settled:
            window.settle(seq)
        if exception is not None and window.is_settled(seq):
            state, attempts, reason = exception
            delivery_rows.append(DeliveryRow(seq, state, attempts, NOON, reason))
    named = {row.seq for row in delivery_rows}
    ranges = [
        each for each in _ranges(world) if all(_is_free(window, named, seq) for seq in range(each[0], each[1] + 1))
    ]
    return a_settle(
        listener,
        window.position,
        ahead=window.encode(),
        delivery_rows=tuple(delivery_rows),
        missed_ranges=tuple(MissedRange(first, last, "too_old", NOON) for first, last in ranges),
    )


def _ranges(world: World) -> list[tuple[int, int]]:
    found, seq = [], world.before + 1
    for gap, length in world.ranges:
        found.append((seq + gap, seq + gap + length - 1))
        seq += gap + length
    return found


def _is_free(window: Window, named: set[int], seq: int) -> bool:
    return window.is_settled(seq) and seq not in named


async def _expected(store: Store, queue: Queue, listener: Listener) -> list[tuple[str, str, int, DeliveryState]]:
    """Id, alias, time and state of each message that is for the listener, newest first, as it says itself."""

    async def work(tx: Transaction) -> list[tuple[str, str, int, DeliveryState]]:
        found = []
        for number in range(FIRST + 60, FIRST - 1, -1):
            message = await read_message(tx, queue, public_id(number))
            of = [] if message is None else await read_deliveries(tx, message)
            if message is not None and of:
                found.append((message.id, message.alias, message.stored_at, of[0].state))
        return found

    del listener
    return await store.read(work)


def _lists(queue: Queue) -> list[Pages]:
    confined = {public_id(number) for number in range(FIRST, FIRST + 60, 3)}
    return [
        lambda tx, selection: messages.page(tx, OURS, selection),
        lambda tx, selection: messages.page_of_queue(tx, queue, selection),
        lambda tx, selection: messages.page(tx, OURS, selection, {queue.public_id, public_id(FIRST)}),
        lambda tx, selection: messages.page_of_queue(tx, queue, selection, confined),
    ]


async def _compare(store: Store, world: World, *, is_cut: bool) -> None:
    queue, listener = await _made(store, world)
    whole = await _expected(store, queue, listener)
    confined = {public_id(number) for number in range(FIRST, FIRST + 60, 3)}
    times = (None, NOON + FIRST + 3, NOON + FIRST + 8)
    for index, pages in enumerate(_lists(queue)):
        for state, alias, after in product((None, *STATES), (None, "orders", public_id(FIRST + 2)), times):
            selection = Selection(
                per_page=3, alias=alias, created_after=after, listener=listener.public_id, state=state
            )
            expected = [
                message
                for message, called, at, found in whole
                if state in (None, found)
                and alias in (None, called)
                and (after is None or at > after)
                and (index < 3 or message in confined)
            ]
            if not is_cut:
                await check(store, pages, selection, expected)
                continue
            assert await forwards(store, pages, selection) == expected, selection
            newest_but_none = await backwards(store, pages, selection, public_id(FIRST - 1))
            assert newest_but_none == expected, selection


def _with_store(engine_name: str, world: World, *, is_cut: bool) -> None:
    with (
        tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder,
        asyncio.Runner() as runner,
        opened_store(runner, engine_name, Path(folder)) as store,
    ):
        runner.run(asyncio.wait_for(_compare(store, world, is_cut=is_cut), 60))


@pytest.mark.parametrize("engine_name", sorted(ENGINES))
@settings(max_examples=12 if EVERYWHERE else 3)
@given(world=worlds)
def test_a_list_of_a_state_has_the_messages_that_are_in_it(engine_name: str, world: World) -> None:
    _with_store(engine_name, world, is_cut=False)


@settings(max_examples=20 if EVERYWHERE else 6)
@given(world=worlds)
def test_a_list_that_is_cut_short_again_and_again_loses_nothing(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message_filters, "_LIMITS", ScanLimits(None, 2, 3, 20_000))
        patch.setattr(message_filters, "_LIMITS_OF_STATE_AMONG", ScanLimits(2, 2, 2, 20_000))
        patch.setattr(listener_states, "LIMITS", ScanLimits(2, 2, 2, 20_000))
        for name in ("_ROWS_AT_ONCE", "_INTERVALS_AT_ONCE"):
            patch.setattr(listener_states, name, 2)
        _with_store("sqlite", world, is_cut=True)


async def _with_a_range(store: Store, length: int) -> tuple[Queue, Listener]:
    """Three acknowledged messages, many missed in one range, and two acknowledged."""
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 20)
    total = length + 5
    entries = tuple(NewEntry(public_id(FIRST + index), JSON_VALUE, b"1") for index in range(total))
    for start in range(0, total, 500):
        await store.append(Append(OURS, queue.id, 1, NOON, entries[start : start + 500]))
    ranges = (MissedRange(4, length + 3, "too_old", NOON),)
    await store.settle(a_settle(listener, total, acknowledged=5, missed=length, missed_ranges=ranges))
    return queue, listener


async def test_a_long_missed_range_is_passed_in_one_step(store: Store) -> None:
    _, listener = await _with_a_range(store, 6_000)
    selection = Selection(listener=listener.public_id, state="acknowledged")
    page = await store.read(lambda tx: messages.page(tx, OURS, selection))
    assert len(page.items) == 5
    assert not page.has_next


async def test_consecutive_missed_messages_are_passed_in_one_step(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_states, "LIMITS", ScanLimits(10, 10, 10))
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 20)
    entries = tuple(NewEntry(public_id(FIRST + seq), JSON_VALUE, b"1") for seq in range(1, 106))
    await store.append(Append(OURS, queue.id, 1, NOON, entries))
    missed = tuple(DeliveryRow(seq, "missed", 3, NOON, "attempts_used_up") for seq in range(4, 104))
    await store.settle(a_settle(listener, 105, acknowledged=5, missed=100, delivery_rows=missed))
    selection = Selection(listener=listener.public_id, state="acknowledged")

    async def page(**place: str) -> Listing[StoredMessage]:
        selected = msgspec.structs.replace(selection, **place)
        return await store.read(lambda tx: messages.page(tx, OURS, selected))

    assert [each.seq for each in (await page()).items] == [105, 104, 3, 2, 1]
    assert [each.seq for each in (await page(before=public_id(FIRST + 1))).items] == [105, 104, 3, 2]
    # Of more rows than a step looks at, it passes some.
    monkeypatch.setattr(listener_states, "_ROWS_AT_ONCE", 60)
    newest = await page()
    assert [each.seq for each in newest.items] == [105, 104]
    assert newest.resumes_after == public_id(FIRST + 104)
    assert [each.seq for each in (await page(after=public_id(FIRST + 40))).items] == [3, 2, 1]
    # If none of these is in the state, the page is empty, and says where to go on.
    monkeypatch.setattr(listener_states, "_ROWS_AT_ONCE", 5)
    older, newer = await page(after=public_id(FIRST + 90)), await page(before=public_id(FIRST + 20))
    assert (older.items, older.has_next, older.resumes_after) == ((), True, public_id(FIRST + 85))
    assert (newer.items, newer.has_previous, newer.resumes_before) == ((), True, public_id(FIRST + 25))


async def test_message_far_below_other_states_comes_on_a_later_page(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_states, "LIMITS", ScanLimits(50, 50, 50, 300))
    _, listener = await _with_a_range(store, 600)
    retries = tuple(DeliveryRow(seq, "retry", 1, NOON, "") for seq in range(204, 604))
    await store.settle(a_settle(listener, 605, version=1, delivery_rows=retries))
    selection = Selection(listener=listener.public_id, state="missed")
    page = await store.read(lambda tx: messages.page(tx, OURS, selection))
    assert (page.items, page.has_next) == ((), True)
    assert page.resumes_after is not None
    missed = [public_id(FIRST + seq - 1) for seq in range(203, 3, -1)]
    assert await forwards(store, lambda tx, each: messages.page(tx, OURS, each), selection) == missed
    far = Selection(listener=listener.public_id, state="missed", page=2)
    with pytest.raises(BadRequest) as refused:
        await store.read(lambda tx: messages.page(tx, OURS, far))
    assert refused.value.faults[0].pointer == "?page"


@pytest.mark.parametrize("of_queue", [True, False])
async def test_unknown_or_foreign_listener_is_refused(store: Store, of_queue: bool) -> None:  # noqa: FBT001
    queue, elsewhere = await stored_queue(store, OURS, 10), await stored_queue(store, OURS, 11)
    stranger = a_queue(row_id(2), 12)
    await store.write(lambda tx: queues.insert(tx, stranger))
    gone, theirs = await stored_listener(store, queue, 20), await stored_listener(store, stranger, 21)
    other = await stored_listener(store, elsewhere, 22)
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, gone.id, NOON))
    for named in (gone, theirs, *([other] if of_queue else [])):
        selection = Selection(listener=named.public_id)
        with pytest.raises(BadRequest) as refused:
            await store.read(
                lambda tx, selection=selection: (  # type: ignore[misc]
                    messages.page_of_queue(tx, queue, selection) if of_queue else messages.page(tx, OURS, selection)
                )
            )
        assert refused.value.faults[0].pointer == "?listener"
