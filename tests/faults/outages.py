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
_REQUESTS_APART_SECONDS = 0.3
_UP_SECONDS = (1.0, 4.0)
_INACTIVE_SECONDS = (2.0, 5.0)
_LONGEST_SECONDS = 15.0


class Outages:
    """A queue of each organization with a listener that is down every few seconds."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._recorder = load.recorder
        self._queues: list[tuple[Tenant, str]] = []

    async def prepare(self) -> None:
        for tenant in self._load.tenants:
            client = self._load.site.client(tenant.key)
            self._queues.append((tenant, await self._load.lay_queue(client, tenant, ("interrupted", "steady"))))
            client.close()

    def tasks(self) -> "list[asyncio.Future[None]]":
        works = [self._load.again_and_again(tenant, self._produce, queue) for tenant, queue in self._queues]
        works += [self._repeat_outages(tenant, queue) for tenant, queue in self._queues]
        return [asyncio.ensure_future(work) for work in works]

    async def _produce(self, client: Client, _tenant: Tenant, queue: str) -> None:
        await asyncio.sleep(self._load.random.expovariate(1 / _APART_SECONDS))
        await self._load.publish(client, queue)

    async def _repeat_outages(self, tenant: Tenant, queue: str) -> None:
        client = self._load.site.client(tenant.key)
        name = self._recorder.listeners_of(queue)[0]
        while True:
            await asyncio.sleep(self._load.random.uniform(*_UP_SECONDS))
            await self._load.awake.wait()
            if not self._load.is_gentle:
                await self._go_down(client, name)

    async def _go_down(self, client: Client, name: str) -> None:
        """Stop the listener until some time after the service shows it as inactive. Then wait for its recovery."""
        until, was_seen = time.monotonic() + _LONGEST_SECONDS, False
        self._load.recovered.clear()
        self._load.down.add(name)
        self._load.interrupted.add(name)
        try:
            while time.monotonic() < until and not self._load.is_gentle:
                if await self._state_soon(client, name) == "inactive" and not was_seen:
                    until, was_seen = time.monotonic() + self._load.random.uniform(*_INACTIVE_SECONDS), True
        finally:
            self._load.down.discard(name)
        while await self._state_soon(client, name) in {"inactive", ""}:
            pass
        self._load.interrupted.discard(name)
        if not self._load.interrupted:
            self._load.recovered.set()

    async def _state_soon(self, client: Client, name: str) -> str:
        """Pause, then read the liveness state of a listener. Returns "" if the service cannot be reached or is busy."""
        await asyncio.sleep(_REQUESTS_APART_SECONDS)
        sent_at, listener = time.monotonic(), self._recorder.history.listeners[name]
        with suppress(Lost):
            answer = await client.ask("GET", f"/queues/{listener.queue}/listeners/{listener.id}")
            if answer.status != 200:
                expect_busy(answer)
            state = str(answer.body["listener"]["liveness"]["state"])
            if state == "inactive":
                self._recorder.history.inactive.append(SeenInactive(name, sent_at, time.monotonic()))
            return state
        client.close()
        return ""
