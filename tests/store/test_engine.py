"""The specification of `discue.store.engine.Engine`, for every engine."""

import asyncio

import pytest
from msgspec.structs import replace

from discue.domain.attempts import Attempt
from discue.domain.errors import StoreUnavailable
from discue.domain.message_data import JSON_VALUE, TEXT
from discue.domain.model import Queue
from discue.store import feed, listeners, purge, queues, workers
from discue.store.cursors import lanes_after
from discue.store.engine import (
    FREE_IN_SNAPSHOT,
    Append,
    Appended,
    Batch,
    DeliveryRow,
    MissedRange,
    NewEntry,
    QueueClosed,
    Settle,
    Transaction,
    UniqueViolation,
)
from discue.store.store import Store
from tests.store.rows import (
    a_listener,
    a_queue,
    a_settle,
    an_append,
    appended,
    head_of,
    public_id,
    publish,
    row_id,
    rows,
    settled,
    stored_listener,
    stored_organization,
    stored_queue,
    take_all,
)
from tests.support.clocks import NOON

ORGANIZATION = row_id(1)
OWNER = 77


def seqs(answer: Appended | Exception) -> list[int]:
    assert isinstance(answer, Appended)
    return [entry.seq for entry in answer.entries]


async def test_appended_messages_are_numbered_without_gaps_in_the_order_given(store: Store) -> None:
    first, second = [await stored_queue(store, ORGANIZATION, number) for number in (10, 11)]
    answers = await appended(
        store,
        an_append(first, 100, 3),
        an_append(second, 200),
        an_append(first, 103, 2),
        an_append(second, 201, 2),
        an_append(first, 105),
    )
    assert [seqs(answer) for answer in answers] == [[1, 2, 3], [1], [4, 5], [2, 3], [6]]
    assert seqs((await appended(store, an_append(first, 106)))[0]) == [7]
    page = await store.page(ORGANIZATION, first.id, 0, 100, max_bytes=1 << 20)
    assert [(entry.seq, entry.id) for entry in page.entries] == [(seq, public_id(99 + seq)) for seq in range(1, 8)]


async def test_a_batch_over_very_many_queues_numbers_each_of_them(store: Store) -> None:
    made = [await stored_queue(store, ORGANIZATION, number) for number in range(10, 160)]
    answers = await appended(store, *(an_append(queue, 1_000 + queue.id % 1_000, 2) for queue in made))
    assert [seqs(answer) for answer in answers] == [[1, 2]] * len(made)


async def test_append_returns_and_stores_the_same_entries(store: Store, queue: Queue) -> None:
    entries = (
        NewEntry(public_id(20), JSON_VALUE, b'{"a":1}', "an alias"),
        NewEntry(public_id(21), TEXT, b"\x00\xff"),
        NewEntry(public_id(22), TEXT, b""),
    )
    [answer] = await appended(store, Append(ORGANIZATION, queue.id, 1, NOON, entries))
    assert isinstance(answer, Appended)
    assert [(entry.id, entry.codec, entry.body) for entry in answer.entries] == [
        (entry.id, entry.codec, entry.body) for entry in entries
    ]
    page = await store.page(ORGANIZATION, queue.id, 0, 10, max_bytes=1 << 20)
    assert page.entries == answer.entries
    assert await rows(store, "SELECT alias, size FROM log ORDER BY seq") == [("an alias", 7), (None, 2), (None, 0)]


async def test_stored_at_never_falls_along_a_log(store: Store, queue: Queue) -> None:
    for first, now in ((100, NOON + 50), (101, NOON), (102, NOON + 40), (103, NOON + 60)):
        await appended(store, an_append(queue, first, now=now))
    page = await store.page(ORGANIZATION, queue.id, 0, 10, max_bytes=1 << 20)
    assert [entry.stored_at - NOON for entry in page.entries] == [50, 50, 50, 60]


async def test_append_to_a_deleted_queue_is_refused_and_the_others_are_stored(store: Store) -> None:
    queue, other = [await stored_queue(store, ORGANIZATION, number) for number in (10, 11)]
    await store.write(lambda tx: queues.mark_deleted(tx, ORGANIZATION, queue.id, NOON))
    never_there = a_queue(ORGANIZATION, 12)
    answers = await appended(store, an_append(queue, 100), an_append(other, 101), an_append(never_there, 102))
    assert [type(answer) for answer in answers] == [QueueClosed, Appended, QueueClosed]
    assert await rows(store, "SELECT count(*) FROM log") == [(1,)]


