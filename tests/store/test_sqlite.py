"""The embedded engine under what happens to files and disks."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from discue.domain.errors import StoreUnavailable, StoreUnusable
from discue.store import cursors, delivery_rows, message_log, queues, retention
from discue.store.cursors import claim, lanes_after
from discue.store.engine import Append, Appended, Batch, NewEntry, Notification, Transaction
from discue.store.retention import LogToTrim
from discue.store.sqlite import append as sqlite_append
from discue.store.sqlite import engine as sqlite
from discue.store.sqlite import settle
from discue.store.sqlite.engine import SqliteEngine
from discue.store.store import Store
from tests.store.rows import (
    a_queue,
    public_id,
    publish,
    row_id,
    stored_listener,
    stored_organization,
    stored_queue,
)
from tests.store.test_plans import Explaining
from tests.support.clocks import NOON

ORGANIZATION = row_id(1)
QUEUE = a_queue(ORGANIZATION, 10)
CHILD_SECONDS = 20


class Opened:
    """An engine on a file, and what it reported."""

    def __init__(self, path: Path, *, siblings: bool = False) -> None:
        self.places: list[str] = []
        self.engine = SqliteEngine(path, report=lambda place, _: self.places.append(place), siblings=siblings)

    async def prepare(self) -> None:
        """Make the queue that is written to, unless it is there."""
        if not await self.engine.read(lambda tx: tx.row("SELECT 1 FROM queue")):
            await self.engine.commit(Batch(works=(lambda tx: queues.insert(tx, QUEUE),)))

    async def append(self, first: int, count: int = 1, *, body: bytes = b"{}") -> Appended | Exception:
        entries = tuple(NewEntry(public_id(first + index), True, body) for index in range(count))
        append = Append(ORGANIZATION, QUEUE.id, 1, NOON, entries)
        return (await self.engine.commit(Batch(appends=(append,)))).appends[0]

    async def head(self) -> int:
        page = await self.engine.page(ORGANIZATION, QUEUE.id, 0, 1, max_bytes=1)
        return page.head


@contextmanager
def opened(runner: asyncio.Runner, path: Path) -> Iterator[Opened]:
    made = Opened(path)
    runner.run(made.engine.open())
    try:
        runner.run(made.prepare())
        yield made
    finally:
        runner.run(made.engine.close())


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture
def path(runner: asyncio.Runner, tmp_path: Path) -> Path:
    return tmp_path / "discue.db"


@pytest.fixture
def on_file(runner: asyncio.Runner, path: Path) -> Iterator[Opened]:
    with opened(runner, path) as made:
        yield made


def refused(runner: asyncio.Runner, path: Path) -> str:
    with pytest.raises(StoreUnusable) as refusal:
        runner.run(SqliteEngine(path, report=lambda *_: None).open())
    assert str(path) in str(refusal.value)
    return str(refusal.value)


async def test_a_commit_is_synced_before_it_is_answered(on_file: Opened) -> None:
    """Killing a process does not show this, and cutting the power is not for a test: so the setting is looked at."""
    writer = on_file.engine._writer
    assert writer.pragma("journal_mode") == "wal"
    assert writer.pragma("synchronous") == 2


async def test_a_second_start_finds_everything(runner: asyncio.Runner, path: Path) -> None:
    first = Opened(path)
    await first.engine.open()
    await first.engine.commit(Batch(works=(lambda tx: queues.insert(tx, QUEUE),)))
    await first.append(100, 3)
    epoch = await first.engine.read(lambda tx: tx.row("SELECT value FROM meta WHERE key = 'epoch'"))
    await first.engine.close()
    second = Opened(path)
    await second.engine.open()
    assert await second.head() == 3
    assert await second.engine.read(lambda tx: tx.row("SELECT value FROM meta WHERE key = 'epoch'")) == epoch
    await second.engine.close()


_PUBLISHER = """
import asyncio, sys
from pathlib import Path
from tests.store.test_sqlite import Opened, QUEUE
from discue.store import queues
from discue.store.engine import Appended, Batch

async def main():
    opened = Opened(Path(sys.argv[1]))
    await opened.engine.open()
    await opened.engine.commit(Batch(works=(lambda tx: queues.insert(tx, QUEUE),)))
    first = 0
    while True:
        answers = await asyncio.gather(*(opened.append(first + 5 * each, 5) for each in range(4)))
        assert all(isinstance(answer, Appended) for answer in answers), answers
        first += 20
        for answer in answers:
            for entry in answer.entries:
                print(entry.seq, entry.id, flush=True)

