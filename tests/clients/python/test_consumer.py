"""Consuming from a listener in pull mode, against a real service and against servers that fail."""

import asyncio
import dataclasses
import gc
import json
import ssl
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from discue_client import AsyncDiscue, DataInvalid, Discue, NotFound, Reject, Retry, Unauthorized
from discue_client._async.consumer import AsyncConsumer, AsyncDelivery
from discue_client._sync.consumer import Delivery
from tests.clients.python.test_publisher import served
from tests.clients.python.test_transport import KEY, problem, response
from tests.support.authority import server_context
from tests.support.scripted_server import CLOSE, HANG, READ, Script, ScriptedServer


@dataclasses.dataclass
class Order:
    id: int


async def billing(client: AsyncDiscue, *orders: object, **fields: Any) -> None:
    await client.queues.create(alias="orders")
    await client.listeners.create("orders", alias="billing", mode="pull", **fields)
    for order in orders:
        await client.publish("orders", order)


async def states(client: AsyncDiscue) -> dict[object, tuple[str, int]]:
    """Return the state and the number of attempts of each message, by its data."""
    found: dict[object, tuple[str, int]] = {}
    async for message in client.messages.list("orders"):
        whole = await client.messages.get("orders", message.id)
        (delivery,) = whole.deliveries or ()
        found[str(whole.data)] = (delivery.state, delivery.attempts)
    return found


async def test_handler_gets_each_message_and_a_normal_return_acknowledges_it(async_client: AsyncDiscue) -> None:
    await billing(async_client, *({"id": number} for number in range(50)))
    consumer = async_client.consume("orders", listener="billing", concurrency=300)
    seen: list[Order] = []

    async def handle(delivery: AsyncDelivery) -> None:
        seen.append(delivery.data_as(Order))
        if len(seen) == 50:
            consumer.stop()

    await consumer.run(handle)

    assert sorted(order.id for order in seen) == list(range(50))
    assert set((await states(async_client)).values()) == {("acknowledged", 1)}


async def test_outcomes_of_a_handler_settle_the_message(
    async_client: AsyncDiscue, caplog: pytest.LogCaptureFixture
) -> None:
    await billing(async_client, "good", "retry", "later", "reject", "error", retry={"schedule": [3600]})
    consumer = async_client.consume("orders", listener="billing", concurrency=5)
    seen: set[str] = set()

    async def handle(delivery: AsyncDelivery) -> None:
        seen.add(delivery.data)
        if len(seen) == 5:
            consumer.stop()
        outcomes = {"retry": Retry(), "later": Retry(after=3_600), "reject": Reject(), "error": KeyError("price")}
        if delivery.data in outcomes:
            raise outcomes[delivery.data]

    await consumer.run(handle)

    assert await states(async_client) == {
        "good": ("acknowledged", 1),
        "retry": ("retrying", 1),
        "later": ("pending", 0),
        "reject": ("retrying", 1),
        "error": ("retrying", 1),
    }
    assert "KeyError: 'price'" in caplog.text


async def test_iteration_settles_entered_deliveries_and_gives_back_the_rest(async_client: AsyncDiscue) -> None:
    await billing(async_client, "a", "b", "c")
    consumer = async_client.consume("orders", listener="billing", concurrency=3)

    async with consumer:
        async for delivery in consumer:
            async with delivery:
                break

    assert sorted((await states(async_client)).values()) == [("acknowledged", 1), ("pending", 0), ("pending", 0)]


async def test_error_in_the_body_of_a_loop_rejects_and_is_raised(async_client: AsyncDiscue) -> None:
    await billing(async_client, "a", retry={"schedule": [3600]})

    async def work() -> None:
        async with async_client.consume("orders", listener="billing") as consumer:
            async for delivery in consumer:
                async with delivery:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()

    assert await states(async_client) == {"a": ("retrying", 1)}


async def test_cancelled_run_gives_messages_back(async_client: AsyncDiscue) -> None:
    await billing(async_client, "a")
    started = asyncio.Event()

    async def handle(delivery: AsyncDelivery) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(async_client.consume("orders", listener="billing").run(handle))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await states(async_client) == {"a": ("pending", 0)}
    assert (await async_client.listeners.pull("orders", "billing"))[0].data == "a"


