"""`GET /metrics` of real servers."""

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from discue.observability.metrics import Snapshot
from discue.server.metric_table import METRICS, TASKS
from discue.server.metrics import Details, WorkerMetrics, measured
from tests.faults.client import Client
from tests.observability.test_metrics import labels, parsed
from tests.server.test_worker import running
from tests.support.authority import NO_ROOTS
from tests.support.databases import new_database
from tests.support.ports import free_port
from tests.support.receiver import Endpoint, Receiver, Reply, receiving
from tests.support.served_process import KEY, ServedProcess, served_process

METRICS_KEY = "a-key-of-the-metrics"
MOST_SERIES = 320
_PATIENCE_SECONDS = 10.0
_OPEN = "application/openmetrics-text; version=1.0.0"

Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving("127.0.0.1") as receiver:
        yield receiver


@pytest.fixture
def server(request: pytest.FixtureRequest, engine_name: str, tmp_path: Path) -> Iterator[ServedProcess]:
    with (
        new_database(request, engine_name, tmp_path) as database,
        served_process(database, metrics_key=METRICS_KEY) as running,
    ):
        yield running


def get(server: ServedProcess, path: str = "/metrics", key: str = METRICS_KEY, **headers: str) -> httpx.Response:
    return httpx.get(
        server.url + path, headers={"authorization": f"Bearer {key}"} | headers, verify=NO_ROOTS, trust_env=False
    )


def scraped(server: ServedProcess, path: str = "/metrics") -> Found:
    answer = get(server, path, accept=_OPEN).raise_for_status()
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    return parsed(answer.content, openmetrics=True)


def until(condition: Callable[[Found], bool], server: ServedProcess, path: str = "/metrics") -> Found:
    """The first scrape that fulfils the condition: what a scrape shows is stored soon after it was done."""
    ends_at = time.monotonic() + _PATIENCE_SECONDS
    while not condition(found := scraped(server, path)):
        assert time.monotonic() < ends_at, found
    return found


class Owner:
    """A user of the server."""

    def __init__(self, server: ServedProcess) -> None:
        self._url = server.url

    def post(self, path: str, **content: Any) -> Any:
        answer = httpx.post(
            self._url + path, json=content, headers={"x-api-key": KEY}, verify=NO_ROOTS, trust_env=False, timeout=30
        )
        return answer.raise_for_status().json()

    def queue(self, alias: str, *endpoints: Endpoint) -> str:
        created = self.post("/queues", alias=alias)["queue"]["id"]
        for endpoint in endpoints:
            self.post(f"/queues/{alias}/listeners", notify_url=endpoint.url)
        return str(created)


def test_deliveries_are_counted_by_outcome_and_timed(server: ServedProcess, receiver: Receiver) -> None:
    fine, failing = receiver.endpoint(), receiver.endpoint(Reply(500))
    owner = Owner(server)
    owner.queue("orders", fine, failing)
    owner.post("/queues/orders/messages/batch", messages=[{"data": "hello"}] * 3)
    outcome = "discue_attempts_total"
    found = until(
        lambda found: found[outcome, labels(outcome="acknowledged")] == found[outcome, labels(outcome="status")] == 3,
        server,
    )
    assert found["discue_published_messages_total", labels()] == 3
    assert found["discue_published_bytes_total", labels()] == 3 * len("hello")
    assert found["discue_delivery_lag_seconds_count", labels()] == 6
    assert found["discue_attempt_duration_seconds_count", labels(stage="total")] == 6
    assert found["discue_attempt_duration_seconds_count", labels(stage="first_byte")] == 6
    assert found["discue_backlog_messages", labels(state="active", mode="push")] == 3
    assert found["discue_retrying_messages", labels()] == 3
    assert found["discue_listeners", labels(state="active")] == 2
    assert found["discue_http_requests_total", labels(operation="publish", status="2xx")] == 1
    assert found["discue_http_requests_total", labels(operation="change", status="2xx")] == 3
    assert found["discue_store_healthy", labels()] == 1
    assert found["discue_publish_duration_seconds_count", labels()] == 1


