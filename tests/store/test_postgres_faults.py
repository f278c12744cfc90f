"""The engine for several processes, when the server or the way to it fails."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, Final

import asyncpg
import pytest
from msgspec.structs import replace

from discue.domain.errors import StoreDamaged, StoreUnavailable, StoreUnusable
from discue.domain.message_data import JSON_VALUE
from discue.domain.model import Topic
from discue.store import queues, topics
from discue.store.engine import (
    Append,
    Appended,
    Batch,
    NewEntry,
    Notification,
    Settle,
    SharedBody,
    TopicAppend,
    Transaction,
)
from discue.store.postgres import engine as postgres
from discue.store.postgres import pool
from discue.store.postgres.connection import CommitUncertain
from discue.store.store import Store
from tests.store.postgres_engine import (
    QUEUE,
    Opened,
    becomes,
    blocked,
    database_of,
    gate,
    held,
    opened,
    some_blocked,
)
from tests.store.rows import an_append, public_id, row_id
from tests.support.clocks import NOON
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database
from tests.support.postgres.processes import until
from tests.support.postgres.proxy import Proxy
from tests.support.postgres.standby import Pair
from tests.support.stores import store_on


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """Run a server that the tests may stop, and whose commits wait for no standby. It has a migrated template."""
    with Cluster() as cluster:
        cluster.create_database("migrated")
        with asyncio.Runner() as runner, store_on(runner, Opened(cluster.dsn("migrated")).engine):
            pass
        yield cluster


@pytest.fixture
def address(runner: asyncio.Runner, own_cluster: Cluster) -> Iterator[str]:
    with new_database(own_cluster, "migrated") as dsn:
        yield dsn


@pytest.fixture
def made(runner: asyncio.Runner, address: str) -> Iterator[Opened]:
    made = Opened(address)
    with store_on(runner, made.engine):
        yield made


@contextmanager
def waiting_for_nobody(cluster: Cluster) -> Iterator[None]:
    """Every commit waits for a standby that is not there."""
    _set_standby(cluster, "nobody")
    try:
        yield
    finally:
        _set_standby(cluster, "")


def _set_standby(cluster: Cluster, name: str) -> None:
    with cluster.connect() as session:
        session.run("SET synchronous_commit = 'local'")
        session.run(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        session.run("SELECT pg_reload_conf()")
        until(lambda: session.run("SHOW synchronous_standby_names") == [(name,)], "the server knows its standby")
        # Commits wait only when the checkpointer knows it too: before it does what a session asks for that knows it.
        session.run("CHECKPOINT")


async def _append(made: Opened, _: Settle) -> object:
    return await made.append(100)


async def _settle(made: Opened, settle: Settle) -> object:
    return await made.settle(replace(settle, position=1))


async def _work(made: Opened, _: Settle) -> object:
    return await made.work(lambda tx: tx.execute("UPDATE queue_head SET tail = 1"))


@pytest.mark.parametrize("commit", [_append, _settle, _work])
async def test_a_commit_that_stopped_waiting_for_its_standby_is_a_failure(
    own_cluster: Cluster, address: str, commit: Callable[[Opened, Settle], Awaitable[object]]
) -> None:
    async with opened(address) as made:
        settle = await made.lay()
        with waiting_for_nobody(own_cluster):
            committing = asyncio.ensure_future(commit(made, settle))
            await becomes(lambda: own_cluster.waiting_commits() == 1, "the commit waits for a standby")
            assert own_cluster.cancel_waiting_commits() == 1
            with pytest.raises(StoreUnavailable) as raised:
                await committing
        assert raised.value.code == "outcome_unknown"
        assert "commit" in made.places
        assert any(isinstance(error, CommitUncertain) for error in made.errors)
        assert isinstance(await made.append(200), Appended)


@asynccontextmanager
async def through_proxy(address: str) -> AsyncIterator[tuple[Proxy, Opened]]:
    port = _port(address)
    async with Proxy("127.0.0.1", port) as proxy, opened(address.replace(f":{port}/", f":{proxy.port}/")) as made:
        yield proxy, made


def _appends(made: Opened, first: int, count: int) -> list[asyncio.Task[object]]:
    async def one(number: int) -> object:
        return (await made.engine.commit(Batch(appends=(an_append(QUEUE, number, 1, 2_000),)))).appends[0]

    return [asyncio.create_task(one(number)) for number in range(first, first + count)]


async def _recovered(made: Opened) -> None:
    """Returns when a commit works; the engine tells nobody when that is."""
    for _ in range(500):
        try:
            await made.work(lambda tx: tx.execute("UPDATE queue_head SET tail = tail"))
            return
        except StoreUnavailable:
            await asyncio.sleep(0.02)
    pytest.fail("the engine did not recover")


_RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND datname <> ''"


async def test_connections_that_are_cut_in_the_middle_of_commits_lose_nothing_that_was_answered(
    own_cluster: Cluster, address: str
) -> None:
    async with through_proxy(address) as (proxy, made):
        await made.lay()
        await made.listen()
        answered: set[str] = set()
        not_stored: set[str] = set()
        for round_number in range(3):
            first = 1_000 * (round_number + 1)
            appending = _appends(made, first, 300)
            await asyncio.wait(appending, return_when=asyncio.FIRST_COMPLETED)
            with own_cluster.connect(database_of(address)) as session:
                session.run("BEGIN; SELECT FROM queue_head FOR UPDATE")
                # Otherwise there may be none on its way at the moment of the cut.
                await some_blocked(own_cluster)
                await proxy.cut()
                answers = await asyncio.gather(*appending, return_exceptions=True)
            assert {type(answer) for answer in answers} <= {Appended, StoreUnavailable}
            assert any(isinstance(answer, StoreUnavailable) for answer in answers)
            answered |= {answer.entries[0].id for answer in answers if isinstance(answer, Appended)}
            codes = {public_id(first + at): getattr(answer, "code", "") for at, answer in enumerate(answers)}
            assert "outcome_unknown" in codes.values()
            not_stored |= {message for message, code in codes.items() if code == "not_stored"}
            assert made.losses == round_number + 1
            await proxy.mend()
            await _recovered(made)
            assert await made.hints.get() == Notification(anything=True)
            assert made.losses == round_number + 1
        # The server goes on with commits whose connections were cut.
        await becomes(lambda: own_cluster.run_sql(_RUNNING) == [("0",)], "no commit runs")
        stored = await made.stored()
        assert answered <= set(stored)
        assert not_stored.isdisjoint(stored)
        assert await made.rows("SELECT seq FROM log ORDER BY seq") == [(seq + 1,) for seq in range(len(stored))]


async def test_connection_that_ends_right_after_a_statement_is_an_outage(
    made: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = asyncpg.Connection.execute

    async def execute_and_end(client: Any, sql: str, *values: object) -> object:
        status = await execute(client, sql, *values)
        if values:
            client.terminate()
        return status

    monkeypatch.setattr(asyncpg.Connection, "execute", execute_and_end)
    with pytest.raises(StoreUnavailable) as raised:
        await made.work(lambda tx: tx.execute("UPDATE queue_head SET tail = $1", 1))
    assert raised.value.code == "not_stored"


async def test_while_the_server_is_away_everybody_hears_so_at_once(address: str) -> None:
    async with through_proxy(address) as (proxy, made):
        await made.lay()
        await proxy.cut()
        with pytest.raises(StoreUnavailable):
            await made.rows("SELECT 1")
        for _ in range(50):
            for asked in (made.append(100), made.rows("SELECT 1"), made.engine.poll(()), made.work(_nothing)):
                with pytest.raises(StoreUnavailable) as raised:
                    await asked
                assert raised.value.code == "not_stored"
        # One try found that out, and then they come in the background, ever more rarely.
        assert made.places.count("connect") < 20
        await proxy.mend()
        await _recovered(made)
        assert isinstance(await made.append(200), Appended)


class Choosy(Proxy):
    """When it is told to, it makes one connection wait, and refuses the next."""

    def __init__(self, target_host: str, target_port: int) -> None:
        super().__init__(target_host, target_port)
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.plan: list[str] = []

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fate = self.plan.pop(0) if self.plan else "pass"
        self.asked.set()
        if fate == "refuse":
            return
        if fate == "wait":
            await self.gate.wait()
        await super()._pass_on(reader, writer)


async def test_first_successful_connection_ends_the_pause_of_others(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_FIRST_PAUSE_SECONDS", 60.0)
    port = _port(address)
    async with Choosy("127.0.0.1", port) as proxy, opened(address.replace(f":{port}/", f":{proxy.port}/")) as made:
        settle = await made.lay()
        proxy.plan = ["wait", "refuse"]
        proxy.asked.clear()
        slow = asyncio.ensure_future(made.append(100))
        await proxy.asked.wait()
        with pytest.raises(StoreUnavailable):
            await made.settle(settle)
        with pytest.raises(StoreUnavailable):
            await made.rows("SELECT 1")
        proxy.gate.set()
        assert isinstance(await slow, Appended)
        assert await made.rows("SELECT 1") == [(1,)]
        assert await made.settle(settle) is True


def _port(address: str) -> int:
    return int(address.rpartition(":")[2].partition("/")[0])


async def _nothing(tx: Transaction) -> None:
    await tx.row("SELECT 1")


async def test_a_server_that_does_not_answer_is_given_up_and_comes_back(own_cluster: Cluster, address: str) -> None:
    async with opened(address, commit_seconds=0.5) as made:
        await made.lay()
        await made.listen()
        await made.append(100)
        own_cluster.pause()
        try:
            asked = (
                made.append(101),
                made.rows("SELECT 1"),
                made.engine.page(1, 2, 0, 1, max_bytes=1),
                made.work(_nothing),
            )
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 4
            assert made.losses == 1
        finally:
            own_cluster.resume()
        await _recovered(made)
        assert await made.hints.get() == Notification(anything=True)
        assert isinstance(await made.append(102), Appended)
        # The server may have executed later what it received while it was stopped.
        assert set(await made.stored()) - {public_id(101)} == {public_id(100), public_id(102)}
        assert made.losses == 1


async def test_plain_append_succeeds_when_topic_appends_of_its_batch_fail(own_cluster: Cluster, address: str) -> None:
    async with opened(address, commit_seconds=0.5) as made:
        await made.lay()
        topic = Topic(QUEUE.organization, row_id(5), public_id(5), "topic", 1, NOON, NOON)
        await made.work(partial(topics.insert, made=topic))
        bodies = ((100, None), (101, 7))
        plain, shared = [NewEntry(public_id(number), JSON_VALUE, b"{}", body_id=body) for number, body in bodies]
        appends = [Append(QUEUE.organization, QUEUE.id, 1, NOON, (entry,)) for entry in (plain, shared)]
        topic_appends = TopicAppend(QUEUE.organization, topic.id, 1, (appends[1],), (SharedBody(7, b"{}", 1),))
        with own_cluster.connect(database_of(address)) as session:
            session.run("BEGIN")
            session.run("LOCK TABLE body IN EXCLUSIVE MODE")
            outcome = await made.engine.commit(Batch(appends=appends[:1], topic_appends=[topic_appends]))
            with pytest.raises(StoreUnavailable):
                await made.engine.commit(Batch(topic_appends=[topic_appends]))
        assert [type(answer) for answer in (*outcome.appends, *outcome.topic_appends)] == [Appended, StoreUnavailable]
        await _recovered(made)
        assert public_id(100) in await made.stored()


_END_OURS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'discue process %'"


async def test_connections_that_the_server_ends_are_one_loss(own_cluster: Cluster, made: Opened, address: str) -> None:
    """This includes connections that run a statement."""
    await made.lay()
    await made.listen()
    with gate(own_cluster, address) as session:
        reading = [asyncio.ensure_future(made.engine.read(held)) for _ in range(4)]
        await blocked(own_cluster, 4)
        ended = session.run(_END_OURS)
        assert len(ended) >= 6
        answers = await asyncio.gather(*reading, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 4
    assert await made.hints.get() == Notification(anything=True)
    await _recovered(made)
    assert made.losses == 1
    assert await asyncio.to_thread(own_cluster.disconnect_all) >= 2
    assert await made.hints.get() == Notification(anything=True)
    assert made.losses == 2


async def test_work_whose_connection_ends_before_its_commit_has_changed_nothing(
    own_cluster: Cluster, made: Opened, address: str
) -> None:
    async def insert_and_hang(tx: Transaction) -> None:
        await queues.insert(tx, QUEUE)
        await held(tx)

    with gate(own_cluster, address) as session:
        working = asyncio.ensure_future(made.work(insert_and_hang))
        await blocked(own_cluster)
        session.run(_END_OURS)
        with pytest.raises(StoreUnavailable) as raised:
            await working
    assert raised.value.code == "not_stored"
    assert "commit" in made.places
    await _recovered(made)
    assert await made.rows("SELECT id FROM queue") == []


async def test_outcome_is_unknown_of_work_whose_connection_ends_during_its_commit(
    own_cluster: Cluster, made: Opened, address: str
) -> None:
    await made.lay()
    with waiting_for_nobody(own_cluster), own_cluster.connect(database_of(address)) as session:
        working = asyncio.ensure_future(made.work(lambda tx: tx.execute("UPDATE queue_head SET tail = 1")))
        await becomes(lambda: own_cluster.waiting_commits() == 1, "the commit waits for a standby")
        session.run(_END_OURS)
        with pytest.raises(StoreUnavailable) as raised:
            await working
    assert raised.value.code == "outcome_unknown"
    await _recovered(made)
    assert await made.rows("SELECT tail FROM queue_head") == [(1,)]


async def test_read_that_spans_a_lost_connection_is_discarded(own_cluster: Cluster, made: Opened, address: str) -> None:
    """Another connection was lost, but what follows may come from another server."""
    await made.lay()
    await made.listen()
    with gate(own_cluster, address) as session:
        reading = asyncio.ensure_future(made.engine.read(held))
        await blocked(own_cluster)
        session.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        assert await made.hints.get() == Notification(anything=True)
        session.run("SELECT pg_advisory_unlock(5)")
        with pytest.raises(StoreUnavailable):
            await reading
    assert await made.rows("SELECT 1") == [(1,)]


async def test_a_server_that_takes_no_writes_any_more_is_left(own_cluster: Cluster, made: Opened) -> None:
    """It was fenced off, or is to become a standby: another one may be the primary by now."""
    await made.lay()
    await made.listen()
    assert isinstance(await made.append(100), Appended)
    with taking_no_writes(own_cluster):
        with pytest.raises(StoreUnavailable):
            await _appended_for_ever(made)
        assert made.losses == 1
        with pytest.raises(StoreUnavailable):
            await made.rows("SELECT 1")
    await _recovered(made)
    assert isinstance(await made.append(102), Appended)
    assert made.losses == 1


async def _appended_for_ever(made: Opened) -> None:
    """Each of the server's processes hears by itself, and sooner or later, that it is to take no writes."""
    async with asyncio.timeout(20):
        for number in count(200):
            await made.append(number)


