"""The monitor gets a request while the worker is well."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.domain.egress import EgressPolicy, parse_target
from discue.observability.logs import Log
from discue.server.heartbeat import Heartbeat
from tests.support.receiver import Endpoint, receiving
from tests.support.served_process import served_process


@pytest.fixture
def monitor() -> Iterator[Endpoint]:
    with receiving("127.0.0.1") as receiver:
        yield receiver.endpoint()


class Worker:
    """A worker with a heartbeat."""

    def __init__(self, monitor: Endpoint) -> None:
        self.well = True
        target = parse_target(monitor.url, "")
        self.heartbeat = Heartbeat(
            target, policy=EgressPolicy(), is_well=lambda: self.well, connect_seconds=5, log=Log("heartbeat")
        )


async def test_only_a_worker_that_is_well_beats(monitor: Endpoint) -> None:
    worker = Worker(monitor)
    await worker.heartbeat.beat()
    worker.well = False
    await worker.heartbeat.beat()
    assert monitor.probes == 1


async def test_a_monitor_that_fails_is_logged_once_without_its_url(
    monitor: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(monitor)
    caplog.set_level("INFO")
    for status in (503, 404, 200, 200):
        monitor.liveness_status = status
        await worker.heartbeat.beat()
    logged = [record.getMessage() for record in caplog.records if record.name == "discue.heartbeat"]
    assert logged == ["heartbeat_failed", "heartbeat_recovered"]
    assert monitor.url not in caplog.text


def test_a_server_beats_from_its_start(monitor: Endpoint, tmp_path: Path) -> None:
    with served_process(f"sqlite:///{tmp_path}/discue.db", heartbeat_url=monitor.url):
        monitor.until_probed(1)