def test_every_sample_is_in_the_table(server: ServedProcess) -> None:
    known = {metric.name: metric for metric in METRICS}
    found = scraped(server)
    for name, pairs in found:
        family = known.get(name) or known[name.rpartition("_")[0]]
        for label, value in pairs:
            assert label == "le" or value in family.labels[label], (name, label, value)
    shown = {name for name, _ in found} | {name.rpartition("_")[0] for name, _ in found}
    on_sqlite = {"discue_database_file_bytes", "discue_disk_free_bytes"}
    with_backups = {"discue_backup_age_seconds", "discue_backup_interval_seconds"}
    with_collector = {"discue_spans_total"}
    assert known.keys() - shown <= on_sqlite | with_backups | with_collector
    assert len(found) <= MOST_SERIES


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_queues_and_listeners_add_no_series(server: ServedProcess, receiver: Receiver) -> None:
    owner = Owner(server)
    before = scraped(server)
    for number in range(20):
        owner.queue(f"queue-{number}", receiver.endpoint())
        owner.post(f"/queues/queue-{number}/messages", data=1)
    acknowledged = ("discue_attempts_total", labels(outcome="acknowledged"))
    after = until(lambda found: found[acknowledged] == 20, server)
    assert after.keys() == before.keys()


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_listener_without_messages_is_counted_and_has_no_backlog(server: ServedProcess) -> None:
    owner = Owner(server)
    url = f"http://127.0.0.1:{free_port()}/"
    queues = [owner.post("/queues", alias=alias)["queue"]["id"] for alias in ("orders", "invoices")]
    for queue in queues:
        owner.post(f"/queues/{queue}/listeners", alias="billing", notify_url=url)
    active = ("discue_listeners", labels(state="active"))
    until(lambda found: found[active] == 2, server)
    details = scraped(server, f"/metrics/detailed?family=listeners&queue={queues[0]}")
    assert [value for (name, _), value in details.items() if name == "discue_listener_backlog_messages"] == [0]


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_backlog_of_a_listener_that_hangs_has_an_age(server: ServedProcess, receiver: Receiver) -> None:
    owner = Owner(server)
    owner.post("/queues", alias="orders")
    owner.post(
        "/queues/orders/listeners", alias="billing", notify_url=f"http://127.0.0.1:{free_port()}/", status="disabled"
    )
    owner.post("/queues/orders/messages/batch", messages=[{"data": 1}] * 5)
    waiting = ("discue_backlog_messages", labels(state="disabled", mode="push"))
    found = until(lambda found: found[waiting] == 5, server)
    assert found["discue_listeners", labels(state="disabled")] == 1
    details = scraped(server, "/metrics/detailed?family=listeners")
    assert [value for (name, _), value in details.items() if name == "discue_listener_backlog_messages"] == [5]


