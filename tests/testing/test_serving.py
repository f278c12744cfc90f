"""The kit without pytest's fixtures: as a context manager, and as a process."""

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from discue.domain.errors import SettingsInvalid
from discue.testing import KitClosed, NotSettled, ServerPool, serve
from discue.testing.applications import ApplicationEndpoint
from discue.testing.receiver import Received, Reply
from discue.testing.server import InProcessServer, ServerDied
from tests.cli.commands import run
from tests.testing.conftest import END_SECONDS, ON_ONE_PROCESS, ephemeral_process


def test_application_that_blocks_is_named_and_the_next_test_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discue.testing.kit._APPLICATION_SECONDS", 0.1)
    is_called, may_return = threading.Event(), threading.Event()

    async def application(*_: Any) -> None:
        is_called.set()
        may_return.wait(END_SECONDS)

    def leave_while_it_blocks(pool: ServerPool) -> None:
        with pool.kit() as kit:
            kit.deliver_to(application, "/hooks", queue="orders")
            kit.publish("orders", 1)
            kit.publish("orders", 2)
            assert is_called.wait(END_SECONDS)

    with ServerPool() as pool:
        try:
            with pytest.raises(TimeoutError, match=r"has not returned from POST /hooks: it blocks"):
                leave_while_it_blocks(pool)
            with pool.kit() as kit:
                listener = kit.listener("orders")
                kit.publish("orders", 3)
                kit.settled()
                listener.assert_acknowledged(1)
        finally:
            may_return.set()


def test_call_that_blocks_as_it_starts_is_named_at_the_end_of_the_test() -> None:
    named: list[Received] = []

    def submit(call: Coroutine[Any, Any, Reply]) -> Future[Reply]:
        call.close()
        ending.start()
        # Long enough to miss the call, if the end of the test does not wait until it has started.
        ending.join(0.3)
        return Future()

    async def application(*_: Any) -> None:
        raise AssertionError

    endpoint = ApplicationEndpoint(application, submit, "application")
    ending = threading.Thread(target=lambda: named.extend(endpoint.abandon()))
    received = Received("POST", "/hooks", "", (), b"")
    endpoint.respond(received)
    ending.join()
    assert named == [received]


def test_program_without_pytest_uses_the_kit() -> None:
    program = """
import discue.testing

with discue.testing.serve() as discue:
    listener = discue.listener("orders")
    listener.respond(503, times=1)
    discue.publish("orders", {"order": 17})
    discue.clock.advance("1m")
    listener.assert_received(2)
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=END_SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_interrupt_ends_a_program_that_waits_for_a_hanging_listener() -> None:
    program = """
import signal
import sys
import threading
import time
import traceback
import discue.testing

def report():
    # A KeyboardInterrupt in Python's code that takes a lock leaves the lock taken, so the signal must come later.
    while not is_waiting():
        time.sleep(0.001)
    print("waiting", flush=True)

def is_waiting():
    frame = sys._current_frames()[threading.main_thread().ident]
    return frame.f_code is threading.Condition.wait.__code__ and any(
        frame.f_code.co_name == "settled" for frame, _ in traceback.walk_stack(frame)
    )

# A shell lets programs that it starts in the background ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
with discue.testing.serve() as discue:
    discue.listener("orders").hang()
    discue.publish("orders", {"order": 17})
    threading.Thread(target=report).start()
    discue.settled(60)
"""
    command = [sys.executable, "-W", "error", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waiting\n"
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=END_SECONDS)

    assert running.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_port_that_is_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingsInvalid, match=rf"cannot listen on 127.0.0.1:{port} \(Address already in use\)"),
            serve(port=port),
        ):
            pass


def test_server_whose_loop_is_stopped_closes_its_port_and_ends_its_threads() -> None:
    others = set(threading.enumerate())
    server = InProcessServer()
    server.start()
    port = urlsplit(server.url).port
    assert port is not None
    loop = server.thread.loop
    loop.call_soon_threadsafe(loop.stop)
    server.stop()

    assert set(threading.enumerate()) <= others
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(ServerDied, match="its thread was stopped"):
        server.require_running()


def test_kit_after_its_block_says_that_it_has_ended() -> None:
    with serve() as kit:
        kit.queue("orders")
    for use in (
        kit.settled,
        lambda: kit.publish("orders", 1),
        lambda: kit.listener("orders"),
        lambda: kit.clock.advance(1),
    ):
        with pytest.raises(KitClosed, match=r"This discue belonged to a test that has ended. Ask for the fixture"):
            use()


def test_block_that_ends_while_an_application_hangs_returns() -> None:
    def application(*_: Any) -> list[bytes]:
        hanging.acquire()
        return []

    hanging = threading.Lock()
    hanging.acquire()
    with serve() as kit:
        kit.deliver_to(application, queue="orders")
        kit.publish("orders", 1)
        with pytest.raises(NotSettled):
            kit.settled(0.1)
    hanging.release()


def test_application_that_is_too_slow_times_out(caplog: pytest.LogCaptureFixture) -> None:
    async def application(*_: Any) -> None:
        await asyncio.Event().wait()

    with caplog.at_level(logging.CRITICAL), serve() as kit:
        orders = kit.deliver_to(application, queue="orders", timeout=1, retry=[10])
        kit.publish("orders", 1)
        kit.settled()

        assert [(attempt.status, attempt.error) for attempt in orders.attempts] == [(0, "timeout")]


def ask(url: str, key: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Send a request as a program in another language does."""
    headers = {"x-api-key": key, "content-type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=END_SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@ON_ONE_PROCESS
def test_process_moves_its_clock_on_request(process: tuple[str, str]) -> None:
    url, key = process
    _, before = ask(f"{url}/testing/clock", key, {})

    status, after = ask(f"{url}/testing/advance", key, {"by": "1d"})

    assert status == 200
    assert 86_400_000 <= after["now"] - before["now"] < 86_460_000
    assert ask(f"{url}/testing/settle", key, {})[0] == 200


@ON_ONE_PROCESS
@pytest.mark.parametrize(
    ("path", "key", "body", "status", "detail"),
    [
        ("clock", "dsk_wrong", {}, 401, "Send the key that discue dev --ephemeral printed in x-api-key."),
        ("advance", None, {"by": "-1h"}, 400, "The clock cannot go back: '-1h' is negative."),
        ("advance", None, {"by": "soon"}, 400, "'soon' is not a duration."),
        ("advance", None, {"by": 1, "to": 2}, 400, "Send either `by` or `to`, not both."),
        ("advance", None, {"for": 1}, 400, "unknown field `for`"),
        ("turn", None, {}, 404, "No route for /testing/turn. The routes are /testing/settle, /testing/advance"),
        ("clock", None, None, 405, "/testing/clock needs POST."),
    ],
    ids=["key", "back", "no duration", "both", "unknown field", "path", "method"],
)
def test_process_refuses_invalid_requests_with_the_reason(
    process: tuple[str, str], path: str, key: str | None, body: dict[str, Any] | None, status: int, detail: str
) -> None:
    url, own = process
    got, problem = ask(f"{url}/testing/{path}", key or own, body)
    assert (got, problem["status"]) == (status, status)
    assert detail in problem["detail"]


def test_process_whose_port_is_in_use_serves_at_the_next_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ephemeral_process(tmp_path, port) as (url, key):
            assert ask(f"{url}/testing/settle", key, {})[0] == 200
    assert int(url.rpartition(":")[2]) > port


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json",), "--json needs --ephemeral"),
        (("--ephemeral", "--database", "sqlite:///other.db"), "--ephemeral has a database of its own"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = run(tmp_path, "dev", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