async def test_a_message_that_cannot_be_stored_fails_alone(troubled: tuple[Store, list[str]]) -> None:
    store, places = troubled
    queue = await stored_queue(store, ORGANIZATION, 10)
    await appended(store, an_append(queue, 100))
    # Its id is in the log already.
    answers = await appended(store, an_append(queue, 101), an_append(queue, 100), an_append(queue, 102))
    assert [isinstance(answer, Appended) for answer in answers] == [True, False, True]
    assert [seqs(answers[0]), seqs(answers[2])] == [[2], [3]]
    assert (await head_of(store, queue)).head == 3
    assert places == ["batch split", "commit of one"]


async def a_cursor(store: Store) -> tuple[Queue, Settle]:
    """A listener's cursor with an owner, and a settle that would change nothing in it."""
    organization = await stored_organization(store, 1)
    queue = await stored_queue(store, organization.id, 10)
    listener = await stored_listener(store, queue, 11)
    await store.write(lambda tx: take_all(tx, OWNER))
    [record] = await store.read(lambda tx: lanes_after(tx, OWNER, (0, 0, 0), 10))
    return queue, a_settle(listener, token=record.token, version=record.version)


def an_attempt(settle: Settle, number: int) -> Attempt:
    return Attempt(
        row_id(500 + number), settle.organization, settle.listener, settle.queue, 1, number, 500, "status", 9
    )


CURSOR = (
    "SELECT version, position, ahead, acknowledged, missed, retrying, last_success_at, last_failure_at, last_new_at "
    "FROM cursor"
)
BESIDE = "SELECT (SELECT count(*) FROM delivery), (SELECT count(*) FROM attempt), (SELECT count(*) FROM missed_range)"
DETAILS = "SELECT organization, id, listener, size, content FROM attempt_detail ORDER BY id"


def with_everything(settle: Settle) -> Settle:
    return replace(
        settle,
        position=5,
        ahead=b"\x02",
        acknowledged=3,
        missed=2,
        retrying=1,
        last_success_at=NOON + 1,
        last_failure_at=NOON + 2,
        last_new_at=NOON + 3,
        attempts=(an_attempt(settle, 1), an_attempt(settle, 2)),
        delivery_rows=(DeliveryRow(4, "retry", 2, NOON + 9, "failed"),),
        missed_ranges=(MissedRange(1, 2, "too_old", NOON),),
        details=((row_id(501), b"one"), (row_id(502), b"\0" * 20_000)),
    )


async def test_settle_stores_the_cursor_with_its_rows_and_attempts(store: Store) -> None:
    _, settle = await a_cursor(store)
    assert await settled(store, with_everything(settle)) == [True]
    assert await rows(store, CURSOR) == [(1, 5, b"\x02", 3, 2, 1, NOON + 1, NOON + 2, NOON + 3)]
    assert await rows(store, BESIDE) == [(1, 2, 1)]
    assert await rows(store, "SELECT seq, state, attempts, due_at, reason FROM delivery") == [
        (4, "retry", 2, NOON + 9, "failed")
    ]
    key = (settle.organization, settle.listener)
    assert await rows(store, DETAILS) == [
        (key[0], row_id(501), key[1], 3, b"one"),
        (key[0], row_id(502), key[1], 20_000, b"\0" * 20_000),
    ]


@pytest.mark.parametrize("stale", [{"token": 0}, {"token": 2}, {"version": 1}, {"stream": 1}])
async def test_a_settle_of_another_token_or_version_changes_nothing_at_all(store: Store, stale: dict[str, int]) -> None:
    _, settle = await a_cursor(store)
    before = await rows(store, CURSOR)
    assert await settled(store, replace(with_everything(settle), **stale)) == [False]
    assert await rows(store, CURSOR) == before
    assert await rows(store, BESIDE) == [(0, 0, 0)]
    assert await rows(store, DETAILS) == []


