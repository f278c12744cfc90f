"""Queues and keys that are made through one worker, used through all the others at once, and deleted again."""

import asyncio
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from tests.faults.client import Client, Lost
from tests.faults.load import Load
from tests.faults.plan import Tenant

_PROBES_APART_SECONDS = 0.1
_PROBES = 25
_REST_SECONDS = 0.5


class Lives:
    """Creates, reads and deletes resources, one task for each organization. The checker judges the responses later."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._recorder = load.recorder

    def tasks(self) -> "list[asyncio.Future[None]]":
        load = self._load
        pairs = zip(load.tenants, [*load.tenants[1:], *load.tenants[:1]], strict=True)
        return [asyncio.ensure_future(load.again_and_again(tenant, self._live, other)) for tenant, other in pairs]

    async def _live(self, client: Client, tenant: Tenant, other: Tenant) -> None:
        """A key is made, makes a queue, sees it go, and is revoked."""
        made = await self._create(client, tenant, "/api_keys", "api_key")
        keyring = self._everybody(made["key"])
        strangers = self._everybody(other.key) if other is not tenant else []
        address = f"/api_keys/{made['id']}"
        try:
            await self._look_everywhere(keyring, address, f"/queues/{tenant.queues[0]}")
            await self._live_of_a_queue(self._load.random.choice(keyring)[1], tenant, keyring, strangers)
            await self._delete(client, address)
            for _ in range(_PROBES):
                await self._look_everywhere(keyring, address, f"/queues/{tenant.queues[0]}")
                await asyncio.sleep(_PROBES_APART_SECONDS)
        finally:
            for _, each in (*keyring, *strangers):
                each.close()
        await asyncio.sleep(_REST_SECONDS)

    async def _live_of_a_queue(
        self, client: Client, tenant: Tenant, keyring: "Sequence[tuple[int, Client]]", strangers: Any
    ) -> None:
        queue = (await self._create(client, tenant, "/queues", "queue"))["id"]
        address = f"/queues/{queue}"
        await self._look_everywhere(keyring, address)
        await self._look_everywhere(strangers, address, stranger=True)
        others = cycle(each for _, each in keyring)
        listener = await self._load.create_listener(next(others), tenant, queue, "steady-brief")
        if listener is not None:
            await self._look_everywhere(keyring, listener)
        for _, each in keyring:
            await self._publish(each, queue)
        for name in self._recorder.listeners_of(queue):
            await self._load.delete_listener(next(others), queue, name)
        await self._delete(next(others), address)
        await self._look_everywhere(keyring, address)
        for _, each in keyring:
            await self._publish(each, queue)

    async def _publish(self, client: Client, queue: str) -> None:
        try:
            await self._load.publish(client, queue)
        except Lost:
            client.close()

    def _everybody(self, key: str) -> list[tuple[int, Client]]:
        return [(worker, self._load.site.client_of(worker, key)) for worker in self._load.site.workers]

    async def _create(self, client: Client, tenant: Tenant, path: str, kind: str) -> dict[str, Any]:
        sent = self._recorder.tick()
        answer = await client.ask("POST", path, {})
        if answer.status != 200:
            self._load.refused(answer, f"/queues/{tenant.queues[0]}")
            raise Lost
        made: dict[str, Any] = answer.body[kind]
        self._recorder.made(f"{path}/{made['id']}", tenant.organization, sent)
        return made

    async def _delete(self, client: Client, address: str) -> None:
        """Raises Lost where it is unknown whether it is gone."""
        self._recorder.removing(address)
        answer = await client.ask("DELETE", address)
        if answer.status != 200:
            self._load.refused(answer, address)
            raise Lost
        self._recorder.removed(address)

    async def _look_everywhere(
        self, clients: "Sequence[tuple[int, Client]]", resource: str, path: str = "", *, stranger: bool = False
    ) -> None:
        """Ask each worker for a resource; for a key, by asking for something else with it."""
        await asyncio.gather(
            *(self._look(client, worker, resource, path, stranger=stranger) for worker, client in clients)
        )

    async def _look(self, client: Client, worker: int, resource: str, path: str, *, stranger: bool) -> None:
        request = self._recorder.requesting(resource, worker, stranger=stranger)
        try:
            answer = await client.ask("GET", path or resource)
        except Lost:
            client.close()
        else:
            # A client that continues with a deleted key is locked out.
            assert answer.status in {200, 401, 403, 404, 503}, answer
            self._recorder.requested(request, answer.status)
