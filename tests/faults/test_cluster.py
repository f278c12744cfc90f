"""Two workers on one PostgreSQL: what one of them dies of, the other makes good."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import cycle
from pathlib import Path

import pytest

from tests.faults.client import Client, Lost
from tests.faults.fleet import LEASE_SECONDS, Fleet, Worker, fleet_of
from tests.faults.receiver import Delivered, Receiver
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database
from tests.support.postgres.tapped import with_locks

# Cursors are assigned at random: with so many, each worker gets some.
_LISTENERS = 16
_MAX_IN_FLIGHT = 5
# The promises are one lease and one second; the bounds here leave room for a busy machine. Without a takeover a cursor
# has no owner, and without a handover it waits for a far longer lease.
_TAKEN_OVER_SECONDS = LEASE_SECONDS + 10.0
_HANDED_OVER_SECONDS = 10.0
_LONG_LEASE_SECONDS = 40
_HEALED_SECONDS = 20.0
_APART_SECONDS = 0.04
_SLOW_SECONDS = 0.2
_HARDLY_SECONDS = 1.0
# A transaction of a process that hangs ends after five seconds, or with the lease of its worker.
_UNLOCKED_SECONDS = 7.0


@pytest.fixture
def database(postgres_cluster: Cluster) -> Iterator[str]:
    """The name of an empty one."""
    with new_database(postgres_cluster) as dsn:
        yield dsn.rpartition("/")[2]


def two_workers(folder: Path, cluster: Cluster, database: str, lease_seconds: int = LEASE_SECONDS) -> Fleet:
    return Fleet(
        folder,
        [cluster.port],
        database,
        workers=2,
        lease_seconds=lease_seconds,
        listener_max_in_flight=_MAX_IN_FLIGHT,
    )


class Audience:
    """Some listeners of one queue, and what each of them got."""

    def __init__(self, receiver: Receiver) -> None:
        self.names = [f"listener-{number}" for number in range(_LISTENERS)]
        self.queue = ""
        self._receiver = receiver

    async def gather(self, fleet: Fleet) -> None:
        """Made by the workers in turn: each finds what the other one made. Both own some of the cursors then."""
        clients = [fleet.client_of(worker) for worker in fleet.workers]
        self.queue = await clients[0].queue()
        for name, client in zip(self.names, cycle(clients), strict=False):
            await client.listener(self.queue, self._receiver.url(name))
        first = await clients[1].publish(self.queue, "first")
        await self.until_everybody_has({first})
        for client in clients:
            client.close()

    async def until_everybody_has(self, messages: set[str], within_seconds: float = 30.0) -> None:
        await self._receiver.until(
            lambda: all(messages <= set(self._receiver.messages(name)) for name in self.names), within_seconds
        )

    def served_by(self, worker: Worker) -> set[str]:
        """The listeners that got their last message from it."""
        last = {delivered.path: delivered.source for delivered in self._receiver.delivered}
        return {name for name, source in last.items() if source == worker.source}

    @property
    def duplicates(self) -> dict[str, int]:
        received = {name: self._receiver.messages(name) for name in self.names}
        return {name: len(each) - len(set(each)) for name, each in received.items()}


async def publish_some(client: Client, queue: str, count: int) -> set[str]:
    return {await client.publish(queue, f"message {number}") for number in range(count)}


async def publish_some_in_the_end(client: Client, queue: str, count: int) -> set[str]:
    """Publish with retries, as clients do after an outage: a ready worker may still lack some connections."""
    async with asyncio.timeout(_HEALED_SECONDS):
        return {await client.publish_in_the_end(queue, f"message {number}") for number in range(count)}


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.torture)])
async def test_surviving_worker_takes_over_from_a_killed_one_within_the_lease(
    tmp_path: Path, postgres_cluster: Cluster, database: str, number: int
) -> None:
    async with Receiver() as receiver, fleet_of(two_workers(tmp_path, postgres_cluster, database)) as fleet:
        audience = Audience(receiver)
        await audience.gather(fleet)
        killed, other = fleet.members[number], fleet.members[1 - number]
        assert audience.served_by(killed), "it has something to lose"
        await killed.product.kill()
        client = fleet.client_of(other.number)
        messages = await publish_some(client, audience.queue, 10)
        await audience.until_everybody_has(messages, _TAKEN_OVER_SECONDS)
        assert audience.served_by(other) == set(audience.names)
        assert max(audience.duplicates.values()) <= _MAX_IN_FLIGHT
        await killed.start()
        messages = await publish_some(fleet.client_of(killed.number), audience.queue, 10)
        await audience.until_everybody_has(messages)
        await fleet.stop()


async def test_a_drain_hands_over_within_a_second_and_repeats_nothing(
    tmp_path: Path, postgres_cluster: Cluster, database: str
) -> None:
    received_at: dict[tuple[str, str], float] = {}

    async def respond(delivered: Delivered) -> int:
        received_at.setdefault((delivered.path, delivered.message), time.monotonic())
        await asyncio.sleep(_APART_SECONDS * 2)
        return 200

    workers = two_workers(tmp_path, postgres_cluster, database, _LONG_LEASE_SECONDS)
    async with Receiver(respond) as receiver, fleet_of(workers) as fleet:
        audience = Audience(receiver)
        await audience.gather(fleet)
        leaving, other = fleet.members
        assert audience.served_by(leaving), "it has something to hand over"
        client, stored_at = fleet.client_of(other.number), dict[str, float]()

        async def publish_all() -> None:
            while True:
                stored_at[await client.publish(audience.queue, "hello")] = time.monotonic()
                await asyncio.sleep(_APART_SECONDS)

        publishing = asyncio.ensure_future(publish_all())
        await receiver.until(lambda: len(received_at) > _LISTENERS * 20)
        assert await leaving.product.stop() == 0
        enough = len(received_at) + _LISTENERS * 20
        await receiver.until(lambda: len(received_at) > enough)
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing
        await audience.until_everybody_has(set(stored_at))
        assert audience.served_by(other) == set(audience.names)
        assert set(audience.duplicates.values()) == {0}
        delays = [received_at[name, message] - at for message, at in stored_at.items() for name in audience.names]
        assert max(delays) < _HANDED_OVER_SECONDS


@pytest.mark.torture
async def test_without_a_database_publishes_are_refused_for_now_and_afterwards_all_is_delivered(tmp_path: Path) -> None:
    with Cluster() as cluster:
        cluster.create_database("outage")
        async with Receiver() as receiver, fleet_of(two_workers(tmp_path, cluster, "outage")) as fleet:
            audience = Audience(receiver)
            await audience.gather(fleet)
            clients = [fleet.client_of(worker) for worker in fleet.workers]
            messages = await publish_some(clients[0], audience.queue, 5)
            await asyncio.to_thread(cluster.stop, "immediate")
            for client in clients:
                for _ in range(2):
                    answer = await client.ask("POST", f"/queues/{audience.queue}/messages", {"data": "refused"})
                    assert (answer.status, "retry-after" in answer.headers) == (503, True), answer
                assert (await client.ask("GET", "/health/ready")).status == 503
                assert (await client.ask("GET", "/health/live")).status == 200
            await asyncio.to_thread(cluster.start)
            await fleet.until_ready()
            messages |= await publish_some_in_the_end(clients[1], audience.queue, 5)
            await audience.until_everybody_has(messages, _TAKEN_OVER_SECONDS)
            bodies = {delivered.body for delivered in receiver.delivered}
            assert b"refused" not in bodies
            assert max(audience.duplicates.values()) <= _MAX_IN_FLIGHT
            await fleet.stop()


@pytest.mark.torture
async def test_a_worker_cut_off_from_the_database_stops_before_the_other_takes_over(
    tmp_path: Path, postgres_cluster: Cluster, database: str
) -> None:
    """Nothing tells it: its connections stand, and swallow what it sends."""
    async with Receiver() as receiver, fleet_of(two_workers(tmp_path, postgres_cluster, database)) as fleet:
        audience = Audience(receiver)
        await audience.gather(fleet)
        cut_off, other = fleet.members
        theirs = audience.served_by(cut_off)
        assert theirs
        client = fleet.client_of(other.number)
        for link in cut_off.links:
            link.freeze()
        messages = await publish_some(client, audience.queue, 5)
        await audience.until_everybody_has(messages, _TAKEN_OVER_SECONDS)
        messages = await publish_some(client, audience.queue, 20)
        await audience.until_everybody_has(messages)
        senders = {delivered.source for delivered in receiver.delivered if delivered.message in messages}
        assert senders == {other.source}
        refused = fleet.client_of(cut_off.number)
        with suppress(Lost):
            assert (await refused.ask("POST", f"/queues/{audience.queue}/messages", {"data": "?"})).status == 503
        for link in cut_off.links:
            link.thaw()
        await cut_off.until_ready()
        messages = await publish_some_in_the_end(refused, audience.queue, 5)
        await audience.until_everybody_has(messages)
        assert max(audience.duplicates.values()) <= _MAX_IN_FLIGHT
        await fleet.stop()


@pytest.mark.torture
async def test_database_that_answers_slowly_delays_messages_and_no_more(
    tmp_path: Path, postgres_cluster: Cluster, database: str
) -> None:
    """Opening connections takes several round trips, each statement another one."""
    async with Receiver() as receiver, fleet_of(two_workers(tmp_path, postgres_cluster, database)) as fleet:
        audience = Audience(receiver)
        await audience.gather(fleet)
        # The first request of a connection prepares its statements: seconds, with so long round trips.
        clients = [Client(member.product, patience_seconds=_HEALED_SECONDS) for member in fleet.members]
        for link in (link for member in fleet.members for link in member.links):
            link.delay_seconds = _SLOW_SECONDS
            await link.reset()
        messages = set[str]()
        for client in clients:
            messages |= await publish_some_in_the_end(client, audience.queue, 1)
            messages |= await publish_some(client, audience.queue, 3)
            client.close()
        await audience.until_everybody_has(messages)
        assert max(audience.duplicates.values()) <= _MAX_IN_FLIGHT
        await fleet.stop()


@pytest.mark.torture
async def test_worker_whose_database_hardly_answers_refuses_publishes_and_loses_nothing(
    tmp_path: Path, postgres_cluster: Cluster, database: str
) -> None:
    """No connection can be opened in a second."""
    async with Receiver() as receiver, fleet_of(two_workers(tmp_path, postgres_cluster, database)) as fleet:
        audience = Audience(receiver)
        await audience.gather(fleet)
        slow, other = fleet.members
        refused, client = fleet.client_of(slow.number), fleet.client_of(other.number)
        for link in slow.links:
            link.delay_seconds = _HARDLY_SECONDS
            await link.reset()
        messages = await publish_some(client, audience.queue, 5)
        answer = await refused.ask("POST", f"/queues/{audience.queue}/messages", {"data": "refused"})
        assert (answer.status, "retry-after" in answer.headers) == (503, True), answer
        await audience.until_everybody_has(messages, _TAKEN_OVER_SECONDS)
        for link in slow.links:
            link.delay_seconds = 0.0
        messages |= await publish_some_in_the_end(refused, audience.queue, 5)
        await audience.until_everybody_has(messages)
        assert max(audience.duplicates.values()) <= _MAX_IN_FLIGHT
        await fleet.stop()


async def create_queues(worker: Worker) -> None:
    """Create several: each stream of commits has to go on, and no request may be refused meanwhile."""
    with closing(Client(worker.product)) as client:
        async with asyncio.timeout(_UNLOCKED_SECONDS):
            for _ in range(4):
                await client.queue()


@pytest.mark.torture
async def test_a_worker_cut_off_while_it_joins_holds_no_other_up_for_long(
    tmp_path: Path, postgres_cluster: Cluster, database: str
) -> None:
    """It has prepared nothing yet, and each of its first statements is new."""
    workers = two_workers(tmp_path, postgres_cluster, database, _LONG_LEASE_SECONDS)
    async with fleet_of(workers) as fleet:
        other, starting = fleet.members
        await starting.product.stop()
        [link] = starting.links
        link.stops_after = with_locks
        await starting.begin()
        async with asyncio.timeout(_HEALED_SECONDS):
            await link.stopped.wait()
        await create_queues(other)
        link.thaw()
        await starting.product.kill()
        await starting.start()
        await fleet.stop()


@pytest.mark.torture
async def test_sessions_of_a_hung_worker_end_with_its_lease(
    tmp_path: Path, postgres_cluster: Cluster, database: str
) -> None:
    """A session has the control plane's lock, the worker's row and its cursors, in the middle of a statement."""
    async with Receiver() as receiver, fleet_of(two_workers(tmp_path, postgres_cluster, database)) as fleet:
        audience = Audience(receiver)
        await audience.gather(fleet)
        hung, other = fleet.members
        assert audience.served_by(hung)
        joined = next(json.loads(line) for line in hung.product.lines if '"worker_joined"' in line)
        with postgres_cluster.connect(database, name=f"discue {joined['session_id']}") as session:
            session.run(f"BEGIN; SELECT pg_advisory_xact_lock({0x64_69_73_63})")
            session.run(f"UPDATE worker SET is_leaving = is_leaving WHERE session_id = {joined['session_id']}")
            session.run(f"UPDATE cursor SET token = token WHERE owner = {joined['session_id']}")
            session.prepare_only("SELECT 1")
            hung.product.send(signal.SIGSTOP)
            try:
                messages = await publish_some(fleet.client_of(other.number), audience.queue, 5)
                await create_queues(other)
                await audience.until_everybody_has(messages, _TAKEN_OVER_SECONDS)
            finally:
                hung.product.send(signal.SIGCONT)
        await hung.until_ready()
        await fleet.stop()
