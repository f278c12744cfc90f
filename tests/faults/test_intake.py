"""Workers are killed while applications publish in their own transactions."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.faults.conftest import Tell
from tests.faults.outbox_history import broken_promises
from tests.faults.product import Product
from tests.faults.shop import QUEUE, Shop, moved, opened
from tests.support.postgres.fixtures import new_database, shared_cluster

_KILLS = 8
_CUSTOMERS = ("alice", "bob", "carol")
_PATIENCE_SECONDS = 60.0


@pytest.mark.torture
async def test_killed_workers_neither_lose_nor_repeat_what_an_application_has_committed(
    tmp_path: Path, tell: Tell
) -> None:
    random = Random(17)  # noqa: S311 - reproducible
    with new_database(shared_cluster()) as database:
        async with Product(tmp_path, database=database) as first, Product(tmp_path, database=database) as second:
            await first.client().create("/queues", {"alias": QUEUE})
            async with opened(database) as shop:
                await _torture(shop, (first, second), random)
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    found = await moved(database)
                committed = await shop.committed()

    assert broken_promises(committed, found) == []
    assert {order.customer for order in found} == set(_CUSTOMERS)
    tell(f"{len(found)} orders after {_KILLS} kills of workers: each published once, in order")


async def _torture(shop: Shop, products: tuple[Product, Product], random: Random) -> None:
    stop = asyncio.Event()
    orders = [asyncio.ensure_future(shop.take_orders(name, stop, Random(name))) for name in _CUSTOMERS]  # noqa: S311
    for _ in range(_KILLS):
        await asyncio.sleep(random.uniform(0.2, 1.0))
        victim = random.choice(products)
        await victim.kill()
        await victim.start()
    stop.set()
    await asyncio.gather(*orders)
