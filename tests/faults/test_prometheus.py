"""Every alert fires when its cause is there, and stops when it is gone; every query of the board returns data."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.faults.prometheus import PROGRAM, RULES, Prometheus, watching
from tests.support.ports import free_port
from tests.support.postgres import fixtures as databases
from tests.support.postgres.cluster import Cluster
from tests.support.receiver import Receiver, Reply, receiving
from tests.support.served_process import KEY, ServedProcess, served_process

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(PROGRAM is None and not os.environ.get("CI"), reason="Prometheus is not installed"),
]

BOARD: Final = Path(__file__).parents[2] / "deploy" / "grafana" / "discue.json"
WORKERS: Final = 3
THRESHOLDS: Final = {
    # Ages and predictions in seconds for minutes, like the rest of the rules.
    'mode="push"}) > 300': 'mode="push"}) > 3',
    'mode="pull"}) > 3600': 'mode="pull"}) > 3',
    "discue_schedules_late_seconds) > 60": "discue_schedules_late_seconds) > 1",
    "24 * 3600": "24 * 60",
}
_TIMEOUT_SECONDS: Final = 5


class User:
    """Somebody who uses the first server."""

    def __init__(self, server: ServedProcess) -> None:
        self._url = server.url

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        headers = {"x-api-key": KEY}
        return httpx.request(
            method, self._url + path, json=content, headers=headers, trust_env=False, timeout=_TIMEOUT_SECONDS
        )

    def make(self, path: str, **content: Any) -> None:
        self.ask("PUT", path, **content).raise_for_status()


@contextmanager
def repeating(work: Callable[[], object], pause_seconds: float) -> Iterator[None]:
    """Repeat some work during the block."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(pause_seconds):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving("127.0.0.1") as receiver:
        yield receiver


def test_alerts_of_a_cluster_fire_and_resolve(tmp_path: Path, receiver: Receiver) -> None:
    ports = [free_port() for _ in range(WORKERS)]
    gone = receiver.endpoint()
    gone.liveness_status = 503
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        database = stack.enter_context(databases.new_database(cluster))
        servers = [
            stack.enter_context(served_process(database, metrics_port=port, lease_seconds=2, encryption="none"))
            for port in ports
        ]
        prometheus = stack.enter_context(watching(tmp_path, ports, THRESHOLDS))
        user = User(servers[0])
        # Its third probe fails while the other alerts are provoked.
        user.make("/queues/inactive")
        user.make("/queues/inactive/listeners/gone", notify_url=gone.url, liveness_url=gone.url)
        seen = {"DiscueListenersInactive"}
        for provoke in (_failing_listeners, _paused_worker, _lost_database, _slow_commits, _board):
            seen |= provoke(prometheus, user, receiver, servers, cluster, database)
        prometheus.until_firing({"DiscueListenersInactive"})
        gone.liveness_status = 200
        prometheus.until_resolved({"DiscueListenersInactive"})
    rules = set(re.findall(r"alert: (\w+)", RULES.read_text(encoding="utf-8")))
    # The tests below provoke the first one with a bug, and the others on SQLite.
    assert rules - seen == {"DiscueTasksFail", "DiscueDiskLow", "DiscueBackupLate", "DiscueStoreDamaged"}


def _failing_listeners(prometheus: Prometheus, user: User, receiver: Receiver, *_: Any) -> set[str]:
    """A listener refuses, another one takes a message every 20 seconds, and nobody pulls; then they are gone."""
    names = {"DiscueAttemptsFail", "DiscueMessagesMissed", "DiscueBacklogOld", "DiscuePullBacklogOld"}
    names.add("DiscueSourceRefuses")
    refusing = receiver.endpoint(Reply(400))
    user.make("/queues/orders", retry={"attempts": 1})
    user.make("/queues/orders/listeners/refusing", notify_url=refusing.url)
    user.make("/queues/orders/listeners/slow", notify_url=refusing.url, rate_limit={"per_second": 0.05, "burst": 1})
    user.make("/queues/orders/listeners/pulled", mode="pull")
    user.make("/sources/github", provider="github", queue_id="orders", secrets=["secret"])
    source = user.ask("GET", "/sources/github").json()["source"]["url"]

    def publish() -> None:
        user.ask("POST", "/queues/orders/messages", data="hello").raise_for_status()
        assert httpx.post(source, content=b"unsigned", trust_env=False).status_code == 401

    with repeating(publish, 0.2):
        prometheus.until_firing(names)
    for listener in ("refusing", "slow", "pulled"):
        user.ask("DELETE", f"/queues/orders/listeners/{listener}").raise_for_status()
    prometheus.until_resolved(names)
    return names


