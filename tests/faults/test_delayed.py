"""Servers that die while many messages become due: each comes, none comes early, and each stands in the log once."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.client import Client
from tests.faults.logs import Stored, stored_in
from tests.faults.product import Product, running
from tests.faults.receiver import Receiver

_MESSAGES = 800
_BATCH = 100
_FIRST_MS = 1_500
_APART_MS = 8
_RECEIPTS_BEFORE_A_KILL = (20, 150, 150)
_IN_FLIGHT = 25
_LEASE_SECONDS = 2
_LONGEST_SECONDS = 60


def broken(
    due: Mapping[str, int], came: Iterable[tuple[str, float]], stored: Iterable[Stored], repeats: int
) -> Iterator[str]:
    """Yield messages that arrived early, never, or more often than `repeats` allows, or are not in the log once.

    `due` has the due times by message id, in milliseconds; `came` has the receipts.
    """
    receipts = Counter[str]()
    for message, at in came:
        receipts[message] += 1
        if at < due[message]:
            yield f"{message} came {due[message] - at:.0f} ms early"
    places = Counter(each.id for each in stored)
    for message in due:
        if not receipts[message]:
            yield f"{message} never came"
        if places[message] != 1:
            yield f"{message} stands {places[message]} times in the log"
    again = receipts.total() - len(receipts)
    if again > repeats:
        yield f"{again} came again, and {repeats} may"


async def _published(client: Client, queue: str) -> dict[str, int]:
    """When each message is due, by its id: one after another, in an order of their own."""
    first = time.time_ns() // 1_000_000 + _FIRST_MS
    instants = [first + _APART_MS * (number * 7 % _MESSAGES) for number in range(_MESSAGES)]
    due: dict[str, int] = {}
    for start in range(0, _MESSAGES, _BATCH):
        part = instants[start : start + _BATCH]
        messages = [{"data": "x", "deliver_at": instant} for instant in part]
        answer = await client.ask("POST", f"/queues/{queue}/messages/batch", {"messages": messages})
        assert answer.status == 200, answer
        due.update(zip((message["id"] for message in answer.body["messages"]), part, strict=True))
    return due


async def _kill_by_turns(products: list[Product], receiver: Receiver) -> None:
    for number, receipts in enumerate(_RECEIPTS_BEFORE_A_KILL):
        await receiver.until_more(receipts)
        product = products[number % len(products)]
        await product.kill()
        await product.start()


@pytest.mark.torture
async def test_delayed_messages_arrive_once_due_despite_kills(tmp_path: Path, database: str) -> None:
    epoch_ms = (time.time() - time.monotonic()) * 1_000
    async with (
        asyncio.timeout(_LONGEST_SECONDS),
        Receiver() as receiver,
        running(tmp_path, database, lease_seconds=_LEASE_SECONDS, listener_max_in_flight=_IN_FLIGHT) as products,
    ):
        client = products[-1].client()
        queue = await client.queue(receiver.url("steady"))
        due = await _published(client, queue)
        await _kill_by_turns(products, receiver)
        await receiver.until(receiver.has_all(due))
        for product in products:
            assert await product.stop() == 0, "".join(product.lines)
        stored = await stored_in(database)
    came = [(each.message, epoch_ms + each.came_at * 1_000) for each in receiver.delivered]
    assert list(broken(due, came, stored, _IN_FLIGHT * len(_RECEIPTS_BEFORE_A_KILL))) == []


@pytest.mark.parametrize(
    ("came", "places", "sentences"),
    [
        ([("m", 2_000.0)], 1, []),
        ([("m", 1_990.0)], 1, ["m came 10 ms early"]),
        ([], 1, ["m never came"]),
        ([("m", 2_000.0)], 0, ["m stands 0 times in the log"]),
        ([("m", 2_000.0)], 2, ["m stands 2 times in the log"]),
        ([("m", 2_000.0), ("m", 2_001.0), ("m", 2_002.0)], 1, ["2 came again, and 1 may"]),
    ],
)
def test_checker_finds_broken_promises(came: list[tuple[str, float]], places: int, sentences: list[str]) -> None:
    assert list(broken({"m": 2_000}, came, [Stored("q", "m", "x")] * places, 1)) == sentences
