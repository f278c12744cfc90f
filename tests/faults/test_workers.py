"""Several workers on one file: what is published at any of them is delivered, also when one is killed."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import apsw
import pytest

from tests.faults.client import Client, Lost
from tests.faults.producers import Producers, producing
from tests.faults.product import SERVE, Product
from tests.faults.receiver import Receiver

WORKERS = 3
QUEUES = 12
HALTED_SECONDS = 10.0
UNWATCHED = (
    "-c",
    "from discue.store.sqlite import engine; engine._WATCH_SECONDS = 3_600.0; from discue.cli.main import main; main()",
)
SOON_SECONDS = 15.0
"""Far less than the lease that would have to run out."""


def several(folder: Path, command: Sequence[str] = SERVE) -> Product:
    """All workers serve; a lease that nobody ends lasts for as long as the test."""
    return Product(folder, command=command, workers=WORKERS, lease_seconds=60)


def pid_of(product: Product, worker: int) -> int:
    """The process that serves as a worker; the last one that did."""
    events = [json.loads(line) for line in product.lines if '"server_started"' in line]
    return [int(event["pid"]) for event in events if event["worker"] == worker][-1]


async def listened(product: Product, receiver: Receiver) -> list[str]:
    """Queues with a listener each, by whose number it is called."""
    client = product.client()
    queues = [await client.queue() for _ in range(QUEUES)]
    for number, queue in enumerate(queues):
        await client.listener(queue, receiver.url(str(number)))
    return queues


def owners_of_cursors(product: Product) -> int:
    """How many workers deliver something."""
    with closing(apsw.Connection(str(product.database))) as connection:
        [(count,)] = connection.execute("SELECT count(DISTINCT owner) FROM cursor").fetchall()
        return int(str(count))


def received(receiver: Receiver) -> Counter[str]:
    return Counter(delivered.message for delivered in receiver.delivered)


@asynccontextmanager
async def loaded(folder: Path) -> AsyncIterator[tuple[Product, Producers, Receiver]]:
    """Publish while the block runs; then every message that was stored arrives, and the workers end in good order."""
    async with Receiver() as receiver, several(folder) as product:
        paths = [f"/queues/{queue}/messages" for queue in await listened(product, receiver)]
        async with producing(product, paths, [1] * 9) as producers:
            yield product, producers, receiver
        await receiver.until(receiver.has_all(producers.stored), SOON_SECONDS)
        assert await product.stop() == 0


async def test_workers_learn_of_each_others_messages_without_a_poll_or_a_watch(tmp_path: Path) -> None:
    async with Receiver() as receiver, several(tmp_path, UNWATCHED) as product:
        queues = await listened(product, receiver)
        client = product.client()
        before = [await client.publish(queue, "x") for queue in queues]
        await receiver.until(receiver.has_all(before), SOON_SECONDS)
        owners = owners_of_cursors(product)
        started_at = time.monotonic()
        for queue in queues:
            await receiver.until(receiver.has_all([await client.publish(queue, "x")]))
        seconds = time.monotonic() - started_at
    assert owners > 1
    # Each message for another worker's lane would wait for that worker's next poll, which begins as the last one ends.
    assert seconds < QUEUES / WORKERS


async def test_message_published_at_any_worker_is_delivered_once(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (product, producers, receiver):
        await producers.until_more(500)
        await receiver.until(receiver.has_all(producers.stored))
        owners = owners_of_cursors(product)

    assert owners > 1
    assert set(received(receiver).values()) == {1}


@pytest.mark.parametrize("worker", [1, WORKERS])
async def test_another_worker_takes_over_at_once_from_a_killed_one(tmp_path: Path, worker: int) -> None:
    async with Receiver() as receiver, several(tmp_path) as product:
        queues = await listened(product, receiver)
        client = product.client()
        before = [await client.publish(queue, "x") for queue in queues]
        # Then each is delivered for by somebody.
        await receiver.until(receiver.has_all(before), SOON_SECONDS)
        serves_again = product.says('"event":"server_started"')
        os.kill(pid_of(product, worker), signal.SIGKILL)
        published = [await published_once(client, queue) for queue in queues]
        await receiver.until(receiver.has_all(published), SOON_SECONDS)
        assert json.loads(await asyncio.wait_for(serves_again, SOON_SECONDS))["worker"] == worker
        assert await product.stop() == 0


async def published_once(client: Client, queue: str) -> str:
    """Once its worker is gone, a client is with another one."""
    while True:
        with suppress(Lost):
            return await client.publish(queue, "x")


@pytest.mark.torture
async def test_under_load_kills_of_workers_lose_nothing(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (product, producers, _):
        for worker in (1, 2, 3, 1):
            await producers.until_more(100)
            serves_again = product.says('"event":"server_started"')
            os.kill(pid_of(product, worker), signal.SIGKILL)
            await asyncio.wait_for(serves_again, SOON_SECONDS)
        await producers.until_more(100)


@pytest.mark.torture
async def test_a_worker_that_stands_still_holds_up_the_others_for_a_moment_only(tmp_path: Path) -> None:
    """It may have halted in the middle of a commit, and nobody else could ever write again."""
    async with loaded(tmp_path) as (product, producers, _):
        await producers.until_more(100)
        killed = product.says('"event":"worker_killed"')
        os.kill(pid_of(product, 2), signal.SIGSTOP)
        await asyncio.wait_for(killed, HALTED_SECONDS)
        await asyncio.wait_for(producers.until_more(100), SOON_SECONDS)


@pytest.mark.torture
async def test_a_restart_under_load_neither_loses_nor_repeats(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (product, producers, receiver):
        for _ in range(3):
            await producers.until_more(100)
            assert await product.stop() == 0
            await product.start()

    assert set(received(receiver).values()) == {1}


async def test_workers_whose_parent_was_killed_leave_nothing_undone(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (product, producers, receiver):
        await producers.until_more(200)
        await product.kill()
        await product.start()
        await producers.until_more(100)

    assert set(received(receiver).values()) == {1}
