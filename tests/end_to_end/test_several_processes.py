"""Several processes on one PostgreSQL database are one installation."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.caller import calling
from tests.end_to_end.test_story import bodies, listener_of
from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.support.databases import new_database

# The promise is a second; a machine that is busy with other tests gets more.
_SOON_SECONDS = 10.0


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request, "postgres", tmp_path) as address:
        yield address


async def test_resource_created_through_one_process_works_through_all_at_once(tmp_path: Path, database: str) -> None:
    async with (
        Receiver() as receiver,
        Product(tmp_path, database=database) as first,
        Product(tmp_path, database=database) as second,
        calling(first) as here,
        calling(second) as there,
    ):
        queue = (await here.create("/queues"))["id"]
        await listener_of(there, queue, receiver.url("listener"))
        key = await there.create("/api_keys", scopes={"messages": {"access": "write"}})
        for caller in (here, there):
            await caller.with_key(key["key"]).create(f"/queues/{queue}/messages", data="x")
        await receiver.until(lambda: len(receiver.delivered) == 2)
        assert (await here.ask("DELETE", f"/api_keys/{key['id']}")).status_code == 200
        await there.with_key(key["key"]).until_status("/queues", 401)


async def test_lockout_by_one_process_holds_in_the_others_soon(tmp_path: Path, database: str) -> None:
    async with (
        Product(tmp_path, database=database) as first,
        Product(tmp_path, database=database) as second,
        calling(first) as here,
        calling(second) as there,
    ):
        for caller in (here, there, here, there, here):
            assert (await caller.with_key("dsk_" + "0" * 53).ask("GET", "/queues")).status_code == 401
        assert (await here.ask("GET", "/queues")).status_code == 403
        async with asyncio.timeout(_SOON_SECONDS):
            await there.until_status("/queues", 403)


async def test_the_next_process_goes_on_where_one_was_killed(tmp_path: Path, database: str) -> None:
    settings: dict[str, Any] = {"database": database, "lease_seconds": 2}
    async with Receiver() as receiver, Product(tmp_path, **settings) as first, calling(first) as operator:
        queue = (await operator.create("/queues"))["id"]
        await listener_of(operator, queue, receiver.url("listener"))
        await operator.create(f"/queues/{queue}/messages", data="before")
        await receiver.until(lambda: len(receiver.delivered) == 1)
        async with Product(tmp_path, **settings) as second, calling(second) as there:
            await first.kill()
            await there.create(f"/queues/{queue}/messages", data="after")
            await receiver.until(lambda: "after" in bodies(receiver, "listener"))


async def test_a_lease_outlives_the_process_that_was_asked_for_it(tmp_path: Path, database: str) -> None:
    async with (
        Product(tmp_path, database=database, role="api") as first,
        Product(tmp_path, database=database) as second,
        calling(first) as here,
        calling(second) as there,
    ):
        queue = (await there.create("/queues"))["id"]
        made = await there.create(f"/queues/{queue}/listeners", mode="pull", lease_seconds=600)
        place = f"/queues/{queue}/listeners/{made['id']}"
        waiting = asyncio.get_running_loop().create_task(here.get(f"{place}/messages?wait=20"))
        published = await there.create(f"/queues/{queue}/messages", data="x")
        (pulled,) = (await waiting)["messages"]
        await first.kill()
        assert pulled["id"] == published["id"]
        assert (await there.get(f"{place}/messages"))["messages"] == []
        answer = await there.ask("POST", f"{place}/acknowledgements", {"acknowledge": [pulled["receipt"]]})
        assert [each["state"] for each in answer.json()["receipts"]] == ["acknowledged"]
        assert (await there.get(place))["listener"]["messages"]["acknowledged_count"] == 1