@contextmanager
def taking_no_writes(cluster: Cluster) -> Iterator[None]:
    with cluster.connect() as session:
        try:
            session.run("ALTER SYSTEM SET default_transaction_read_only = on")
            session.run("SELECT pg_reload_conf()")
            until(lambda: session.run("SHOW default_transaction_read_only") == [("on",)], "it takes no writes")
            yield
        finally:
            session.run("SET default_transaction_read_only = off")
            session.run("ALTER SYSTEM RESET default_transaction_read_only")
            session.run("SELECT pg_reload_conf()")


async def test_session_of_a_worker_is_found_by_its_id_and_ended(own_cluster: Cluster, made: Opened) -> None:
    async with opened(made.engine._address) as other:
        other.engine.begin_session(7)
        await other.rows("SELECT 1")
        with gate(own_cluster, made.engine._address):
            holding = asyncio.ensure_future(other.work(held))
            await blocked(own_cluster)
            await made.work(lambda tx: tx.end_sessions(8))
            await made.work(lambda tx: tx.end_sessions(7))
            assert isinstance((await asyncio.gather(holding, return_exceptions=True))[0], StoreUnavailable)
            assert "connection lost" in other.places
    assert made.places == []


STOPS_IN_A_TRANSACTION = """
import asyncio, os, signal, sys
from discue.store.postgres import schema
from discue.store.postgres.connection import EXCLUSIVE_KEY, Server

async def stop(address, migrates):
    client = await Server(address).connect(20)
    if migrates == "True":
        migrating = schema._alone(client)
        await migrating.__aenter__()
    await client.execute("BEGIN")
    await client.execute(f"SELECT pg_advisory_xact_lock({EXCLUSIVE_KEY})")
    # The server waits for the second step of the statement, without the limit for idle transactions.
    await client.prepare("SELECT 2")
    print(client.get_settings().application_name, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)

asyncio.run(stop(*sys.argv[1:]))
"""


