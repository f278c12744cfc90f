"""Organizations with their queues, producers, listeners that come and go, and keys that are made and revoked."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Protocol
from zlib import crc32

import msgspec

from tests.faults.client import KEY, Answer, Client, Lost
from tests.faults.receiver import Delivered
from tests.faults.recorder import Recorder

_SLOW_SECONDS = 0.02
_STRAGGLER_SECONDS = 3.0
_STRAGGLERS = 60
_FLAKY_SHARE = 12
_EVENTS_OF_A_LIFE = 400
_AGAIN_SECONDS = 0.05
_OPERATOR = "the operator"
_REFUSED = {401, 404}


class Site(Protocol):
    """What serves: one worker or several."""

    @property
    def serving(self) -> asyncio.Event:
        """Set while somebody does."""
        ...

    @property
    def workers(self) -> Sequence[int]: ...

    def client(self, key: str = KEY) -> Client:
        """Of whatever worker serves when it connects."""
        ...

    def client_of(self, worker: int, key: str = KEY) -> Client: ...

    def worker_at(self, source: str) -> int:
        """The worker that sends from an address."""
        ...


class LoadPlan(msgspec.Struct, frozen=True):
    """How much of everything. With a `pause_seconds`, each producer waits about so long before each message."""

    organizations: int = 0
    queues: int = 3
    producers: int = 12
    batch_producers: int = 3
    listeners: tuple[str, ...] = ("steady", "slow", "flaky")
    pause_seconds: float = 0.0
    brief_listeners: int = 3


class Tenant(msgspec.Struct):
    """An organization, a key of it that may do everything, and its queues."""

    organization: str
    key: str
    queues: list[str] = []


class Load:
    """Everybody who uses the service, and what listeners answer."""

    def __init__(self, plan: LoadPlan, site: Site, recorder: Recorder, choices: random.Random) -> None:
        self.recorder = recorder
        self.site = site
        self.random = choices
        self.tenants: list[Tenant] = []
        self.numbers = count(1)
        self.is_gentle = False
        """While it is, no listener fails a message."""
        self._plan = plan
        self._failed: set[tuple[str, str]] = set()
        self._url: Callable[[str], str] = str

    async def respond(self, delivered: Delivered) -> int:
        """Each listener in its own way, by its name: slow, or very slow with a few, or failing a part at first."""
        status = 200
        if delivered.path.startswith("slow"):
            await asyncio.sleep(_SLOW_SECONDS)
        elif delivered.path.startswith("straggling"):
            await asyncio.sleep(_STRAGGLER_SECONDS if _is_one_of(_STRAGGLERS, delivered) else 0)
        elif self._fails(delivered):
            status = 500
        self.recorder.received(delivered, status, self.site.worker_at(delivered.source))
        return status

    def _fails(self, delivered: Delivered) -> bool:
        """Whether this is the first receipt of a message that a flaky listener fails at first."""
        if not delivered.path.startswith("flaky") or not _is_one_of(_FLAKY_SHARE, delivered):
            return False
        first = (delivered.path, delivered.message)
        fails = first not in self._failed and not self.is_gentle
        self._failed.add(first)
        return fails

    async def prepare(self, url: Callable[[str], str]) -> None:
        """Lay everything out, before anything fails."""
        self._url = url
        self.tenants = [Tenant(_OPERATOR, KEY)] if not self._plan.organizations else []
        for number in range(self._plan.organizations):
            await self._found(f"com.example.tenant{number}")
        for tenant in self.tenants:
            client = self.site.client(tenant.key)
            for _ in range(self._plan.queues):
                await self._lay_queue(client, tenant)
            client.close()

    async def _found(self, alias: str) -> None:
        client = self.site.client()
        answer = await client.ask("POST", "/organizations", {"alias": alias})
        assert answer.status == 200, answer
        self.tenants.append(Tenant(answer.body["organization"]["id"], answer.body["api_key"]["key"]))
        client.close()

    async def _lay_queue(self, client: Client, tenant: Tenant) -> None:
        sent = self.recorder.tick()
        queue = await client.queue()
        self.recorder.made(f"/queues/{queue}", tenant.organization, sent)
        tenant.queues.append(queue)
        for kind in self._plan.listeners:
            await self.create_listener(client, tenant, queue, kind)

    def tasks(self) -> "list[asyncio.Future[None]]":
        """Everybody begins, and goes on until cancelled. What ends with an exception found something wrong."""
        sizes = [1] * self._plan.producers + [20] * self._plan.batch_producers
        works = [self.again_and_again(tenant, self._produce, size) for tenant in self.tenants for size in sizes]
        for tenant in self.tenants:
            works += [self.again_and_again(tenant, self._come_and_go, queue) for queue in tenant.queues]
        return [asyncio.ensure_future(work) for work in works]

    async def again_and_again(
        self, tenant: Tenant, work: Callable[..., Coroutine[Any, Any, None]], argument: object
    ) -> None:
        """Do something whenever somebody serves and not much is owed."""
        client = self.site.client(tenant.key)
        try:
            while True:
                await self.site.serving.wait()
                await self.recorder.room.wait()
                await self._once(client, work(client, tenant, argument))
        finally:
            client.close()

    async def _once(self, client: Client, work: Coroutine[Any, Any, None]) -> None:
        with suppress(Lost):
            await work
            return
        client.close()
        await asyncio.sleep(_AGAIN_SECONDS)

    async def _produce(self, client: Client, tenant: Tenant, size: int) -> None:
        if self._plan.pause_seconds:
            pause_seconds = self._plan.pause_seconds * (1 + size // 2)
            await asyncio.sleep(self.random.expovariate(1 / pause_seconds))
        await self.publish(client, self.random.choice(tenant.queues), size)

    async def publish(self, client: Client, queue: str, size: int = 1) -> None:
        """Raises Lost where the answer says that another worker may do better."""
        bodies = [f'{{"number": {next(self.numbers)}, "filling": "{"ä" * 60}"}}' for _ in range(size)]
        published = self.recorder.sending(queue, bodies)
        messages = [{"data": body} for body in bodies]
        if size == 1:
            answer = await client.ask("POST", f"/queues/{queue}/messages", messages[0])
        else:
            answer = await client.ask("POST", f"/queues/{queue}/messages/batch", {"messages": messages})
        if answer.status == 200:
            shown = [answer.body["message"]] if size == 1 else answer.body["messages"]
            self.recorder.stored(published, [message["id"] for message in shown])
        else:
            self.refused(answer, f"/queues/{queue}")

    async def _come_and_go(self, client: Client, tenant: Tenant, queue: str) -> None:
        """A few listeners live for a while; the oldest makes room for another one."""
        await self.recorder.until_more(_EVENTS_OF_A_LIFE)
        await self.create_listener(client, tenant, queue, self.random.choice(("steady-brief", "slow-brief")))
        mine = [name for name in self.recorder.listeners_of(queue) if "brief" in name]
        if len(mine) >= self._plan.brief_listeners:
            await self.delete_listener(client, queue, mine[0])

    async def create_listener(self, client: Client, tenant: Tenant, queue: str, kind: str) -> str | None:
        """Its address in the API; None if it is not known whether there is one."""
        name = f"{kind}-{next(self.numbers)}"
        listener = self.recorder.creating(name, queue)
        url = self._url(name)
        answer = await client.ask("POST", f"/queues/{queue}/listeners", {"notify_url": url, "liveness_url": url})
        if answer.status != 200:
            self.refused(answer, f"/queues/{queue}")
            return None
        created = answer.body["listener"]
        self.recorder.created(listener, created["id"], created["secret"])
        address = f"/queues/{queue}/listeners/{created['id']}"
        self.recorder.made(address, tenant.organization, listener.sent)
        return address

    def refused(self, answer: Answer, resource: str) -> None:
        """What was asked of a resource was not done: the verdict knows whether that was right.

        Raises Lost when the worker is not able to at the moment, so that another one is asked.
        """
        if answer.status in _REFUSED:
            self.recorder.looked(self.recorder.looking(resource, -1), answer.status)
        else:
            expect_busy(answer)

    async def delete_listener(self, client: Client, queue: str, name: str) -> None:
        public_id = self.recorder.history.listeners[name].id
        address = f"/queues/{queue}/listeners/{public_id}"
        self.recorder.deleting(name)
        self.recorder.removing(address)
        answer = await client.ask("DELETE", address)
        if answer.status == 200:
            self.recorder.deleted(name)
            self.recorder.removed(address)
        else:
            self.refused(answer, address)


def _is_one_of(many: int, delivered: Delivered) -> bool:
    """The same for each attempt."""
    return crc32(delivered.message.encode()) % many == 0


def expect_busy(answer: Answer) -> None:
    """A worker may say that it cannot at the moment, and when to come again. Raises Lost, so that another is asked."""
    assert answer.status == 503, answer
    assert "retry-after" in answer.headers, answer
    raise Lost
