"""Several processes that write to one file: their turns, and the length of the write-ahead log."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from discue.domain.errors import StoreUnavailable, StoreUnusable
from discue.store.engine import Appended
from discue.store.sqlite import engine as sqlite
from discue.store.sqlite.engine import SqliteEngine
from discue.store.sqlite.file_lock import Turn, turn_at
from tests.store.test_sqlite import CHILD_SECONDS, Opened, opened

PATIENCE_SECONDS = 10.0


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture
def path(runner: asyncio.Runner, tmp_path: Path) -> Path:
    return tmp_path / "discue.db"


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
from discue.store.sqlite.file_lock import turn_at
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
    with taken_turn(path), pytest.raises(StoreUnavailable):
        await asyncio.wait_for(on_file.append(100), PATIENCE_SECONDS)
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
        assert isinstance(await opened.append(first + number, 1, body=b"x" * 20_000), Appended)
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


async def test_commit_of_a_sibling_is_noticed(path: Path) -> None:
    one, other = (SqliteEngine(path, report=lambda *_: None, siblings=True) for _ in range(2))
    await one.open()
    await other.open()
    heard = asyncio.Event()
    one.listen(lambda _: heard.set(), lambda: None)
    other._writer.execute("UPDATE feed_head SET version = version + 1")
    await asyncio.wait_for(heard.wait(), PATIENCE_SECONDS)
    for engine in (one, other):
        await engine.close()
