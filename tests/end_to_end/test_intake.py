"""An application that shares the database of the service publishes in its own transactions."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.outbox_history import Order
from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.faults.shop import QUEUE, moved, opened

_PATIENCE_SECONDS = 20.0


@pytest.mark.parametrize("engine_name", ["postgres"])
async def test_commit_of_an_application_is_delivered_at_once_and_its_rollback_never(
    tmp_path: Path, database: str
) -> None:
    async with Receiver() as receiver, Product(tmp_path, database=database) as product:
        client = product.client()
        queue = (await client.create("/queues", {"alias": QUEUE}))["id"]
        await client.listener(queue, receiver.url("listener"))
        async with opened(database) as shop, shop.connected() as connection:
            for number in range(1, 4):
                transaction = connection.transaction()
                await transaction.start()
                await shop.order(connection, Order("alice", number))
                await (transaction.rollback() if number == 2 else transaction.commit())
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await receiver.until(lambda: len(receiver.delivered) == 2)
                assert await moved(database) == [Order("alice", 1), Order("alice", 3)]
