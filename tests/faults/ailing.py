"""Listeners that are down for a while: they answer neither deliveries nor probes, so that they become inactive."""

import asyncio
import time
from contextlib import suppress

from tests.faults.client import Client, Lost, expect_busy
from tests.faults.history import SeenInactive
from tests.faults.load import Load
from tests.faults.plan import Tenant

PROBES_APART_SECONDS = 1
_APART_SECONDS = 0.2
_LOOKS_APART_SECONDS = 0.3
_WELL_SECONDS = (1.0, 4.0)
_DOWN_SECONDS = (4.0, 9.0)
"""Three probes fail within the shortest."""


class Ailing:
    """A queue of each organization with a listener that is down every few seconds."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._recorder = load.recorder
        self._queues: list[tuple[Tenant, str]] = []

    async def prepare(self) -> None:
        for tenant in self._load.tenants:
            client = self._load.site.client(tenant.key)
            self._queues.append((tenant, await self._load.lay_queue(client, tenant, ("ailing", "steady"))))
            client.close()

    def tasks(self) -> "list[asyncio.Future[None]]":
        works = [self._load.again_and_again(tenant, self._produce, queue) for tenant, queue in self._queues]
        works += [self._fall_ill_again_and_again(tenant, queue) for tenant, queue in self._queues]
        return [asyncio.ensure_future(work) for work in works]

    async def _produce(self, client: Client, _tenant: Tenant, queue: str) -> None:
        await asyncio.sleep(self._load.random.expovariate(1 / _APART_SECONDS))
        await self._load.publish(client, queue)

    async def _fall_ill_again_and_again(self, tenant: Tenant, queue: str) -> None:
        client = self._load.site.client(tenant.key)
        name = self._recorder.listeners_of(queue)[0]
        while True:
            await asyncio.sleep(self._load.random.uniform(*_WELL_SECONDS))
            if not self._load.is_gentle:
                await self._fall_ill(client, name)

    async def _fall_ill(self, client: Client, name: str) -> None:
        """Be down, and then up until the service does not call it inactive any more."""
        down_until = time.monotonic() + self._load.random.uniform(*_DOWN_SECONDS)
        self._load.recovered.clear()
        self._load.down.add(name)
        self._load.unwell.add(name)
        try:
            while time.monotonic() < down_until and not self._load.is_gentle:
                await self._is_active_soon(client, name)
        finally:
            self._load.down.discard(name)
        while not await self._is_active_soon(client, name):
            pass
        self._load.unwell.discard(name)
        if not self._load.unwell:
            self._load.recovered.set()

    async def _is_active_soon(self, client: Client, name: str) -> bool:
        """Look at it in a moment. Returns whether it is shown, and not as inactive."""
        await asyncio.sleep(_LOOKS_APART_SECONDS)
        sent_at, listener = time.monotonic(), self._recorder.history.listeners[name]
        with suppress(Lost):
            answer = await client.ask("GET", f"/queues/{listener.queue}/listeners/{listener.id}")
            if answer.status != 200:
                expect_busy(answer)
            if answer.body["listener"]["liveness"]["state"] != "inactive":
                return True
            self._recorder.history.inactive.append(SeenInactive(name, sent_at, time.monotonic()))
            return False
        client.close()
        return False