async def test_backlogs_of_pull_listeners_are_reported_by_the_leader(tmp_path: Path) -> None:
    def waiting(found: Snapshot, name: str) -> dict[tuple[str, ...], float]:
        return {key: value for key, value in found[name] if value}  # type: ignore[misc]

    async with running(f"sqlite:///{tmp_path}/discue.db", lease_seconds=60) as served:
        client, worker = Client(served), served.worker
        queue = await client.queue()
        listeners = [
            (await client.post(f"/queues/{queue}/listeners", {"mode": "pull", "status": status}))["listener"]["id"]
            for status in ("enabled", "disabled")
        ]
        await client.post(f"/queues/{queue}/messages/batch", {"messages": [{"data": 1}] * 3})
        await client.get(f"/queues/{queue}/listeners/{listeners[0]}/messages?max=1")
        await worker.jobs.pull_backlogs.read()
        found = measured(worker, None)
        assert waiting(found, "discue_backlog_messages") == {("active", "pull"): 3, ("disabled", "pull"): 3}
        assert waiting(found, "discue_backlog_age_seconds").keys() == {("active", "pull"), ("disabled", "pull")}
        assert found["discue_retrying_messages"] == [((), 1)]
        backlog = "discue_listener_backlog_messages"
        assert measured(worker, Details("listeners"))[backlog] == [((queue, each), 3) for each in listeners]
        assert measured(worker, Details("queues", queue))["discue_queue_backlog_messages"] == [((queue,), 6)]
        client.close()


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_details_are_of_the_largest_backlogs_and_of_one_queue(server: ServedProcess) -> None:
    owner = Owner(server)
    target = f"http://127.0.0.1:{free_port()}/"
    queues = []
    for number in range(3):
        queues.append(owner.queue(f"queue-{number}"))
        owner.post(f"/queues/queue-{number}/listeners", notify_url=target, status="disabled")
        owner.post(f"/queues/queue-{number}/messages/batch", messages=[{"data": 1}] * (number + 1))
    name = "discue_queue_backlog_messages"
    largest = until(lambda found: sum(found.values()) > 4, server, "/metrics/detailed?family=queues&limit=2")
    assert {pairs: value for (each, pairs), value in largest.items() if each == name} == {
        labels(queue=queues[2]): 3,
        labels(queue=queues[1]): 2,
    }
    one = scraped(server, f"/metrics/detailed?family=queues&queue={queues[0]}")
    assert {pairs: value for (each, pairs), value in one.items() if each == name} == {labels(queue=queues[0]): 1}
    for family in ("queues", "listeners"):
        alias = get(server, f"/metrics/detailed?family={family}&queue=queue-0")
        detail = "No worker here reports a listener of this queue. `queue` takes the id of a queue, not its alias.\n"
        assert (alias.status_code, alias.text) == (404, detail)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "`family` must be listeners or queues, and `limit` from 1 to 3333.\n"),
        ("family=organizations", "`family` must be listeners or queues, and `limit` from 1 to 3333.\n"),
        ("family=queues&limit=0", "`family` must be listeners or queues, and `limit` from 1 to 3333.\n"),
        ("family=queues&limit=100000", "`family` must be listeners or queues, and `limit` from 1 to 3333.\n"),
        ("family=queues&sort=age", "Known parameters, each at most once: family, queue and limit.\n"),
        ("family=queues&family=queues", "Known parameters, each at most once: family, queue and limit.\n"),
    ],
)
@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_wrong_questions_for_details_are_400(server: ServedProcess, query: str, detail: str) -> None:
    answer = get(server, f"/metrics/detailed?{query}")
    assert (answer.status_code, answer.text) == (400, detail)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_port_of_the_api_asks_for_the_key_of_the_metrics(server: ServedProcess) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": KEY}, {"authorization": METRICS_KEY}):
        answer = httpx.get(f"{server.url}/metrics", headers=headers, verify=NO_ROOTS, trust_env=False)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == 'Bearer realm="metrics"'
        assert "metrics_key" in answer.text
    assert (
        httpx.get(
            f"{server.url}/metrics", headers={"x-api-key": METRICS_KEY}, verify=NO_ROOTS, trust_env=False
        ).status_code
        == 200
    )
    text = get(server)
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert parsed(text.content, openmetrics=False).keys() == scraped(server).keys()
    assert get(server, "/health/ready").json()["status"] == "ready"
    wrong = httpx.post(f"{server.url}/metrics", headers={"x-api-key": METRICS_KEY}, verify=NO_ROOTS, trust_env=False)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


def test_without_a_key_the_port_of_the_api_has_no_metrics(tmp_path: Path) -> None:
    port = free_port()
    with served_process(f"sqlite:///{tmp_path}/discue.db", metrics_port=port) as server:
        assert httpx.get(f"{server.url}/metrics", verify=NO_ROOTS, trust_env=False).status_code == 404
        own = f"http://127.0.0.1:{port}"
        assert b"discue_store_healthy 1" in httpx.get(f"{own}/metrics", verify=NO_ROOTS, trust_env=False).content
        head = httpx.head(f"{own}/metrics", verify=NO_ROOTS, trust_env=False)
        assert (head.status_code, head.content) == (200, b"")
        other = httpx.get(f"{own}/queues", verify=NO_ROOTS, trust_env=False)
        assert (other.status_code, other.text) == (404, "This port has /metrics and /metrics/detailed only.\n")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"needs the header Host" in answer