def _paused_worker(prometheus: Prometheus, _: User, __: Receiver, servers: list[ServedProcess], *___: Any) -> set[str]:
    """A worker stands still for longer than its lease, and then for half a second now and again."""
    names = {"DiscueDown", "DiscueLeaseLost"}
    os.kill(servers[-1].pid, signal.SIGSTOP)
    try:
        prometheus.until_firing({"DiscueDown"})
    finally:
        os.kill(servers[-1].pid, signal.SIGCONT)
    prometheus.until_firing({"DiscueLeaseLost"})
    prometheus.until_resolved(names)

    def hold() -> None:
        os.kill(servers[-1].pid, signal.SIGSTOP)
        time.sleep(0.6)
        os.kill(servers[-1].pid, signal.SIGCONT)

    with repeating(hold, 0.1):
        prometheus.until_firing({"DiscueLoopSlow"})
    prometheus.until_resolved({"DiscueLoopSlow"})
    return names | {"DiscueLoopSlow"}


def _lost_database(prometheus: Prometheus, user: User, _: Any, __: Any, cluster: Cluster, ___: Any) -> set[str]:
    """The database is gone while clients publish, and delayed messages are due."""
    names = {"DiscueStoreUnavailable", "DiscuePublishesFail", "DiscueScheduleLate"}
    user.make("/queues/later")
    stored = "sum(discue_published_messages_total)"
    before = prometheus.value(stored)[0]

    def publish() -> None:
        answer = user.ask("POST", "/queues/later/messages", data="hello", delay=5)
        assert answer.status_code in {200, 503}

    with repeating(publish, 0.2):
        # By the time the first ones are due, the leader knows when the next ones are.
        prometheus.until(lambda: prometheus.value(stored)[0] > before + 30, lambda: "nothing is stored")
        cluster.stop("immediate")
        try:
            prometheus.until_firing(names)
        finally:
            cluster.start()
        prometheus.until_resolved(names)
    return names


def _slow_commits(prometheus: Prometheus, user: User, _: Any, __: Any, cluster: Cluster, database: str) -> set[str]:
    """Somebody else keeps a lock that commits need for a third of a second, again and again."""
    names = {"DiscueCommitsSlow"}
    name = database.rpartition("/")[2]

    def lock() -> None:
        cluster.run_sql("BEGIN; LOCK TABLE queue_head; SELECT pg_sleep(0.4); COMMIT", name)

    def publish() -> None:
        user.ask("POST", "/queues/later/messages", data="hello").raise_for_status()

    with repeating(lock, 0.1), repeating(publish, 0.05):
        prometheus.until_firing(names)
    prometheus.until_resolved(names)
    return names


def _board(prometheus: Prometheus, *_: Any) -> set[str]:
    """Every query of the board returns data, here where all of it has happened."""
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 30
    empty = [query for query in queries if not prometheus.value(query.replace("$__rate_interval", "5m"))]
    of_sqlite = ("discue_database_file", "discue_disk_free", "discue_backup")
    assert [query for query in empty if not query.startswith(of_sqlite)] == []
    return set()


def test_a_disk_that_runs_full_fires_and_resolves(tmp_path: Path) -> None:
    port, disk = free_port(), tmp_path / "disk"
    disk.mkdir()
    room = os.statvfs(disk)
    enough = room.f_bavail * room.f_frsize - (200 << 20)
    thresholds = THRESHOLDS | {"discue_disk_free_bytes < 1e9 or": f"discue_disk_free_bytes < {enough} or"}
    filling = disk / "filling"
    with (
        served_process(f"sqlite:///{disk}/discue.db", metrics_port=port),
        watching(tmp_path, [port], thresholds) as prometheus,
    ):
        prometheus.until_resolved({"DiscueDiskLow"})
        with filling.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 400 << 20)
        prometheus.until_firing({"DiscueDiskLow"})
        filling.unlink()
        prometheus.until_resolved({"DiscueDiskLow"})


def test_backups_that_fail_fire_and_resolve(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "backups"
    folder.mkdir()
    database = f"sqlite:///{tmp_path}/discue.db"
    with (
        served_process(database, metrics_port=port, backup_to=folder, backup_every="5s"),
        watching(tmp_path, [port], THRESHOLDS) as prometheus,
    ):
        prometheus.until(lambda: any(folder.glob("*.backup")), lambda: "no backup is made")
        prometheus.until_resolved({"DiscueBackupLate"})
        gone = folder.rename(tmp_path / "gone")
        prometheus.until_firing({"DiscueBackupLate"})
        gone.rename(folder)
        prometheus.until_resolved({"DiscueBackupLate"})


def test_background_work_that_fails_fires_and_resolves(tmp_path: Path) -> None:
    port, failing = free_port(), tmp_path / "failing"
    program = ("-m", "tests.faults.altered", f"fails={failing}")
    with (
        served_process(f"sqlite:///{tmp_path}/discue.db", program, metrics_port=port),
        watching(tmp_path, [port], THRESHOLDS) as prometheus,
    ):
        prometheus.until(
            lambda: prometheus.value("discue_task_failures_total") and not prometheus.firing(),
            lambda: "no failures are counted",
        )
        failing.touch()
        prometheus.until_firing({"DiscueTasksFail"})
        failing.unlink()
        prometheus.until_resolved({"DiscueTasksFail"})
