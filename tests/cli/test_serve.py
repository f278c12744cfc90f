import asyncio
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from discue.cli.serve import until_stopped
from discue.domain.errors import DiscueError
from discue.server.http import Address, HttpServer
from tests.cli.commands import queue_with, request, run, run_forked, serving


@contextmanager
def hanging_listener() -> Iterator[tuple[str, threading.Event]]:
    """A listener that reads a request and never answers; the event tells that one came."""
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                came.set()
                connection.recv(65_536)

        waiting = threading.Thread(target=accept)
        waiting.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/", came
        server.shutdown(socket.SHUT_RDWR)
    waiting.join()


def publish_to(url: str, key: str, listener_url: str) -> None:
    queue = queue_with(url, key, listener_url)
    assert request("POST", f"{queue}/messages", key, {"data": "x"}).status_code == 200


@pytest.mark.usefixtures("every_engine")
def test_first_start_prints_a_valid_key_and_the_second_none(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        key = first.out.wait_for(r"\ndsk_\w+\n")[0].strip()
        assert request("GET", f"{first.url}/queues", key).status_code == 200
        assert first.stop() == 0
    with serving(tmp_path) as second:
        assert request("GET", f"{second.url}/queues", key).status_code == 200
        assert second.stop() == 0

    assert first.out.text.count("dsk_") == 1
    assert "local.discue.operator" in first.out.text
    assert second.out.text == ""


def test_log_line_shows_version_url_and_database(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        line = server.log.wait_for(r".* server_started .*")[0]

        assert f"pid={server.process.pid}" in line
        assert "database=sqlite:///discue.db" in line
        assert re.search(r"version=\d+\.\d+\.\d+ url=http://127\.0\.0\.1:\d+ ", line)
        assert request("GET", f"{server.url}/health/ready").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_exits_with_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as server:
        assert server.url
        server.signal(number)

        assert server.ended() == 0
        assert re.search(f"drain_started signal={number.name}.*server_stopped", server.log.text, re.DOTALL)


def test_second_signal_exits_at_once(tmp_path: Path) -> None:
    with hanging_listener() as (listener_url, came), serving(tmp_path, "--allow-private-targets") as server:
        key = server.key
        publish_to(server.url, key, listener_url)
        assert came.wait(10)
        server.signal(signal.SIGTERM)
        server.log.wait_for("drain_started")
        assert server.process.poll() is None

        assert server.stop_immediately() == 1
        assert "stopped_immediately" in server.log.text


@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_signals_within_a_second_count_as_one(tmp_path: Path, workers: str) -> None:
    with (
        hanging_listener() as (listener_url, came),
        serving(tmp_path, "--allow-private-targets", "--drain-timeout-seconds=1", "--workers", workers) as server,
    ):
        publish_to(server.url, server.key, listener_url)
        assert came.wait(10)
        # Of different kinds: two of the same kind may arrive as one.
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGINT)

        assert server.ended() == 0
        assert "stopped_immediately" not in server.log.text


def test_drain_ends_at_its_timeout_and_the_log_contains_no_secret(tmp_path: Path) -> None:
    with (
        hanging_listener() as (listener_url, came),
        serving(
            tmp_path,
            "--allow-private-targets",
            "--log-requests",
            "--log-level=debug",
            "--drain-timeout-seconds=0",
        ) as server,
    ):
        key = server.key
        publish_to(server.url, key, listener_url)
        request("GET", f"{server.url}/queues", key[:-1] + "~")
        request("GET", f"{server.url}/nothing?key={key}", key)
        assert came.wait(10)
        assert server.stop() == 0

    assert "request" in server.log.text
    assert key[12:] not in server.log.text
    assert "whsec_" not in server.log.text


def test_chosen_bootstrap_key_is_used_and_not_printed(tmp_path: Path) -> None:
    key = "dsk_" + "k" * 60
    with serving(tmp_path, DISCUE_BOOTSTRAP_KEY=key) as server:
        assert request("GET", f"{server.url}/api_clients", key).status_code == 200
        assert server.stop() == 0

    assert key not in server.out.text + server.log.text


def test_host_can_be_a_name(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "localhost") as server:
        assert server.url.startswith("http://localhost:")
        assert request("GET", f"{server.url}/health/live").status_code == 200


def test_dispatch_role_serves_only_version_and_health(tmp_path: Path) -> None:
    with serving(tmp_path, "--role", "dispatch") as server:
        key = server.key
        statuses = {
            path: request("GET", server.url + path, key).status_code
            for path in ("/", "/health/live", "/health/ready", "/queues", "/v1/api_keys")
        }

    assert statuses == {"/": 200, "/health/live": 200, "/health/ready": 200, "/queues": 404, "/v1/api_keys": 404}


def test_api_role_stores_messages_that_a_later_start_delivers(tmp_path: Path) -> None:
    with hanging_listener() as (listener_url, came):
        with serving(tmp_path, "--role=api", "--allow-private-targets") as server:
            publish_to(server.url, server.key, listener_url)
            assert server.stop() == 0
        assert not came.is_set()
        with serving(tmp_path, "--allow-private-targets", "--drain-timeout-seconds=0") as server:
            assert came.wait(10)


def test_cleartext_beyond_loopback_requires_a_setting(tmp_path: Path) -> None:
    refused = run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")

    assert refused.returncode == 2
    assert "cleartext is allowed on loopback only" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    with serving(tmp_path, "--host", "0.0.0.0", "--insecure") as server:
        assert server.url.startswith("http://0.0.0.0:")


def test_invalid_settings_are_all_listed_and_nothing_starts(tmp_path: Path) -> None:
    result = run(tmp_path, "serve", "--port", "70000", "--role", "king", DISCUE_LOG_LEVEL="loud")

    assert result.returncode == 2
    places = re.findall(r"^  ([-\w]+): ", result.stderr, re.MULTILINE)
    assert sorted(places) == ["--port", "--role", "DISCUE_LOG_LEVEL"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("serve", "--no-such-flag"), ("nonsense",), ("keys",), ("--ver",)])