@pytest.mark.parametrize("engine_name", ["postgres"])
def test_workers_of_one_machine_are_scraped_in_one_place(
    request: pytest.FixtureRequest, engine_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Paths of sockets in this folder are too long for the system.
    temporary = tmp_path / ("x" * 100)
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    workers = frozenset("123")
    with (
        new_database(request, engine_name, tmp_path) as database,
        served_process(database, metrics_key=METRICS_KEY, workers=3) as server,
    ):
        cpu = "process_start_time_seconds"
        seen = until(
            lambda found: {dict(pairs).get("worker") for name, pairs in found if name == cpu} == workers, server
        )
        assert all("worker" in dict(pairs) for _, pairs in seen)


@pytest.fixture
def folder() -> Iterator[Path]:
    # The path of a socket has at most 107 characters: those of pytest can be longer.
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@asynccontextmanager
async def sibling(folder: Path, number: int) -> AsyncIterator[WorkerMetrics]:
    found: Snapshot = {"discue_x": [((), number)]}
    metrics = WorkerMetrics(lambda _: found, number=number, folder=folder)
    await metrics.start()
    try:
        yield metrics
    finally:
        await metrics.stop()


async def test_workers_are_in_the_order_of_their_numbers(folder: Path) -> None:
    async with sibling(folder, 10), sibling(folder, 2) as asked, sibling(folder, 1):
        found = await asked.gather()
        assert list(found) == ["1", "2", "10"]
        assert found["10"] == {"discue_x": [((), 10)]}
    assert not await asyncio.to_thread(lambda: list(folder.iterdir()))


async def test_a_worker_that_hangs_is_gone_or_responds_with_garbage_is_left_out(folder: Path) -> None:
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        # Its question ends, and the connection ends when the other one gives up.
        await reader.read()
        await given_up.wait()
        writer.close()

    async def garble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"garbage")
        writer.close()

    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(folder / "4"))
    hanging = await asyncio.start_unix_server(hang, folder / "2")
    garbling = await asyncio.start_unix_server(garble, folder / "3")
    async with sibling(folder, 1) as metrics:
        began_at = time.monotonic()
        assert list(await metrics.gather()) == ["1"]
        assert time.monotonic() - began_at < _PATIENCE_SECONDS
    assert asked.is_set()
    given_up.set()
    for server in (hanging, garbling):
        server.close()
        await server.wait_closed()


async def test_a_restarted_worker_takes_the_place_of_one_that_was_killed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(folder / "2"))
    async with sibling(folder, 1) as metrics, sibling(folder, 2):
        assert list(await metrics.gather()) == ["1", "2"]


async def test_scrapes_at_once_share_one_look(folder: Path) -> None:
    looks = 0

    def look(_: Details | None) -> Snapshot:
        nonlocal looks
        looks += 1
        return {}

    metrics = WorkerMetrics(look)
    assert await asyncio.gather(*(metrics.gather() for _ in range(20))) == [{"1": {}}] * 20
    assert looks == 1


def test_backups_and_background_work_are_in_the_table(tmp_path: Path) -> None:
    monitor = f"http://127.0.0.1:{free_port()}/"
    settings = {
        "metrics_key": METRICS_KEY,
        "backup_to": tmp_path,
        "backup_every": "1h",
        "heartbeat_url": monitor,
    }
    with served_process(f"sqlite:///{tmp_path}/discue.db", **settings) as server:
        found = until(lambda found: ("discue_backup_age_seconds", labels()) in found, server)
        assert found["discue_backup_age_seconds", labels()] < _PATIENCE_SECONDS
        assert found["discue_backup_interval_seconds", labels()] == 3_600
        tasks = {dict(pairs)["task"] for name, pairs in scraped(server) if name == "discue_task_failures_total"}
    assert tasks == set(TASKS)
