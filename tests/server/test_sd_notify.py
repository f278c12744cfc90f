import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from discue.observability.logs import Log
from discue.server.sd_notify import ServiceManager
from tests.cli.commands import REPOSITORY, running, serving
from tests.support.notify_socket import notify_socket

PERIOD_SECONDS = 0.3
LONG_PERIOD_SECONDS = 3.0
"""For tests in which a late beat kills a worker: a busy machine may delay the beat by two thirds of this."""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_server_tells_that_it_serves_then_beats_then_tells_that_it_drains(tmp_path: Path, workers: str) -> None:
    with (
        notify_socket(tmp_path, LONG_PERIOD_SECONDS) as manager,
        serving(tmp_path, "--workers", workers, **manager.variables) as server,
    ):
        assert manager.wait_for("") == "READY=1"
        assert manager.wait_for("WATCHDOG=1") == "WATCHDOG=1\nSTATUS=Serving."
        assert [manager.wait_for("WATCHDOG=1") for _ in range(2)] == ["WATCHDOG=1"] * 2
        assert "worker_killed" not in server.log.text
        server.signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert server.ended() == 0


def test_server_without_a_watchdog_beats_never(tmp_path: Path) -> None:
    with notify_socket(tmp_path, 0) as manager, serving(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as server:
        manager.wait_for("READY=1")
        assert server.stop() == 0
        manager.wait_for("STOPPING=1")

    assert manager.received == ["READY=1", "STOPPING=1\nSTATUS=Draining."]


def test_worker_whose_event_loop_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    command = ("-m", "tests.cli.small_workers")
    with (
        notify_socket(tmp_path, LONG_PERIOD_SECONDS) as manager,
        running(REPOSITORY, "second_hangs", command=command, **manager.variables) as workers,
    ):
        killed = workers.log.wait_for(r"worker_killed worker=(\d) .*reason=unresponsive")
        manager.wait_for("STATUS=1 of 3 workers do not serve.")
        manager.wait_for("STATUS=Serving.")
        assert workers.stop() == 0

    assert killed[1] == "2"
    assert workers.log.text.count("worker_killed") == 1


def test_hung_event_loop_does_not_beat(tmp_path: Path) -> None:
    with notify_socket(tmp_path, 3 * PERIOD_SECONDS) as manager:

        async def hang() -> None:
            async with ServiceManager(manager.variables, Log()).informed(lambda: None):
                await asyncio.to_thread(manager.wait_for, "WATCHDOG=1")
                # The event loop is blocked from here on. It may have beaten since the other thread got the first beat.
                manager.socket.setblocking(False)
                with suppress(BlockingIOError):
                    while True:
                        manager.wait_for("WATCHDOG=1")
                # For twice the time between beats.
                manager.socket.settimeout(2 * PERIOD_SECONDS)
                with pytest.raises(TimeoutError):
                    manager.wait_for("WATCHDOG=1")

        asyncio.run(hang())
        first, *beats = manager.received
        assert (first, {each.partition("\n")[0] for each in beats}) == ("READY=1", {"WATCHDOG=1"})


def test_obstacle_is_the_status_that_the_manager_shows(tmp_path: Path) -> None:
    obstacles = iter([None, "The database cannot take writes.", "The database cannot take writes.", None])
    with notify_socket(tmp_path, PERIOD_SECONDS) as manager:
        served = ServiceManager(manager.variables, Log())
        for obstacle in obstacles:
            served.beat(obstacle)
        beats = [manager.wait_for("WATCHDOG=1") for _ in range(4)]

    outage = "WATCHDOG=1\nSTATUS=The database cannot take writes."
    assert beats == ["WATCHDOG=1\nSTATUS=Serving.", outage, "WATCHDOG=1", "WATCHDOG=1\nSTATUS=Serving."]


def test_abstract_address_is_notified() -> None:
    name = f"discue-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}, Log()).ready()

        assert manager.recv(100) == b"READY=1"


def test_missing_manager_is_logged_and_fails_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, NOTIFY_SOCKET=str(tmp_path / "gone")) as server:
        assert server.url
        assert server.stop() == 0

    assert 'service_manager_not_notified reason="No such file or directory"' in server.log.text


@pytest.mark.parametrize(
    "variables",
    [{}, {"NOTIFY_SOCKET": "/run/x"}, {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}],
)
def test_watchdog_of_another_process_or_none_expects_no_beats(variables: dict[str, str]) -> None:
    assert ServiceManager(variables, Log()).watchdog_seconds == 0
