"""A disk that is full, a database that is locked, read-only, newer or not ours."""

import asyncio
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cli.test_serve import AS_NOBODY
from tests.faults.client import Answer, Client
from tests.faults.product import SERVE, Ended, Product
from tests.faults.receiver import Delivered, Receiver
from tests.support.stores import migrated_file

_AGAIN_SECONDS = 0.05
_READY_SECONDS = 20
_MESSAGES = 20
_DELAY_MS = 3_000
"""Longer than it takes to store a message and to fill the disk, on a busy machine."""
_LEAST_PAUSE_SECONDS = 0.2
"""The first pause is a quarter of a second; a timer may be early."""


async def again_while_refused(client: Client, method: str, path: str, content: object = None) -> Answer:
    """The first answer that is not 503. The test's own time bounds it."""
    while True:
        answer = await client.ask(method, path, content)
        if answer.status != 503:
            return answer
        await asyncio.sleep(_AGAIN_SECONDS)


async def publish_again(client: Client, queue: str, data: str) -> str:
    """Publish with retries, as clients do that are told to try again soon."""
    answer = await again_while_refused(client, "POST", f"/queues/{queue}/messages", {"data": data})
    assert answer.status == 200
    assert (await client.ask("GET", "/health/ready")).status == 200
    return str(answer.body["message"]["id"])


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program writes to the database and does not come to an end."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def full(product: Product, most_bytes: int = 0) -> Iterator[None]:
    product.limit_files(most_bytes)
    yield
    product.limit_files(None)


def unable_to_write(product: Product, cause: str) -> AbstractContextManager[None]:
    return full(product) if cause == "full" else locked(product.database)


def refused_for_now(answer: Answer, reason: str = "The database ") -> None:
    assert answer.status == 503, answer
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.body["title"] == "Service Unavailable"
    assert answer.body["status"] == 503
    assert reason in answer.body["detail"]
    assert answer.body["request_id"] == answer.headers["x-request-id"]


async def writes_are_refused(client: Client, queue: str) -> None:
    """Every kind of write says so, reading goes on, and the service says that it is not ready."""
    for method, path, content in (
        ("POST", f"/queues/{queue}/messages", {"data": "too much"}),
        ("POST", f"/queues/{queue}/messages/batch", {"messages": [{"data": "too much"}]}),
        ("POST", "/queues", {}),
        ("PUT", f"/queues/{queue}", {"alias": "another.name"}),
    ):
        refused_for_now(await client.ask(method, path, content))
    refused_for_now(await client.ask("GET", "/health/ready"))
    assert (await client.ask("GET", "/health/live")).status == 200
    shown = (await client.ask("GET", f"/queues/{queue}")).body["queue"]
    assert shown["alias"] == queue


@pytest.mark.parametrize("cause", ["full", "locked"])
async def test_a_store_that_cannot_write_refuses_writes_and_recovers_by_itself(tmp_path: Path, cause: str) -> None:
    async with Receiver() as receiver, Product(tmp_path) as product:
        client = product.client()
        queue = await client.queue(receiver.url("steady"))
        confirmed = [await client.publish(queue, "before")]
        with unable_to_write(product, cause):
            await writes_are_refused(client, queue)
        confirmed.append(await publish_again(client, queue, "after"))
        await receiver.until(receiver.has_all(confirmed, "steady"))
        bodies = {delivered.body for delivered in receiver.delivered}
        assert bodies == {b"before", b"after"}, "refused messages are not stored"
        assert await product.stop() == 0


async def test_a_store_that_can_write_again_is_ready_although_nobody_publishes(tmp_path: Path) -> None:
    """A load balancer sends nothing until `/health/ready` succeeds: readiness must return on its own."""
    async with Product(tmp_path) as product:
        client = product.client()
        queue = await client.queue()
        with full(product):
            refused_for_now(await client.ask("POST", f"/queues/{queue}/messages", {"data": "too much"}))
            await product.says('"work":"probe_writes"')
            refused_for_now(await client.ask("GET", "/health/ready"))
        async with asyncio.timeout(_READY_SECONDS):
            assert (await again_while_refused(client, "GET", "/health/ready")).status == 200