async def test_delivery_row_is_replaced_and_then_deleted(store: Store) -> None:
    _, settle = await a_cursor(store)
    one = DeliveryRow(4, "sending", 1, NOON, "")
    two = DeliveryRow(4, "retry", 2, NOON + 5, "failed")
    await settled(store, replace(settle, delivery_rows=(one,)))
    await settled(store, replace(settle, version=1, delivery_rows=(two,)))
    assert await rows(store, "SELECT state, attempts, due_at FROM delivery") == [("retry", 2, NOON + 5)]
    await settled(store, replace(settle, version=2, resolved=(4, 5)))
    assert await rows(store, BESIDE) == [(0, 0, 0)]


async def test_releasing_settle_gives_up_the_cursor_in_the_same_commit(store: Store) -> None:
    queue, settle = await a_cursor(store)
    other = await stored_listener(store, queue, 12)
    await store.write(lambda tx: take_all(tx, OWNER))
    stays = replace(settle, listener=other.id, token=1)
    sending = DeliveryRow(4, "sending", 2, NOON, "", sender=OWNER)
    is_leaving = replace(with_everything(settle), delivery_rows=(sending,), releases=True)
    assert await settled(store, is_leaving, stays) == [True, True]
    owners = f"SELECT owner, token, version FROM cursor ORDER BY listener = {other.id}"
    assert await rows(store, owners) == [(None, 2, 1), (OWNER, 1, 1)]
    assert await rows(store, "SELECT seq, state, sender FROM delivery") == [(4, "sending", OWNER)]
    assert await settled(store, replace(settle, version=1), replace(settle, token=2, version=1)) == [False, True]


async def test_a_settle_may_carry_thousands_of_attempts(store: Store) -> None:
    _, settle = await a_cursor(store)
    attempts = tuple(an_attempt(settle, number) for number in range(1, 2_100))
    delivery_rows = tuple(DeliveryRow(seq, "retry", 1, NOON, "failed") for seq in range(1, 300))
    assert await settled(store, replace(settle, attempts=attempts, delivery_rows=delivery_rows)) == [True]
    assert await rows(store, BESIDE) == [(299, 2_099, 0)]


async def test_a_key_that_is_taken_is_a_unique_violation_and_changes_nothing(store: Store) -> None:
    await stored_queue(store, ORGANIZATION, 10)

    async def twice(tx: Transaction) -> None:
        await queues.insert(tx, a_queue(ORGANIZATION, 11))
        await queues.insert(tx, a_queue(ORGANIZATION, 12, "queue-10"))

    with pytest.raises(UniqueViolation):
        await store.write(twice)
    assert await rows(store, "SELECT id FROM queue") == [(row_id(10),)]


async def test_a_statement_says_how_many_rows_it_changed(store: Store) -> None:
    for number in (10, 11, 12):
        await stored_queue(store, ORGANIZATION, number)

    async def work(tx: Transaction) -> tuple[int, int]:
        some = await tx.execute("UPDATE queue SET alias = id WHERE id > $1", row_id(10))
        return some, await tx.execute("UPDATE queue SET alias = id WHERE id > $1", row_id(99))

    assert await store.write(work) == (2, 0)


async def test_work_that_waits_for_something_else_is_refused(store: Store) -> None:
    async def waits(tx: Transaction) -> None:
        await queues.insert(tx, a_queue(ORGANIZATION, 10))
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited for something"):
        await store.write(waits)
    assert await rows(store, "SELECT count(*) FROM queue") == [(0,)]


async def test_a_read_sees_one_moment_of_the_database(store: Store, queue: Queue) -> None:

    async def look(tx: Transaction) -> tuple[object, object]:
        before = await tx.row("SELECT count(*) FROM log")
        committing = asyncio.run_coroutine_threadsafe(
            store.engine.commit(Batch(appends=(an_append(queue, 100),))), asyncio.get_running_loop()
        )
        assert not committing.done()
        return before, await tx.row("SELECT count(*) FROM log")

    assert await store.read(look) == ((0,), (0,))


async def test_a_read_cannot_write(troubled: tuple[Store, list[str]]) -> None:
    store, places = troubled
    await stored_queue(store, ORGANIZATION, 10)
    with pytest.raises(StoreUnavailable):
        await store.read(lambda tx: tx.execute("DELETE FROM queue"))
    assert await rows(store, "SELECT count(*) FROM queue") == [(1,)]
    assert places == ["read"]


