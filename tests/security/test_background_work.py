"""Background work for one tenant slows its neighbours down a little, and refuses them nothing."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import apsw
import httpx
import pytest

from tests.security.neighbour import Tenant, assert_unharmed, publishing, quiet, tenant
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.postgres import fixtures as postgres
from tests.support.served_process import ServedProcess, served_process

_LISTENERS = 100
_CONSUMERS = 300
_KEYS = 4
_CLIENTS = 8
_LARGE_CHARACTERS = 240_000
_TRANSFORMED = 700
"""Elements of an array for which a transform takes nearly all of its steps."""
_RELEASED = 50
"""The most messages that a listener may have leased."""
_SLOW_TRANSFORM = "data[?@ > `0`] | [0:10].to_string(@)"
_NEVER = 4_102_444_800_000
_HEADERS = {f"x-header-{number}": "v" * 40 for number in range(20)}

_SLOW_TEXT = "".join(Random(1).choices("ab", k=3_000))  # noqa: S311 - repeatable

_FILTERED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # A condition each on a long list, on a long text, and on headers.
    "list": (
        {"$or": [{"data": {"$contains": f"n{number}"}} for number in range(98)]},
        {"data": [1] * (_LARGE_CHARACTERS // 2)},
    ),
    "text": (
        {"$or": [{"data": {"$contains": f"{'a' * 25}b{'a' * 20}{number}"}} for number in range(95)]},
        {"data": "a" * _LARGE_CHARACTERS},
    ),
    "headers": (
        {"$or": [{"headers": {f"x-header-{number % 20}": f"n{number}"}} for number in range(98)]},
        {"data": 1, "headers": _HEADERS},
    ),
}
"""Filters that take long and match nothing, and a message for each."""


@pytest.fixture(params=ENGINE_NAMES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request, request.param, tmp_path) as address:
        yield address


@pytest.fixture
def server(database: str) -> Iterator[ServedProcess]:
    with served_process(database) as running:
        yield running


def _tenants(server: ServedProcess, name: str) -> tuple[Tenant, Tenant]:
    return tenant(server, f"com.example.n.{name}"), tenant(server, f"com.example.a.{name}")


def _create(who: Tenant, path: str, body: dict[str, Any], count: int) -> list[str]:
    """Create resources on several connections; their ids."""
    name = path.rpartition("/")[2].removesuffix("s")

    def create(number: int) -> list[str]:
        with who.client() as client:
            made = [client.post(path, json=body).raise_for_status().json() for _ in range(number, count, _CLIENTS)]
        return [each[name]["id"] for each in made]

    with ThreadPoolExecutor(_CLIENTS) as threads:
        return [public_id for each in threads.map(create, range(_CLIENTS)) for public_id in each]


def _while_attacked(attack: Callable[[httpx.Client], object], attacker: Tenant, neighbour: Tenant, clients: int) -> Any:
    """Let the neighbour publish while several clients repeat an attack; its publishes."""
    ended = threading.Event()

    def repeat(_: int) -> None:
        with attacker.client() as client:
            while not ended.is_set():
                attack(client)

    with ThreadPoolExecutor(clients) as threads, ExitStack() as at_end:
        attacking = threads.map(repeat, range(clients))
        at_end.callback(ended.set)
        with publishing(neighbour) as during:
            during.wait()
        ended.set()
        list(attacking)
    return during


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("what", _FILTERED)
def test_slow_filters_of_many_listeners_harm_nobody(server: ServedProcess, what: str) -> None:
    neighbour, attacker = _tenants(server, what)
    condition, message = _FILTERED[what]
    listener = {"notify_url": "http://127.0.0.1:9/", "filter": condition}
    _create(attacker, f"/queues/{attacker.queue}/listeners", listener, _LISTENERS)
    before = quiet(neighbour)
    during = _while_attacked(lambda client: client.post(attacker.messages, json=message), attacker, neighbour, 4)
    assert_unharmed(before, during)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_slow_transforms_of_many_listeners_harm_nobody(server: ServedProcess) -> None:
    neighbour, attacker = _tenants(server, "transforms")
    listener = {"notify_url": "http://127.0.0.1:9/", "transform": _SLOW_TRANSFORM}
    _create(attacker, f"/queues/{attacker.queue}/listeners", listener, _LISTENERS)
    before = quiet(neighbour)
    message = {"data": [1] * _TRANSFORMED}
    during = _while_attacked(lambda client: client.post(attacker.messages, json=message), attacker, neighbour, 4)
    assert_unharmed(before, during)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_large_messages_with_many_signatures_harm_nobody(server: ServedProcess) -> None:
    neighbour, attacker = _tenants(server, "signatures")
    listeners = f"/queues/{attacker.queue}/listeners"
    ids = _create(attacker, listeners, {"notify_url": "http://127.0.0.1:9/"}, _LISTENERS)
    with attacker.client() as client:
        # With the one that it was created with, a listener has as many as it may.
        for public_id in ids * _KEYS:
            client.post(f"{listeners}/{public_id}/secrets", json={"type": "ed25519"}).raise_for_status()
    before = quiet(neighbour)
    message = {"data": "x" * _LARGE_CHARACTERS}
    during = _while_attacked(lambda client: client.post(attacker.messages, json=message), attacker, neighbour, 4)
    assert_unharmed(before, during)


def test_message_that_wakes_many_consumers_harms_nobody(server: ServedProcess) -> None:
    neighbour, attacker = _tenants(server, "pull")
    listeners = f"/queues/{attacker.queue}/listeners"
    ids = _create(attacker, listeners, {"mode": "pull"}, _CONSUMERS)
    before = quiet(neighbour)
    with _consuming(attacker, [f"{listeners}/{public_id}/messages?wait=1&max=1" for public_id in ids]):
        during = _while_attacked(
            lambda client: client.post(attacker.messages, json={"data": 1}), attacker, neighbour, 2
        )
    assert_unharmed(before, during)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_consumer_that_releases_what_it_pulls_harms_nobody(server: ServedProcess) -> None:
    neighbour, attacker = _tenants(server, "releases")
    listeners = f"/queues/{attacker.queue}/listeners"
    [listener] = _create(attacker, listeners, {"mode": "pull", "transform": _SLOW_TRANSFORM}, 1)
    _create(attacker, attacker.messages, {"data": [1] * _TRANSFORMED}, _RELEASED)
    rounds = list[int]()

    def release_all(client: httpx.Client) -> None:
        receipts = list[str]()
        while len(receipts) < _RELEASED:
            pulled = client.get(f"{listeners}/{listener}/messages?max={_RELEASED}").raise_for_status().json()
            receipts += [each["receipt"] for each in pulled["messages"]]
            rounds.append(len(pulled["messages"]))
        body = {"release": receipts}
        client.post(f"{listeners}/{listener}/acknowledgements", json=body).raise_for_status()

    before = quiet(neighbour)
    during = _while_attacked(release_all, attacker, neighbour, 1)
    assert_unharmed(before, during)
    assert len(rounds) > _RELEASED // 5
    # All of them at once would take 0.4 s.
    assert max(rounds) < _RELEASED // 5


@contextmanager
def _consuming(who: Tenant, paths: list[str]) -> Iterator[None]:
    """Repeat long polls, each on a connection of its own. They use so little time that they delay no other thread."""
    url = urlsplit(who.url)
    ended = threading.Event()

    async def consume(path: str) -> None:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        request = f"GET {path} HTTP/1.1\r\nhost: {url.netloc}\r\nx-api-key: {who.key}\r\n\r\n".encode()
        while not ended.is_set():
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200"), head
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        writer.close()

    async def consume_all() -> None:
        await asyncio.gather(*map(consume, paths))

    with ThreadPoolExecutor(1) as thread:
        consuming = thread.submit(asyncio.run, consume_all())
        try:
            yield
        finally:
            ended.set()
            consuming.result()


def test_schedules_that_are_due_at_the_same_time_harm_nobody(server: ServedProcess, database: str) -> None:
    neighbour, attacker = _tenants(server, "schedules")
    with attacker.client() as client:
        # Checking one message takes about 10 ms.
        rules = {"items": {"not": {"pattern": "[ab]{1,100}a[ab]{1,100}x"}}}
        made = client.post("/queues", json={"json_schema": rules}).raise_for_status().json()
    slow = f"/queues/{made['queue']['id']}/schedules"
    _create(attacker, slow, {"cron": "* * * * *", "data": [_SLOW_TEXT]}, 700)
    large = f"/queues/{attacker.queue}/schedules"
    _create(attacker, large, {"cron": "* * * * *", "data": "x" * 50_000}, 300)
    _run_sql(database, f"UPDATE schedule SET next_run_at = {_NEVER}")
    before = quiet(neighbour)
    # All of them are due now: a minute has just begun.
    _run_sql(database, f"UPDATE schedule SET next_run_at = {int(time.time()) // 60 * 60_000}")
    with publishing(neighbour) as during:
        during.wait()
    assert_unharmed(before, during)


def _run_sql(database: str, statement: str) -> None:
    path = database.removeprefix("sqlite:///")
    if path != database:
        connection = apsw.Connection(str(Path(path)))
        connection.set_busy_timeout(10_000)
        connection.execute(statement)
        connection.close()
    else:
        postgres.shared_cluster().run_sql(statement, database.rpartition("/")[2])