async def test_message_that_becomes_due_on_a_full_disk_waits_without_a_busy_loop(tmp_path: Path) -> None:
    async with Receiver() as receiver, Product(tmp_path) as product:
        client = product.client()
        queue = await client.queue(receiver.url("steady"))
        delayed = {"data": "later", "deliver_at": time.time_ns() // 1_000_000 + _DELAY_MS}
        answer = await client.ask("POST", f"/queues/{queue}/messages", delayed)
        assert answer.status == 200, answer
        with full(product):
            await product.says('"work":"delayed_messages"')
            for _ in range(_MESSAGES):
                refused_for_now(await client.ask("POST", f"/queues/{queue}/messages", {"data": "too much"}))
            said = [json.loads(line)["time"] for line in product.lines if '"work":"delayed_messages"' in line]
            tried_at = [datetime.fromisoformat(each).timestamp() for each in said]
            assert all(later - earlier > _LEAST_PAUSE_SECONDS for earlier, later in pairwise(tried_at))
        await receiver.until(receiver.has_all([answer.body["message"]["id"]], "steady"))
        assert await product.stop() == 0


@pytest.mark.parametrize("cause", ["full", "locked"])
async def test_deliveries_in_flight_when_writes_fail_are_recorded_later(tmp_path: Path, cause: str) -> None:
    """The responses arrived but could not be stored: no message is sent again, and none is lost."""
    answering = asyncio.Event()

    async def respond(_delivered: Delivered) -> int:
        await answering.wait()
        return 200

    async with Receiver(respond) as receiver, Product(tmp_path, listener_max_in_flight=5) as product:
        client = product.client()
        queue = await client.queue()
        listener = await client.listener(queue, receiver.url("steady"))
        confirmed = [await client.publish(queue, str(number)) for number in range(_MESSAGES)]
        await receiver.until(lambda: len(receiver.delivered) == 5)
        with unable_to_write(product, cause):
            answering.set()
            refused_for_now(await client.ask("POST", f"/queues/{queue}/messages", {"data": "refused"}))
        await receiver.until(lambda: len(receiver.delivered) == _MESSAGES)
        assert receiver.messages("steady") == confirmed, "in their order, each once"
        assert await product.stop() == 0
        await product.start()
        shown = await client.ask("GET", f"/queues/{queue}/listeners/{listener}")
        counts = shown.body["listener"]["messages"]
        assert (counts["acknowledged_count"], counts["pending_count"], counts["missed_count"]) == (_MESSAGES, 0, 0)
        assert await product.stop() == 0
        assert len(receiver.delivered) == _MESSAGES


async def test_a_disk_that_fills_up_in_the_middle_of_a_commit_loses_nothing(tmp_path: Path) -> None:
    """The limit is a little beyond what is written, so that a commit is cut wherever it happens to be."""
    async with Receiver() as receiver, Product(tmp_path) as product:
        client = product.client()
        queue = await client.queue(receiver.url("steady"))
        confirmed: list[str] = []
        for room in (1_000, 5_000, 30_000):
            written = product.database.with_name("discue.db-wal").stat().st_size
            with full(product, written + room):
                answer = Answer(200, {}, None)
                while answer.status == 200:
                    answer = await client.ask("POST", f"/queues/{queue}/messages", {"data": "x" * 3_000})
                    confirmed += [answer.body["message"]["id"]] if answer.status == 200 else []
                refused_for_now(answer)
            confirmed.append(await publish_again(client, queue, "room again"))
        await product.kill()
        await product.start()
        confirmed.append(await client.publish(queue, "after all"))
        await receiver.until(receiver.has_all(confirmed, "steady"))


@pytest.mark.parametrize(("exists", "workers"), [(False, 1), (True, 1), (True, 2)])
async def test_start_on_a_full_disk_waits_for_room(tmp_path: Path, *, exists: bool, workers: int) -> None:
    if exists:
        async with Product(tmp_path) as product:
            assert await product.stop() == 0
    async with starting_on_a_full_disk(tmp_path, workers=workers) as product:
        product.limit_files(None)
        await product.ready()
        client = product.client()
        await client.publish(await client.queue(), "written")
        client.close()
        assert await product.stop() == 0


async def test_start_that_waits_for_room_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    async with starting_on_a_full_disk(tmp_path) as product:
        assert await product.stop() == 0
        assert not product.database.exists()


@asynccontextmanager
async def starting_on_a_full_disk(folder: Path, **settings: object) -> AsyncIterator[Product]:
    """A server that has been started and waits for room."""
    product = Product(folder, command=("-m", "tests.faults.altered", "largest=0"), **settings)
    await product.begin()
    try:
        said = await product.says('"event":"disk_full"')
        assert '"level":"warning"' in said
        assert str(product.database) in said
        yield product
    finally:
        await product.kill()


async def refusal(product: Product) -> str:
    """Return the error of a server that does not start. Asserts exit code 1."""
    with pytest.raises(Ended):
        await product.start()
    assert await product.ended() == 1
    said = "".join(product.lines)
    assert "Traceback" not in said
    return said


def content(database: Path) -> bytes:
    return database.read_bytes() if database.is_file() else b""


async def refused_and_left_unchanged(database: Path) -> str:
    before = content(database)
    said = await refusal(Product(database.parent))
    assert content(database) == before
    return said


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    """A database of this program."""
    return migrated_file(tmp_path / "discue.db")


def change(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(sql)
        connection.commit()


async def test_a_newer_database_is_refused(migrated: Path) -> None:
    change(migrated, "UPDATE meta SET value = '9001' WHERE key IN ('schema_version', 'compatible_from')")
    said = await refused_and_left_unchanged(migrated)
    assert "9001" in said
    assert "newer discue" in said


async def test_a_newer_database_that_still_takes_this_program_is_served(migrated: Path) -> None:
    change(migrated, "UPDATE meta SET value = '9001' WHERE key = 'schema_version'")
    async with Product(migrated.parent) as product:
        assert await product.stop() == 0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda database: change(database, "CREATE TABLE recipe (name TEXT)"), "another program's database"),
        (lambda database: database.write_bytes(b"Dear diary, " * 1_000), "not a database of discue"),
        (Path.mkdir, "cannot be"),
    ],
    ids=["another program's", "garbage", "a directory"],
)
async def test_foreign_files_are_refused(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    database = tmp_path / "discue.db"
    make(database)
    said = await refused_and_left_unchanged(database)
    assert reason in said
    assert str(database) in said


async def test_a_locked_database_is_refused_at_the_start(migrated: Path) -> None:
    with locked(migrated):
        assert "locked" in await refusal(Product(migrated.parent))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder with a database, that every user may enter and only its owner may write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        migrated_file(folder / "discue.db")
        yield folder
        folder.chmod(0o755)


def as_nobody(folder: Path, mode: int) -> Product:
    """A server on the folder, run by a user who has the rights that the mode gives to others."""
    is_root = os.geteuid() == 0
    folder.chmod(mode if is_root else mode & 0o555)
    return Product(folder, command=("-c", AS_NOBODY) if is_root else SERVE)


@pytest.mark.parametrize("exists", [False, True], ids=["new", "made by another user"])
async def test_a_folder_that_cannot_be_written_is_refused(open_folder: Path, *, exists: bool) -> None:
    if not exists:
        (open_folder / "discue.db").unlink()
    said = await refusal(as_nobody(open_folder, 0o755))
    assert "cannot be written" in said
    assert "Permission denied" in said


async def test_a_database_that_cannot_be_written_is_refused(open_folder: Path) -> None:
    """The database's folder is writable, so that the files next to it could be created."""
    (open_folder / "discue.db").chmod(0o444)
    said = await refusal(as_nobody(open_folder, 0o777))
    assert "cannot be written" in said
    assert "discue.db" in said
