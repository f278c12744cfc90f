"""Messages are published to a topic with two queues: to both, by a type that both channels take, or to one."""

import asyncio
from collections.abc import Sequence
from itertools import count

from tests.faults.client import Client
from tests.faults.load import Load, body_of
from tests.faults.plan import Tenant

_APART_SECONDS = 0.2
_PATTERNS = (None, "both.>")
"""Patterns of the channels: the first channel takes everything."""
_SIZES = (1, 1, 3)
_ALONE_SHARE = 0.25


class Topics:
    """A topic of each organization, and a task that publishes to it, and at times to one of its queues alone."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._recorder = load.recorder
        self._numbers = count()
        self._topics: list[tuple[Tenant, str, list[str]]] = []

    async def prepare(self) -> None:
        for tenant in self._load.tenants:
            client = self._load.site.client(tenant.key)
            topic = str((await client.create("/topics", {}))["id"])
            alone = await self._load.lay_queue(client, tenant, ("steady",))
            # A body that is deleted with its message in one queue is still needed in the other.
            queues = [alone, tenant.trimmed or await self._load.lay_queue(client, tenant, ("steady",))]
            for queue, pattern in zip(queues, _PATTERNS, strict=True):
                await client.create(f"/topics/{topic}/channels", {"queue_id": queue, "pattern": pattern})
            self._topics.append((tenant, topic, queues))
            client.close()

    def tasks(self) -> "list[asyncio.Future[None]]":
        works = [self._load.again_and_again(tenant, self._produce, of) for tenant, *of in self._topics]
        return [asyncio.ensure_future(work) for work in works]

    async def _produce(self, client: Client, tenant: Tenant, of: tuple[str, list[str]]) -> None:
        topic, queues = of
        choices = self._load.random
        await asyncio.sleep(choices.expovariate(1 / _APART_SECONDS))
        if choices.random() < _ALONE_SHARE:
            await self._load.publish(client, choices.choice(queues))
        else:
            await self._publish(client, topic, choices.choice((queues, queues[:1])))

    async def _publish(self, client: Client, topic: str, routes: Sequence[str]) -> None:
        bodies = [body_of(next(self._load.numbers)) for _ in range(self._load.random.choice(_SIZES))]
        event_type = f"both.{next(self._numbers)}" if len(routes) > 1 else "one"
        copies = [self._recorder.sending(queue, bodies, routes=routes) for queue in routes]
        messages = [{"data": body, "type": event_type} for body in bodies]
        answer = await client.ask("POST", f"/topics/{topic}/messages/batch", {"messages": messages})
        if answer.status != 200:
            self._load.refused(answer, f"/queues/{routes[0]}")
            return
        for copy in copies:
            self._recorder.stored(copy, [message["id"] for message in answer.body["messages"]])