def extensions(consumer: AsyncConsumer, monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Return a semaphore that is released after each extension of leases."""
    done, extend = asyncio.Semaphore(0), consumer._extend_now

    async def extend_now(receipts: list[str]) -> None:
        await extend(receipts)
        done.release()

    monkeypatch.setattr(consumer, "_extend_now", extend_now)
    return done


async def test_lease_is_extended_while_the_handler_runs(
    async_client: AsyncDiscue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await billing(async_client, "slow", lease_seconds=1)
    consumer = async_client.consume("orders", listener="billing")
    extended = extensions(consumer, monkeypatch)
    lost: list[bool] = []

    async def handle(delivery: AsyncDelivery) -> None:
        # Four thirds of a lease.
        for _ in range(4):
            await extended.acquire()
        lost.append(delivery.is_lost)
        consumer.stop()

    await consumer.run(handle)

    assert lost == [False]
    assert await states(async_client) == {"slow": ("acknowledged", 1)}


async def test_deliveries_that_are_not_entered_are_pointed_out(
    async_client: AsyncDiscue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await billing(async_client, "a", lease_seconds=1)
    async with async_client.consume("orders", listener="billing") as consumer:
        extended = extensions(consumer, monkeypatch)
        delivery = await anext(aiter(consumer))
        await extended.acquire()

    assert repr(delivery) == f"AsyncDelivery(id={delivery.id!r}, key=None, attempt=1)"
    assert "Messages that wait to be entered: 1. Process each in `with delivery:`." in caplog.text
    assert await states(async_client) == {"a": ("pending", 0)}


class Priced(BaseModel):
    price: Decimal


async def test_pydantic_models_are_published_and_consumed(async_client: AsyncDiscue) -> None:
    await billing(async_client, Priced(price=Decimal("1.10")), "text")
    seen: list[object] = []
    async with async_client.consume("orders", listener="billing") as consumer:
        async for delivery in consumer:
            async with delivery:
                try:
                    seen.append(delivery.data_as(Priced))
                except DataInvalid as error:
                    seen.append(str(error))
                    break

    assert seen[0] == Priced(price=Decimal("1.10"))
    assert str(seen[1]).startswith("The data is not acceptable: 1 validation error for Priced")


def pulled(*receipts: str) -> bytes:
    fields = {"stored_at": 1, "data": "x", "content_type": "text/plain", "attempt": 1, "leased_until": 1, "sequence": 1}
    fields["headers"] = {"discue-sequence": "1"}
    return response(200, json.dumps({"messages": [{"id": each, "receipt": each, **fields} for each in receipts]}))


def settled(state: str, *receipts: str) -> bytes:
    return response(200, json.dumps({"receipts": [{"receipt": each, "state": state} for each in receipts]}))


async def test_lost_lease_is_logged_and_not_settled(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: list[Script] = [
        [READ, problem(403), CLOSE],
        [READ, pulled("r"), CLOSE],
        [READ, settled("expired", "r"), CLOSE],
    ]
    async with served(*scripts) as (server, client):
        consumer = client.consume("orders", listener="billing", concurrency=1)
        consumer._lease = 1

        extended = extensions(consumer, monkeypatch)

        async def handle(delivery: AsyncDelivery) -> None:
            await extended.acquire()
            assert delivery.is_lost
            consumer.stop()

        await consumer.run(handle)

    assert "The lease of message r was lost: it may be processed twice." in caplog.text
    assert [request.line.split()[1].rpartition("/")[2] for request in server.requests] == [
        "billing",
        "messages?max=1&wait=20",
        "acknowledgements",
    ]


async def test_consumer_survives_an_outage_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    scripts: list[Script] = [
        [READ, problem(503), CLOSE],
        [READ, b"garbage", CLOSE],
        [READ, problem(403), CLOSE],
        [READ, pulled("r"), CLOSE],
        [READ, settled("acknowledged", "r"), HANG],
    ]
    async with served(*scripts) as (server, client):
        consumer = client.consume("orders", listener="billing", concurrency=1)

        async def handle(_: AsyncDelivery) -> None:
            consumer.stop()

        await consumer.run(handle)

    assert caplog.text.count("Messages cannot be fetched; trying again: GET /queues/orders/listeners/billing: 503") == 1
    assert caplog.text.count("Messages can be fetched again") == 1
    assert json.loads(server.requests[-1].body) == {"acknowledge": ["r"]}


@pytest.mark.parametrize(
    ("script", "tls", "patience", "line"),
    [
        ([READ, HANG], None, 0.2, "no response from {url} within 0.2 s."),
        ([READ, response(404, "<html>")], None, 15, "404 from something other than discue: <html>"),
        (
            [READ, HANG],
            server_context("127.0.0.1", is_trusted=False),
            15,
            (
                "no response from {url}: its certificate is not valid: unable to get local issuer certificate. "
                "Set SSL_CERT_FILE to a file with the issuers to trust."
            ),
        ),
    ],
    ids=["slow", "garbage", "tls"],
)
async def test_consumer_says_once_why_it_gets_no_messages_and_stops_at_once(
    script: Script,
    tls: ssl.SSLContext | None,
    patience: float,
    line: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned = asyncio.Event()
    monkeypatch.setattr(caplog.handler, "flush", warned.set)
    async with ScriptedServer([script], tls=tls) as server:
        url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.port}"
        async with AsyncDiscue(url, KEY, timeout=patience) as client:
            consumer = client.consume("orders", listener="billing")
            running = asyncio.create_task(consumer.run(unexpected))
            await warned.wait()
            consumer.stop()
            await asyncio.wait_for(running, 5)

    expected = "Messages cannot be fetched; trying again: GET /queues/orders/listeners/billing: "
    assert caplog.messages == [expected + line.format(url=url)]


async def unexpected(_: AsyncDelivery) -> None:
    raise AssertionError


async def test_missing_listener_and_revoked_key_end_the_consumer(
    async_client: AsyncDiscue, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders")
    with pytest.raises(NotFound):
        await async_client.consume("orders", listener="billing").run(unexpected)
    gc.collect()
    assert "never retrieved" not in caplog.text
    async with served([READ, problem(401)]) as (_, client):
        with pytest.raises(Unauthorized):
            await anext(aiter(client.consume("orders", listener="billing")))
    gc.collect()
    assert caplog.messages == [], "the error is raised once, and nobody waits for another one"


@pytest.fixture
def sync_consumer(client: Discue) -> Callable[..., Any]:
    client.queues.create(alias="orders")
    client.listeners.create("orders", alias="billing", mode="pull")
    for number in range(20):
        client.publish("orders", {"id": number})
    return lambda **options: client.consume("orders", listener="billing", **options)


def test_threads_handle_messages_at_the_same_time(client: Discue, sync_consumer: Callable[..., Any]) -> None:
    consumer = sync_consumer(concurrency=4)
    meeting = threading.Barrier(4, timeout=10)
    seen: list[int] = []

    def handle(delivery: Delivery) -> None:
        meeting.wait()
        seen.append(delivery.data["id"])
        if len(seen) >= 20:
            consumer.stop()

    consumer.run(handle)

    assert sorted(seen) == list(range(20))
    assert client.listeners.get("orders", "billing").messages.acknowledged_count == 20


def test_sync_iteration_ends_after_stop(client: Discue, sync_consumer: Callable[..., Any]) -> None:
    consumer = sync_consumer(concurrency=1)
    seen = []

    for delivery in consumer:
        with delivery:
            seen.append(delivery.data["id"])
            if len(seen) == 3:
                consumer.stop()

    assert seen == [0, 1, 2]
    assert client.listeners.get("orders", "billing").messages.acknowledged_count == 3


async def test_sync_consumer_that_waits_for_messages_stops_at_once() -> None:
    async with ScriptedServer([[READ, problem(403), READ, HANG]]) as server:
        with Discue(f"http://127.0.0.1:{server.port}", KEY) as client:
            consumer = client.consume("orders", listener="billing")
            running = asyncio.create_task(asyncio.to_thread(consumer.run, print))
            await server.until_received(2)

            consumer.stop()
            await asyncio.wait_for(running, 10)

            # The service sees that nobody waits for its response any more.
            await server.until_open(0)
    assert server.requests[1].line.endswith("wait=20 HTTP/1.1")


def test_consumer_can_be_used_once(sync_consumer: Callable[..., Any]) -> None:
    consumer = sync_consumer()
    with consumer:
        pass
    with pytest.raises(RuntimeError, match="entered once"):
        consumer.run(print)
    with pytest.raises(ValueError, match="concurrency must be"):
        sync_consumer(concurrency=0)
