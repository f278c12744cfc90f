"""Several processes on one PostgreSQL database are one installation."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.client import KEY
from tests.faults.product import Product
from tests.faults.receiver import Receiver

# The promise is a second; a machine that is busy with other tests gets more.
_SOON_SECONDS = 10.0


pytestmark = pytest.mark.parametrize("engine_name", ["postgres"])


async def test_resource_created_through_one_process_works_through_all_at_once(tmp_path: Path, database: str) -> None:
    async with (
        Receiver() as receiver,
        Product(tmp_path, database=database) as first,
        Product(tmp_path, database=database) as second,
    ):
        here, there = first.client(), second.client()
        queue = await here.queue()
        await there.listener(queue, receiver.url("listener"))
        key = await there.create("/api_keys", {"scopes": {"messages": {"access": "write"}}})
        holders = [product.client(key["key"]) for product in (first, second)]
        for holder in holders:
            await holder.publish(queue, "x")
        await receiver.until(lambda: len(receiver.delivered) == 2)
        assert (await here.ask("DELETE", f"/api_keys/{key['id']}")).status == 200
        async with asyncio.timeout(_SOON_SECONDS):
            await holders[1].until("/queues", 401)
        assert (await holders[1].ask("POST", f"/queues/{queue}/messages", {"data": "no"})).status == 401


async def test_lockout_by_one_process_holds_in_the_others_soon(tmp_path: Path, database: str) -> None:
    async with (
        Product(tmp_path, database=database) as first,
        Product(tmp_path, database=database) as second,
    ):
        for product in (first, second, first, second, first):
            guessing = product.client(f"{KEY}0", address="127.0.0.1")
            assert (await guessing.ask("GET", "/queues")).status == 401
        assert (await first.client(address="127.0.0.1").ask("GET", "/queues")).status == 403
        async with asyncio.timeout(_SOON_SECONDS):
            await second.client(address="127.0.0.1").until("/queues", 403)
        assert (await second.client(address="127.0.0.2").ask("GET", "/queues")).status == 200


async def test_a_lease_outlives_the_process_that_was_asked_for_it(tmp_path: Path, database: str) -> None:
    async with (
        Product(tmp_path, database=database, role="api") as first,
        Product(tmp_path, database=database) as second,
    ):
        here, there = first.client(), second.client()
        queue = await there.queue()
        made = await there.create(f"/queues/{queue}/listeners", {"mode": "pull", "lease_seconds": 600})
        place = f"/queues/{queue}/listeners/{made['id']}"
        waiting = asyncio.get_running_loop().create_task(here.get(f"{place}/messages?wait=20"))
        published = await there.publish(queue, "x")
        (pulled,) = (await waiting)["messages"]
        await first.kill()
        assert pulled["id"] == published
        assert (await there.get(f"{place}/messages"))["messages"] == []
        answer = await there.ask("POST", f"{place}/acknowledgements", {"acknowledge": [pulled["receipt"]]})
        assert [each["state"] for each in answer.body["receipts"]] == ["acknowledged"]
        assert (await there.get(place))["listener"]["messages"]["acknowledged_count"] == 1
