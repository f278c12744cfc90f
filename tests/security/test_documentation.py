"""Reading the documentation under many names takes nothing from other clients."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.security.neighbour import assert_unharmed, beyond_limits, publishing, quiet, tenant
from tests.support.served_process import ServedProcess, served_process

_CLIENTS = 4
_REQUESTS = 300
_SEARCHERS = 40
_LARGEST_BYTES = 100_000
_CPU_SECONDS = 0.004
"""Processor time of the whole process; the event loop takes the smaller part."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    with served_process(f"sqlite:///{tmp_path_factory.mktemp('documents')}/discue.db") as running:
        yield running


_PAGES = (
    "/docs/api",
    "/docs/reference/listeners",
    "/openapi.json",
    "/docs/errors/not_stored",
    "/docs/search?q=message+queue+listener+key+api",
)


@pytest.mark.parametrize("path", _PAGES)
def test_documentation_under_ever_new_hosts_holds_up_nobody(server: ServedProcess, path: str) -> None:
    neighbour = tenant(server, f"com.example.n{path.count('/')}{len(path)}")
    before, ended = quiet(neighbour), threading.Event()

    def attack(number: int) -> int:
        count = 0
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            while not ended.is_set():
                answer = client.get(path, headers={"host": f"h{number}-{count}.example"})
                assert answer.status_code == 200
                count += 1
        return count

    with ThreadPoolExecutor(_CLIENTS) as threads:
        attacking = [threads.submit(attack, number) for number in range(_CLIENTS)]
        try:
            with publishing(neighbour) as during:
                during.wait()
        finally:
            ended.set()
    assert sum(each.result() for each in attacking) > 0
    assert_unharmed(before, during)


@pytest.mark.parametrize(
    "path", ["/docs/search?q=del+has+key+sta+req+sec+res+eve", "/docs/del-has-key-sta-req-sec-res"]
)
def test_searches_of_many_strangers_do_not_delay_others(server: ServedProcess, path: str) -> None:
    neighbour = tenant(server, f"com.example.s{len(path)}")
    before, ended = quiet(neighbour), threading.Event()

    def attack() -> set[int]:
        statuses = set()
        with httpx.Client(base_url=server.url, trust_env=False, headers={"accept": "text/html"}, timeout=30) as client:
            while not ended.is_set():
                statuses.add(client.get(path).status_code)
        return statuses

    with ThreadPoolExecutor(_SEARCHERS) as threads:
        attacking = [threads.submit(attack) for _ in range(_SEARCHERS)]
        try:
            with publishing(neighbour) as during:
                during.wait()
        finally:
            ended.set()
    assert set.union(*(each.result() for each in attacking)) <= {200, 404, 429, 503}
    assert not beyond_limits(before, during)


@pytest.mark.parametrize("path", ["/docs", "/docs/api", "/docs/search?q=rotate+secret+of+a+listener", "/openapi.json"])
def test_document_is_small_and_costs_next_to_nothing(server: ServedProcess, path: str) -> None:
    with httpx.Client(base_url=server.url, trust_env=False, headers={"accept-encoding": "gzip"}) as client:
        assert int(client.get(path).headers["content-length"]) <= _LARGEST_BYTES
        before = _cpu_seconds(server.pid)
        for number in range(_REQUESTS):
            with client.stream("GET", path, headers={"host": f"h{number}.example"}) as answer:
                assert sum(len(piece) for piece in answer.iter_raw()) <= _LARGEST_BYTES
    assert (_cpu_seconds(server.pid) - before) / _REQUESTS <= _CPU_SECONDS


def _cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
