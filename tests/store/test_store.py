"""Group commit: who shares one, what it may carry, who hears of it."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discue.domain.errors import Overloaded, StoreUnavailable
from discue.domain.message_data import JSON_VALUE
from discue.domain.model import Queue
from discue.store import queues
from discue.store.engine import (
    Append,
    Appended,
    Batch,
    BatchOutcome,
    DeliveryRow,
    NewEntry,
    Settle,
    StaleConfiguration,
    Transaction,
)
from discue.store.group_commit import SettleResult
from discue.store.sqlite.engine import SqliteEngine
from discue.store.store import Store
from tests.store.rows import (
    a_queue,
    a_settle,
    an_append,
    counts_of,
    public_id,
    row_id,
    rows,
    stored_listener,
    stored_organization,
    stored_queue,
    take_all,
)
from tests.support.clocks import NOON, StandingClock
from tests.support.memory import folder_in_memory
from tests.support.stores import ENGINES, opened_store

ORGANIZATION = row_id(1)
OTHERS = row_id(2)
ROWS, BYTES = 512, 1 << 20
WAITING_BYTES = 1 << 20


class Watched(SqliteEngine):
    """Notes what each commit carried; may be held, and may fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, report=lambda *_: None)
        self.batches: list[Batch] = []
        self.failing: Exception | None = None
        self._free = asyncio.Event()
        self._free.set()

    async def commit(self, batch: Batch) -> BatchOutcome:
        await self._free.wait()
        self.batches.append(batch)
        if self.failing is not None:
            raise self.failing
        return await super().commit(batch)

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()


class House(msgspec.Struct, frozen=True):
    store: Store
    engine: Watched
    queue: Queue


@pytest.fixture
def house(runner: asyncio.Runner, tmp_path: Path) -> Iterator[House]:
    async def build() -> House:
        engine = Watched(tmp_path / "discue.db")
        await engine.open()
        store = Store(engine, max_waiting_bytes=WAITING_BYTES)
        queue = await stored_queue(store, ORGANIZATION, 10)
        engine.batches.clear()
        return House(store, engine, queue)

    made = runner.run(build())
    yield made
    runner.run(made.engine.close())


async def _begun(*waiting: Any) -> list[asyncio.Future[Any]]:
    """Everybody waits for the store."""
    futures = [asyncio.ensure_future(each) for each in waiting]
    await asyncio.sleep(0)
    return futures


async def _carried_out(house: House, *waiting: Any) -> list[Any]:
    """Let all of them wait for the store at once, and return their results."""
    house.engine.hold()
    futures = await _begun(*waiting)
    house.engine.release()
    return await asyncio.gather(*futures)


async def test_publishes_that_wait_share_a_commit(house: House) -> None:
    answers = await _carried_out(
        house, *(house.store.append(an_append(house.queue, 100 + number)) for number in range(50))
    )
    assert [answer.entries[0].seq for answer in answers] == list(range(1, 51))
    assert sum(len(batch.appends) for batch in house.engine.batches) == 50
    assert len(house.engine.batches) <= 2


@pytest.mark.parametrize(("count", "rows", "size"), [(500, 3, 2), (3, 1, 300_000)])
async def test_a_commit_carries_so_many_rows_and_bytes_of_messages(
    house: House, count: int, rows: int, size: int
) -> None:
    appends = [an_append(house.queue, 100 + rows * number, rows, size) for number in range(count)]
    await _carried_out(house, *map(house.store.append, appends))
    carried = [batch.appends for batch in house.engine.batches]
    assert [append for part in carried for append in part] == appends
    assert max(sum(len(append.entries) for append in part) for part in carried) <= ROWS
    assert max(sum(append.bytes for append in part) for part in carried) <= BYTES
    assert len(carried) <= 5


@pytest.mark.parametrize("sizes", [[400_000] * 5, [1, BYTES + 1, 1]])
async def test_commit_takes_settles_up_to_a_number_of_bytes(house: House, sizes: list[int]) -> None:
    settles = [_with_detail(house.queue, size) for size in sizes]
    await _carried_out(house, *map(house.store.settle, settles))
    carried = [[settle.bytes for settle in batch.settles] for batch in house.engine.batches]
    assert [size for part in carried for size in part] == sizes
    assert all(sum(part[:-1]) < BYTES for part in carried)
    assert len(carried) > 1


