"""Clients that publish without a pause, whatever becomes of the server."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count

import msgspec

from tests.faults.client import Client, Lost, expect_busy
from tests.faults.product import Product

_AGAIN_SECONDS = 0.01

_numbers = count()


class Sent(msgspec.Struct):
    """A publish of one message or of several. Without `ids` no 200 arrived: it is undecided."""

    bodies: tuple[str, ...]
    ids: tuple[str, ...] = ()


class Producers:
    """The publishes to `paths`, each of which takes messages of a queue or a topic."""

    def __init__(self, product: Product, paths: Sequence[str]) -> None:
        self.sent: list[Sent] = []
        self._product = product
        self._paths = paths
        self._confirmed = 0
        self._enough = 0
        self._is_enough = asyncio.Event()

    @property
    def stored(self) -> list[str]:
        """The ids of all messages that were confirmed."""
        return [public_id for sent in self.sent for public_id in sent.ids]

    async def until_more(self, publishes: int) -> None:
        """Wait until so many more were confirmed."""
        self._enough = self._confirmed + publishes
        self._is_enough.clear()
        await self._is_enough.wait()

    async def publish_for_ever(self, number: int, size: int) -> None:
        """Publish to each path in turn, on a connection of its own, and go on when that is lost or refused."""
        client = self._product.client()
        while True:
            number += 1
            await self._product.serving.wait()
            with suppress(Lost):
                await self._publish(client, self._paths[number % len(self._paths)], size)
                continue
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _publish(self, client: Client, path: str, size: int) -> None:
        sent = Sent(tuple(json.dumps({"number": next(_numbers)}) for _ in range(size)))
        self.sent.append(sent)
        if size == 1:
            answer = await client.ask("POST", path, {"data": sent.bodies[0]})
        else:
            answer = await client.ask("POST", f"{path}/batch", {"messages": [{"data": body} for body in sent.bodies]})
        if answer.status != 200:
            expect_busy(answer)
        shown = [answer.body["message"]] if size == 1 else answer.body["messages"]
        sent.ids = tuple(message["id"] for message in shown)
        self._confirmed += 1
        if self._confirmed >= self._enough:
            self._is_enough.set()


@asynccontextmanager
async def producing(product: Product, paths: Sequence[str], sizes: Sequence[int]) -> AsyncIterator[Producers]:
    """Publish while the block runs: one client for each of `sizes`, the number of messages it publishes at once."""
    producers = Producers(product, paths)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(producers.publish_for_ever(*each)) for each in enumerate(sizes)]
        yield producers
        for task in tasks:
            task.cancel()