async def test_error_of_a_read_reaches_the_caller_and_the_next_read_works(store: Store) -> None:
    async def fails(tx: Transaction) -> None:
        await tx.row("SELECT 1")
        raise LookupError("no")

    with pytest.raises(LookupError):
        await store.read(fails)
    assert await rows(store, "SELECT 1") == [(1,)]


async def test_a_page_starts_after_a_seq_and_has_at_most_as_many_rows(store: Store, queue: Queue) -> None:
    await publish(store, queue, [public_id(number) for number in range(20, 30)])
    page = await store.page(ORGANIZATION, queue.id, 3, 4, max_bytes=1 << 20)
    assert (page.head, page.through, [entry.seq for entry in page.entries]) == (10, 7, [4, 5, 6, 7])
    page = await store.page(ORGANIZATION, queue.id, 7, 4, max_bytes=1 << 20)
    assert (page.head, page.through, [entry.seq for entry in page.entries]) == (10, 10, [8, 9, 10])
    exact = await store.page(ORGANIZATION, queue.id, 6, 4, max_bytes=1 << 20)
    assert (exact.through, len(exact.entries)) == (10, 4)


async def test_a_page_is_cut_before_the_entry_that_makes_it_too_large_but_has_one(store: Store, queue: Queue) -> None:
    entries = tuple(NewEntry(public_id(number), JSON_VALUE, b"x" * 100) for number in range(20, 25))
    await appended(store, Append(ORGANIZATION, queue.id, 1, NOON, entries))
    page = await store.page(ORGANIZATION, queue.id, 0, 10, max_bytes=250)
    assert (page.head, page.through, [entry.seq for entry in page.entries]) == (5, 2, [1, 2])
    page = await store.page(ORGANIZATION, queue.id, 2, 10, max_bytes=0)
    assert (page.through, [entry.seq for entry in page.entries]) == (3, [3])


async def test_page_reaches_the_head_across_deleted_messages(store: Store, queue: Queue) -> None:
    await publish(store, queue, [public_id(number) for number in range(20, 28)])
    await store.write(lambda tx: tx.execute("DELETE FROM log WHERE seq IN (1, 4, 5, 7, 8)"))
    page = await store.page(ORGANIZATION, queue.id, 0, 100, max_bytes=1 << 20)
    assert (page.head, page.through, [entry.seq for entry in page.entries]) == (8, 8, [2, 3, 6])
    cut = await store.page(ORGANIZATION, queue.id, 0, 2, max_bytes=1 << 20)
    assert (cut.through, [entry.seq for entry in cut.entries]) == (3, [2, 3])
    await store.write(lambda tx: tx.execute("DELETE FROM log"))
    page = await store.page(ORGANIZATION, queue.id, 0, 100, max_bytes=1 << 20)
    assert (page.head, page.through, page.entries) == (8, 8, ())


@pytest.mark.parametrize("after", [0, 5])
async def test_a_page_of_an_empty_log_or_beyond_its_head_is_empty(store: Store, queue: Queue, after: int) -> None:
    page = await store.page(ORGANIZATION, queue.id, after, 100, max_bytes=1 << 20)
    assert (page.head, page.through, page.entries) == (0, after, ())


async def test_a_new_listener_starts_at_the_head_that_its_own_commit_sees(store: Store) -> None:
    """Messages that the same commit appends come before it."""
    queue, _ = await a_cursor(store)

    late = a_listener(queue, 12)

    async def create(tx: Transaction) -> None:
        head = await queues.head(tx, queue.organization, queue.id)
        assert head is not None
        await listeners.insert(tx, late, head.head)

    await store.engine.commit(Batch(appends=(an_append(queue, 100, 2),), works=(create,)))
    assert await rows(store, f"SELECT start_seq, position FROM cursor WHERE listener = {late.id}") == [(2, 2)]


