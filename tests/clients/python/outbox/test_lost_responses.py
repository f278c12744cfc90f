"""Requests of a relay whose responses are lost, and which take effect late, while others are refused."""

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from discue_client import AsyncDiscue, DiscueError, TimedOut, Unavailable, outbox, wire
from discue_client.errors import BadRequest, FieldError, TooLarge, ValidationFailed
from discue_client.outbox.relay import Relay
from discue_client.outbox.steps import Step
from discue_client.outbox.table import create_statements
from tests.clients.python.outbox.databases import run, waiting
from tests.clients.python.outbox.relayed import HOUR, published, store
from tests.clients.python.outbox.watched import Watched, watched
from tests.support.everywhere import EVERYWHERE

T = TypeVar("T")


class Network:
    """Loses the first request of a relay, and delivers it when the test says so."""

    def __init__(self, relay: Relay) -> None:
        self._send = relay._client.request
        self._held: dict[str, Any] | None = None
        self.sent = 0
        self.after: Callable[[int], Any] = lambda number: None
        """Is called after each request, with its number. May return something to await."""
        object.__setattr__(relay._client, "request", self._request)

    async def _request(self, method: str, path: str, **request: Any) -> None:
        self.sent += 1
        number = self.sent
        try:
            if number == 1:
                self._held = {"method": method, "path": path, **request}
                raise TimedOut("The response is lost.")
            await self._send(method, path, **request)
        finally:
            found = self.after(number)
            if found is not None:
                await found

    async def deliver(self) -> None:
        """Let the first request arrive, whose response nobody gets."""
        assert self._held is not None
        with suppress(ValidationFailed):
            await self._send(**self._held)


@pytest.fixture
def engine_name() -> str:
    return "sqlite"


@pytest.fixture
def relay(async_client: AsyncDiscue, url: str) -> Relay:
    return Relay(url, async_client, poll_seconds=HOUR)


@pytest.fixture
def watching(relay: Relay) -> Watched:
    return watched(relay)


@pytest.fixture
def network(relay: Relay) -> Network:
    return Network(relay)


async def set_schema(client: AsyncDiscue, schema: dict[str, Any] | None) -> None:
    await client.queues.update("orders", json_schema=schema)


@pytest.mark.parametrize("arrives_after", [2, 3])
async def test_batch_that_is_refused_while_its_first_request_is_in_flight_is_not_published_twice(
    async_client: AsyncDiscue, url: str, relay: Relay, watching: Watched, network: Network, arrives_after: int
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, 0, "one", 2)

    async def events(number: int) -> None:
        if number == 1:
            await set_schema(async_client, {"type": "number"})
        if number == 2:
            await set_schema(async_client, None)
        if number == arrives_after:
            await network.deliver()

    network.after = events
    async with relay:
        await watching.until(lambda: "delete" in watching.names)

    if arrives_after == 2:
        assert await published(async_client) == [0, "one", 2]
        assert waiting(url) == []
    else:
        # The rest of the batch has used up the key, so the first request does nothing.
        assert await published(async_client) == [0, 2]
        assert run(url, "SELECT id, batch FROM discue_outbox WHERE error IS NOT NULL") == [(2, None)]


async def test_row_that_was_given_up_is_not_published_again_if_its_first_request_arrives_later(
    async_client: AsyncDiscue, url: str, relay: Relay, watching: Watched, network: Network
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, "one", "two")
    network.after = lambda number: set_schema(async_client, {"type": "number"}) if number == 1 else None
    async with relay:
        await watching.until(lambda: "refuse" in watching.names)
    assert len(run(url, "SELECT id FROM discue_outbox WHERE error IS NOT NULL AND batch IS NOT NULL")) == 2

    await set_schema(async_client, None)
    await network.deliver()
    run(url, "UPDATE discue_outbox SET error = NULL")
    other = Relay(url, async_client, poll_seconds=HOUR)
    watching_other = watched(other)
    async with other:
        await watching_other.until(lambda: waiting(url) == [])

    assert await published(async_client) == ["one", "two"]


