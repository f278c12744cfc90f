"""A queue whose messages are kept for seconds. Some are requested later; at the end, all must be deleted."""

import asyncio
import time
from contextlib import suppress

from tests.faults.client import Client, Lost, expect_busy
from tests.faults.history import MessageRequest
from tests.faults.outages import Outages
from tests.faults.plan import Tenant

_KEPT_SECONDS = 20
_APART_SECONDS = 0.2
_REQUESTS_APART_SECONDS = 2.0


class ShortRetention(Outages):
    """A queue with a short retention in each organization. A task publishes to it and asks for older messages.

    Its listeners settle some messages late: one is down at times, and one has late retries.
    """

    async def prepare(self) -> None:
        for tenant in self._load.tenants:
            client = self._load.site.client(tenant.key)
            queue = await self._load.lay_queue(client, tenant, ("interrupted", "late"), kept_seconds=_KEPT_SECONDS)
            self._recorder.history.short_retention.append(queue)
            self._queues.append((tenant, queue))
            client.close()

    async def finish(self, within_seconds: float) -> None:
        """Wait until all messages are deleted. The checker reports those that remain."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                for tenant, queue in self._queues:
                    client = self._load.site.client(tenant.key)
                    while await self._has_messages_soon(client, queue):
                        pass
                    client.close()

    async def _produce(self, client: Client, _tenant: Tenant, queue: str) -> None:
        choices = self._load.random
        await asyncio.sleep(choices.expovariate(1 / _APART_SECONDS))
        await self._load.publish(client, queue, choices.choice((1, 1, 4)))
        published = choices.choice([*self._recorder.stored_lately(queue)])
        message = choices.choice(published.ids)
        answer = await client.ask("GET", f"/queues/{queue}/messages/{message}")
        if answer.status not in {200, 404}:
            expect_busy(answer)
        request = MessageRequest(published, message, _KEPT_SECONDS, time.monotonic(), answer.status == 200)
        self._recorder.history.message_requests.append(request)

    async def _has_messages_soon(self, client: Client, queue: str) -> bool:
        await asyncio.sleep(_REQUESTS_APART_SECONDS)
        with suppress(Lost):
            answer = await client.ask("GET", f"/queues/{queue}/messages?per_page=1")
            if answer.status != 200:
                expect_busy(answer)
            return bool(answer.body["messages"])
        client.close()
        return True
