"""`discue serve --workers`: the parent, by real processes and signals."""

import os
import re
import signal
import socket
import ssl
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from discue.crypto import keyring
from tests.cli.commands import PATIENCE_SECONDS, REPOSITORY, Running, request, run, running, serving
from tests.cli.test_serve import hanging_listener, one_line, publish_to

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def small(behaviour: str) -> AbstractContextManager[Running]:
    """Workers that serve nothing (`small_workers`) and their parent."""
    return running(REPOSITORY, behaviour, command=("-m", "tests.cli.small_workers"))


def pids_of(server: Running) -> dict[int, int]:
    """The processes of the workers, by their numbers, once all serve; of one that was replaced, the last."""
    server.log.wait_for("workers_started")
    return {
        int(worker): int(pid)
        for pid, worker in re.findall(r" server_started .* pid=(\d+) worker=(\d+)", server.log.text)
    }


def instants(text: str, event: str) -> list[datetime]:
    found = re.findall(rf"^(\S+) \w+ {event}", text, re.MULTILINE)
    return [datetime.fromisoformat(instant) for instant in found]


def test_all_workers_serve_at_one_address_and_create_one_organization(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "3") as server:
        pids = pids_of(server)
        key = server.key
        # Each connection gets one of the workers: a key that one created works at all.
        made = request("POST", f"{server.url}/v1/api_keys", key, {}).json()["api_key"]["key"]
        statuses = [request("GET", f"{server.url}/v1/queues", made).status_code for _ in range(12)]
        assert server.stop() == 0

    assert statuses == [200] * 12
    assert server.out.text.count("dsk_") == 1
    assert len(keyring.read_keys(tmp_path / "discue.db.key")) == 1
    assert sorted(pids) == [1, 2, 3]
    assert server.process.pid not in pids.values()
    assert len(set(re.findall(r" url=(\S+)", server.log.text))) == 1
    assert re.search(rf" workers_started count=3 pid={server.process.pid}$", server.log.text, re.MULTILINE)
    assert len(re.findall(r" server_stopped worker=\d", server.log.text)) == 3
    assert "workers_stopped exit_code=0" in server.log.text


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_to_the_process_group_drains_once(tmp_path: Path, number: signal.Signals) -> None:
    """Terminals and service managers signal the whole group."""
    with serving(tmp_path, "--workers", "2") as server:
        pids = pids_of(server)
        for pid in (*pids.values(), server.process.pid):
            os.kill(pid, number)

        assert server.ended() == 0
        assert "stopped_immediately" not in server.log.text
        assert len(re.findall(r" server_stopped worker=\d", server.log.text)) == 2


def test_second_signal_ends_all_processes_at_once(tmp_path: Path) -> None:
    with (
        hanging_listener() as (listener_url, came),
        serving(tmp_path, "--workers", "2", "--allow-private-targets") as server,
    ):
        key = server.key
        pids_of(server)
        publish_to(server.url, key, listener_url)
        assert came.wait(10)
        server.signal(signal.SIGTERM)
        server.log.wait_for(r"drain_started reason=parent")
        assert server.process.poll() is None

        # The end of what they write to is the end of the workers, too.
        assert server.stop_immediately() == 1
        assert "stopped_immediately" in server.log.text


def test_killed_worker_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "3") as server:
        before = pids_of(server)
        os.kill(before[2], signal.SIGKILL)
        server.log.wait_for(rf"worker_ended worker=2 pid={before[2]} signal=SIGKILL")
        server.log.wait_for_count(" worker=2\n", 2)
        after = pids_of(server)
        assert request("GET", f"{server.url}/health/ready").status_code == 200
        assert server.stop() == 0

    assert after[2] != before[2]
    assert (after[1], after[3]) == (before[1], before[3])


def test_terminated_worker_drains_and_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as server:
        before = pids_of(server)
        os.kill(before[1], signal.SIGTERM)
        server.log.wait_for(rf"worker_ended worker=1 pid={before[1]} exit_code=0")
        server.log.wait_for(r"server_started .* worker=1\n(?:.*\n)*.*server_started .* worker=1\n")
        assert server.stop() == 0

    assert "drain_started reason=SIGTERM" in server.log.text


def test_workers_drain_and_end_if_the_parent_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as server:
        pids_of(server)
        server.process.kill()

        assert server.ended() == -signal.SIGKILL
        assert len(re.findall(r" drain_started reason=parent", server.log.text)) == 2
        assert len(re.findall(r" server_stopped worker=\d", server.log.text)) == 2


