"""The relay, between a real database and a real service."""

import asyncio
import inspect
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from discue_client import AsyncDiscue, ConfigurationError, outbox
from discue_client.outbox.relay import Relay, _parts
from discue_client.outbox.rows import Row
from tests.clients.python.outbox.databases import connect, outbox_database, run, waiting
from tests.clients.python.outbox.watched import Watched, watched
from tests.support.everywhere import EVERYWHERE
from tests.support.ports import free_port
from tests.support.served_api import Cast

HOUR = 3_600.0


VARIANTS = ["sqlite", "postgres", "postgres+psycopg"]


@pytest.fixture(params=VARIANTS if EVERYWHERE else VARIANTS[:2])
def variant(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def engine_name(variant: str) -> str:
    return variant.partition("+")[0]


@pytest.fixture
def database(url: str, variant: str) -> str:
    """The URL that a relay is given."""
    return url.replace("postgresql:", "postgresql+psycopg:") if variant == "postgres+psycopg" else url


def store(url: str, *data: object, queue: str = "orders", key: str | None = None) -> None:
    """Store messages in one transaction."""
    with closing(connect(url)) as connection:
        connection.execute("BEGIN")
        for each in data:
            outbox.publish(connection, queue, each, key=key)
        connection.execute("COMMIT")


async def published(client: AsyncDiscue, queue: str = "orders") -> list[Any]:
    """Return the data of all messages, the oldest first."""
    found = [message.data async for message in client.messages.list(queue, data="true")]
    return found[::-1]


def is_empty(url: str) -> bool:
    return waiting(url) == []


async def test_messages_of_several_queues_are_published_once_in_order_and_deleted(
    async_client: AsyncDiscue, url: str, database: str
) -> None:
    for alias in ("orders", "bills"):
        await async_client.queues.create(alias=alias)
    store(url, *range(25))
    store(url, "a", {"b": 1}, queue="bills", key="k")
    relay = Relay(database, async_client, max_messages=10, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: is_empty(url))

    assert await published(async_client) == list(range(25))
    assert await published(async_client, "bills") == ["a", {"b": 1}]
    assert watching.names.count("delete") == 4


async def test_fields_of_a_message_arrive(async_client: AsyncDiscue, url: str, database: str) -> None:
    await async_client.queues.create(alias="orders")
    with closing(connect(url)) as connection:
        outbox.publish(connection, "orders", b"\x00\xff", key="k", headers={"x-tenant": "t"}, content_type="image/png")
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: is_empty(url))

    (listed,) = [each async for each in async_client.messages.list("orders")]
    message = await async_client.messages.get("orders", listed.id)
    assert (message.data_base64, message.key, message.content_type) == ("AP8=", "k", "image/png")
    assert message.headers == {"x-tenant": "t"}


@pytest.mark.parametrize("variant", ["postgres", "postgres+psycopg"])
async def test_commit_in_another_process_wakes_the_relay(async_client: AsyncDiscue, url: str, database: str) -> None:
    await async_client.queues.create(alias="orders")
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: watching.names == ["waiting_queues"])
        await asyncio.to_thread(store, url, "late")
        await watching.until(lambda: is_empty(url))

    assert await published(async_client) == ["late"]


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_commit_of_a_session_in_this_process_wakes_the_relay(async_client: AsyncDiscue, url: str) -> None:
    await async_client.queues.create(alias="orders")
    engine = create_engine(url, poolclass=NullPool)
    relay = Relay(engine, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    def work() -> None:
        with Session(engine) as session:
            outbox.publish(session, "orders", "late")
            session.commit()

    async with relay:
        await watching.until(lambda: watching.names == ["waiting_queues"])
        await asyncio.to_thread(work)
        await watching.until(lambda: is_empty(url))

    assert await published(async_client) == ["late"]


async def test_idle_relay_makes_one_query_per_interval(async_client: AsyncDiscue, database: str) -> None:
    relay = Relay(database, async_client, poll_seconds=0.01)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: len(watching.names) >= 4)

    assert set(watching.names) == {"waiting_queues"}
    assert inspect.signature(Relay).parameters["poll_seconds"].default == 30


