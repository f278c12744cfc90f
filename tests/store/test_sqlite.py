"""The SQLite engine: faults of files and disks, and several processes that write to one file."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from discue.domain.errors import StoreUnavailable, StoreUnusable
from discue.store import cursors, message_log, queues, time_slice
from discue.store.engine import Appended, Batch, LogPage, Row, Transaction
from discue.store.sqlite import engine as sqlite
from discue.store.sqlite.connection import Turn, turn_at
from discue.store.sqlite.engine import SqliteEngine
from tests.store.rows import a_queue, an_append, row_id

ORGANIZATION = row_id(1)
QUEUE = a_queue(ORGANIZATION, 10)
CHILD_SECONDS = 20
PATIENCE_SECONDS = 10.0


class Opened:
    """An engine on a file, and what it reported."""

    def __init__(self, path: Path, *, siblings: bool = False) -> None:
        self.places: list[str] = []
        self.engine = SqliteEngine(path, report=lambda place, _: self.places.append(place), siblings=siblings)

    async def prepare(self) -> None:
        """Make the queue that is written to, unless it is there."""
        if not await self.engine.read(lambda tx: tx.row("SELECT 1 FROM queue")):
            await self.engine.commit(Batch(works=(lambda tx: queues.insert(tx, QUEUE),)))

    async def append(self, first: int, count: int = 1, size: int = 2) -> Appended | Exception:
        return (await self.engine.commit(Batch(appends=(an_append(QUEUE, first, count, size),)))).appends[0]

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
def path(runner: asyncio.Runner, tmp_path: Path) -> Path:
    return tmp_path / "discue.db"


@pytest.fixture
def on_file(runner: asyncio.Runner, path: Path) -> Iterator[Opened]:
    with opened(runner, path) as made:
        yield made


_OF_ID = "EXPLAIN QUERY PLAN SELECT body FROM log WHERE organization = 1 AND id = 'x'"


def test_planner_looks_up_an_id_even_after_someone_has_analyzed_a_small_database(
    runner: asyncio.Runner, path: Path
) -> None:
    for _ in range(2):
        with opened(runner, path) as database:
            [(*_, step)] = runner.run(database.engine.read(lambda tx: tx.rows(_OF_ID)))
        assert step == "SEARCH log USING INDEX log_id (organization=? AND id=?)"
        connection = apsw.Connection(str(path))
        connection.execute("ANALYZE")
        connection.close()


async def test_a_commit_is_synced_before_it_is_answered(on_file: Opened) -> None:
    """Killing a process does not show this, and cutting the power is not for a test: so the setting is looked at."""
    writer = on_file.engine._writer
    assert writer.pragma("journal_mode") == "wal"
    assert writer.pragma("synchronous") == 2


async def test_only_a_task_that_reads_for_long_without_a_pause_lets_others_run(
    on_file: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 3.0
    monkeypatch.setattr(on_file.engine, "_reading", sqlite._ReadSlice(lambda: now))
    began: list[int] = []

    async def read(number: int, *, rests: bool) -> None:
        nonlocal now
        for _ in range(4):
            began.append(number)
            await on_file.head()
            now += time_slice.SLICE_SECONDS * 0.6
            if rests:
                await asyncio.sleep(0)

    await asyncio.gather(read(1, rests=False), read(2, rests=False))
    assert began == [1, 1, 1, 2, 2, 2, 1, 2]
    began.clear()
    await asyncio.gather(read(1, rests=True), read(2, rests=True))
    assert began == [1, 2] * 4


async def test_page_reads_a_large_body_only_if_it_begins_with_it(
    on_file: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (100, 5_000, 200, 100)
    for number, size in enumerate(sizes):
        await on_file.append(100 + number, size=size)
    read: list[int] = []

    def observed(found: Iterable[Row], after: int, limit: int, max_bytes: int) -> LogPage:
        def rows_read() -> Iterator[Row]:
            for row in found:
                read.append(len(row[5] or b""))
                yield row

        return message_log.page_of(rows_read(), after, limit, max_bytes)

    monkeypatch.setattr(sqlite, "page_of", observed)
    for after, through, lengths in ((0, 1, [100, 0]), (1, 2, [5_000, 200]), (2, 4, [200, 100])):
        read.clear()
        page = await on_file.engine.page(ORGANIZATION, QUEUE.id, after, 10, max_bytes=1_000)
        assert (page.through, tuple(len(entry.body) for entry in page.entries)) == (through, sizes[after:through])
        assert read == lengths


async def test_refusal_to_open_names_the_folder(path: Path) -> None:
    with pytest.raises(StoreUnusable, match="folder"):
        await SqliteEngine(path.parent / "nowhere" / "discue.db", report=lambda *_: None).open()


async def test_another_programs_empty_database_is_refused(path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("PRAGMA application_id = 4711")
    other.close()
    with pytest.raises(StoreUnusable, match="another program"):
        await SqliteEngine(path, report=lambda *_: None).open()


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_locked_database_is_unavailable_before_the_turn_ends_and_then_works(
    on_file: Opened, path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the test waits: the error must not come from this time limit.
    monkeypatch.setattr(sqlite, "_TURN_SECONDS", 10 * PATIENCE_SECONDS)
    await on_file.append(100)
    other = apsw.Connection(str(path))
    other.execute(f"BEGIN {how}")
    with pytest.raises(StoreUnavailable) as raised:
        await asyncio.wait_for(on_file.append(101), PATIENCE_SECONDS)
    assert raised.value.code == "not_stored"
    assert await on_file.head() == 1
    other.execute("ROLLBACK")
    assert isinstance(await on_file.append(102), Appended)
    assert await on_file.head() == 2
    assert on_file.places == ["commit"]


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
    again = await on_file.append(300, 5, 4_000)
    assert isinstance(again, Appended)
    assert again.entries[0].seq == taken + 1


async def _fill(on_file: Opened) -> int:
    """How many messages there was room for."""
    for taken in range(0, 100, 5):
        try:
            await on_file.append(200 + taken, 5, 4_000)
        except StoreUnavailable:
            return taken
    pytest.fail("the disk did not fill up")


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
        await on_file.append(1_000 + number, 1, 20_000)
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
        await on_file.append(1_000 + number, 1, 20_000)
    other.execute("COMMIT")
    other.close()
    assert engine._wal_pages > 500
    assert 1 <= len(began) <= engine._wal_pages // 50


async def test_a_reader_that_stays_does_not_hold_up_the_writer(
    on_file: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_RESTART_PAGES", 50)
    engine, tries = on_file.engine, list[int]()
    engine._restart_above = 50
    restart_log = engine._restart_log

    def counted() -> None:
        tries.append(engine._wal_pages)
        restart_log()

    monkeypatch.setattr(engine, "_restart_log", counted)
    other = apsw.Connection(str(path))
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM log").fetchall()
    for number in range(100):
        await on_file.append(1_000 + number, 1, 20_000)
    assert engine._wal_pages > 500
    # The engine does not try at every commit, because each try waits for the reader.
    assert 1 <= len(tries) <= engine._wal_pages // 50
    other.execute("COMMIT")
    other.close()


async def test_locked_file_does_not_block_the_loop_for_long(path: Path) -> None:
    engine = SqliteEngine(path, report=lambda *_: None)
    await engine.open()
    [(timeout_ms,)] = engine._reader.execute("PRAGMA busy_timeout").fetchall()
    assert 0 < int(str(timeout_ms)) <= 100
    await engine.close()


async def test_statement_over_a_partial_index_is_compiled_once(on_file: Opened) -> None:
    async def read() -> None:
        await on_file.engine.read(lambda tx: cursors.lanes_of(tx, 1, ORGANIZATION, 1))

    compiled: list[int] = []

    def authorize(action: int, *_: str | None) -> int:
        compiled.append(action)
        return apsw.SQLITE_OK

    # SQLite asks it when it compiles a statement.
    on_file.engine._reader.authorizer = authorize
    await read()
    assert compiled
    compiled.clear()
    await read()
    assert compiled == []


def test_sqlite_version_has_no_known_write_ahead_log_bug() -> None:
    """Before 3.51.3 a restart of the write-ahead log could lose commits."""
    assert tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) >= (3, 51, 3)


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


def taken_turn(path: Path) -> Turn:
    turn = turn_at(path, must_be=True)
    assert turn is not None
    return turn


@contextmanager
def waiting(path: Path) -> Iterator[threading.Thread]:
    """Somebody who waits for a turn while another one has it, and takes it as soon as there is one."""
    turn = taken_turn(path)

    def take() -> None:
        with turn:
            pass

    thread = threading.Thread(target=take)
    thread.start()
    try:
        wait_until_blocked(thread)
        yield thread
    finally:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        turn.close()


def wait_until_blocked(thread: threading.Thread) -> None:
    """Until a thread waits for the turn itself: the system says whether it waits for a lock."""
    end = time.monotonic() + PATIENCE_SECONDS
    while blocked_locks() == 0:
        assert time.monotonic() < end
        assert thread.is_alive()
        os.sched_yield()


def blocked_locks() -> int:
    """How many of this process wait for a lock of a whole file."""
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("-> FLOCK" in line and f" {os.getpid()} " in line for line in lines)


def test_releasing_process_does_not_get_the_lock_before_a_waiting_one(path: Path) -> None:
    turn = taken_turn(path)
    for _ in range(50):
        turn.__enter__()
        with waiting(path) as other:
            turn.__exit__(None, None, None)
            turn.__enter__()
            # With one lock alone, it would have been had again before the other was awake.
            other.join(PATIENCE_SECONDS)
            assert not other.is_alive()
            turn.__exit__(None, None, None)
    turn.close()


_TAKER = """
import sys, signal
from pathlib import Path
from discue.store.sqlite.connection import turn_at
with turn_at(Path(sys.argv[1]), must_be=True):
    print("taken", flush=True)
    signal.pause()
