"""The throw-away PostgreSQL servers do what the tests of faults rest on."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.postgres.cluster import Cluster
from tests.support.postgres.processes import children_of, lives, until
from tests.support.postgres.programs import FOLDER_VARIABLE, find_programs, require_programs
from tests.support.postgres.proxy import HOST, Proxy
from tests.support.postgres.server import NotStarted
from tests.support.postgres.standby import Pair, Standby

pytestmark = pytest.mark.torture

_REPOSITORY = Path(__file__).parents[2]

_UNPRIVILEGED = """
import os
from tests.support.postgres.cluster import Cluster
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with Cluster() as cluster:
    print(cluster.data.stat().st_uid == os.getuid(), cluster.run_sql("SELECT 1"))
"""

_LEFT_RUNNING = """
import os, signal
from tests.support.postgres.cluster import Cluster
cluster = Cluster().__enter__()
{}
print(cluster.pid, cluster.folder, flush=True)
{}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        cluster.run_sql("CREATE TABLE kept (number integer)")
        yield cluster


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        pair.primary.run_sql("CREATE TABLE kept (number integer)")
        yield pair


def _python(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=_REPOSITORY, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode <= 0, done.stderr
    return done.stdout


def _rows(server: Cluster, number: int) -> int:
    [(count,)] = server.run_sql(f"SELECT count(*) FROM kept WHERE number = {number}")
    return int(count or 0)


def test_programs_are_skipped_for_where_they_are_missing_and_fail_the_test_under_ci(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    assert find_programs() is None
    with pytest.raises(pytest.skip.Exception):
        require_programs()
    monkeypatch.setenv("CI", "true")
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="PostgreSQL") as ended:
        require_programs()
    assert ended.type is pytest.fail.Exception


def test_a_cluster_starts_without_rights() -> None:
    require_programs()
    assert _python(_UNPRIVILEGED) == "True [('1',)]\n"


@pytest.mark.parametrize(
    ("before", "end"), [("", ""), ("cluster.pause()", ""), ("", "os.kill(os.getpid(), signal.SIGKILL)")]
)
def test_a_process_that_ends_without_closing_its_cluster_leaves_no_server_and_no_files(before: str, end: str) -> None:
    require_programs()
    pid, folder = _python(_LEFT_RUNNING.format(before, end)).split()
    until(lambda: not lives(int(pid)), "the server is gone", 8)
    until(lambda: not Path(folder).exists(), "its files are gone")


def test_a_server_that_cannot_start_shows_its_log_and_its_files_go() -> None:
    broken = Cluster(settings={"shared_buffers": "nonsense"})
    with pytest.raises(NotStarted, match="nonsense"):
        broken.__enter__()
    assert not broken.folder.exists()


def test_kill_ends_every_process_and_keeps_commits(cluster: Cluster) -> None:
    with cluster.connect() as committed, cluster.connect() as begun:
        committed.run("INSERT INTO kept VALUES (2)")
        begun.run("BEGIN; INSERT INTO kept VALUES (2)")
        family = {cluster.pid, *children_of(cluster.pid)}
        assert len(family) > 2
        cluster.kill()
        assert not any(map(lives, family))
        with pytest.raises(ConnectionError):
            begun.run("COMMIT")
    cluster.start()
    assert _rows(cluster, 2) == 1


def test_a_paused_server_answers_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    with cluster.connect() as session:
        cluster.pause()
        session.send("SELECT 1")
        assert session.silent(0.2)
        cluster.resume()
        assert session.answer() == [("1",)]


def test_a_commit_waits_for_the_synchronous_standby(pair: Pair) -> None:
    with pair.primary.connect() as session:
        pair.standby.pause()
        session.send("INSERT INTO kept VALUES (2)")
        until(lambda: pair.primary.waiting_commits() == 1, "the commit waits")
        assert session.silent(0)
        pair.standby.resume()
        assert session.answer() == []
    pair.standby.caught_up()
    assert _rows(pair.standby, 2) == 1


def test_a_wait_that_is_cancelled_ends_in_a_commit_with_a_warning(pair: Pair) -> None:
    with pair.primary.connect() as session:
        pair.standby.pause()
        session.send("INSERT INTO kept VALUES (3)")
        until(lambda: pair.primary.cancel_waiting_commits() == 1, "the wait is cancelled")
        assert session.answer() == []
        assert any("canceling wait for synchronous replication" in warning for warning in session.warnings)
        assert _rows(pair.primary, 3) == 1
        pair.standby.resume()


def test_a_standby_of_a_primary_that_waits_for_another_waits_for_nobody_when_it_is_promoted(pair: Pair) -> None:
    with Standby(pair.primary, "other") as other:
        other.follow()
        other.promote()
        other.run_sql("INSERT INTO kept VALUES (6)")
        assert _rows(other, 6) == 1
    assert _rows(pair.primary, 6) == 0


@asynccontextmanager
async def _echo(greeting: bytes) -> AsyncIterator[int]:
    """A server that greets and then sends everything back; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()


async def _greeted(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect and read the greeting of the echo server."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    assert await reader.readexactly(5) == b"hello"
    return reader, writer


async def test_the_proxy_passes_everything_on_up_to_the_end() -> None:
    sent = bytes(range(256)) * 8_192
    async with _echo(b"hello") as target, Proxy(HOST, target) as proxy:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b"hello" + sent
        writer.close()


async def test_the_proxy_cuts_with_a_reset_refuses_and_mends() -> None:
    async with _echo(b"hello") as target, Proxy(HOST, target) as proxy:
        reader, writer = await _greeted(proxy)
        await proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, proxy.port)
        await proxy.mend()
        reader, writer = await _greeted(proxy)
        writer.close()


async def test_the_frozen_proxy_takes_bytes_and_connections_and_passes_nothing_on() -> None:
    async with _echo(b"hello") as target, Proxy(HOST, target) as proxy:
        reader, writer = await _greeted(proxy)
        proxy.freeze()
        writer.write(b"question")
        await writer.drain()
        other_reader, other_writer = await asyncio.open_connection(HOST, proxy.port)
        for silent in (reader, other_reader):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(silent.read(1), 0.1)
        proxy.thaw()
        assert await reader.readexactly(8) == b"question"
        assert await other_reader.readexactly(5) == b"hello"
        writer.close()
        other_writer.close()


async def test_frozen_proxy_buffers_a_bounded_amount() -> None:
    async with _echo(b"") as target, Proxy(HOST, target) as proxy:
        _, writer = await asyncio.open_connection(HOST, proxy.port)
        proxy.freeze()
        writer.write(bytes(64 << 20))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.3)
        writer.transport.abort()


async def test_the_proxy_resets_who_comes_for_a_target_that_is_gone() -> None:
    async with _echo(b"") as target:
        pass
    async with Proxy(HOST, target) as proxy:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
