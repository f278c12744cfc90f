"""Applications and relays of an outbox that are killed, and the proof that broken promises would be noticed."""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from discue_client import AsyncDiscue
from discue_client.outbox.relay import Relay
from tests.clients.python.outbox.databases import connect, outbox_database, run, waiting
from tests.clients.python.outbox.watched import watched
from tests.faults.conftest import Tell
from tests.faults.outbox_history import Order, broken_promises
from tests.faults.outbox_lives import APPLICATION_POINTS, CREATE_ORDERS, NEVER, QUEUE, RELAY_POINTS, store
from tests.support.forked import Forked
from tests.support.postgres.processes import until
from tests.support.served_api import Service, cast_of, served

CUSTOMERS = ("alice", "bob")
_PATIENCE_SECONDS = 30.0
_FAULTS = 30
_STOPS = 0.4
"""The share of faults that are stops, which are longer than the lease of a batch."""


class World(NamedTuple):
    """A database of an application, and a service with the queue."""

    url: str
    service: str
    key: str
    folder: Path

    def process(self, role: str, point: str = NEVER, occurrence: int = 1, *names: str) -> Forked:
        arguments = (role, self.url, point, str(occurrence), *names)
        environment = {"DISCUE_URL": self.service, "DISCUE_API_KEY": self.key}
        return Forked(("-m", "tests.faults.outbox_lives", *arguments), folder=self.folder, environment=environment)

    def dies(self, role: str, point: str, occurrence: int, *names: str) -> None:
        """Run a process that kills itself at the point."""
        process = self.process(role, point, occurrence, *names)
        code = process.wait(_PATIENCE_SECONDS)
        assert code == -signal.SIGKILL, process.stderr.read()
        close(process)

    @property
    def committed(self) -> list[Order]:
        return [Order(*row) for row in run(self.url, "SELECT customer, number FROM orders")]

    def has_orders_of_each_customer(self) -> bool:
        return {order.customer for order in self.committed} == set(CUSTOMERS)

    async def published(self) -> list[Order]:
        """Publish all that waits, with a relay that is not killed, and return the messages in the queue's order."""
        async with AsyncDiscue(self.service, self.key) as client:
            # The batch of a relay that was killed is taken over at once.
            relay = Relay(self.url, client, lease_seconds=0)
            watching = watched(relay)
            async with relay:
                await watching.until(lambda: waiting(self.url) == [])
            listed = [Order(**message.data) async for message in client.messages.list(QUEUE, data="true")]
            return listed[::-1]


def close(process: Forked) -> None:
    process.stdout.close()
    process.stderr.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> Iterator[World]:
    cast = cast_of(service)
    cast.queue(alias=QUEUE)
    with outbox_database(request.param, tmp_path) as url:
        run(url, CREATE_ORDERS)
        yield World(url, service.url, cast.alice.headers["x-api-key"], tmp_path)


def store_all(url: str, orders: Sequence[Order]) -> None:
    with closing(connect(url)) as connection:
        connection.execute("BEGIN")
        for order in orders:
            store(connection, order)
        connection.execute("COMMIT")


@pytest.mark.torture
@pytest.mark.parametrize("point", APPLICATION_POINTS)
async def test_killed_application_leaves_the_messages_of_its_commits_only(world: World, point: str) -> None:
    world.dies("application", point, 5, "alice")

    published = await world.published()

    assert broken_promises(world.committed, published) == []
    assert len(published) == (4 if point == "before_commit" else 5)


@pytest.mark.torture
@pytest.mark.parametrize("point", RELAY_POINTS)
async def test_killed_relay_neither_loses_nor_repeats_a_message(world: World, point: str) -> None:
    store_all(world.url, [Order(customer, number) for number in range(1, 6) for customer in ("alice", "bob")])
    world.dies("relay", point, 2)
    left = len(waiting(world.url))
    store_all(world.url, [Order("alice", 6)])

    published = await world.published()

    assert broken_promises(world.committed, published) == []
    assert left == (4 if point == "after_delete" else 7)


@pytest.mark.torture
async def test_random_kills_and_stops_of_applications_and_relays_break_no_promise(world: World, tell: Tell) -> None:
    chance = random.Random(17)  # noqa: S311 - reproducible
    with ExitStack() as stack:
        applications = [partial(world.process, "application", NEVER, 1, customer) for customer in CUSTOMERS]
        relays = [partial(world.process, "relay") for _ in range(3)]
        lives = [stack.enter_context(_life(start)) for start in (*applications, *relays)]
        await asyncio.to_thread(until, world.has_orders_of_each_customer, "an order of each customer")
        for _ in range(_FAULTS):
            await asyncio.sleep(chance.uniform(0.1, 0.4))
            life = chance.choice(lives)
            if chance.random() < _STOPS:
                with life.standing_still():
                    await asyncio.sleep(chance.uniform(0.3, 0.6))
            else:
                life.restart()

    published = await world.published()

    assert broken_promises(world.committed, published) == []
    assert {order.customer for order in published} == set(CUSTOMERS)
    tell(f"{len(published)} orders after {_FAULTS} kills and stops: each published once, in order")


class _Life:
    """A process that is killed and started again."""

    def __init__(self, start: Callable[[], Forked]) -> None:
        self._start = start
        self._process = start()

    def kill(self) -> None:
        assert self._process.poll() is None, self._process.stderr.read()
        self._process.kill()
        self._process.wait(_PATIENCE_SECONDS)
        close(self._process)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        os.kill(self._process.pid, signal.SIGSTOP)
        yield
        os.kill(self._process.pid, signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self._process = self._start()


@contextmanager
def _life(start: Callable[[], Forked]) -> Iterator[_Life]:
    life = _Life(start)
    try:
        yield life
    finally:
        life.kill()


COMMITTED = [Order("alice", 1), Order("bob", 1), Order("alice", 2)]


@pytest.mark.parametrize(
    ("published", "broken"),
    [
        (COMMITTED, []),
        ([Order("alice", 1), Order("alice", 2), Order("bob", 1)], []),
        (COMMITTED[:2], ["Order(customer='alice', number=2) was committed and not published"]),
        ([*COMMITTED, Order("bob", 2)], ["Order(customer='bob', number=2) was published and not committed"]),
        ([*COMMITTED, Order("alice", 2)], ["Order(customer='alice', number=2) was published 2 times"]),
        (COMMITTED[::-1], ["Order(customer='alice', number=1) was published after number 2"]),
    ],
    ids=["kept", "keys-interleaved", "lost", "unfounded", "repeated", "disordered"],
)
def test_checker_finds_each_broken_promise(published: list[Order], broken: list[str]) -> None:
    assert broken_promises(COMMITTED, published) == broken
