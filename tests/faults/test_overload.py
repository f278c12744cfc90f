"""More publishes than can be stored: quick answers, bounded memory, and what was answered 200 arrives."""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.client import Answer, Client
from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.faults.test_disk import locked, refused_for_now

MEBIBYTE = 1 << 20
WAITING_BYTES = MEBIBYTE
SMALL, LARGE = 15_000, 40_000
"""Sizes of messages. Large requests take turns before they reach the store."""
CLIENTS = 150
PUBLISHES = 12
# The promise is a second; a machine that is busy with other tests gets more. All publishes at once are six commits'
# worth: were each to wait for the one before it to fail, the last would wait for almost five seconds.
AT_MOST_SECONDS = 4.0
# Of a load that lasts the machine has its share, too: nobody waits for ever.
UNDER_LOAD_SECONDS = 20.0
MOST_MEMORY = 150 * MEBIBYTE


class Timed(NamedTuple):
    answer: Answer
    seconds: float

    @property
    def stored(self) -> list[str]:
        return [self.answer.body["message"]["id"]] if self.answer.status == 200 else []


async def publish(client: Client, queue: str, size: int = SMALL) -> Timed:
    began = time.monotonic()
    answer = await client.ask("POST", f"/queues/{queue}/messages", {"data": "x" * size})
    return Timed(answer, time.monotonic() - began)


def judge(answers: list[Timed], within_seconds: float = AT_MOST_SECONDS) -> list[str]:
    """The ids of what was stored, once it is clear that all were answered soon and well."""
    for timed in answers:
        assert timed.seconds < within_seconds
        if timed.answer.status != 200:
            refused_for_now(timed.answer, "Try again")
    return [message for timed in answers for message in timed.stored]


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_while_the_store_stands_still_the_surplus_is_refused_at_once(tmp_path: Path, size: int) -> None:
    async with Receiver() as receiver, Product(tmp_path, max_waiting_bytes=WAITING_BYTES) as product:
        clients = [product.client() for _ in range(CLIENTS)]
        queue = await clients[0].queue(receiver.url("steady"))
        with locked(product.database):
            publishing = [asyncio.ensure_future(publish(client, queue, size)) for client in clients]
            surplus = 0
            while surplus < CLIENTS // 2:
                await asyncio.wait(publishing, return_when=asyncio.FIRST_COMPLETED)
                surplus = sum(timed.done() for timed in publishing)
        stored = judge(await asyncio.gather(*publishing))
        assert stored, "accepted messages are stored when the store continues"
        await receiver.until(lambda: len(set(receiver.messages("steady"))) == len(stored))
        assert set(receiver.messages("steady")) == set(stored)
        assert await product.stop() == 0


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_while_another_program_holds_the_store_nobody_waits_for_others_to_be_refused(
    tmp_path: Path, size: int
) -> None:
    """Many commits' worth waits; the first one that fails answers for all."""
    async with Product(tmp_path) as product:
        clients = [product.client() for _ in range(CLIENTS)]
        queue = await clients[0].queue()
        with locked(product.database):
            answers = await asyncio.gather(*(publish(client, queue, size) for client in clients))
        assert judge(answers) == []


@pytest.mark.torture
async def test_under_lasting_overload_memory_is_bounded_and_everything_confirmed_arrives(tmp_path: Path) -> None:
    async with Receiver() as receiver, Product(tmp_path, max_waiting_bytes=WAITING_BYTES) as product:
        clients = [product.client() for _ in range(CLIENTS)]
        queue = await clients[0].queue(receiver.url("steady"))
        memory_before, largest = product.resident_bytes, 0
        answers: list[Timed] = []

        async def load(client: Client) -> None:
            nonlocal largest
            for _ in range(PUBLISHES):
                answers.append(await publish(client, queue))
                largest = max(largest, product.resident_bytes)

        await asyncio.gather(*(load(client) for client in clients))
        stored = judge(answers, UNDER_LOAD_SECONDS)
        assert 0 < len(stored) < len(answers), "some were stored, and it was too much"
        await receiver.until(lambda: len(set(receiver.messages("steady"))) >= len(stored))
        assert set(receiver.messages("steady")) == set(stored)
        assert largest - memory_before < MOST_MEMORY
        print(len(stored), len(answers), largest - memory_before, max(t.seconds for t in answers))
        assert await product.stop() == 0
