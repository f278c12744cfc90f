"""Backups in a process of their own: their results and errors, and their end with the server."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from discue.backup.create import BackupPlan
from discue.backup.schedule import create_in_child, newest_in_child
from discue.domain.clock import SystemClock
from discue.domain.errors import DiscueError
from tests.backup.databases import messages_in
from tests.backup.plans import folder_of, new_plan, restored


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    return new_plan(tmp_path)


@pytest.fixture
def silent_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A store that accepts connections and responds to nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server


async def test_backup_of_a_child_is_restored(plan: BackupPlan, tmp_path: Path) -> None:
    started_at = SystemClock().now()
    assert await newest_in_child(plan) is None
    made = await create_in_child(plan._replace(key=b"k" * 32, keep_seconds=60.0))

    assert made.header.created_at >= started_at
    assert await newest_in_child(plan) == made.header.created_at
    (backup,) = folder_of(plan).iterdir()
    assert (made.path, made.size) == (str(backup), backup.stat().st_size)
    restored(backup, tmp_path / "new.db", b"k" * 32)
    assert messages_in(tmp_path / "new.db") == 40


async def test_error_of_a_child_is_raised(plan: BackupPlan) -> None:
    folder_of(plan).rmdir()

    with pytest.raises(DiscueError, match=r"The folder .*backups does not exist\. Create it, or mount it\."):
        await create_in_child(plan)


async def test_child_that_crashes_is_an_error(plan: BackupPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(DiscueError, match="The process of the backup ended with status 1"):
        await create_in_child(plan)


async def test_child_is_killed_when_the_work_must_stop(plan: BackupPlan, silent_store: socket.socket) -> None:
    """The event loop goes on meanwhile: it accepts the connection of the child."""
    silent_store.setblocking(False)
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(create_in_child(plan._replace(destination="s3://bucket")))
    connection, _ = await loop.sock_accept(silent_store)
    with connection:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The end of the connection is that of the process.
        while await loop.sock_recv(connection, 65_536):
            pass


def test_child_ends_with_its_parent(plan: BackupPlan, silent_store: socket.socket) -> None:
    order = msgspec.json.encode(plan._replace(destination="s3://bucket"), enc_hook=str)
    child = subprocess.Popen([sys.executable, "-m", "discue.backup.schedule", "create"], stdin=subprocess.PIPE)
    with child:
        assert child.stdin is not None
        child.stdin.write(order + b"\n")
        child.stdin.flush()
        connection, _ = silent_store.accept()
        with connection:
            assert child.poll() is None, "it waits for the store"
            child.stdin.close()
            assert child.wait(30) == 1
