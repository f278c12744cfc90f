"""A damaged page of a SQLite file: delivery of its queue stops, the damage is reported, and other queues continue."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from discue.store.engine import LogPage
from discue.store.store import DAMAGE_REMEDY
from tests.faults.client import Client
from tests.faults.receiver import Receiver
from tests.server.test_worker import Running, running
from tests.support.clocks import StandingClock
from tests.support.databases import on_sqlite_only

MESSAGES: Final = 60
LEAF: Final = 0x0A
"""The type of a page that has the last rows of an index, or of a table without a row id."""
pytestmark = on_sqlite_only


class Damaged(NamedTuple):
    """A worker on a file in which a page with messages of a queue cannot be read."""

    running: Running
    client: Client
    receiver: Receiver
    queue: str
    listener: str
    neighbour: str


def damage_page_with(path: Path, text: bytes) -> None:
    """Overwrite the header of a leaf page that has a text."""
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    starts = range(0, len(content), size)
    [start] = [at for at in starts if content[at] == LEAF and text in content[at : at + size]]
    content[start : start + 8] = bytes(8)
    path.write_bytes(content)


def body_of(number: int) -> str:
    return f"message {number:04} " + "x" * 300


@asynccontextmanager
async def damaged(database: str, *, has_listener: bool = True) -> AsyncIterator[Damaged]:
    path = Path(database.removeprefix("sqlite:///"))
    async with Receiver() as receiver:
        async with running(database, role="api") as first:
            client = Client(first)
            queue, neighbour = await client.queue(), await client.queue(receiver.url("neighbour"))
            listener = await client.listener(queue, receiver.url("damaged")) if has_listener else ""
            batch = [{"data": body_of(number)} for number in range(MESSAGES)]
            await client.create(f"/queues/{queue}/messages/batch", {"messages": batch})
            client.close()
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        # In the middle: the pages before and behind it have rows of the same queue.
        damage_page_with(path, body_of(MESSAGES // 2).encode())
        async with running(database) as second:
            client = Client(second)
            try:
                yield Damaged(second, client, receiver, queue, listener, neighbour)
            finally:
                client.close()


async def test_damaged_page_stops_only_its_queue_and_is_reported(database: str) -> None:
    async with damaged(database) as at:
        client, receiver = at.client, at.receiver
        async with asyncio.timeout(20):
            await client.until_shown("/health/ready", lambda status: status == "damaged")
        ready = await client.get("/health/ready")
        assert ready["damaged"] == 1
        assert ready["detail"].endswith(DAMAGE_REMEDY)
        published = [await client.publish(at.neighbour, f"message {number}") for number in range(10)]
        await receiver.until(lambda: sorted(receiver.messages("neighbour")) == sorted(published))
        # A publish wakes the lane, and a later message must not overtake those that cannot be read.
        await client.publish(at.queue, "later")
        assert receiver.messages("damaged") == []
        async with asyncio.timeout(20):
            [event] = await client.until_shown("/queues/system%2Fevents/messages?data=true", bool)
        assert (event["alias"], event["data"]["queue"]) == ("store.damaged", {"id": at.queue, "alias": at.queue})
        listener = (await client.get(f"/queues/{at.queue}/listeners/{at.listener}"))["listener"]
        assert "damaged" in listener["status_reason"]


async def test_damage_is_logged_counted_and_rarely_read_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with damaged(database) as at:
        logged: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(at.running.worker.log, "error", lambda _event, **fields: logged.set_result(fields))
        store = at.running.installation.store
        async with asyncio.timeout(20):
            assert await logged == {"queue": at.queue, "hint": DAMAGE_REMEDY}
        read, page = list[int](), store.page

        async def counted(organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> LogPage:
            read.append(queue)
            return await page(organization, queue, after, rows, max_bytes=max_bytes)

        monkeypatch.setattr(store, "page", counted)
        for number in range(50):
            await at.client.publish(at.queue, f"later {number}")
        assert read == []
        assert len(at.running.worker.control.store.damage.parts()) == 1


async def test_damaged_page_does_not_stop_retention_of_other_queues(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a listener, nothing keeps the messages of the damaged queue, which is trimmed before the other.
    async with damaged(database, has_listener=False) as at:
        client, receiver = at.client, at.receiver
        old = await client.publish(at.neighbour, "old")
        await receiver.until(lambda: receiver.messages("neighbour") == [old])
        for queue in (at.queue, at.neighbour):
            changed = await client.ask("PUT", f"/queues/{queue}", {"retention": 60})
            assert changed.status == 200, changed
        retention = at.running.worker.jobs.retention
        monkeypatch.setattr(retention, "_clock", StandingClock(at.running.installation.clock.now() + 120_000))
        await retention.run()
        answer = await client.ask("GET", f"/queues/{at.neighbour}/messages/{old}")
        assert answer.status == 404
        answer = await client.ask("GET", f"/queues/{at.queue}/messages?per_page=100&data=true")
        assert (answer.status, answer.body["code"]) == (503, "store_damaged")
        assert str(database) not in str(answer.body)
