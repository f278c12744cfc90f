"""SIGTERM: requests in flight finish, confirmed messages are delivered after the next start, and none twice."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.faults.producers import producing
from tests.faults.product import Product
from tests.faults.receiver import Delivered, Receiver

GRACE_SECONDS = 10
PRODUCERS = 8
BACKLOG = 400
NAMES = ("quick", "slow")


@pytest.mark.torture
async def test_a_drain_under_load_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    pause_seconds = 0.1

    async def respond(delivered: Delivered) -> int:
        if delivered.path == "slow":
            await asyncio.sleep(pause_seconds)
        return 200

    limits: dict[str, Any] = {"drain_timeout_seconds": GRACE_SECONDS, "listener_max_in_flight": 4}
    async with Receiver(respond) as receiver, Product(tmp_path, **limits) as product:
        client = product.client()
        queue = await client.queue()
        for name in NAMES:
            await client.listener(queue, receiver.url(name))
        async with producing(product, [f"/queues/{queue}/messages"], [1] * PRODUCERS) as producers:
            await receiver.until(lambda: len(receiver.messages("quick")) >= BACKLOG)
            assert await product.stop() == 0
        assert len(set(receiver.messages("slow"))) < len(producers.stored), "something is left for the next start"
        pause_seconds = 0
        await product.start()
        for name in NAMES:
            await receiver.until(receiver.has_all(producers.stored, name))
        assert await product.stop() == 0
        for name in NAMES:
            received = receiver.messages(name)
            assert len(received) == len(set(received)), name


async def test_request_that_outlasts_the_grace_period_is_sent_again_after_the_start(tmp_path: Path) -> None:
    answering = asyncio.Event()

    async def respond(_delivered: Delivered) -> int:
        await answering.wait()
        return 200

    async with Receiver(respond) as receiver, Product(tmp_path, drain_timeout_seconds=1) as product:
        client = product.client()
        queue = await client.queue(receiver.url("hanging"))
        message = await client.publish(queue, "hello")
        await receiver.until_more(1)
        assert await product.stop() == 0
        answering.set()
        await product.start()
        await receiver.until(lambda: len(receiver.delivered) == 2)
        assert receiver.messages("hanging") == [message] * 2
        assert [delivered.headers["discue-attempt"] for delivered in receiver.delivered] == ["1", "2"]
        assert await product.stop() == 0