"""


@pytest.fixture
def taker(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the turn, and does not end it."""
    with subprocess.Popen([sys.executable, "-c", _TAKER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def test_a_process_that_is_killed_in_its_turn_gives_it_back(path: Path, taker: subprocess.Popen[str]) -> None:
    with waiting(path):
        os.kill(taker.pid, signal.SIGKILL)


async def test_commit_fails_if_another_process_keeps_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_TURN_SECONDS", 0.2)
    on_file = Opened(path, siblings=True)
    await on_file.engine.open()
    await on_file.prepare()
    with taken_turn(path), pytest.raises(StoreUnavailable) as raised:
        await asyncio.wait_for(on_file.append(100), PATIENCE_SECONDS)
    assert raised.value.code == "not_stored"
    # A batch that failed this way is not stored later.
    assert isinstance(await on_file.append(200), Appended)
    assert await on_file.head() == 1
    assert on_file.places == ["turn"]
    await on_file.engine.close()


def test_single_worker_takes_no_file_lock(runner: asyncio.Runner, path: Path) -> None:
    with opened(runner, path):
        assert turn_at(path, must_be=False) is None


async def test_command_next_to_several_workers_takes_the_file_lock(path: Path) -> None:
    workers, command = Opened(path, siblings=True), Opened(path)
    await workers.engine.open()
    await workers.prepare()
    await command.engine.open()
    turn = taken_turn(path)
    turn.__enter__()
    writing = asyncio.ensure_future(command.append(100))
    await asyncio.to_thread(wait_until_blocked, threading.current_thread())
    turn.__exit__(None, None, None)
    assert isinstance(await writing, Appended)
    for each in (workers, command):
        await each.engine.close()


def test_a_folder_where_no_turns_can_be_taken_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match=r"nowhere/discue\.db\.next.*No such file"):
        turn_at(tmp_path / "nowhere" / "discue.db", must_be=True)


_WRITER = """
import asyncio, sys
from pathlib import Path
from discue.store.engine import Appended
from discue.store.sqlite import engine
from tests.store.test_sqlite import Opened
engine._CHECKPOINT_PAGES, engine._RESTART_PAGES = 50, 400

async def main():
    opened = Opened(Path(sys.argv[1]), siblings=True)
    opened.engine._restart_above = 400
    await opened.engine.open()
    print("open", flush=True)
    sys.stdin.readline()
    first = int(sys.argv[2])
    for number in range(300):
        assert isinstance(await opened.append(first + number, 1, 20_000), Appended)
        assert await opened.head() > number
    await opened.engine.close()
    print(opened.places)

asyncio.run(main())
"""


async def test_the_log_stays_short_while_three_processes_write_and_read(path: Path) -> None:
    made = Opened(path)
    await made.engine.open()
    await made.prepare()
    writers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _WRITER, path, first), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for first in ("0", "1000", "2000")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert await writer.stdout.readline() == b"open\n"
    async with asyncio.timeout(CHILD_SECONDS):
        said = await asyncio.gather(*(writer.communicate(b"go\n") for writer in writers))
    assert [out for out, _ in said] == [b"[]\n"] * 3
    assert await made.head() == 900
    # A log never shrinks while the file is open: this is how long it was at most. All of it would be 18 MB.
    assert path.with_name(path.name + "-wal").stat().st_size < 2_000 * 4_096
    await made.engine.close()


def test_search_lets_other_tasks_run_between_statements(
    runner: asyncio.Runner, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_slice, "SLICE_SECONDS", 0.0)
    turns: list[int] = []

    async def count_turns() -> None:
        for number in range(10):
            turns.append(number)
            await asyncio.sleep(0)

    async def search(tx: Transaction) -> list[int]:
        return [len(turns) for _ in range(4) if await tx.row("SELECT 1") and await tx.rows("SELECT 1")]

    async def work(of: Opened) -> list[int]:
        found, _ = await asyncio.gather(of.engine.search(search), count_turns())
        return found

    with opened(runner, path) as of:
        seen = runner.run(work(of))
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