asyncio.run(main())
"""


def test_confirmed_append_survives_a_kill(runner: asyncio.Runner, path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _PUBLISHER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answered = [child.stdout.readline() for _ in range(400)]
    os.kill(child.pid, signal.SIGKILL)
    rest, _ = child.communicate(timeout=CHILD_SECONDS)
    # A line that the kill cut short was not received.
    answered += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    with opened(runner, path) as made:
        stored = runner.run(made.engine.read(lambda tx: tx.rows("SELECT seq, id FROM log ORDER BY seq")))
        head = runner.run(made.head())
    assert len(answered) >= 400
    assert [f"{seq} {public}\n" for seq, public in stored[: len(answered)]] == sorted(
        answered, key=lambda line: int(line.split()[0])
    )
    assert [seq for seq, _ in stored] == list(range(1, head + 1))


async def test_a_database_that_needs_a_newer_program_is_refused(path: Path) -> None:
    engine = SqliteEngine(path, report=lambda *_: None)
    await engine.open()
    await engine.commit(
        Batch(
            works=(
                lambda tx: tx.execute("UPDATE meta SET value = '99' WHERE key = 'compatible_from'"),
                lambda tx: tx.execute("UPDATE meta SET value = '120' WHERE key = 'schema_version'"),
            )
        )
    )
    await engine.close()
    with pytest.raises(StoreUnusable, match="99"):
        await engine.open()


async def test_a_newer_database_that_allows_this_program_is_used_and_left_as_it_is(path: Path) -> None:
    engine = SqliteEngine(path, report=lambda *_: None)
    await engine.open()
    await engine.commit(
        Batch(works=(lambda tx: tx.execute("UPDATE meta SET value = '120' WHERE key = 'schema_version'"),))
    )
    await engine.close()
    await engine.open()
    version = await engine.read(lambda tx: tx.row("SELECT value FROM meta WHERE key = 'schema_version'"))
    assert version == ("120",)
    await engine.close()


@pytest.mark.parametrize("mark", ["", "PRAGMA application_id = 4711", "PRAGMA user_version = 3"])
def test_another_programs_database_is_refused_and_not_touched(runner: asyncio.Runner, path: Path, mark: str) -> None:
    other = apsw.Connection(str(path))
    other.execute(f"CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1); {mark}")
    other.close()
    before = path.read_bytes()
    assert "another program" in refused(runner, path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_another_programs_empty_database_is_refused_too(runner: asyncio.Runner, path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("PRAGMA application_id = 4711")
    other.close()
    before = path.read_bytes()
    assert "another program" in refused(runner, path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_not_touched(runner: asyncio.Runner, path: Path) -> None:
    path.write_bytes(b"To be or not to be, that is the question. " * 100)
    before = path.read_bytes()
    assert "not a database" in refused(runner, path)
    assert path.read_bytes() == before


def test_a_missing_folder_is_named(runner: asyncio.Runner, tmp_path: Path) -> None:
    assert "folder" in refused(runner, tmp_path / "nowhere" / "discue.db")


_OPENER = """
import asyncio, os, sys
from pathlib import Path
from discue.domain.errors import StoreUnusable
from discue.store.sqlite.engine import SqliteEngine

async def main():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        await SqliteEngine(Path(sys.argv[1]), report=lambda *_: None).open()
    except StoreUnusable as error:
        print(error)
    else:
        print("opened")

asyncio.run(main())
"""


@pytest.fixture
def somebody_elses(path: Path) -> Iterator[Path]:
    """A database in a folder that everybody may look into. (Pytest keeps its own folders to their owner.)"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "discue.db"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("there", ["a new file", "an old file"])