@asynccontextmanager
async def stopped_in_a_transaction(address: str, *, migrates: bool = False) -> AsyncIterator[str]:
    """A hanging process that holds the lock of exclusive transactions. Yields the name of its session."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPS_IN_A_TRANSACTION, address, str(migrates), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


_LONG: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = '{}' AND xact_start < clock_timestamp() - interval '0.3 seconds'
"""
SHORT_SECONDS: Final = 0.1
"""The time after which a process aborts its own transactions; those of others, somewhat later."""


async def _takes_long(cluster: Cluster, name: str) -> None:
    """Returns when the transaction of a session has taken longer than `SHORT_SECONDS` allows."""
    await becomes(lambda: cluster.run_sql(_LONG.format(name)) == [("1",)], "its transaction takes long")


async def test_session_of_a_stopped_process_without_a_lease_is_ended(own_cluster: Cluster, address: str) -> None:
    async with (
        stopped_in_a_transaction(address) as name,
        opened(address) as made,
        opened(address, commit_seconds=SHORT_SECONDS) as other,
    ):
        assert name.startswith("discue process ")
        await _takes_long(own_cluster, name)
        # Like two workers that find it at the same moment.
        ended = await asyncio.gather(*(other.engine.end_stuck_sessions() for _ in range(2)))
        assert {each for names in ended for each in names} == {name}
        assert await made.work(lambda tx: tx.exclusive()) is None