class Source:
    """Settles the details that it has when a commit begins."""

    def __init__(self, queue: Queue, on_result: Callable[[SettleResult], None] | None = None) -> None:
        self.size = 1
        self.taken: list[int] = []
        self.results: list[SettleResult] = []
        self._queue = queue
        self._on_result = on_result or self.results.append

    def take(self) -> Settle | None:
        if self.size < 0:
            raise LookupError("no cursor")
        self.taken.append(self.size)
        return _with_detail(self._queue, self.size) if self.size else None

    def on_result(self, result: SettleResult) -> None:
        self._on_result(result)


async def test_changes_are_taken_when_their_commit_begins(house: House) -> None:
    source = Source(house.queue)
    house.engine.hold()
    [running] = await _begun(house.store.append(an_append(house.queue, 100)))
    house.store.add_settle(source, 1)
    source.size = 7
    house.engine.release()
    await running
    await house.store.write(_nothing)
    assert (source.taken, source.results) == ([7], [False])


async def test_source_without_changes_stores_nothing(house: House) -> None:
    source = Source(house.queue)
    source.size = 0
    house.store.add_settle(source, 1)
    await house.store.write(_nothing)
    assert (source.taken, source.results) == ([0], [])
    assert all(not batch.settles for batch in house.engine.batches)


async def test_source_that_fails_disturbs_no_other(house: House) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def fail(result: SettleResult) -> None:
        raise LookupError("no lane")

    broken, deaf, well = Source(house.queue), Source(house.queue, fail), Source(house.queue)
    broken.size = -1
    for source in (broken, deaf, well):
        house.store.add_settle(source, 1)
    await house.store.write(_nothing)
    assert [type(result) for result in broken.results] == [LookupError]
    assert well.results == [False]
    assert [type(each["exception"]) for each in complaints] == [LookupError]


async def test_lanes_follow_a_commit_although_a_handler_of_heads_fails(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    commit = Watched.commit

    async def with_heads(engine: Watched, batch: Batch) -> BatchOutcome:
        return msgspec.structs.replace(await commit(engine, batch), heads={(ORGANIZATION, house.queue.id): 1})

    def fail(heads: object) -> None:
        raise LookupError("no lane")

    monkeypatch.setattr(Watched, "commit", with_heads)
    house.store.on_heads = [fail]
    source = Source(house.queue)
    house.store.add_settle(source, 1)
    await house.store.write(_nothing)
    assert source.results == [False]
    assert {type(each["exception"]) for each in complaints} == {LookupError}


async def test_many_lanes_follow_a_commit_in_turns(house: House) -> None:
    turns, order = [0], list[int]()

    def turn() -> None:
        turns[0] += 1
        asyncio.get_running_loop().call_soon(turn)

    asyncio.get_running_loop().call_soon(turn)
    for _ in range(300):
        house.store.add_settle(Source(house.queue, lambda _: order.append(turns[0])), 1)
    await house.store.write(_nothing)
    async with asyncio.timeout(10):
        while house.store.is_busy:  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0)
    assert len(order) == 300
    assert max(Counter(order).values()) == 64


async def _nothing(tx: Transaction) -> None:
    del tx


def _with_detail(queue: Queue, size: int) -> Settle:
    details = ((row_id(500), b"x" * size),)
    return Settle(ORGANIZATION, 1, 0, queue.id, 0, 0, 0, None, 0, 0, 0, 0, 0, details=details)


async def test_a_batch_that_is_larger_than_a_commit_goes_alone(house: House) -> None:
    sizes = (1, 1, 600, 1, 1)
    appends = [an_append(house.queue, 1_000 * index, size) for index, size in enumerate(sizes, 1)]
    answers = await _carried_out(house, *map(house.store.append, appends))
    assert [[len(append.entries) for append in batch.appends] for batch in house.engine.batches].count([600]) == 1
    assert [entry.seq for answer in answers for entry in answer.entries] == list(range(1, 605))


async def test_more_rows_than_may_wait_are_refused_at_once_and_room_comes_back(house: House) -> None:
    house.engine.hold()
    futures = await _begun(*(house.store.append(an_append(house.queue, 1_000 * each, 500)) for each in range(1, 11)))
    with pytest.raises(Overloaded) as refusal:
        await house.store.append(an_append(house.queue, 50_000))
    assert refusal.value.retry_after_seconds == 1
    house.engine.release()
    answers = await asyncio.gather(*futures, return_exceptions=True)
    assert sum(isinstance(answer, Overloaded) for answer in answers) <= 1
    assert isinstance(await house.store.append(an_append(house.queue, 60_000)), Appended)