def test_a_folder_that_cannot_be_written_is_the_reason_given(
    runner: asyncio.Runner, somebody_elses: Path, there: str
) -> None:
    if there == "an old file":
        with opened(runner, somebody_elses):
            pass
        somebody_elses.chmod(0o644)
    child = subprocess.run(
        [sys.executable, "-c", _OPENER, str(somebody_elses)],
        check=False,
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
    )
    assert (child.returncode, child.stderr) == (0, "")
    assert "cannot be written" in child.stdout


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_locked_database_is_unavailable_within_a_second_and_then_works(
    on_file: Opened, path: Path, how: str
) -> None:
    await on_file.append(100)
    other = apsw.Connection(str(path))
    other.execute(f"BEGIN {how}")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await on_file.append(101)
    # Where the lock alone would be waited for, the engine gives up after three seconds.
    assert time.monotonic() - began < 2.5
    assert await on_file.head() == 1
    other.execute("ROLLBACK")
    assert isinstance(await on_file.append(102), Appended)
    assert await on_file.head() == 2
    assert on_file.places == ["commit"]


def test_a_locked_database_is_not_opened_and_says_so(runner: asyncio.Runner, path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (x)")
    other.execute("DROP TABLE theirs")
    other.execute("BEGIN EXCLUSIVE")
    assert "locked" in refused(runner, path)
    other.execute("ROLLBACK")
    engine = SqliteEngine(path, report=lambda *_: None)
    runner.run(engine.open())
    runner.run(engine.close())


async def test_a_full_disk_is_unavailable_half_written_nothing_and_recovers(on_file: Opened) -> None:
    await on_file.append(100)
    writer = on_file.engine._writer
    pages = writer.pragma("page_count")
    writer.pragma("max_page_count", pages + 4)
    taken = 1 + await _fill(on_file)
    assert await on_file.head() == taken
    stored = await on_file.engine.read(lambda tx: tx.row("SELECT count(*), max(seq) FROM log"))
    assert stored == (taken, taken)
    writer.pragma("max_page_count", 1 << 30)
    again = await on_file.append(300, 5, body=b"x" * 4_000)
    assert isinstance(again, Appended)
    assert again.entries[0].seq == taken + 1


async def _fill(on_file: Opened) -> int:
    """How many messages there was room for."""
    for taken in range(0, 100, 5):
        try:
            await on_file.append(200 + taken, 5, body=b"x" * 4_000)
        except StoreUnavailable:
            return taken
    pytest.fail("the disk did not fill up")


_FILLER = """
import asyncio, resource, signal, sys
from pathlib import Path
from tests.store.test_sqlite import Opened, QUEUE
from discue.domain.errors import StoreUnavailable
from discue.store import queues
from discue.store.engine import Appended, Batch

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    opened = Opened(Path(sys.argv[1]))
    await opened.engine.open()
    await opened.engine.commit(Batch(works=(lambda tx: queues.insert(tx, QUEUE),)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    taken = 0
    try:
        while taken < 1_000:
            assert isinstance(await opened.append(taken, 1, body=b"x" * 10_000), Appended)
            taken += 1
    except StoreUnavailable:
        pass
    assert await opened.head() == taken
    for number in range(3):
        try:
            assert isinstance(await opened.append(5_000 + number), Appended)
            taken += 1
        except StoreUnavailable:
            pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    answer = await opened.append(6_000, 5, body=b"x" * 10_000)
    assert answer.entries[0].seq == taken + 1, (answer.entries[0].seq, taken)
    stored = await opened.engine.read(lambda tx: tx.row("SELECT count(*), max(seq) FROM log"))
    assert stored == (taken + 5, taken + 5), stored
    assert (await opened.engine.read(lambda tx: tx.row("PRAGMA integrity_check"))) == ("ok",)
    await opened.engine.close()
    print(taken)

asyncio.run(main())
"""


async def test_a_file_that_may_not_grow_is_unavailable_and_recovers(path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FILLER, str(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, complaint = await asyncio.wait_for(child.communicate(), CHILD_SECONDS)
    assert (child.returncode, complaint) == (0, b"")
    assert 10 < int(said) < 1_000


async def test_write_ahead_log_stays_short_with_a_concurrent_reader(
    on_file: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader comes and goes, as in a worker: the log restarts in the gaps."""
    monkeypatch.setattr(sqlite, "_CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(sqlite, "_RESTART_PAGES", 400)
    on_file.engine._checkpoint_above, on_file.engine._restart_above = 50, 400
    other = apsw.Connection(str(path))
    wal = path.with_name(path.name + "-wal")
    largest = 0
    for number in range(600):
        if number % 20 == 0:
            other.execute("BEGIN")
            assert other.execute("SELECT count(*) FROM log").fetchall() == [(number,)]
        await on_file.append(1_000 + number, 1, body=b"x" * 20_000)
        if number % 20 == 5:
            other.execute("COMMIT")
        largest = max(largest, wal.stat().st_size)
    assert largest < 2_000 * 4_096
    assert on_file.places == []


async def test_unrestarted_write_ahead_log_is_copied_again_only_after_equal_growth(
    on_file: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a writer that never pauses, a part of the log is always left to copy."""
    monkeypatch.setattr(sqlite, "_CHECKPOINT_PAGES", 50)
    engine = on_file.engine
    engine._checkpoint_above = 50
    began: list[int] = []
    checkpoint = engine._checkpoint

    def counted(connection: apsw.Connection, mode: int) -> bool:
        began.append(engine._wal_pages)
        return checkpoint(connection, mode)

    monkeypatch.setattr(engine, "_checkpoint", counted)
    other = apsw.Connection(str(path))
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM log").fetchall()
    for number in range(100):
        await on_file.append(1_000 + number, 1, body=b"x" * 20_000)
    other.execute("COMMIT")
    other.close()
    assert engine._wal_pages > 500
    assert 1 <= len(began) <= engine._wal_pages // 50


async def test_a_reader_that_stays_does_not_hold_up_the_writer(
    on_file: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_RESTART_PAGES", 50)
    on_file.engine._restart_above = 50
    other = apsw.Connection(str(path))
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM log").fetchall()
    began = time.monotonic()
    for number in range(100):
        await on_file.append(1_000 + number, 1, body=b"x" * 20_000)
    # Waiting for the reader at every commit would take 80 s.
    assert time.monotonic() - began < 8
    other.execute("COMMIT")
    other.close()


async def test_commit_of_another_process_is_noticed(on_file: Opened, path: Path) -> None:
    heard: asyncio.Queue[Notification] = asyncio.Queue()
    on_file.engine.listen(heard.put_nowait, lambda: None)
    other = apsw.Connection(str(path))
    other.execute("UPDATE feed_head SET version = version + 1")
    assert await heard.get() == Notification(anything=True)
    assert heard.empty()


async def test_a_read_cannot_write(on_file: Opened) -> None:
    with pytest.raises(StoreUnavailable):
        await on_file.engine.read(lambda tx: tx.execute("DELETE FROM queue"))
    assert await on_file.engine.read(lambda tx: tx.row("SELECT count(*) FROM queue")) == (1,)


async def test_locked_file_does_not_block_the_loop_for_long(path: Path) -> None:
    engine = SqliteEngine(path, report=lambda *_: None)
    await engine.open()
    [(timeout_ms,)] = engine._reader.execute("PRAGMA busy_timeout").fetchall()
    assert 0 < int(str(timeout_ms)) <= 100
    await engine.close()


def test_sqlite_version_has_no_known_write_ahead_log_bug() -> None:
    """Before 3.51.3 a restart of the write-ahead log could lose commits."""
    assert tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) >= (3, 51, 3)


FILLED = 300

Fill = Callable[[Store], Awaitable[tuple[int, int, int]]]


@pytest.fixture
def store(runner: asyncio.Runner, path: Path) -> Iterator[Store]:
    engine = SqliteEngine(path, report=lambda *_: None)
    runner.run(engine.open())
    yield Store(engine, max_waiting_bytes=1 << 20)
    runner.run(engine.close())


async def _filled(store: Store) -> tuple[int, int, int]:
    organization = await stored_organization(store, 1)
    queue = await stored_queue(store, organization.id, 10)
    listener = await stored_listener(store, queue, 11)
    await store.write(lambda tx: claim(tx, 7, [(organization.id, listener.id, 0)]))
    await publish(store, queue, [public_id(1_000 + number) for number in range(FILLED)])

    async def delivery_rows(tx: Transaction) -> None:
        for seq in range(1, FILLED):
            state = ("retry", "missed", "sending")[seq % 3]
            await tx.execute(
                "INSERT INTO exception (organization, listener, stream, seq, queue, state, attempts, due_at, reason) "
                "VALUES ($1, $2, 0, $3, $4, $5, 1, $6, '')",
                organization.id,
                listener.id,
                seq,
                queue.id,
                state,
                NOON + seq,
            )

        await tx.execute("UPDATE cursor SET position = $1", FILLED)

    await store.write(delivery_rows)
    return organization.id, queue.id, listener.id


async def _nothing(store: Store) -> tuple[int, int, int]:
    return row_id(1), row_id(2), row_id(3)


def _hot_statements() -> Iterator[str]:
    yield sqlite._PAGE
    for module in (sqlite_append, settle):
        for name, value in vars(module).items():
            if name.startswith("_") and name.isupper() and callable(value):
                yield value(1)
                yield value(64)


def _plan(connection: apsw.Connection, sql: str) -> list[str]:
    values = [None] * max(int(number) for number in re.findall(r"\$(\d+)", sql) or ["0"])
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values, can_cache=False)]


def _slow(plan: list[str]) -> list[str]:
    """Steps that read a whole table, or sort. Rows that the statement itself brings are no table."""
    allowed = ("SCAN new", "SCAN CONSTANT ROW", "SCAN 64-ROW VALUES CLAUSE", "SCAN step", "SCAN 64 CONSTANT ROWS")
    return [step for step in plan if ("SCAN" in step or "TEMP B-TREE" in step) and not step.startswith(allowed)]


@pytest.mark.parametrize("fill", [_nothing, _filled])
async def test_every_hot_statement_goes_by_a_key(store: Store, fill: Fill) -> None:
    await fill(store)
    assert isinstance(store.engine, SqliteEngine)
    slow = {sql: bad for sql in _hot_statements() if (bad := _slow(_plan(store.engine._writer, sql)))}
    assert slow == {}
    assert len(list(_hot_statements())) >= 13


@pytest.mark.parametrize("fill", [_nothing, _filled])
async def test_every_statement_of_lanes_and_retention_goes_by_a_key(store: Store, fill: Fill) -> None:
    organization, queue, listener = await fill(store)

    async def work(tx: Transaction) -> Explaining:
        explaining = Explaining(tx)
        await _run_all(explaining, organization, queue, listener)
        return explaining

    plans = (await store.write(work)).plans
    assert {sql: slow for sql, plan in plans.items() if (slow := _slow(plan))} == {}
    assert len(plans) >= 15


async def _run_all(tx: Transaction, organization: int, queue: int, listener: int) -> None:
    key = (organization, listener, 0)
    await claim(tx, 7, [key])
    await lanes_after(tx, 7, (0, 0, 0), 10)
    await cursors.lanes_of(tx, 7, organization, listener)
    await delivery_rows.read_due(tx, key, NOON + 5_000, 1_000)
    await delivery_rows.read_due(tx, key, NOON, 1)
    await delivery_rows.retries_up_to(tx, key, 100, NOON, limit=10)
    await message_log.last_seq_stored_before(tx, organization, queue, (0, FILLED), before=NOON + 1)
    log = LogToTrim(organization, queue, 0, FILLED, None)
    await retention.logs_after(tx, (0, 0), 10)
    await retention.has_old_messages(tx, log, NOON + 1)
    await retention.trim_log(tx, log, 0, NOON + 1)
    await tx.execute(retention._DELETE_MESSAGES, organization, queue, 0, 10)
    await tx.execute(retention._RAISE_TAIL, 0, organization, queue)
    await retention.delete_missed(tx, NOON + 5)
    await retention.delete_attempts(tx, organization, NOON)
    await retention.next_organization(tx, 0)


async def test_claim_of_all_cursors_reads_only_requests_in_flight(store: Store) -> None:
    """At a start: every cursor changes hands, so that is a walk; of the exceptions only those `sending` are read."""
    await _filled(store)
    assert isinstance(store.engine, SqliteEngine)
    plan = _plan(store.engine._writer, "UPDATE exception SET state = 'retry', due_at = 1 WHERE state = 'sending'")
    assert plan == ["SCAN exception USING COVERING INDEX exception_sending"] or plan == [
        "SCAN exception USING INDEX exception_sending"
    ]


def test_a_new_database_is_its_owners_alone_and_an_old_one_stays_as_it_is(
    runner: asyncio.Runner, tmp_path: Path
) -> None:
    path = tmp_path / "discue.db"
    for mode in (0o600, 0o640):
        engine = Opened(path).engine
        runner.run(engine.open())
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        assert modes == dict.fromkeys(("discue.db", "discue.db-shm", "discue.db-wal"), mode)
        runner.run(engine.close())
        path.chmod(0o640)