def test_wrong_usage_exits_with_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, *arguments).returncode == 2


def test_wrong_flag_is_not_hidden_behind_all_flags(tmp_path: Path) -> None:
    assert run(tmp_path, "serve", "--prot", "3").stderr == (
        "usage: discue serve [FLAG ...]; `discue serve --help` lists the flags\n"
        "discue serve: error: unrecognized arguments: --prot; did you mean --port?\n"
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that failed, which is all it wrote."""
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("discue: ")
    return line


AS_NOBODY = """
import encodings.idna, os, sys
from discue.cli.main import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""
"""The program as a user without rights, who need not be able to read the interpreter's files."""


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
@pytest.mark.parametrize("command", ["serve", "init"])
def test_read_only_database_is_rejected(command: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        run(folder, "init")
        for file in ("discue.db", "discue.db.serving"):
            (folder / file).touch()
            (folder / file).chmod(0o644)
        result = run_forked(folder, "-c", AS_NOBODY, command)

    assert result.returncode == 1
    assert "cannot be written" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
@pytest.mark.parametrize("command", [["serve"], ["keys", "list"]], ids=" ".join)
def test_database_that_dev_made_for_another_user_is_left_alone(command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / ".discue").mkdir(0o700)
        (folder / ".discue/discue.db").touch()
        result = run_forked(folder, "-c", AS_NOBODY, *command)

    assert result.returncode == 1
    assert ".discue" not in result.stderr
    assert " writ" in result.stderr


def test_unexpected_end_of_the_http_server_is_a_failure() -> None:
    async def wait_for_one_that_does_not_run() -> None:
        server = HttpServer(None, Address("127.0.0.1", 0), max_connections=1)
        await until_stopped(asyncio.Event(), server.ended())

    with pytest.raises(DiscueError, match="ended unexpectedly"):
        asyncio.run(asyncio.wait_for(wait_for_one_that_does_not_run(), 10))


def test_worker_loads_large_libraries_for_rare_requests_only_when_it_needs_them(tmp_path: Path) -> None:
    """Otherwise an idle worker would take 10 MB more."""
    rare = {"jsonschema_rs", "segno", "asyncpg", "discue.guides.markdown", "discue.observability.otlp"}
    script = f"import sys, discue.cli.serve, discue.product; sys.exit(', '.join({rare} & set(sys.modules)))"
    assert run_forked(tmp_path, "-c", script).stderr.split() == []
