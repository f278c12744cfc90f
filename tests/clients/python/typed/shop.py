# pyright: strict
"""A shop that publishes orders, charges them in a consumer, and receives webhooks: the types that a user sees."""

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, assert_type

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from discue_client import (
    APIError,
    AsyncDelivery,
    AsyncDiscue,
    Delivery,
    Discue,
    DoNotRetry,
    Event,
    RateLimited,
    Reason,
    Reject,
    Retry,
    SignatureInvalid,
    Unsubscribe,
    Webhook,
)
from discue_client.adapters.fastapi import verified
from discue_client.models import ApiKey, Listener, Message, Queue


class Order(BaseModel):
    order: int
    total: float = 0.0


def publish(order: Order) -> str:
    with Discue(timeout=5, deadline=20) as client:
        message = client.publish("orders", order, key="customer-9", delay=timedelta(minutes=1))
        assert_type(message, Message)
        client.publish("orders", b"bytes", content_type="image/png", deliver_at=datetime.now(UTC))
        client.with_options(attempts=3).publish("orders", {"order": 17}, idempotency_key="order-17")
        return message.id


def administer(client: Discue) -> list[str]:
    queue = client.queues.update("orders", ordered=True, retry={"schedule": [5, 30], "jitter": 0.1})
    assert_type(queue, Queue)
    listener = client.listeners.create(queue.id, notify_url="https://example.com/hook", filter={"data": {"order": 17}})
    assert_type(listener, Listener)
    assert_type(listener.secret, str | None)
    first = client.api_keys.list().first()
    assert_type(first, ApiKey | None)
    for page in client.queues.list().pages():
        assert_type(page, tuple[Queue, ...])
    return [message.id for message in client.messages.list("orders", state="missed", limit=500)]


def explain(client: Discue) -> str:
    try:
        client.queues.create(alias="not an alias")
    except RateLimited as error:
        return f"in {error.retry_after or 1:.0f} s"
    except APIError as error:
        assert_type(error.code, str | None)
        return ", ".join(f"{each.pointer}: {each.detail}" for each in error.errors)
    return ""


async def publish_many(orders: list[Order]) -> list[str]:
    async with AsyncDiscue() as client, client.publisher("orders", linger=0.01) as publisher:
        future = await publisher.submit(orders[0], key="first")
        assert_type(future, asyncio.Future[str])
        assert_type(await publisher.publish(orders[0]), str)
        return [await future, *await asyncio.gather(*(publisher.publish(order) for order in orders))]


def submit(client: Discue) -> str:
    with client.publisher("orders") as publisher:
        future = publisher.submit("text")
        assert_type(future, Future[str])
        return future.result(timeout=5)


async def consume() -> None:
    async def charge(delivery: AsyncDelivery) -> None:
        order = delivery.data_as(Order)
        assert_type(order, Order)
        if delivery.attempt > 3:
            raise Reject
        raise Retry(after=60)

    async with AsyncDiscue() as client:
        consumer = client.consume("orders", listener="billing", concurrency=5)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
        await consumer.run(charge)
        async for delivery in client.consume("orders", listener="billing"):
            async with delivery:
                assert_type(delivery.data, Any)


def consume_on_threads(client: Discue, charge: Callable[[Order], None]) -> None:
    def handle(delivery: Delivery) -> None:
        charge(delivery.data_as(Order))

    client.consume("orders", listener="billing").run(handle)


app = FastAPI()
webhook = Webhook(["whsec_" + "A" * 32], tolerance=60, seen=lambda event: event.attempt > 1)


@app.post("/orders", status_code=204)
async def receive(event: Annotated[Event[Order], Depends(verified(webhook, Order))]) -> None:
    assert_type(event.data, Order)
    if event.is_test:
        raise DoNotRetry
    if event.data.total < 0:
        raise Unsubscribe


def receive_without_a_framework(body: bytes, headers: dict[str, str]) -> int:
    try:
        event = webhook.unwrap(body, headers, Order)
    except SignatureInvalid as error:
        assert_type(error.reason, Reason)
        return error.status
    assert_type(event, Event[Order])
    assert_type(webhook.unwrap(body, headers).data, Any)
    return 204