async def test_session_that_hangs_between_the_steps_of_a_statement_is_ended(own_cluster: Cluster, address: str) -> None:
    """The session is ended long before the time limit of transactions."""
    async with stopped_in_a_transaction(address) as name, opened(address) as made:
        ended: list[str] = []
        async with asyncio.timeout(20):
            while not ended:
                ended += await made.engine.end_stuck_sessions()
        assert ended == [name]
        assert await made.work(lambda tx: tx.exclusive()) is None


async def test_process_that_opens_the_database_ends_stuck_sessions(own_cluster: Cluster, address: str) -> None:
    """No worker may be left to do so."""
    async with stopped_in_a_transaction(address) as name:
        await _takes_long(own_cluster, name)
        async with opened(address, commit_seconds=SHORT_SECONDS), opened(address) as made:
            assert await made.work(lambda tx: tx.exclusive()) is None


async def test_migration_may_take_long(own_cluster: Cluster, address: str) -> None:
    async with (
        stopped_in_a_transaction(address, migrates=True) as name,
        opened(address, commit_seconds=SHORT_SECONDS) as made,
    ):
        assert name.startswith("discue migration ")
        await _takes_long(own_cluster, name)
        assert await made.engine.end_stuck_sessions() == []


async def test_commit_that_waits_for_a_standby_is_not_ended(own_cluster: Cluster, address: str) -> None:
    """Otherwise others would see its effects before they are replicated."""
    async with opened(address) as made, opened(address, commit_seconds=SHORT_SECONDS) as other:
        await made.lay()
        made.engine.begin_session(7)
        with waiting_for_nobody(own_cluster):
            committing = asyncio.ensure_future(made.work(lambda tx: tx.execute("UPDATE queue_head SET tail = 1")))
            await becomes(lambda: own_cluster.waiting_commits() == 1, "the commit waits for a standby")
            await _takes_long(own_cluster, "discue 7")
            assert await other.engine.end_stuck_sessions() == []
        assert await committing == 1