async def test_more_bytes_than_may_wait_are_refused_at_once_and_room_comes_back(house: House) -> None:
    house.engine.hold()
    [first] = await _begun(house.store.append(an_append(house.queue, 100)))
    futures = await _begun(*(house.store.append(an_append(house.queue, 200 + each, 1, 400_000)) for each in range(2)))
    with pytest.raises(Overloaded):
        await house.store.append(an_append(house.queue, 300, 1, 400_000))
    house.engine.release()
    await asyncio.gather(first, *futures)
    assert isinstance(await house.store.append(an_append(house.queue, 400, 1, 400_000)), Appended)
    assert (house.store._waiting_rows, house.store._waiting_bytes) == (0, 0)


async def test_organization_that_fills_the_waiting_room_leaves_a_reserve_for_others(house: House) -> None:
    queue = await stored_queue(house.store, OTHERS, 20)
    house.engine.hold()
    [first] = await _begun(house.store.append(an_append(house.queue, 100)))
    await _begun()  # Now its commit has begun, too.
    filling = await _begun(*(house.store.append(an_append(house.queue, 200 + each, 1, 450_000)) for each in range(2)))
    with pytest.raises(Overloaded):
        await house.store.append(an_append(house.queue, 300, 1, 450_000))
    with pytest.raises(Overloaded):
        house.store.check_capacity(ORGANIZATION, 450_000)
    small = await _begun(*(house.store.append(an_append(queue, 400 + each, 1, 20_000)) for each in range(3)))
    with pytest.raises(Overloaded):
        await house.store.append(an_append(queue, 500, 1, 450_000))
    house.engine.release()
    await asyncio.gather(first, *filling, *small)
    carried = [append.organization for batch in house.engine.batches for append in batch.appends]
    assert carried[-5:] == [ORGANIZATION, OTHERS, OTHERS, OTHERS, ORGANIZATION]


async def test_commits_that_are_slow_for_one_organization_refuse_nothing_of_another(house: House) -> None:
    clock = StandingClock()
    store = Store(house.engine, max_waiting_bytes=WAITING_BYTES, monotonic=clock.monotonic)
    house.engine.hold()
    [under_way] = await _begun(store.append(an_append(house.queue, 100)))
    await _begun()
    clock.advance(2_000)
    waiting = await _begun(*(store.append(an_append(house.queue, 1_000 * each, 300)) for each in range(1, 3)))
    with pytest.raises(Overloaded):
        store.check_capacity(ORGANIZATION)
    store.check_capacity(OTHERS)
    house.engine.release()
    await asyncio.gather(under_way, *waiting)


async def test_slow_commits_limit_the_waiting_publishes_until_they_are_fast_again(house: House) -> None:
    clock = StandingClock()
    store = Store(house.engine, max_waiting_bytes=WAITING_BYTES, monotonic=clock.monotonic)
    house.engine.hold()
    [under_way] = await _begun(store.append(an_append(house.queue, 100)))
    await _begun()  # Now its commit has begun, too.
    clock.advance(2_000)
    waiting = await _begun(*(store.append(an_append(house.queue, 1_000 * each, 300)) for each in range(1, 3)))
    with pytest.raises(Overloaded):
        store.check_capacity(ORGANIZATION)
    with pytest.raises(Overloaded):
        await store.append(an_append(house.queue, 5_000))
    house.engine.release()
    answers = await asyncio.gather(under_way, *waiting)
    assert all(isinstance(answer, Appended) for answer in answers), "a commit's worth may wait, however long they take"
    store.check_capacity(ORGANIZATION)


async def test_a_stall_that_is_over_refuses_nobody_who_fits_into_the_next_commit(house: House) -> None:
    clock = StandingClock()
    store = Store(house.engine, max_waiting_bytes=WAITING_BYTES, monotonic=clock.monotonic)
    house.engine.hold()
    [stalled] = await _begun(store.append(an_append(house.queue, 100)))
    await _begun()
    clock.advance(60_000)
    house.engine.release()
    await stalled
    assert isinstance(await store.append(an_append(house.queue, 200, 500)), Appended)


