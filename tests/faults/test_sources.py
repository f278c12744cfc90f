"""The server is killed while providers send webhooks and repeat what was not confirmed."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import httpx
import pytest

from discue.testing import provider_headers
from tests.faults.conftest import Tell
from tests.faults.product import Product
from tests.support.postgres.fixtures import new_database, shared_cluster

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_KILLS = 8
_PROVIDERS = 4
_REPETITIONS = 2


@pytest.mark.torture
async def test_confirmed_request_is_stored_once_per_event_id(tmp_path: Path, engine_name: str, tell: Tell) -> None:
    random, stop, confirmed = Random(17), asyncio.Event(), Counter[str]()  # noqa: S311 - reproducible
    async with AsyncExitStack() as stack:
        settings = {}
        if engine_name == "postgres":
            settings["database"] = stack.enter_context(new_database(shared_cluster()))
        product = await stack.enter_async_context(Product(tmp_path, **settings))
        owner = product.client()
        await owner.create("/queues", {"alias": "payments"})
        source = await owner.create("/sources", {"provider": "stripe", "queue_id": "payments", "secrets": [SECRET]})
        senders = [
            asyncio.ensure_future(_send(product, str(source["id"]), f"evt_{number}", confirmed, stop))
            for number in range(_PROVIDERS)
        ]
        for _ in range(_KILLS):
            await asyncio.sleep(random.uniform(0.3, 1.0))
            await product.kill()
            await product.start()
        stop.set()
        await asyncio.gather(*senders)
        stored = await _stored(product)

    assert {event for event, count in stored.items() if count != 1} == set()
    assert set(confirmed) <= set(stored)
    assert min(confirmed.values()) >= 1
    tell(f"{len(confirmed)} events confirmed {confirmed.total()} times over {_KILLS} kills: each stored once")


async def _send(product: Product, source: str, prefix: str, confirmed: Counter[str], stop: asyncio.Event) -> None:
    """Send events until stopped, and repeat each until it is confirmed several times, like a provider that retries."""
    number = 0
    async with httpx.AsyncClient(trust_env=False) as client:
        while not stop.is_set():
            number += 1
            event = f"{prefix}_{number}"
            body = json.dumps({"id": event, "type": "invoice.paid"}).encode()
            before = confirmed[event]
            while confirmed[event] < before + _REPETITIONS:
                await product.serving.wait()
                headers = provider_headers("stripe", body, SECRET)
                try:
                    answer = await client.post(
                        f"http://127.0.0.1:{product.port}/in/{source}", content=body, headers=headers
                    )
                except httpx.TransportError:
                    continue
                # 503: an earlier request for this event may still be committing, or the server is starting.
                assert answer.status_code in {200, 503}, answer.text
                confirmed[event] += answer.status_code == 200


async def _stored(product: Product) -> Counter[str]:
    """Return how many messages have each event."""
    path, found = "/queues/payments/messages?data=true&per_page=100", Counter[str]()
    async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{product.port}/v1") as client:
        while path:
            answer = (await client.get(path, headers={"x-api-key": product.client()._key})).json()
            found.update(each["data"]["id"] for each in answer["messages"])
            path = answer["_links"].get("next", {}).get("href", "").partition("/v1")[2]
    return found