async def test_connections_have_the_name_of_their_process_until_its_worker_has_one(
    own_cluster: Cluster, made: Opened, address: str
) -> None:
    names = f"SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = '{database_of(address)}'"
    await made.lay()
    await made.listen()
    [(before,)] = own_cluster.run_sql(names)
    async with opened(address):
        assert len(own_cluster.run_sql(names)) == 2
    assert str(before).startswith(f"discue process {os.getpid()} ")


@pytest.mark.parametrize("sqlstate", ["XX001", "XX002"])
async def test_damaged_data_fails_only_what_needs_it(made: Opened, sqlstate: str) -> None:
    """A page or an index that the server cannot read. The store stays healthy, and the rest of a batch succeeds."""
    damaged = f"DO $$ BEGIN RAISE EXCEPTION 'invalid page in block 7' USING ERRCODE = '{sqlstate}'; END $$"
    await made.lay()
    with pytest.raises(StoreDamaged):
        await made.engine.read(lambda tx: tx.execute(damaged))
    works = (lambda tx: tx.execute(damaged), lambda tx: tx.row("SELECT 1"))
    outcome = await made.engine.commit(Batch(works=works))
    assert [type(each) for each in outcome.works] == [StoreDamaged, tuple]
    assert made.losses == 0


async def test_connections_notice_that_the_other_end_is_gone(made: Opened) -> None:
    """On the server, this frees the locks of a client that is cut off."""
    ours = [each.client._transport.get_extra_info("socket") for each in made.engine._connections._all]
    assert {each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for each in ours} == {1}
    assert {each.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for each in ours} == {10_000}
    shows = "SELECT current_setting('tcp_user_timeout'), current_setting('tcp_keepalives_idle')"
    assert await made.rows(shows) == [("10000", "5")]


