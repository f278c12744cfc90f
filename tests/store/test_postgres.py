"""The PostgreSQL engine with several processes, and with other sessions on the server."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest
from msgspec.structs import replace

from discue.domain.errors import StoreUnavailable, Unprocessable
from discue.domain.message_data import JSON_VALUE
from discue.store import queues, workers
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    Batch,
    DeliveryRow,
    IdempotencyRecord,
    NewEntry,
    Notification,
    StaleConfiguration,
    Transaction,
    UniqueViolation,
)
from discue.store.postgres import notify
from tests.store.postgres_engine import ORGANIZATION, QUEUE, Opened, becomes, blocked, database_of, gate, held, opened
from tests.store.rows import a_queue, an_append, public_id, row_id
from tests.support.clocks import NOON
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database
from tests.support.postgres.session import Session
from tests.support.stores import migrated_template, store_on


@pytest.fixture
def address(runner: asyncio.Runner, postgres_cluster: Cluster) -> Iterator[str]:
    with new_database(postgres_cluster, migrated_template()) as dsn:
        yield dsn


@pytest.fixture
def made(runner: asyncio.Runner, address: str) -> Iterator[Opened]:
    made = Opened(address)
    with store_on(runner, made.engine):
        yield made


@pytest.fixture
def session(postgres_cluster: Cluster, address: str) -> Iterator[Session]:
    """Another client of the database."""
    with postgres_cluster.connect(database_of(address)) as session:
        yield session


async def test_heads_are_locked_in_the_order_of_their_keys(
    postgres_cluster: Cluster, made: Opened, session: Session
) -> None:
    """Otherwise two batches could wait for each other."""
    higher = a_queue(ORGANIZATION, 12)
    await made.lay()
    await made.work(partial(queues.insert, queue=higher))
    appends = [an_append(queue, 100 + queue.id % 99) for queue in (higher, QUEUE)]
    session.run(f"BEGIN; SELECT 1 FROM queue_head WHERE queue = {QUEUE.id} FOR UPDATE")
    waiting = asyncio.ensure_future(made.engine.commit(Batch(appends=appends)))
    await blocked(postgres_cluster)
    session.run(f"SELECT 1 FROM queue_head WHERE queue = {higher.id} FOR UPDATE NOWAIT; COMMIT")
    assert [type(answer) for answer in (await waiting).appends] == [Appended, Appended]


async def test_cursors_are_locked_in_the_order_of_their_keys(
    postgres_cluster: Cluster, made: Opened, session: Session
) -> None:
    settle = await made.lay()
    higher = replace(settle, stream=1)
    copied = "organization, listener, 1, queue, owner, token, version, start_seq, until_seq, position, ahead"
    counts = "acknowledged, missed, retrying, last_success_at, last_failure_at"
    await made.work(lambda tx: tx.execute(f"INSERT INTO cursor SELECT {copied}, {counts} FROM cursor"))
    session.run("BEGIN; SELECT 1 FROM cursor WHERE stream = 0 FOR UPDATE")
    waiting = asyncio.ensure_future(made.engine.commit(Batch(settles=[higher, settle])))
    await blocked(postgres_cluster)
    session.run("SELECT 1 FROM cursor WHERE stream = 1 FOR UPDATE NOWAIT; COMMIT")
    assert (await waiting).settles == [True, True]


async def test_worker_renews_its_lease_while_its_claim_waits_for_a_cursor(
    postgres_cluster: Cluster, made: Opened, session: Session
) -> None:
    """A worker that hangs in a transaction must not take the leases of those that claim the same cursors."""
    settle = await made.lay()
    await made.work(partial(workers.join, session_id=8, role="all", lease_ms=60_000))
    session.run("UPDATE cursor SET owner = NULL")
    session.run("BEGIN; SELECT 1 FROM cursor FOR UPDATE")
    cursors = [(settle.organization, settle.listener, settle.stream)]
    waiting = asyncio.ensure_future(made.work(partial(workers.claim_cursors, session_id=8, cursors=cursors)))
    await blocked(postgres_cluster)
    assert await asyncio.wait_for(made.work(partial(workers.renew, session_id=8, lease_ms=60_000)), timeout=5)
    session.run("COMMIT")
    assert await waiting == cursors


async def test_append_sees_a_change_that_it_waited_for(
    postgres_cluster: Cluster, made: Opened, session: Session
) -> None:
    await made.lay()
    session.run("BEGIN; UPDATE queue_head SET head = 41, last_stored_at = 1750000000999")
    waiting = asyncio.ensure_future(made.append(100))
    await blocked(postgres_cluster)
    session.run("COMMIT")
    answer = await waiting
    assert isinstance(answer, Appended)
    assert [(entry.seq, entry.stored_at) for entry in answer.entries] == [(42, 1_750_000_000_999)]
    session.run("BEGIN; UPDATE queue_head SET config_version = 2")
    waiting = asyncio.ensure_future(made.append(101))
    await blocked(postgres_cluster)
    session.run("COMMIT")
    assert isinstance(await waiting, StaleConfiguration)
    assert await made.stored() == [public_id(100)]


async def test_a_settle_that_waited_for_the_one_who_took_the_cursor_changes_nothing(
    postgres_cluster: Cluster, made: Opened, session: Session
) -> None:
    settle = replace(await made.lay(), position=3, delivery_rows=(DeliveryRow(2, "retry", 1, NOON, ""),))
    session.run("BEGIN; UPDATE cursor SET owner = 8, token = token + 1")
    waiting = asyncio.ensure_future(made.settle(settle))
    await blocked(postgres_cluster)
    session.run("COMMIT")
    assert await waiting is False
    assert await made.rows("SELECT owner, position FROM cursor") == [(8, 0)]
    assert await made.rows("SELECT seq FROM delivery") == []


async def test_settle_succeeds_while_its_rows_are_changed_concurrently(
    postgres_cluster: Cluster, made: Opened, session: Session
) -> None:
    rows = tuple(DeliveryRow(seq, "retry", 1, NOON, "") for seq in (4, 5, 6))
    settle = await made.lay()
    assert await made.settle(replace(settle, delivery_rows=rows)) is True
    session.run("BEGIN; UPDATE delivery SET due_at = 0 WHERE seq IN (4, 5)")
    again = DeliveryRow(5, "missed", 2, NOON, "failed")
    waiting = asyncio.ensure_future(made.settle(replace(settle, version=1, resolved=(4, 6), delivery_rows=(again,))))
    await blocked(postgres_cluster)
    session.run("COMMIT")
    assert await waiting is True
    assert await made.rows("SELECT seq, state, attempts, due_at FROM delivery") == [(5, "missed", 2, NOON)]


async def test_row_resolved_and_stored_in_one_settle_exists(made: Opened) -> None:
    settle = await made.lay()
    one, two = DeliveryRow(4, "retry", 1, NOON, ""), DeliveryRow(4, "retry", 2, NOON, "")
    assert await made.settle(replace(settle, delivery_rows=(one,))) is True
    assert await made.settle(replace(settle, version=1, resolved=(4,), delivery_rows=(one, two))) is True
    assert await made.rows("SELECT seq, attempts FROM delivery") == [(4, 2)]


async def test_a_work_that_is_chosen_to_end_a_deadlock_runs_again(postgres_cluster: Cluster, address: str) -> None:
    begun: list[int] = []

    async def crosses(tx: Transaction) -> str:
        begun.append(1)
        await tx.execute("UPDATE queue_head SET tail = 1")
        await held(tx)
        await tx.execute("UPDATE cursor SET missed = 1")
        return "done"

    postgres_cluster.run_sql(f"ALTER DATABASE {database_of(address)} SET deadlock_timeout = '10ms'")
    async with opened(address) as made:
        await made.lay()
        with gate(postgres_cluster, address) as gate_session, postgres_cluster.connect(database_of(address)) as session:
            # Who looks for a deadlock gives way: this one does not look.
            session.run("SET deadlock_timeout = '60s'; BEGIN; UPDATE cursor SET missed = 2")
            waiting = asyncio.ensure_future(made.work(crosses))
            await blocked(postgres_cluster)
            session.send("UPDATE queue_head SET tail = 2")
            await blocked(postgres_cluster, 2)
            gate_session.run("SELECT pg_advisory_unlock(5)")
            await asyncio.to_thread(session.answer)
            session.run("COMMIT")
        assert await waiting == "done"
        assert 2 <= len(begun) <= 5
        assert await made.rows("SELECT tail, missed FROM queue_head, cursor") == [(1, 1)]
        assert made.places == []


async def test_a_warning_of_a_statement_says_nothing_about_the_commit(made: Opened) -> None:
    """A session of a dead worker may end by itself just before it is ended."""

    async def work(tx: Transaction) -> str:
        await tx.rows("SELECT pg_terminate_backend(0)")
        await tx.execute("INSERT INTO meta (key, value) VALUES ('kept', '')")
        return "done"

    assert await made.work(work) == "done"
    assert await made.rows("SELECT key FROM meta WHERE key = 'kept'") == [("kept",)]


async def test_a_message_with_a_text_that_cannot_be_stored_fails_alone_and_says_why(made: Opened) -> None:
    await made.lay()
    for number, alias in ((200, "nul \0"), (210, "half \ud83d")):
        entries = [
            NewEntry(public_id(number + each), JSON_VALUE, b"{}", alias * (each == 1) or None) for each in range(3)
        ]
        appends = [Append(ORGANIZATION, QUEUE.id, 1, NOON, (entry,)) for entry in entries]
        answers = (await made.engine.commit(Batch(appends=appends))).appends
        assert [type(answer) for answer in answers] == [Appended, Unprocessable, Appended]
    assert len(await made.stored()) == 4
    assert made.places == ["batch split", "commit of one"] * 2
    assert not [error for error in made.errors if "nul" in str(error) or "half" in str(error)]


@pytest.mark.parametrize("is_alone", [False, True])
async def test_idempotency_key_that_another_worker_stores_at_the_moment_is_no_failure(
    postgres_cluster: Cluster, address: str, *, is_alone: bool
) -> None:
    record = IdempotencyRecord((1, 2), b"fingerprint", b"content", row_id(1))
    async with opened(address) as made:
        await made.lay()
        repeated = Append(ORGANIZATION, QUEUE.id, 1, NOON, (NewEntry(public_id(200), JSON_VALUE, b"{}"),), record)
        other = Append(ORGANIZATION, QUEUE.id, 1, NOON, (NewEntry(public_id(201), JSON_VALUE, b"{}"),))
        appends = (repeated,) if is_alone else (repeated, other)
        with postgres_cluster.connect(database_of(address)) as session:
            session.run("BEGIN; INSERT INTO idempotency_key (key, response) VALUES (1, 1)")
            committing = asyncio.ensure_future(made.engine.commit(Batch(appends=appends)))
            await blocked(postgres_cluster)
            session.run("COMMIT")
            results = (await committing).appends
        assert [type(result) for result in results] == [AlreadyDone, Appended][: len(appends)]
        assert await made.stored() == [public_id(201)][: len(appends) - 1]
        assert made.places == []


async def test_a_work_with_a_text_that_cannot_be_stored_fails_and_changes_nothing(made: Opened) -> None:
    async def tries(tx: Transaction) -> None:
        await queues.insert(tx, a_queue(ORGANIZATION, 20))
        await queues.insert(tx, a_queue(ORGANIZATION, 21, "nul \0"))

    assert isinstance(await made.work(tries), Unprocessable)
    assert await made.rows("SELECT id FROM queue") == []
    assert made.places == []


async def test_a_work_that_goes_on_after_a_statement_failed_is_not_taken_for_done(made: Opened) -> None:
    async def goes_on(tx: Transaction) -> str:
        await queues.insert(tx, a_queue(ORGANIZATION, 20))
        try:
            await queues.insert(tx, a_queue(ORGANIZATION, 20))
        except UniqueViolation:
            return "done"
        raise AssertionError

    assert isinstance(await made.work(goes_on), RuntimeError)
    assert await made.rows("SELECT id FROM queue") == []


def _in_transactions(address: str) -> str:
    """How many connections to a database wait within a transaction."""
    return f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database_of(address)}' AND state LIKE 'idle in%'"


async def test_a_read_that_is_cancelled_gives_its_connection_back_in_order(
    postgres_cluster: Cluster, made: Opened, address: str
) -> None:
    with gate(postgres_cluster, address) as session:
        reading = [asyncio.ensure_future(made.engine.read(held)) for _ in range(4)]
        await blocked(postgres_cluster, 4)
        for each in reading:
            each.cancel()
        await asyncio.wait(reading)
        assert all(each.cancelled() for each in reading)
        session.run("SELECT pg_advisory_unlock(5)")
    assert await asyncio.gather(*(made.rows("SELECT 1") for _ in range(8))) == [[(1,)]] * 8
    await becomes(lambda: postgres_cluster.run_sql(_in_transactions(address)) == [("0",)], "none is left open")
    assert made.places == []


async def test_a_commit_whose_caller_goes_away_stands(
    postgres_cluster: Cluster, made: Opened, session: Session
) -> None:
    await made.lay()
    session.run("BEGIN; UPDATE queue_head SET tail = 0")
    leaving = asyncio.ensure_future(made.append(100))
    await blocked(postgres_cluster)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    session.run("COMMIT")
    answer = await made.append(101)
    assert isinstance(answer, Appended)
    assert answer.entries[0].seq == 2
    assert await made.stored() == [public_id(100), public_id(101)]


async def test_more_reads_than_connections_wait_for_their_turn(made: Opened) -> None:
    assert await asyncio.gather(*(made.rows("SELECT 1") for _ in range(50))) == [[(1,)]] * 50
    sql = "SELECT count(*) <= 4 FROM pg_stat_activity WHERE datname = current_database()"
    assert await made.rows(sql) == [(True,)]


async def test_a_read_waits_for_a_connection_a_second_at_most(
    postgres_cluster: Cluster, made: Opened, address: str
) -> None:
    with gate(postgres_cluster, address) as session:
        reading = [asyncio.ensure_future(made.engine.read(held)) for _ in range(4)]
        await blocked(postgres_cluster, 4)
        with pytest.raises(StoreUnavailable):
            await made.rows("SELECT 1")
        assert not any(each.done() for each in reading)
        session.run("SELECT pg_advisory_unlock(5)")
        await asyncio.gather(*reading)
    assert await made.rows("SELECT 1") == [(1,)]


@pytest.mark.parametrize(("default", "kept"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
async def test_a_commit_is_durable_whatever_the_database_says_by_default(
    postgres_cluster: Cluster, address: str, default: str, kept: str
) -> None:
    postgres_cluster.run_sql(f"ALTER DATABASE {database_of(address)} SET synchronous_commit = '{default}'")
    shows = "SELECT setting, source FROM pg_settings WHERE name = 'synchronous_commit'"
    async with opened(address) as made:
        assert await made.work(lambda tx: tx.row(shows)) == (kept, "session")


async def test_reading_is_of_one_moment(postgres_cluster: Cluster, address: str) -> None:
    async with opened(address) as made, opened(address) as other:
        await made.lay()

        async def look(tx: Transaction) -> tuple[object, object]:
            before = await tx.row("SELECT head FROM queue_head")
            await held(tx)
            return before, await tx.row("SELECT head FROM queue_head")

        with gate(postgres_cluster, address) as session:
            reading = asyncio.ensure_future(made.engine.read(look))
            await blocked(postgres_cluster)
            assert isinstance(await other.append(100), Appended)
            session.run("SELECT pg_advisory_unlock(5)")
            assert await reading == ((0,), (0,))
        assert made.places == []


async def test_notification_reaches_other_engines_but_not_its_sender(address: str) -> None:
    async with opened(address) as one, opened(address) as two:
        await one.listen()
        await two.listen()
        heads = (((ORGANIZATION, QUEUE.id), 5),)
        one.engine.notify(Notification(feed=True))
        assert await two.hints.get() == Notification(feed=True)
        two.engine.notify(Notification(cursors=True, heads=heads))
        assert await one.hints.get() == Notification(cursors=True, heads=heads)
        assert one.hints.empty()
        assert two.hints.empty()


async def test_hints_are_told_together_with_the_newest_seq_of_each_queue(address: str) -> None:
    async with opened(address) as one, opened(address) as two:
        await two.listen()
        for seq in (3, 9, 6):
            one.engine.notify(Notification(heads=(((ORGANIZATION, 1), seq), ((ORGANIZATION, seq + 10), 1))))
        one.engine.notify(Notification(cursors=True))
        hint = await two.hints.get()
        assert (hint.feed, hint.cursors, hint.anything) == (False, True, False)
        assert dict(hint.heads) == {
            (ORGANIZATION, 1): 9,
            (ORGANIZATION, 13): 1,
            (ORGANIZATION, 19): 1,
            (ORGANIZATION, 16): 1,
        }
        assert one.places == []


@pytest.mark.parametrize(("queues_told", "hints_heard"), [(100, 1), (250, 3), (1_000, 10), (1_001, 1)])
async def test_many_heads_are_told_in_several_notifications(address: str, queues_told: int, hints_heard: int) -> None:
    """Beyond a thousand, one tells that anything may have changed."""
    largest = (1 << 63) - 1
    heads = tuple(((largest, largest - each), largest) for each in range(queues_told))
    async with opened(address) as one, opened(address) as two:
        await two.listen()
        one.engine.notify(Notification(heads=heads))
        heard = [await two.hints.get() for _ in range(hints_heard)]
        if queues_told > 1_000:
            assert heard == [Notification(anything=True)]
        else:
            assert sorted(head for hint in heard for head in hint.heads) == sorted(heads)
        assert one.places == []


async def test_a_hint_is_still_told_when_its_engine_is_closed_at_once(address: str) -> None:
    async with opened(address) as two:
        await two.listen()
        async with opened(address) as one:
            one.engine.notify(Notification(feed=True))
        assert await two.hints.get() == Notification(feed=True)


async def test_a_notification_that_is_not_ours_means_anything(
    postgres_cluster: Cluster, made: Opened, address: str
) -> None:
    await made.listen()
    postgres_cluster.run_sql("NOTIFY discue, 'hello'", database_of(address))
    assert await made.hints.get() == Notification(anything=True)


async def test_flood_of_notifications_is_not_listened_to(
    postgres_cluster: Cluster, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_MOST_PER_SECOND", 100)
    monkeypatch.setattr(notify, "_FLOOD_SECONDS", 0.0)
    async with opened(address) as flooded, opened(address) as other:
        await flooded.listen()
        flood = "SELECT pg_notify('discue', number::text) FROM generate_series(1, 300) AS number"
        postgres_cluster.run_sql(flood, database_of(address))
        assert [await flooded.hints.get() for _ in range(101)] == [Notification(anything=True)] * 101
        # The last one was that of the next connection.
        other.engine.notify(Notification(cursors=True))
        assert await flooded.hints.get() == Notification(cursors=True)
        assert (flooded.places, flooded.losses) == (["listen"], 0)


async def test_closing_loses_nothing(address: str) -> None:
    made = Opened(address)
    await made.engine.open()
    await made.listen()
    await made.lay()
    await made.engine.close()
    await asyncio.sleep(0)
    assert (made.losses, made.places) == (0, [])


async def test_texts_are_compared_byte_by_byte(made: Opened) -> None:
    for number, alias in enumerate(("b", "B", "a", "A", "_"), 30):
        await made.work(partial(queues.insert, queue=a_queue(ORGANIZATION, number, alias)))
    assert await made.rows("SELECT alias FROM queue ORDER BY alias") == [(each,) for each in "AB_ab"]


async def test_a_settle_that_waited_over_a_loss_is_not_stored(
    postgres_cluster: Cluster, made: Opened, session: Session
) -> None:
    settle = await made.lay()
    session.run("BEGIN; SELECT * FROM cursor FOR UPDATE")
    settles = [asyncio.ensure_future(made.settle(replace(settle, position=1))) for _ in range(3)]
    await blocked(postgres_cluster, 2)
    waiting = "FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    session.run(f"SELECT pg_terminate_backend(pid) {waiting}; ROLLBACK")
    for each in settles:
        with pytest.raises(StoreUnavailable):
            await each
    assert await made.rows("SELECT position, version FROM cursor") == [(0, 0)]