@pytest.mark.parametrize("variant", VARIANTS)
async def test_several_relays_publish_each_message_once_in_the_order_of_its_key(
    async_client: AsyncDiscue, url: str, database: str
) -> None:
    await async_client.queues.create(alias="orders")
    relays = [Relay(database, async_client, max_messages=7, poll_seconds=0.02, lease_seconds=0.05) for _ in range(3)]
    watching = [watched(relay) for relay in relays]

    async with relays[0], relays[1], relays[2]:
        for number in range(60):
            await asyncio.to_thread(store, url, f"a{number}", f"b{number}")
        waits = [asyncio.create_task(each.until(lambda: is_empty(url))) for each in watching]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    assert await published(async_client) == [f"{name}{number}" for number in range(60) for name in "ab"]


async def test_refused_message_stays_with_its_error_and_the_others_go_on_in_order(
    async_client: AsyncDiscue, url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders", json_schema={"type": "number"})
    store(url, 0, 1, "no", 3, "neither", "nor this", 6)
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: watching.names.count("refuse") == 3 and len(waiting(url)) == 3)

    assert await published(async_client) == [0, 1, 3, 6]
    rows = run(url, "SELECT payload, batch, error FROM discue_outbox ORDER BY id")
    assert [bytes(payload) for payload, *_ in rows] == [b"no", b"neither", b"nor this"]
    assert all(batch is None and "/messages/0/data" in error for _, batch, error in rows)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    assert errors[0].startswith("Row 3 of the outbox cannot be published, and stays in the table: POST /queues/orders/")


@pytest.mark.parametrize("variant", ["sqlite", "postgres"])
@pytest.mark.parametrize(("payload", "form"), [("{", "json"), ("1, 2", "json"), ("\\377", "text")])
async def test_row_of_another_program_that_is_no_message_does_not_stop_the_others(
    async_client: AsyncDiscue, url: str, database: str, payload: str, form: str
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, 0, 1, 2)
    content = b"\xff" if form == "text" else payload.encode()
    place = "?" if url.startswith("sqlite") else "%s"
    with closing(connect(url)) as connection:
        connection.execute(f"UPDATE discue_outbox SET payload = {place}, form = {place} WHERE id = 2", (content, form))
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: "refuse" in watching.names and len(waiting(url)) == 1)

    assert await published(async_client) == [0, 2]
    ((error,),) = run(url, "SELECT error FROM discue_outbox")
    assert error.startswith("The row is not a message: ")


async def test_messages_wait_for_their_queue_and_other_queues_go_on(
    async_client: AsyncDiscue, url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, "early", queue="missing")
    store(url, "here")
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: watching.names.count("release") >= 2 and len(waiting(url)) == 1)
        await async_client.queues.create(alias="missing")
        await watching.until(lambda: is_empty(url))

    assert await published(async_client, "missing") == ["early"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("Messages to missing wait in the outbox: POST /queues/missing/messages/batch: 404")


async def test_messages_wait_for_a_service_that_is_away(cast: Cast, url: str, database: str) -> None:
    key = cast.alice.headers["x-api-key"]
    store(url, "here")
    async with AsyncDiscue(f"http://127.0.0.1:{free_port()}", key) as away:
        relay = Relay(database, away, poll_seconds=HOUR)
        watching = watched(relay)
        async with relay:
            await watching.until(lambda: "release" in watching.names)
    assert len(waiting(url)) == 1

    async with AsyncDiscue(cast.service.url, key) as client:
        await client.queues.create(alias="orders")
        relay = Relay(database, client, poll_seconds=HOUR)
        watching = watched(relay)
        async with relay:
            await watching.until(lambda: is_empty(url))

        assert await published(client) == ["here"]


async def test_batch_whose_rows_were_changed_after_it_was_published_is_not_published_again(
    async_client: AsyncDiscue, url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, 1, 2)
    key = "outbox-1"
    batch = {"messages": [{"data": 1}, {"data": 2}]}
    await async_client.request("POST", "/queues/orders/messages/batch", body=batch, idempotency_key=key)
    run(url, f"UPDATE discue_outbox SET batch = '{key}'", "DELETE FROM discue_outbox WHERE id = 1")
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: watching.names.count("release") >= 2)

    assert await published(async_client) == [1, 2]
    assert len(waiting(url)) == 1
    assert "idempotency_key_reused" in caplog.text


