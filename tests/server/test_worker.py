import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from discue.config.settings import Settings
from discue.control.context import ControlContext
from discue.control.organizations import ensure_operator
from discue.dispatch.jobs.scheduler import Scheduler
from discue.dispatch.registry import LaneRegistry
from discue.domain.clock import Clock, SystemClock
from discue.domain.errors import StoreUnavailable, StoreUnusable
from discue.domain.model import Queue
from discue.observability.logs import Log
from discue.product import edge
from discue.server.http import Address
from discue.server.installation import open_installation
from discue.server.process import alone_on
from discue.server.worker import Worker, served
from discue.store import workers
from discue.store.engine import CursorKey
from tests.faults.client import KEY, Client
from tests.faults.receiver import Delivered, Receiver
from tests.server.test_http import H2_GREETING
from tests.store.test_postgres_faults import stopped_in_a_transaction
from tests.support.held_address import held_address
from tests.support.ports import free_port

SLOW_REQUEST = (
    "POST /queues/{}/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ncontent-type: application/json\r\n"
    "content-length: 16\r\nexpect: 100-continue\r\n\r\n"
)


class Heard(Log):
    """A log that keeps its warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warning(self, event: str, /, **fields: object) -> None:
        del fields
        self.warnings.append(event)

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **fields: object) -> None:
        raise AssertionError(event, fields) from exc_info


async def test_draining_ends_well_although_the_store_cannot_note_when_keys_were_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Heard()
    settings = Settings(database=f"sqlite:///{tmp_path}/worker.db", port=0)
    async with open_installation(settings, SystemClock(), log) as installation:
        _, key = await ensure_operator(installation, "com.example.operator", None)
        worker = Worker(installation, log, edge())
        await worker.start()
        assert key is not None
        await installation.cache.authenticate(key)

        async def full(_: object) -> Queue:
            raise StoreUnavailable

        monkeypatch.setattr(installation.store, "write", full)
        await worker.hand_over()
        await worker.leave()

    assert "key_usage_not_saved" in log.warnings


async def test_the_server_is_there_before_the_lanes_begin(tmp_path: Path) -> None:
    """A listener on this server then gets the waiting messages without a failed attempt."""
    seen: list[str] = []
    settings = Settings(database=f"sqlite:///{tmp_path}/worker.db", port=0)
    address = Address("127.0.0.1", free_port())

    class Watched(Worker):
        async def start(self) -> None:
            seen.append(await _readiness(address.port))
            await super().start()
            seen.append(await _readiness(address.port))

    async with (
        open_installation(settings, SystemClock(), Heard()) as installation,
        served(Watched(installation, Heard()), address),
    ):
        assert seen == ["HTTP/1.1 503", "HTTP/1.1 200"]


@dataclass(frozen=True)
class Running:
    """A worker on a database that others may be on, with its API."""

    worker: Worker
    installation: ControlContext
    port: int


@asynccontextmanager
async def running(database: str, clock: Clock | None = None, **changes: Any) -> AsyncIterator[Running]:
    given: dict[str, Any] = {
        "database": database,
        "port": 0,
        "allow_private_targets": True,
        "drain_timeout_seconds": 5,
        "lease_seconds": 60,
        "bootstrap_key": KEY,
        **changes,
    }
    settings = Settings(**given)
    async with open_installation(settings, clock or SystemClock(), Log()) as installation:
        await ensure_operator(installation, settings.organization, KEY)
        worker = Worker(installation, Log(), edge())
        with held_address() as address:
            async with served(worker, address):
                yield Running(worker, installation, address.port)


async def test_another_worker_goes_on_at_once_with_what_one_that_ends_delivered(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow clients and open connections do not delay the stop; requests in flight finish."""
    # As the drain's: far longer than it takes where nobody waits for the time to be up.
    monkeypatch.setattr("discue.server.worker._STOP_GRACE_SECONDS", 60.0)
    answer = asyncio.Event()
    # Which of two workers owns a cursor is as random as the flip of a coin, and both must own some.
    listeners = 40

    async def respond(delivered: Delivered) -> int:
        if delivered.path == "0":
            await answer.wait()
        return 200

    async with Receiver(respond) as receiver, running(database) as staying, AsyncExitStack() as stack:
        ending = await stack.enter_async_context(running(database, drain_timeout_seconds=60))
        client = Client(staying)
        queue = await client.queue()
        for number in range(listeners):
            await client.listener(queue, receiver.url(str(number)))
        first = await client.publish(queue, "hello")
        await receiver.until(lambda: {each.path for each in receiver.delivered} == set(map(str, range(listeners))))
        assert len(ending.worker.delivery.dispatcher.lanes)
        assert len(staying.worker.delivery.dispatcher.lanes)
        _, idle = await asyncio.open_connection("127.0.0.1", ending.port)
        idle.write(H2_GREETING)
        answered, slow = await asyncio.open_connection("127.0.0.1", ending.port)
        slow.write(SLOW_REQUEST.format(queue, KEY).encode())
        # The request that arrived is in flight; new ones are refused.
        assert (await answered.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        began_at = time.monotonic()
        leaving = asyncio.ensure_future(stack.aclose())
        second = await client.publish(queue, "hello again")
        await receiver.until(lambda: all(receiver.messages(str(number))[1:] == [second] for number in range(listeners)))
        handed_over = time.monotonic() - began_at
        slow.write(b'{"data": "late"}')
        assert (await answered.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        answer.set()
        await leaving
        assert handed_over < 10
        assert time.monotonic() - began_at < 15
        await receiver.until(lambda: all(len(receiver.messages(str(number))) == 3 for number in range(listeners)))
        assert all(receiver.messages(str(number))[:2] == [first, second] for number in range(listeners))
        for connection in (idle, slow):
            connection.close()
        client.close()


async def test_a_worker_that_only_answers_the_api_has_its_slot_and_no_lanes(database: str) -> None:
    async with Receiver() as receiver, running(database, role="api") as api:
        client = Client(api)
        queue = await client.queue()
        await client.listener(queue, receiver.url("late"))
        message = await client.publish(queue, "hello")
        polled = await api.installation.store.engine.poll(())
        assert [(member.role, member.slot) for member in polled.members] == [("api", 0)]
        assert api.installation.row_ids.slot == 0
        assert len(api.worker.delivery.dispatcher.lanes) == 0
        async with running(database, role="dispatch") as dispatch:
            await receiver.until(lambda: receiver.messages("late") == [message])
            assert len(dispatch.worker.delivery.dispatcher.lanes) == 1
        client.close()


async def test_new_leader_delivers_due_messages_while_it_claims_cursors(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims take seconds on a busy machine, and no other worker is the leader meanwhile."""
    is_delivered, deliver, take = asyncio.Event(), Scheduler.deliver_due, LaneRegistry.take

    async def deliver_due(scheduler: Scheduler) -> None:
        await deliver(scheduler)
        is_delivered.set()

    async def take_late(registry: LaneRegistry, cursors: Sequence[CursorKey]) -> int:
        async with asyncio.timeout(10):
            await is_delivered.wait()
        return await take(registry, cursors)

    monkeypatch.setattr(Scheduler, "deliver_due", deliver_due)
    monkeypatch.setattr(LaneRegistry, "take", take_late)
    async with Receiver() as receiver, running(database, role="api") as api:
        client = Client(api)
        queue = await client.queue()
        await client.listener(queue, receiver.url("listener"))
        fields = {"data": "hello", "deliver_at": api.installation.clock.now() + 100}
        message = await client.create(f"/queues/{queue}/messages", fields)
        async with running(database, role="dispatch"):
            await receiver.until(lambda: receiver.messages("listener") == [message["id"]])
        client.close()


async def test_expired_worker_joins_again_and_delivers(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as receiver, running(database, lease_seconds=1) as one:
        client = Client(one)
        queue = await client.queue()
        await client.listener(queue, receiver.url("listener"))
        await client.publish(queue, "hello")
        await receiver.until(lambda: len(receiver.delivered) == 1)
        joins_again = asyncio.Event()
        monkeypatch.setattr(one.worker.lease, "_announce", lambda _: joins_again.set())
        dead = one.worker.lease.session.id
        await one.installation.store.write(partial(workers.expire_worker, session_id=dead, known_dead=True))
        await joins_again.wait()
        # The worker that expired it is gone, too: its cursors are released nevertheless, a little later.
        message = await client.publish(queue, "hello again")
        await receiver.until(lambda: receiver.messages("listener")[-1] == message)
        polled = await one.installation.store.engine.poll(())
        assert [member.session_id for member in polled.members] == [one.worker.lease.session.id]
        client.close()


@pytest.mark.parametrize("engine_name", ["postgres"])
async def test_leader_ends_the_session_of_a_stopped_process(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no lease, and holds the lock that every request that creates something waits for."""
    monkeypatch.setattr("discue.server.worker._STUCK_SESSIONS_SECONDS", 0.1)
    monkeypatch.setattr("discue.store.postgres.engine._STUCK_SHARE", 0.3)
    ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    async with running(database) as one:
        monkeypatch.setattr(one.worker.log, "warning", lambda event, **fields: ended.set_result((event, fields)))
        async with stopped_in_a_transaction(database) as name:
            assert await ended == ("session_ended", {"session": name})
            client = Client(one)
            await client.queue()
            client.close()


async def test_a_worker_leaves_no_row_and_no_cursor_with_its_name(database: str) -> None:
    async with running(database) as one:
        client = Client(one)
        await client.listener(await client.queue(), "http://127.0.0.1:9/hook")
        client.close()
    async with open_installation(Settings(database=database), SystemClock(), Log()) as installation:
        polled = await installation.store.engine.poll(())
        assert polled.members == ()
        assert len(polled.free) == 1


async def test_idle_worker_reads_the_store_at_most_twice_a_second(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    moved = asyncio.Event()

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            asked[name] += 1
            moved.set()
            return method(*arguments)

        return call

    async def until_polls(count: int) -> None:
        while asked["poll"] < count:
            moved.clear()
            await moved.wait()

    async with running(database, lease_seconds=10) as idle:
        store = idle.installation.store
        for thing, name in ((store.engine, "poll"), (store.engine, "commit"), (store, "read"), (store, "page")):
            monkeypatch.setattr(thing, name, counted(name, getattr(thing, name)))
        # The work at startup begins with a poll, and is done when nothing else is asked between two polls.
        while asked.total() != 1:
            await until_polls(1)
            asked.clear()
            await until_polls(1)
        asked.clear()
        began_at = time.monotonic()
        await until_polls(5)
        # Two renewals of the lease, each with a poll after it, and a read of the leader may fall into 3.3 seconds.
        assert asked.total() <= 2 * (time.monotonic() - began_at) + 2, asked


async def _readiness(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer[:12].decode()


def test_a_second_process_on_a_database_is_told_so(tmp_path: Path) -> None:
    with (
        alone_on(tmp_path / "discue.db"),
        pytest.raises(StoreUnusable, match="Another process serves"),
        alone_on(tmp_path / "discue.db"),
    ):
        pass


def test_blocking_error_while_serving_is_no_second_process(tmp_path: Path) -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    with left, right, pytest.raises(BlockingIOError), alone_on(tmp_path / "discue.db"):
        left.recv(1)
