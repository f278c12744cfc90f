"""A server is killed during an erasure, and the next one finishes it. Backups contain no byte of erased messages."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.client import Client, Lost
from tests.faults.conftest import Tell
from tests.faults.product import Product
from tests.faults.receiver import Delivered, Receiver
from tests.faults.test_backup import command
from tests.support.postgres.fixtures import new_database, shared_cluster

KEY = "customer-7"
_MESSAGES = 3_000
_BATCH = 1_000
_KILLED_AFTER_SECONDS = (0.01, 0.02, 0.04, 0.08)
_SECRETS = (b"a secret body", b"a secret header", b"a-secret-alias")


async def _published(client: Client, queue: str, count: int, **fields: object) -> None:
    for start in range(0, count, _BATCH):
        batch = [{"data": f"a secret body {n}" * 20, **fields} for n in range(start, min(start + _BATCH, count))]
        await client.post(f"/queues/{queue}/messages/batch", {"messages": batch})


async def _erasures(client: Client, queue: str) -> Sequence[dict[str, object]]:
    found: list[dict[str, object]] = (await client.get(f"/queues/{queue}/erasures"))["erasures"]
    return found


async def test_killed_erasure_is_finished_by_the_next_server(tmp_path: Path, engine_name: str, tell: Tell) -> None:
    resumed = 0
    async with AsyncExitStack() as stack:
        settings = {}
        if engine_name == "postgres":
            settings["database"] = stack.enter_context(new_database(shared_cluster()))
        product = await stack.enter_async_context(Product(tmp_path, **settings))
        client = product.client()
        for seconds in _KILLED_AFTER_SECONDS:
            queue = await client.queue()
            await _published(client, queue, _MESSAGES, key=KEY)
            await client.create(f"/queues/{queue}/messages", {"data": "kept", "key": "customer-8"})
            request = asyncio.ensure_future(client.ask("POST", f"/queues/{queue}/erasures", {"key": KEY}))
            await asyncio.sleep(seconds)
            await product.kill()
            try:
                is_answered = (await request).status == 200
            except Lost:
                is_answered = False
            await product.start()
            begun = await _erasures(client, queue)
            assert begun or not is_answered
            for erasure in begun:
                async with asyncio.timeout(20):
                    path = f"/queues/{queue}/erasures/{erasure['id']}"
                    ended = await client.until_shown(path, lambda shown: shown["state"] == "done")
                assert ended["erased"] == _MESSAGES
                left = (await client.get(f"/queues/{queue}/messages"))["messages"]
                assert [message["key"] for message in left] == ["customer-8"]
                resumed += not is_answered
    tell(f"{resumed} of {len(_KILLED_AFTER_SECONDS)} erasures were finished after a kill")
    assert resumed


async def test_backup_has_no_byte_of_an_erased_message(tmp_path: Path) -> None:
    async def refuse(_delivered: Delivered) -> int:
        return 500

    (tmp_path / "backups").mkdir()
    async with Receiver(refuse) as receiver, Product(tmp_path, attempt_details="all") as product:
        client, secret = product.client(), {"key": KEY, "headers": {"name": "a secret header"}}
        queue = await client.queue()
        listener = await client.listener(queue, receiver.url("steady"), retry=[3_600])
        await client.create(f"/queues/{queue}/messages", {"data": "a secret body", "alias": "a-secret-alias", **secret})
        await _published(client, queue, 60, **secret)
        await _published(client, queue, 60, delay=3_600, **secret)
        async with asyncio.timeout(30):
            # No attempt is in flight: its record would be erased only later.
            await client.until_shown(
                f"/queues/{queue}/listeners/{listener}/attempts?per_page=100", lambda shown: len(shown) == 61
            )
        erasure = await client.create(f"/queues/{queue}/erasures", {"key": KEY})
        assert (erasure["erased"], erasure["delivered"]) == (121, [{"listener": listener, "count": 61}])
        assert await product.stop() == 0
        await command("backup", str(tmp_path / "backups"), "--database", f"sqlite:///{product.database}")
        await command("restore", str(tmp_path / "backups"), "--to", str(tmp_path / "restored.db"))
    content = (tmp_path / "restored.db").read_bytes()
    assert [text for text in _SECRETS if text in content] == []
    assert [text for text in _SECRETS if text in product.database.read_bytes()] != []
