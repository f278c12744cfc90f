"""The relay, between a real database and a real service."""

import asyncio
import inspect
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from discue_client import AsyncDiscue, outbox
from discue_client.outbox.relay import Relay
from tests.clients.python.outbox.conftest import ONE_VARIANT
from tests.clients.python.outbox.databases import connect, outbox_database, run, waiting
from tests.clients.python.outbox.relayed import HOUR, HOUR_MS, is_empty, published, store
from tests.clients.python.outbox.watched import Watched, watched
from tests.support.ports import free_port
from tests.support.served_api import Cast


@pytest.fixture
def engine_name(variant: str) -> str:
    return variant.partition("+")[0]


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


@pytest.mark.parametrize("variant", ONE_VARIANT)
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


@pytest.mark.parametrize("variant", ONE_VARIANT)
async def test_idle_relay_makes_one_query_per_interval(async_client: AsyncDiscue, database: str) -> None:
    relay = Relay(database, async_client, poll_seconds=0.01)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: len(watching.names) >= 4)

    assert set(watching.names) == {"waiting_queues"}
    assert inspect.signature(Relay).parameters["poll_seconds"].default == 30


async def test_several_relays_publish_each_message_once_in_the_order_of_its_key(
    async_client: AsyncDiscue, url: str, database: str
) -> None:
    await async_client.queues.create(alias="orders")
    relays = [Relay(database, async_client, max_messages=7, poll_seconds=0.02, lease_seconds=0.05) for _ in range(3)]
    watching = [watched(relay) for relay in relays]
    # Their clocks differ by much more than a lease.
    for relay, hours in zip(relays, (0, 2, -5), strict=True):
        object.__setattr__(relay, "_now", partial(_ahead, hours))

    async with relays[0], relays[1], relays[2]:
        for number in range(30):
            await asyncio.to_thread(store, url, f"a{number}", f"b{number}")
        waits = [asyncio.create_task(each.until(lambda: is_empty(url))) for each in watching]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    assert await published(async_client) == [f"{name}{number}" for number in range(30) for name in "ab"]


def _ahead(hours: int) -> int:
    return round(time.time() * 1_000) + hours * HOUR_MS


@pytest.mark.parametrize("variant", ONE_VARIANT)
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


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_batch_ends_before_a_megabyte_and_a_larger_message_goes_alone(
    async_client: AsyncDiscue, url: str
) -> None:
    await async_client.queues.create(alias="orders", max_message_bytes=2_000_000)
    sizes = [400_000, 400_000, 400_000, 1_500_000, 1]
    store(url, *("x" * size for size in sizes))
    relay = Relay(url, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: is_empty(url))

    listed = [message.size async for message in async_client.messages.list("orders")]
    assert listed[::-1] == sizes
    assert watching.names.count("delete") == 4


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