async def test_cancelled_caller_does_not_cancel_its_commit(house: House) -> None:
    house.engine.hold()
    leaving, staying = await _begun(
        house.store.append(an_append(house.queue, 100)), house.store.append(an_append(house.queue, 101))
    )
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    house.engine.release()
    assert (await staying).entries[0].seq == 2
    page = await house.store.page(ORGANIZATION, house.queue.id, 0, 10, max_bytes=1 << 20)
    assert [entry.id for entry in page.entries] == [public_id(100), public_id(101)]


async def test_a_failure_reaches_everybody_who_waits(house: House) -> None:
    house.engine.failing = StoreUnavailable()
    house.engine.hold()

    async def work(tx: Transaction) -> None:
        await tx.row("SELECT 1")

    futures = await _begun(
        house.store.append(an_append(house.queue, 100)),
        house.store.write(work),
        house.store.append(an_append(house.queue, 101)),
    )
    house.engine.release()
    answers = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert not house.store.healthy
    assert (house.store._waiting_rows, house.store._waiting_bytes) == (0, 0)
    house.engine.failing = None
    assert isinstance(await house.store.append(an_append(house.queue, 102)), Appended)
    assert house.store.healthy


async def test_lanes_hear_of_messages_in_their_order_and_only_when_they_are_stored(house: House) -> None:
    heard: list[int] = []
    stored: list[tuple[int, int]] = []

    def hear(appended: Appended) -> None:
        heard.extend(entry.seq for entry in appended.entries)
        [(count,)] = house.engine._reader.execute("SELECT count(*) FROM log").fetchall()
        stored.append((appended.entries[-1].seq, int(str(count))))

    house.store.on_append = [hear]
    await asyncio.gather(*(house.store.append(an_append(house.queue, 100 + 2 * each, 2)) for each in range(40)))
    assert heard == list(range(1, 81))
    # Once for each commit: several publishes share one.
    assert len(stored) < 40
    assert all(count >= last for last, count in stored)


