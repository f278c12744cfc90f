"""A tenant that publishes all it can slows its neighbours down a little, and refuses them nothing."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from tests.security.neighbour import assert_at_most, p50, publishing, quiet, tenant
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.ports import free_port
from tests.support.served_process import ServedProcess, served_process

_CONNECTIONS = 8
_BATCH_BYTES = 8_388_608
_SLOWER = 3

# Below this, the noise of a machine decides, not the service.
_NOISE_SECONDS = 0.05

_IS_JSON = {"content-type": "application/json"}
_SHAPES = {
    "32 large messages": [{"data": "x" * 250_000}] * 32,
    # Their names could occur twice, so they are parsed once more.
    "1,000 messages with spaces": [{"data": "z" * 5_000, "headers": {"x-order": "17"}, "key": "k" * 50}] * 1_000,
}
_SPACED = "1,000 messages with spaces"


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    folder = tmp_path_factory.mktemp("fairness")
    with new_database(request, request.param, folder) as database, served_process(database) as running:
        yield running


@pytest.mark.parametrize("shape", _SHAPES)
def test_large_batches_of_one_tenant_leave_the_others_most_of_the_time(server: ServedProcess, shape: str) -> None:
    name = "".join(filter(str.isalnum, shape))
    neighbour, attacker = tenant(server, f"com.example.n.{name}"), tenant(server, f"com.example.a.{name}")
    batch = msgspec.json.encode({"messages": _SHAPES[shape]})
    if shape == _SPACED:
        batch = batch.replace(b'","', b'", "')
    assert _BATCH_BYTES // 2 < len(batch) <= _BATCH_BYTES
    before, ended = quiet(neighbour), threading.Event()

    def attack(_: int) -> list[int]:
        statuses = []
        with attacker.client() as client:
            while not ended.is_set():
                answer = client.post(f"{attacker.messages}/batch", content=batch, headers=_IS_JSON)
                statuses.append(answer.status_code)
        return statuses

    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        attacking = threads.map(attack, range(_CONNECTIONS))
        try:
            with publishing(neighbour) as during:
                during.wait()
        finally:
            ended.set()
        statuses = [status for each in attacking for status in each]
    # The tenant itself gets its share.
    assert statuses.count(200) >= _CONNECTIONS, statuses
    assert_at_most(_SLOWER, p50, before, during, noise_seconds=_NOISE_SECONDS)


_DEAD_LISTENERS = 300

_BUSY_SECONDS = 0.2
"""The service is busy with attempts that fail. Without turns, half of the publishes took 0.5 to 1.6 s."""

_SEARCHES = ("state=missed", "key=none", "")


@pytest.mark.parametrize("search", _SEARCHES, ids=["state", "key", "all"])
def test_searches_of_one_tenant_leave_the_others_most_of_the_time(server: ServedProcess, search: str) -> None:
    name = search.partition("=")[0] or "all"
    neighbour, attacker = tenant(server, f"com.example.n.{name}"), tenant(server, f"com.example.a.{name}")
    with attacker.client() as client:
        for _ in range(20):
            small = {"messages": [{"data": "x" * 50}] * 1_000}
            client.post(f"{attacker.messages}/batch", json=small).raise_for_status()
    before, ended = quiet(neighbour), threading.Event()

    def attack(_: int) -> list[int]:
        statuses = []
        with attacker.client() as client:
            while not ended.is_set():
                answer = client.get(f"{attacker.messages}?per_page=100&{search}")
                statuses.append(answer.status_code)
        return statuses

    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        attacking = threads.map(attack, range(_CONNECTIONS))
        try:
            with publishing(neighbour) as during:
                during.wait()
        finally:
            ended.set()
        statuses = [status for each in attacking for status in each]
    assert set(statuses) == {200}
    assert len(statuses) >= _CONNECTIONS
    assert_at_most(_SLOWER, p50, before, during, noise_seconds=_NOISE_SECONDS)


def test_listeners_of_one_tenant_that_fail_at_once_leave_the_others_most_of_the_time(server: ServedProcess) -> None:
    """Each attempt takes no time on the network, so nothing but the service itself slows them down."""
    neighbour, attacker = tenant(server, "com.example.n.dead"), tenant(server, "com.example.a.dead")
    target = f"http://127.0.0.1:{free_port()}/"
    with attacker.client() as client:
        listeners = f"/queues/{attacker.queue}/listeners"
        for _ in range(_DEAD_LISTENERS):
            client.post(listeners, json={"notify_url": target}).raise_for_status()
        before = quiet(neighbour)
        # 300,000 attempts: more than the service makes during the comparison.
        messages = {"messages": [{"data": "x" * 2_000}] * 500}
        for _ in range(2):
            client.post(f"{attacker.messages}/batch", json=messages).raise_for_status()
        began_at, used = time.perf_counter(), server.cpu_seconds
        with publishing(neighbour) as during:
            during.wait()
        # Attempts take all of a processor, or what other processes leave of it.
        slowdown = max(1.0, (time.perf_counter() - began_at) / (server.cpu_seconds - used))
        client.delete(f"/queues/{attacker.queue}").raise_for_status()
    assert_at_most(_SLOWER, p50, before, during, noise_seconds=_BUSY_SECONDS * slowdown)
