"""The bytes and resources of an organization, and the details of its attempts, are bounded."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import asyncpg
import httpx
import pytest

from tests.security.neighbour import Tenant, tenant
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.receiver import Receiver, Reply, receiving
from tests.support.served_process import KEY, ServedProcess, served_process

_DETAIL_BYTES = 1 << 20
_QUOTA_BYTES = 100_000
_LARGEST_EXCERPT = 16_384
_LISTENERS = 20
_MESSAGES = 10
_MOST = 6
_TRIES = 30
_NAMES = count(1)
_PATIENCE_SECONDS = 30.0

_RESOURCES: dict[str, dict[str, Any]] = {
    "topics": {},
    "api_keys": {},
    "domains": {"hostname": "shop.example.com"},
    "users": {"role": "viewer"},
}


class _Server:
    """A service with small limits, on one of the engines."""

    def __init__(self, process: ServedProcess, database: str) -> None:
        self.process = process
        self._database = database

    def tenant(self) -> Tenant:
        """Create an organization that may store 100 KB."""
        who = tenant(self.process, f"com.example.stored{next(_NAMES)}")
        with Tenant(who.url, KEY, "").client() as operator, who.client() as own:
            organization = own.get("/organizations").json()["organizations"][0]["id"]
            quotas = {"quotas": {"bytes_stored": _QUOTA_BYTES}}
            operator.put(f"/organizations/{organization}", json=quotas).raise_for_status()
        return who

    def number(self, sql: str) -> int:
        """Return the number that a query of the database yields."""
        path = self._database.removeprefix("sqlite://")
        if path != self._database:
            with sqlite3.connect(path) as connection:
                return int(connection.execute(sql).fetchone()[0])
        return asyncio.run(self._number_of_server(sql))

    async def _number_of_server(self, sql: str) -> int:
        connection = await asyncpg.connect(self._database)
        try:
            return int(await connection.fetchval(sql))
        finally:
            await connection.close()


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Server]:
    limits = {f"quota_{name}": _MOST for name in _RESOURCES}
    # Otherwise nothing is kept of what a listener on this machine answers.
    shown = {"show_private_responses": "true", "attempt_details_bytes_per_hour": _DETAIL_BYTES}
    with (
        new_database(request, request.param, tmp_path_factory.mktemp("stored")) as database,
        served_process(database, encryption="none", **shown, **limits) as process,
    ):
        yield _Server(process, database)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving("127.0.0.1") as running:
        yield running


def test_responses_of_failing_listeners_do_not_fill_the_database(server: _Server, receiver: Receiver) -> None:
    attacker = server.tenant()
    endpoint = receiver.endpoint(Reply(500, content=os.urandom(_LARGEST_EXCERPT)))
    with attacker.client() as client:
        listener = {"notify_url": endpoint.url, "liveness_url": endpoint.url}
        for _ in range(_LISTENERS):
            client.post(f"/queues/{attacker.queue}/listeners", json=listener).raise_for_status()
        messages = {"messages": [{"data": ""}] * _MESSAGES}
        client.post(f"{attacker.messages}/batch", json=messages).raise_for_status()
        _until_failed(client, _LISTENERS * _MESSAGES)
    stored = server.number("SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM attempt_detail")
    assert _LARGEST_EXCERPT < stored <= _DETAIL_BYTES


def _until_failed(client: httpx.Client, attempts: int) -> None:
    """Wait until the records of so many failed attempts are stored."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    failed = 0
    while failed < attempts and time.monotonic() < deadline:
        events = client.get("/stats/messages").raise_for_status().json()["aggregated_api_usage_events"]
        failed = events["last_24_hours"]["message_published_not_ok"]
    assert failed >= attempts


def test_headers_of_messages_are_within_the_quota(server: _Server) -> None:
    attacker = server.tenant()
    heavy = {"data": "", "headers": {"x-weight": "x" * 4_000}}
    with attacker.client() as client:
        answers = [client.post(attacker.messages, json=heavy).status_code for _ in range(_TRIES)]
        batch = client.post(f"{attacker.messages}/batch", json={"messages": [heavy] * 10})
    assert batch.status_code == 402
    assert answers == [200] * answers.count(200) + [402] * answers.count(402)
    assert 0 < answers.count(200) <= _QUOTA_BYTES // 4_000


def test_schedules_are_within_the_quota(server: _Server) -> None:
    attacker = server.tenant()
    large = {"cron": "@yearly", "data": "x" * 60_000}
    with attacker.client() as client:
        path = f"/queues/{attacker.queue}/schedules"
        assert [client.post(path, json=large).status_code for _ in range(3)] == [200, 402, 402]
        assert client.post(attacker.messages, json={"data": "x" * 60_000}).status_code == 402


@pytest.mark.parametrize("name", _RESOURCES)
def test_resources_are_within_their_limits(server: _Server, name: str) -> None:
    attacker = server.tenant()
    with attacker.client() as client:
        made = [client.post(f"/{name}", json=_fields(name, number)).status_code for number in range(_TRIES)]
        shown = client.get(f"/{name}?per_page=100").json()[name]
    assert made == [200] * made.count(200) + [402] * made.count(402)
    assert len(shown) == _MOST


def _fields(name: str, number: int) -> dict[str, Any]:
    fields = _RESOURCES[name]
    return {**fields, "email": f"user{number}@example.com"} if name == "users" else fields
