"""A process that is killed in the middle of its work has counted exactly what it has stored."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from tests.faults.client import Client, Lost
from tests.faults.logs import read_from
from tests.faults.product import Product
from tests.faults.receiver import Delivered, Receiver
from tests.support.databases import ENOUGH
from tests.support.tallied import tallied

_PUBLISHERS = 8
_DELIVERIES = 150


async def _well_and_badly(delivered: Delivered) -> int:
    return 500 if "7" in delivered.body.decode() else 200


@pytest.mark.parametrize("engine_name", ENOUGH)
async def test_after_a_kill_counts_are_what_there_is(tmp_path: Path, database: str) -> None:
    async with (
        Receiver(_well_and_badly) as receiver,
        Product(tmp_path, database=database, lease_seconds=2) as product,
    ):
        operator = product.client()
        queue = await operator.queue(receiver.url("listener"))
        numbers = count()
        for _ in range(2):
            publishers = [asyncio.create_task(_publish(product.client(), queue, numbers)) for _ in range(_PUBLISHERS)]
            await receiver.until_more(_DELIVERIES)
            await product.kill()
            await asyncio.gather(*publishers)
            assert len(await read_from(database, tallied)) > 3
            await product.start()
        shown = (await operator.get("/stats/messages"))["aggregated_api_usage_events"]["last_1_hours"]
        assert shown["message_added"] >= len({delivered.message for delivered in receiver.delivered})
        assert shown["message_published_not_ok"] > 0


async def _publish(client: Client, queue: str, numbers: Iterator[int]) -> None:
    """Until nobody answers any more."""
    with suppress(Lost):
        while True:
            await client.publish(queue, f"number {next(numbers)}")