@pytest.mark.parametrize("variant", ["postgres", "postgres+psycopg"])
async def test_relay_goes_on_after_its_connections_are_lost(async_client: AsyncDiscue, url: str, database: str) -> None:
    await async_client.queues.create(alias="orders")
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: watching.names == ["waiting_queues"])
        await asyncio.to_thread(_disconnect_others, url)
        await watching.until(lambda: len(watching.names) >= 2)
        await asyncio.to_thread(store, url, "late")
        await watching.until(lambda: is_empty(url))

    assert await published(async_client) == ["late"]


def _disconnect_others(url: str) -> None:
    others = "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    assert len(run(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity {others}")) == 2


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_leaving_the_relay_records_the_batch_in_flight(async_client: AsyncDiscue, url: str) -> None:
    await async_client.queues.create(alias="orders")
    store(url, *range(3))
    relay = Relay(url, async_client, max_messages=1, poll_seconds=HOUR)
    watching: Watched = watched(relay)

    async with relay:
        await watching.until(lambda: "claim" in watching.names)

    left = [int(payload) for _, _, payload in waiting(url)]
    assert await published(async_client) + left == [0, 1, 2]
    assert run(url, "SELECT count(*) FROM discue_outbox WHERE batch IS NOT NULL") == [(0,)]


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_missing_table_or_file_is_an_error_at_the_start(async_client: AsyncDiscue, url: str) -> None:
    run(url, "DROP TABLE discue_outbox")
    with pytest.raises(outbox.OutboxUnavailable, match=r"^The outbox cannot be read: no such table: discue_outbox$"):
        async with Relay(url, async_client):
            pass
    with pytest.raises(outbox.OutboxUnavailable, match="unable to open"):
        async with Relay(f"{url}.missing", async_client):
            pass


@pytest.mark.parametrize("variant", ["postgres", "postgres+psycopg"])
async def test_missing_table_of_postgresql_is_an_error_at_the_start(
    async_client: AsyncDiscue, url: str, database: str
) -> None:
    run(url, "DROP TABLE discue_outbox")
    with pytest.raises(outbox.OutboxUnavailable, match='relation "discue_outbox" does not exist'):
        async with Relay(database, async_client):
            pass


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("mysql://root:secret@localhost/shop", r"must look like postgresql://host/name or sqlite:///file\.$"),
        ("sqlite://", "cannot read a database in memory"),
        (17, r"not builtins\.int\.$"),
    ],
)
async def test_database_that_cannot_be_used_is_named_without_its_password(
    cast: Cast, target: object, reason: str
) -> None:
    async with AsyncDiscue(cast.service.url, "key") as client:
        with pytest.raises(ConfigurationError, match=reason) as caught:
            Relay(target, client)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("max_messages", [0, 1_001])
async def test_batch_has_1_to_1000_messages(cast: Cast, max_messages: int) -> None:
    async with AsyncDiscue(cast.service.url, "key") as client:
        with pytest.raises(ValueError, match="max_messages must be 1 to 1,000"):
            Relay("sqlite:///application.db", client, max_messages=max_messages)


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_text_that_another_program_stores_in_sqlite_is_published(async_client: AsyncDiscue, url: str) -> None:
    await async_client.queues.create(alias="orders")
    columns, values = "queue, payload, form, fields, created_at", "'orders', '{\"n\": 1}', 'json', '{}', 0"
    run(url, f"INSERT INTO discue_outbox ({columns}) VALUES ({values})")
    relay = Relay(url, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: is_empty(url))

    assert await published(async_client) == [{"n": 1}]


def test_wake_after_the_loop_is_closed_does_nothing(tmp_path: Path) -> None:
    with outbox_database("sqlite", tmp_path) as url:
        relays: list[Relay] = []

        async def start() -> None:
            async with AsyncDiscue("http://127.0.0.1:1", "key") as client, Relay(url, client) as relay:
                relays.append(relay)

        asyncio.run(start())
        relays[0].wake()

    assert len(relays) == 1


@pytest.mark.parametrize(
    ("refused", "sizes"),
    [([], [2, 3]), ([0], [1, 4]), ([4], [4, 1]), ([1, 2], [1, 1, 1, 2]), ([9], [2, 3]), (range(5), [1] * 5)],
)
def test_refused_batch_is_divided_in_its_order(refused: list[int], sizes: list[int]) -> None:
    rows = [Row(number, None, b"", "text", "{}") for number in range(5)]

    parts = _parts(rows, refused)

    assert [row for part in parts for row in part] == rows
    assert [len(part) for part in parts] == sizes