def test_draining_workers_of_a_killed_parent_keep_the_database_locked(tmp_path: Path) -> None:
    with hanging_listener() as (listener_url, came):
        with serving(tmp_path, "--workers", "2", "--allow-private-targets", "--drain-timeout-seconds=3") as server:
            key = server.key
            pids_of(server)
            publish_to(server.url, key, listener_url)
            assert came.wait(10)
            server.process.kill()
            assert "Another process serves discue.db" in one_line(run(tmp_path, "serve", "--port", "0"))
            server.ended()
        with serving(tmp_path, "--workers", "2", "--drain-timeout-seconds=0") as later:
            pids_of(later)
            assert later.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use_is_named_before_anything_is_created(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = one_line(run(tmp_path, "serve", "--workers", workers, "--port", str(port)))

    assert f"127.0.0.1:{port}" in line
    assert "in use" in line
    # Neither a database, nor a key that nobody would see again.
    assert list(tmp_path.iterdir()) == []


def test_port_is_reserved_against_other_installations(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    run(other, "init")
    with serving(tmp_path, "--workers", "2") as server:
        pids_of(server)
        port = str(urlsplit(server.url).port)
        for workers in ("1", "2"):
            assert "in use" in one_line(run(other, "serve", "--workers", workers, "--port", port))
        assert server.stop() == 0


def test_second_server_on_a_database_is_rejected(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as server:
        pids_of(server)
        for workers in ("1", "2"):
            refused = run(tmp_path, "serve", "--workers", workers, "--port", "0")
            assert "Another process serves discue.db" in one_line(refused)
        assert request("GET", f"{server.url}/health/ready").status_code == 200


def test_all_workers_share_one_self_signed_certificate(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "3", "--tls-self-signed") as server:
        pids_of(server)
        address = urlsplit(server.url)
        assert address.hostname is not None
        assert address.port is not None
        place = (address.hostname, address.port)
        shown = {ssl.get_server_certificate(place, timeout=PATIENCE_SECONDS) for _ in range(12)}
        assert server.stop() == 0

    assert address.scheme == "https"
    assert len(shown) == 1


def test_first_worker_starts_alone_as_successor_of_all() -> None:
    with small("obedient") as parent:
        parent.log.wait_for("workers_started count=3")
        assert parent.stop() == 0

    began = re.findall(r"began worker=(\d) predecessors=(\S+)", parent.log.text)
    assert began[0] == ("1", "all")
    assert sorted(began[1:]) == [("2", "()"), ("3", "()")]


def test_failure_of_the_first_worker_ends_the_command() -> None:
    with small("never_begins") as parent:
        assert parent.ended() == 1

    assert parent.log.text == "discue: There is no database.\n"


def test_worker_that_never_starts_ends_all_others() -> None:
    with small("second_never_begins") as parent:
        assert parent.ended() == 3

    assert len(re.findall("began worker=2", parent.log.text)) == 5
    assert len(re.findall("began worker=1", parent.log.text)) == 1


def test_restarts_of_a_failing_worker_back_off() -> None:
    with small("second_ends_again_and_again") as parent:
        parent.log.wait_for_count("began worker=2", 4)
        parent.stop()

    began = instants(parent.log.text, "began worker=2")
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(began)]
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=False))
    assert len(re.findall("began worker=1", parent.log.text)) == 1


def test_replacement_worker_gets_all_session_ids_of_its_predecessor() -> None:
    with small("second_joins_afresh_and_is_killed_before_it_serves") as parent:
        parent.log.wait_for("workers_started")
        assert parent.stop() == 0

    began = re.findall(r'began worker=2 predecessors="?(\(.*\))', parent.log.text)
    assert began == ["()", "(21, 22)"]


def test_halted_worker_is_killed_and_replaced() -> None:
    with small("second_halts") as parent:
        parent.log.wait_for(r"worker_killed worker=2 pid=\d+ reason=halted")
        parent.log.wait_for(r"worker_ended worker=2 pid=\d+ signal=SIGKILL")
        assert parent.stop() == 0


def test_briefly_halted_worker_continues() -> None:
    with small("second_pauses_for_a_moment") as parent:
        pid = int(parent.log.wait_for(r"stopping pid=(\d+)")[1])
        while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            os.sched_yield()
        os.kill(pid, signal.SIGCONT)
        parent.log.wait_for("goes_on")
        assert parent.stop() == 0

    assert "worker_killed" not in parent.log.text


def test_workers_that_do_not_drain_are_killed() -> None:
    with small("deaf") as parent:
        parent.log.wait_for("workers_started")
        assert parent.stop() == 1

    assert len(re.findall(r'worker_killed worker=\d pid=\d+ reason="drain timeout"', parent.log.text)) == 3


def test_exit_code_is_that_of_the_failing_worker() -> None:
    with small("fails_at_its_end") as parent:
        parent.log.wait_for("workers_started")
        assert parent.stop() == 5

    assert "worker_ended worker=2" in parent.log.text