async def test_a_process_that_stands_still_within_a_work_holds_others_up_for_seconds_only(
    own_cluster: Cluster, made: Opened
) -> None:
    """Nothing else ends a transaction whose client neither goes on nor goes away."""
    shows = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
    assert await made.work(lambda tx: tx.row(shows)) == ("5s", "7s")


def accepted(listening: socket.socket) -> int:
    """Accept the connections that wait, and return how many."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            count += 1
    return count


async def test_working_host_is_found_among_several(
    runner: asyncio.Runner, own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_OPEN_SECONDS", 0.5)
    with new_database(own_cluster, "migrated") as dsn, socket.socket() as silent, socket.socket() as refusing:
        for each in (silent, refusing):
            each.bind(("127.0.0.1", 0))
        silent.listen()
        silent.setblocking(False)
        others = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in (refusing, silent))
        async with opened(dsn.replace("@", f"@{others},")) as made:
            assert accepted(silent) >= 1
            await made.lay()
            assert isinstance(await made.append(100), Appended)
            # The host that answered is the first to be asked from then on.
            assert accepted(silent) == 0


async def test_after_a_failover_the_new_primary_is_found_and_the_loss_told(runner: asyncio.Runner) -> None:
    with Pair() as pair:
        standby_first = f"127.0.0.1:{pair.ports[1]},127.0.0.1:{pair.ports[0]}"
        async with opened(f"postgresql://discue@{standby_first}/postgres") as made:
            await made.lay()
            await made.listen()
            assert isinstance(await made.append(100), Appended)
            with pytest.raises(StoreUnusable, match="accepts writes"):
                await Opened(pair.standby.dsn()).engine.open()
            await asyncio.to_thread(pair.fail_over)
            await _recovered(made)
            assert await made.hints.get() == Notification(anything=True)
            assert made.losses == 1
            assert isinstance(await made.append(101), Appended)
            assert await made.stored() == [public_id(100), public_id(101)]


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
async def test_an_urgent_work_waits_for_no_lock_that_others_wait_for(store: Store) -> None:
    """A worker that stands still with a lock must not cost those their leases who are well."""
    assert isinstance(store.engine, postgres.PostgresEngine)
    still = await asyncpg.connect(store.engine._address)

    async def touch(tx: Transaction) -> None:
        await tx.execute("UPDATE feed_head SET version = version")

    async def look(tx: Transaction) -> bool:
        return await tx.row("SELECT 1") is not None

    await still.execute("BEGIN; UPDATE feed_head SET version = version")
    waiting = [asyncio.ensure_future(store.write(touch)) for _ in range(4)]
    try:
        assert await asyncio.wait_for(store.write_urgently(look), 5)
        assert not any(each.done() for each in waiting)
    finally:
        await still.execute("COMMIT")
        await asyncio.gather(*waiting)
        await still.close()