async def test_a_poll_shows_everything_of_one_moment(store: Store) -> None:
    queue, _ = await a_cursor(store)
    silent = await stored_queue(store, ORGANIZATION, 20)
    free = [await stored_listener(store, queue, number) for number in (21, 22)]
    await publish(store, queue, [public_id(30), public_id(31)])
    await store.write(lambda tx: feed.record(tx, "queue", ORGANIZATION, queue.id))
    await store.write(lambda tx: workers.join(tx, 5, "all", 60_000))
    asked = [(ORGANIZATION, silent.id), (ORGANIZATION, queue.id), (ORGANIZATION, 99)]
    polled = await store.engine.poll(asked)
    assert polled.heads == {(ORGANIZATION, queue.id): 2, (ORGANIZATION, silent.id): 0}
    assert polled.free == tuple((ORGANIZATION, listener.id, 0) for listener in free)
    assert polled.feed_version == 1
    assert polled.epoch == await store.read(feed.epoch) != ""
    assert not polled.has_jobs
    [member] = polled.members
    assert (member.session_id, member.role, member.lease_ms, member.slot) == (5, "all", 60_000, 0)
    assert (member.dead, member.is_leaving) == (False, False)
    assert 50_000 < member.remaining_ms <= 60_000
    await store.write(lambda tx: purge.enqueue(tx, purge.Job(ORGANIZATION, row_id(40), "purge_queue", queue=queue.id)))
    assert (await store.engine.poll(())).has_jobs
    assert (await store.engine.poll(())).heads == {}


async def test_a_poll_shows_a_limited_number_of_free_cursors(store: Store) -> None:
    queue, _ = await a_cursor(store)

    async def many(tx: Transaction) -> None:
        for listener in range(FREE_IN_SNAPSHOT + 100, 0, -1):
            await tx.execute(
                "INSERT INTO cursor (organization, listener, stream, queue, owner, token, version, start_seq, "
                "position, acknowledged, missed, retrying, last_success_at, last_failure_at) "
                "VALUES ($1, $2, 0, $3, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
                ORGANIZATION,
                listener,
                queue.id,
            )

    await store.write(many)
    free = (await store.engine.poll(())).free
    assert free == tuple((ORGANIZATION, each, 0) for each in range(1, FREE_IN_SNAPSHOT + 1))


async def test_exclusive_writes_read_what_the_one_before_wrote_in_whatever_process(store: Store, second: Store) -> None:
    async def count(tx: Transaction) -> None:
        row = await tx.row("SELECT version FROM feed_head WHERE shard = 0")
        assert row is not None
        await tx.execute("UPDATE feed_head SET version = $1 WHERE shard = 0", row[0] + 1)

    writes = [each.write_exclusively(count) for _ in range(20) for each in (store, second)]
    await asyncio.gather(*writes)
    assert await rows(store, "SELECT version FROM feed_head") == [(40,)]


async def test_commit_of_one_process_is_announced_to_and_readable_by_another(store: Store, second: Store) -> None:
    queue = await stored_queue(store, ORGANIZATION, 10)
    heard = asyncio.Event()
    second.engine.listen(lambda _: heard.set(), lambda: None)
    store.has_other_workers = True
    # A new listener gets an unspecific notification, at the first commit at the latest. The others come after it.
    await stored_queue(store, ORGANIZATION, 11)
    await heard.wait()
    heard.clear()
    await publish(store, queue, [public_id(20)])
    await heard.wait()
    page = await second.page(ORGANIZATION, queue.id, 0, 10, max_bytes=1 << 20)
    assert [entry.id for entry in page.entries] == [public_id(20)]
    assert await second.read(feed.epoch) == await store.read(feed.epoch)


async def test_load_reads_a_snapshot_and_raises_what_its_work_raises(store: Store) -> None:
    queue = await stored_queue(store, ORGANIZATION, 10)
    await appended(store, an_append(queue, 100))

    async def read(tx: Transaction) -> list[int]:
        return [row[0] for row in await tx.rows("SELECT seq FROM log WHERE organization = $1", ORGANIZATION)]

    async def fail(tx: Transaction) -> None:
        await tx.rows("SELECT 1")
        raise LookupError("nothing here")

    assert await store.load(read) == [1]
    with pytest.raises(LookupError, match="nothing here"):
        await store.load(fail)
    loads = [asyncio.ensure_future(store.load(read)) for _ in range(3)]
    loads[0].cancel()
    assert await asyncio.gather(*loads[1:]) == [[1], [1]]
