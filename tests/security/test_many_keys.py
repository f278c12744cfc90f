"""Many keys, which each stay below their limit, do not lift the limit of their organization."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.served_process import KEY, ServedProcess, served_process

_LIMIT = 20
_KEYS = 16
_OF_AN_ORGANIZATION = 4 * _LIMIT


@pytest.fixture(params=ENGINE_NAMES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    folder = tmp_path_factory.mktemp("keys")
    with new_database(request, request.param, folder) as database, served_process(database) as running:
        yield running


def test_many_keys_get_no_more_than_four_times_the_limit(server: ServedProcess) -> None:
    with httpx.Client(base_url=server.url, headers={"x-api-key": KEY}, trust_env=False, timeout=30) as operator:
        made = operator.post("/organizations", json={"alias": "com.example.many"}).raise_for_status().json()
        owner = {"x-api-key": made["api_key"]["key"]}
        keys = [operator.post("/api_keys", json={}, headers=owner).json()["api_key"]["key"] for _ in range(_KEYS)]
        operator.put(f"/organizations/{made['organization']['id']}", json={"rate_limit": _LIMIT}).raise_for_status()

        def ask(key: str) -> list[int]:
            return [operator.get("/queues", headers={"x-api-key": key}).status_code for _ in range(_LIMIT)]

        started_in = int(time.time() // 60)
        with ThreadPoolExecutor(_KEYS) as threads:
            statuses = [status for each in threads.map(ask, keys) for status in each]
            minutes = 1 + int(time.time() // 60) - started_in
    assert statuses.count(429) > 0
    assert _OF_AN_ORGANIZATION // 2 <= statuses.count(200) <= _OF_AN_ORGANIZATION * minutes