class FakeService:
    """Stores batches once for each key, like the service. It refuses, loses and delays requests at random."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._stored: dict[str, bytes] = {}
        self._in_flight: list[tuple[str, bytes]] = []
        self.log: list[int] = []
        self.is_calm = False
        self.refused: set[int] = set()
        self.malformed: set[int] = set()
        self.max_messages = 1_000

    def change(self) -> None:
        """Change the rules."""
        chance = self._chance
        self.refused = {number for number in range(60) if chance.random() < 0.3}
        self.malformed = {number for number in range(60) if chance.random() < 0.05}
        self.max_messages = chance.choice([1, 2, 1_000, 1_000])

    def deliver(self) -> None:
        """Let a request arrive that was delayed, whose response nobody gets."""
        if self._in_flight:
            key, content = self._in_flight.pop(self._chance.randrange(len(self._in_flight)))
            with suppress(DiscueError):
                self._store(key, content)

    def deliver_all(self) -> None:
        while self._in_flight:
            self.deliver()

    async def request(self, _method: str, _path: str, *, body: object, idempotency_key: str) -> None:
        content = wire.encode(body)
        await asyncio.sleep(0)
        fate = 1.0 if self.is_calm else self._chance.random()
        if fate < 0.4:
            self._in_flight.append((idempotency_key, content))
            raise TimedOut("delayed")
        if fate < 0.42:
            raise Unavailable(status=503)
        try:
            self._store(idempotency_key, content)
        finally:
            # A relay that is killed here does not get the response.
            await asyncio.sleep(0)
        if fate < 0.5:
            raise TimedOut("lost")

    def _store(self, key: str, content: bytes) -> None:
        messages = [each["data"] for each in json.loads(content)["messages"]]
        malformed = self._faults(messages, self.malformed)
        if malformed:
            raise BadRequest(status=400, code="wrong_type", errors=malformed)
        if key in self._stored:
            if self._stored[key] != content:
                raise ValidationFailed(status=422, code="idempotency_key_reused")
            return
        if len(messages) > self.max_messages:
            raise TooLarge(status=413, code="body_too_large")
        refused = self._faults(messages, self.refused)
        if refused:
            raise ValidationFailed(status=422, code="schema_violation", errors=refused)
        self._stored[key] = content
        self.log += messages

    def _faults(self, messages: list[int], wrong: set[int]) -> tuple[FieldError, ...]:
        found = [FieldError(f"/messages/{i}/data", "is wrong") for i, each in enumerate(messages) if each in wrong]
        return tuple(found[: self._chance.randint(1, 3)])


class FakeDatabase:
    """A database in memory, whose transactions take no time."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in create_statements("sqlite"):
            self.connection.execute(statement)

    async def transaction(self, step: Step[T], *, lock: str | None = None) -> T:
        rows: list[Any] | None = None
        while True:
            try:
                sql, values = step.send(rows)  # type: ignore[arg-type] # None starts it
            except StopIteration as end:
                result: T = end.value
                return result
            rows = self.connection.execute(sql, values).fetchall()

    def count(self, condition: str = "true") -> int:
        ((number,),) = self.connection.execute(f"SELECT count(*) FROM discue_outbox WHERE {condition}").fetchall()
        return int(number)


class World:
    """Relays that are killed, on a clock that they move when they pause."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - reproducible
        self.service = FakeService(self.chance)
        self.database = FakeDatabase()
        self._now = 1_800_000_000_000
        self._client = AsyncDiscue("http://127.0.0.1:1", "key")

    async def close(self) -> None:
        self.database.connection.close()
        await self._client.aclose()

    def relay(self) -> asyncio.Task[None]:
        relay: Any = Relay("sqlite:///none.db", self._client, max_messages=self.chance.choice([3, 10]))
        skew = self.chance.choice([0, 0, 3_600_000, -20_000])

        async def pause(_seconds: float) -> None:
            self._now += 5_000
            await asyncio.sleep(0)

        relay._database, relay._client, relay._pause = self.database, self.service, pause
        relay._now = lambda: self._now + skew
        return asyncio.get_running_loop().create_task(relay._drain("orders"))

    async def misbehave(self) -> None:
        """Publish with two relays while everything goes wrong."""
        tasks = [self.relay(), self.relay()]
        for _ in range(self.chance.randint(20, 300)):
            await asyncio.sleep(0)
            if self.chance.random() < 0.1:
                self.service.change()
            if self.chance.random() < 0.05:
                self.service.deliver()
            for index, task in enumerate(tasks):
                if task.done() or self.chance.random() < 0.02:
                    await _end(task)
                    tasks[index] = self.relay()
        for task in tasks:
            await _end(task)

    async def recover(self) -> None:
        """Publish what is left, after a person has corrected the reasons of the errors."""
        self.service.refused, self.service.malformed, self.service.max_messages = set(), set(), 1_000
        self.service.is_calm = True
        if self.chance.random() < 0.5:
            self.service.deliver_all()
        self.database.connection.execute("UPDATE discue_outbox SET error = NULL")
        await asyncio.wait_for(self.relay(), 20)
        self.service.deliver_all()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "seeds", [range(first, first + 25) for first in range(0, 300 if EVERYWHERE else 25, 25)], ids=str
)
async def test_every_message_is_published_once_whatever_is_lost_refused_delayed_or_killed(seeds: range) -> None:
    errors = 0
    for seed in seeds:
        world = World(seed)
        for number in range(20):
            outbox.publish(world.database.connection, "orders", number)
        await world.misbehave()
        errors += world.database.count("error IS NOT NULL")
        await world.recover()

        assert world.database.count() == 0, seed
        assert Counter(world.service.log) == Counter(range(20)), seed
        await world.close()
    # Otherwise nothing was at stake.
    assert errors > len(seeds) / 2