async def test_messages_with_others_between_them_are_announced_apart(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a batch that fails as a whole are stored in commits of their own, between which others may store."""
    heard: list[list[int]] = []
    house.store.on_append = [lambda appended: heard.append([entry.seq for entry in appended.entries])]
    commit = Watched.commit

    async def with_a_gap(engine: Watched, batch: Batch) -> BatchOutcome:
        outcome = await commit(engine, batch)
        first, second, third = outcome.appends
        assert isinstance(second, Appended)
        elsewhere = [msgspec.structs.replace(entry, seq=entry.seq + 1) for entry in second.entries]
        return msgspec.structs.replace(
            outcome, appends=[first, msgspec.structs.replace(second, entries=tuple(elsewhere)), third]
        )

    monkeypatch.setattr(Watched, "commit", with_a_gap)
    await _carried_out(house, *(house.store.append(an_append(house.queue, 100 + each)) for each in range(3)))
    assert heard == [[1], [3], [3]]


async def test_append_that_was_not_stored_is_not_announced(house: House) -> None:
    heard: list[Appended] = []
    house.store.on_append = [heard.append]
    stale = msgspec.structs.replace(an_append(house.queue, 100), config_version=5)
    answers = await asyncio.gather(
        house.store.append(stale), house.store.append(an_append(house.queue, 101)), return_exceptions=True
    )
    assert isinstance(answers[0], Exception)
    assert heard == [answers[1]]


async def test_publishers_get_results_if_a_lane_fails_to_take_their_messages(house: House) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def fail(appended: Appended) -> None:
        raise LookupError("no lane")

    house.store.on_append = [fail]
    first, second = await asyncio.gather(
        house.store.append(an_append(house.queue, 100)), house.store.append(an_append(house.queue, 101))
    )
    assert (first.entries[0].seq, second.entries[0].seq) == (1, 2)
    # Both publishes may share a commit.
    assert {type(each["exception"]) for each in complaints} == {LookupError}
    await house.store.append(an_append(house.queue, 102))


class Step(msgspec.Struct, frozen=True):
    """A call of the store, in the same commit as others."""

    what: str
    queue: int
    number: int


STEPS = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(["append", "append", "stale append", "settle", "stale settle", "work", "failing work"]),
        queue=st.integers(0, 2),
        number=st.integers(1, 70),
    ),
    max_size=12,
)


class Model:
    """The effect that each step must have, and the rows that are stored in the end."""

    def __init__(self, store: Store, made: list[Queue], cursors: list[Settle]) -> None:
        self.store = store
        self.made = made
        self.cursors = cursors
        self.heads = [0, 0, 0]
        self.delivery_rows: list[set[int]] = [set(), set(), set()]
        self.works = 0

    async def carry_out(self, steps: list[Step]) -> None:
        """Carry out all steps at once: appends and works keep their order, and so do settles."""
        self._settled: set[int] = set()
        expected, waiting = [], []
        for step in steps:
            do = self._append if "append" in step.what else self._settle if "settle" in step.what else self._work
            right, call = do(step)
            expected.append(right)
            waiting.append(call)
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        for answer, right in zip(answers, expected, strict=True):
            if isinstance(answer, Appended):
                assert [entry.seq for entry in answer.entries] == right
            elif isinstance(right, type):
                assert isinstance(answer, right)
            else:
                assert answer == right
        for queue in self._settled:
            moved = self.cursors[queue]
            self.cursors[queue] = msgspec.structs.replace(moved, version=moved.version + 1, delivery_rows=())

    def _append(self, step: Step) -> tuple[object, Any]:
        head, is_stale = self.heads[step.queue], step.what == "stale append"
        ids = [f"{row_id(1_000) + head + each:020}{step.queue}" for each in range(step.number)]
        entries = tuple(NewEntry(each, JSON_VALUE, b"") for each in ids)
        call = self.store.append(Append(ORGANIZATION, self.made[step.queue].id, 2 if is_stale else 1, NOON, entries))
        if is_stale:
            return StaleConfiguration, call
        self.heads[step.queue] += step.number
        return list(range(head + 1, head + step.number + 1)), call

    def _settle(self, step: Step) -> tuple[object, Any]:
        """Settle: of several in one commit for one cursor, the first is applied."""
        rows = (DeliveryRow(step.number, "retry", 1, NOON, ""),)
        settle = msgspec.structs.replace(self.cursors[step.queue], acknowledged=step.number, delivery_rows=rows)
        if step.what == "stale settle":
            return False, self.store.settle(msgspec.structs.replace(settle, token=settle.token + 1))
        if step.queue in self._settled:
            return False, self.store.settle(settle)
        self._settled.add(step.queue)
        self.cursors[step.queue] = settle
        self.delivery_rows[step.queue].add(step.number)
        return True, self.store.settle(settle)

    def _work(self, step: Step) -> tuple[object, Any]:
        is_failing = step.what == "failing work"

        async def work(tx: Transaction) -> None:
            await tx.execute("UPDATE feed_head SET version = version + 1")
            if is_failing:
                raise LookupError("no")

        self.works += not is_failing
        return LookupError if is_failing else None, self.store.write(work)

    async def check(self) -> None:
        for queue, head, cursor, delivery_rows in zip(
            self.made, self.heads, self.cursors, self.delivery_rows, strict=True
        ):
            page = await self.store.page(ORGANIZATION, queue.id, 0, 10_000, max_bytes=1 << 20)
            assert [entry.seq for entry in page.entries] == list(range(1, head + 1))
            assert page.head == head
            assert (await counts_of(self.store, ORGANIZATION, cursor.listener)).acknowledged == cursor.acknowledged
            kept = await rows(self.store, f"SELECT seq FROM delivery WHERE queue = {queue.id}")
            assert {seq for (seq,) in kept} == delivery_rows
        assert await rows(self.store, "SELECT version FROM feed_head") == [(self.works,)]


@pytest.mark.parametrize("engine_name", sorted(ENGINES))
@settings(max_examples=15)
@given(commits=st.lists(STEPS, min_size=1, max_size=5))
def test_the_store_does_what_a_simple_model_does(engine_name: str, commits: list[list[Step]]) -> None:
    with (
        tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder,
        asyncio.Runner() as runner,
        opened_store(runner, engine_name, Path(folder), lambda *_: None) as store,
    ):
        runner.run(asyncio.wait_for(_walk(store, commits), 20))


async def _walk(store: Store, commits: list[list[Step]]) -> None:
    made = [a_queue(ORGANIZATION, 10 + index) for index in range(3)]
    cursors: list[Settle] = []
    await stored_organization(store, 1)
    for index, queue in enumerate(made):
        await store.write(partial(queues.insert, queue=queue))
        listener = await stored_listener(store, queue, 20 + index)
        await store.write(lambda tx: take_all(tx, 7))
        cursors.append(a_settle(listener, token=1))
    model = Model(store, made, cursors)
    for steps in commits:
        await model.carry_out(steps)
    await model.check()
