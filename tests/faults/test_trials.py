"""The server is killed during the trial of a redelivery, and between the trial and the other messages."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.faults.client import Client
from tests.faults.product import Product
from tests.faults.receiver import Delivered, Receiver
from tests.support.postgres.fixtures import new_database, shared_cluster

_MESSAGES = 12
_TRIAL = 3
_MOST_IN_FLIGHT = 4
_MOMENTS_SECONDS = (0.0, 0.003, 0.01, 0.03)
"""Delays between the last response of the trial and the kill."""


class Endpoint:
    """A listener that fails at first, and then acknowledges; `before` runs before each of these responses."""

    def __init__(self) -> None:
        self.works = False
        self.seen: list[str] = []
        self.reached = asyncio.Event()
        self.wanted = 0
        self.holds = False

    async def respond(self, delivered: Delivered) -> int:
        if not self.works:
            return 500
        self.seen.append(delivered.message)
        if len(self.seen) == self.wanted:
            self.reached.set()
            if self.holds:
                await asyncio.sleep(3_600)
        return 200


async def _missed(client: Client, receiver: Receiver) -> tuple[str, list[str]]:
    """Return the path of a listener that has missed messages, and the ids of the messages."""
    queue = await client.queue()
    options = {"retry": {"attempts": 1}, "max_in_flight": _MOST_IN_FLIGHT}
    listener = await client.listener(queue, receiver.url("tried"), **options)
    ids = [await client.publish(queue, str(number)) for number in range(_MESSAGES)]
    path = f"/queues/{queue}/listeners/{listener}"
    await client.until_shown(path, lambda shown: shown["messages"]["missed_count"] == _MESSAGES)
    return path, ids


def _has_acknowledged_all(shown: Any) -> bool:
    return bool(shown["messages"]["acknowledged_count"] == _MESSAGES)


async def test_kill_after_the_trial_repeats_only_messages_in_flight(tmp_path: Path, engine_name: str) -> None:
    async with AsyncExitStack() as stack:
        settings = {}
        if engine_name == "postgres":
            settings["database"] = stack.enter_context(new_database(shared_cluster()))
        receiver = await stack.enter_async_context(Receiver())
        product = await stack.enter_async_context(Product(tmp_path, **settings))
        for moment in _MOMENTS_SECONDS:
            endpoint = Endpoint()
            receiver.respond = endpoint.respond
            path, ids = await _missed(product.client(), receiver)
            endpoint.works, endpoint.wanted = True, _TRIAL
            made = await product.client().create(f"{path}/redeliveries", {"all": True, "trial": _TRIAL})
            await asyncio.wait_for(endpoint.reached.wait(), 30)
            await asyncio.sleep(moment)
            await product.kill()
            before = [*endpoint.seen]
            await product.start()
            client = product.client()
            await client.until_shown(path, _has_acknowledged_all)
            shown = await client.get(f"{path}/redeliveries/{made['id']}")
            shown = shown["redelivery"]
            assert (shown["state"], shown["tried"]) == ("done", _TRIAL)
            assert before[:_TRIAL] == ids[:_TRIAL]
            counts = Counter(endpoint.seen)
            repeated = [message for message in counts if counts[message] > 1]
            # Each acknowledgement of the trial was stored before the next message was sent.
            assert not {*ids[: _TRIAL - 1]} & {*repeated}
            assert counts.keys() == {*ids}
            assert max(counts.values()) <= 2
            assert len(repeated) <= _MOST_IN_FLIGHT


async def test_kill_during_a_trial_repeats_only_its_message(tmp_path: Path, engine_name: str) -> None:
    async with AsyncExitStack() as stack:
        settings = {}
        if engine_name == "postgres":
            settings["database"] = stack.enter_context(new_database(shared_cluster()))
        endpoint = Endpoint()
        receiver = await stack.enter_async_context(Receiver(endpoint.respond))
        product = await stack.enter_async_context(Product(tmp_path, **settings))
        path, ids = await _missed(product.client(), receiver)
        endpoint.works, endpoint.wanted, endpoint.holds = True, 2, True
        await product.client().create(f"{path}/redeliveries", {"all": True, "trial": _TRIAL})
        await asyncio.wait_for(endpoint.reached.wait(), 30)
        await product.kill()
        assert endpoint.seen == ids[:2]
        await product.start()
        await product.client().until_shown(path, _has_acknowledged_all)
        assert endpoint.seen[: _TRIAL + 1] == [ids[0], ids[1], ids[1], ids[2]]
        assert Counter(endpoint.seen) == Counter([*ids, ids[1]])
