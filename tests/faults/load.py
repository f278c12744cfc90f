"""Organizations with their queues, producers, listeners that come and go, and keys that are made and revoked."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from typing import Any
from zlib import crc32

from tests.faults.client import KEY, Answer, Client, Lost, expect_busy
from tests.faults.consumers import CONSUMERS, Consumers
from tests.faults.history import DeliveryOptions, Probe, Published, Rate
from tests.faults.inboxes import Application
from tests.faults.plan import LoadPlan, Site, Tenant
from tests.faults.receiver import HANG_UP, Delivered
from tests.faults.recorder import Recorder

_SLOW_SECONDS = 0.02
_STRAGGLER_SECONDS = 3.0
_STRAGGLERS = 60
_FLAKY_SHARE = 12
_ABRUPT_SHARE = 24
_EVENTS_OF_A_LIFE = 400
_AGAIN_SECONDS = 0.05
_OPERATOR = "the operator"
_REFUSED = {401, 404}
_ORDERED_LISTENERS = ("ordered", "ordered")
_OFTEN = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4]
_FAILURES = 2
_AILING_RETRY_SECONDS = 1
_LATE_RETRY_SECONDS = 45
_DOWN = 503
_PROBED = ("interrupted", "steady")
"""Kinds of listeners with a liveness URL."""
_SORTS = "abc"
_KEYS = ("", "a", "b", "c", "d", "e")
_KEYED_APART_SECONDS = 0.2
_EXPIRING_SHARE = 0.25
_LIFE_SECONDS = 2.0
_RATE = Rate(per_second=4.0, burst=40)
_BURST = 80
_BATCH = 20
_BURSTS_APART_SECONDS = 26.0
_REQUESTS_APART_SECONDS = 0.2


class Load:
    """Everybody who uses the service, and what listeners answer."""

    def __init__(self, plan: LoadPlan, site: Site, recorder: Recorder, choices: random.Random) -> None:
        self.recorder = recorder
        self.site = site
        self.random = choices
        self.tenants: list[Tenant] = []
        self.numbers = count(1)
        self.is_gentle = False
        """While it is, no listener fails a message, none falls ill, and consumers acknowledge all they get."""
        self.down: set[str] = set()
        """The listeners that are down, by name."""
        self.interrupted: set[str] = set()
        """Listeners that are down, or were down and may still be `inactive` for the service."""
        self.recovered = asyncio.Event()
        """Set while no listener is interrupted."""
        self.recovered.set()
        self.awake = asyncio.Event()
        """Set while users do something: in the fault tests always."""
        self.awake.set()
        self.plan = plan
        self._application = Application(recorder.history)
        self._tried: Counter[tuple[str, str, str]] = Counter()
        self._url: Callable[[str], str] = str
        self._consumers: list[tuple[Tenant, Consumers]] = []

    async def respond(self, delivered: Delivered) -> int:
        """Each listener in its own way, by its name: slow, or very slow with a few, or failing a part at first.

        Half of the failures are connections that end after the request was read, without a response.
        """
        status = 200
        if delivered.path in self.down:
            status = _DOWN
        elif delivered.path.startswith("slow"):
            await asyncio.sleep(_SLOW_SECONDS)
        elif delivered.path.startswith("straggling"):
            await asyncio.sleep(_STRAGGLER_SECONDS if _is_one_of(_STRAGGLERS, delivered) else 0)
        elif delivered.path.startswith("once"):
            status = self._application.handle(delivered, is_gentle=self.is_gentle)
        elif self._fails(delivered):
            status = HANG_UP if _is_one_of(_ABRUPT_SHARE, delivered) else 500
        self.recorder.received(delivered, status, self.site.worker_at(delivered.source))
        return status

    def probed(self, name: str) -> int:
        """Answer a liveness probe."""
        is_alive = name not in self.down
        if name.startswith("interrupted"):
            self.recorder.history.probes.append(Probe(name, time.monotonic(), is_alive))
        return 200 if is_alive else _DOWN

    def _fails(self, delivered: Delivered) -> bool:
        """Whether this is one of the first attempts, or of those in a replay, that a listener fails for a message.

        Ordered listeners fail twice, so that what is behind a message waits for seconds, and expires.
        """
        kinds = {"flaky": 1, "late": 1, "lossy": 1, "paced": 1, "ordered": _FAILURES}
        most = kinds.get(delivered.path.partition("-")[0], 0)
        if not most or not _is_one_of(_FLAKY_SHARE, delivered):
            return False
        tried = (delivered.path, delivered.message, delivered.headers.get("discue-replay", ""))
        self._tried[tried] += 1
        return self._tried[tried] <= most and not self.is_gentle

    async def prepare(self, url: Callable[[str], str]) -> None:
        """Lay everything out, before anything fails."""
        self._url = url
        self.tenants = [Tenant(_OPERATOR, KEY)] if not self.plan.organizations else []
        for number in range(self.plan.organizations):
            await self._found(f"com.example.tenant{number}")
        for tenant in self.tenants:
            client = self.site.client(tenant.key)
            for _ in range(self.plan.queues):
                tenant.queues.append(await self.lay_queue(client, tenant, self.plan.listeners))
            if self.plan.ordered_producers:
                tenant.ordered = await self.lay_queue(client, tenant, _ORDERED_LISTENERS, ordered=True)
                self.recorder.history.ordered.append(tenant.ordered)
                for on_missed in ("pass", "block") if self.plan.asks_again else ():
                    await self._lay_redelivered(client, tenant, on_missed)
            for queue in [tenant.ordered, *tenant.queues][not tenant.ordered :][: self.plan.pullers]:
                consumers = Consumers(self.recorder, queue, self.random)
                await consumers.register(client)
                self._consumers.append((tenant, consumers))
            if self.plan.is_paced:
                tenant.paced = await self.lay_queue(client, tenant, ("paced",))
            if self.plan.deletes:
                tenant.trimmed = await self.lay_queue(client, tenant, ("steady", "slow"))
                self.recorder.history.trimmed.append(tenant.trimmed)
            client.close()

    async def _found(self, alias: str) -> None:
        client = self.site.client()
        answer = await client.ask("POST", "/organizations", {"alias": alias})
        assert answer.status == 200, answer
        self.tenants.append(Tenant(answer.body["organization"]["id"], answer.body["api_key"]["key"]))
        client.close()

    async def _lay_redelivered(self, client: Client, tenant: Tenant, on_missed: str) -> None:
        history = self.recorder.history
        queue = await self.lay_queue(client, tenant, ("ordered-lossy",), ordered=True, on_missed=on_missed)
        tenant.redelivered.append(queue)
        history.ordered.append(queue)
        if on_missed == "block":
            history.blocking.append(queue)

    async def lay_queue(
        self,
        client: Client,
        tenant: Tenant,
        kinds: Sequence[str],
        *,
        ordered: bool = False,
        on_missed: str = "pass",
        kept_seconds: int | None = None,
    ) -> str:
        sent = self.recorder.tick()
        fields: dict[str, object] = {"ordered": ordered}
        if on_missed != "pass":
            fields["on_missed"] = on_missed
        if kept_seconds is not None:
            fields["retention"] = kept_seconds
        queue = str((await client.create("/queues", fields))["id"])
        self.recorder.made(f"/queues/{queue}", tenant.organization, sent)
        for kind in kinds:
            await self.create_listener(client, tenant, queue, kind)
        return queue

    def tasks(self) -> "list[asyncio.Future[None]]":
        """Start all tasks; each runs until cancelled. A task that ends with an exception found a fault."""
        sizes = [1] * self.plan.producers + [_BATCH] * self.plan.batch_producers
        works = [self.again_and_again(tenant, self._produce, size) for tenant in self.tenants for size in sizes]
        for tenant in self.tenants:
            works += [self.again_and_again(tenant, self._come_and_go, queue) for queue in tenant.queues]
            for _ in range(self.plan.ordered_producers):
                works.append(self.again_and_again(tenant, self._produce_in_order, tenant.ordered))
            works += [self.again_and_again(tenant, self._produce_in_order, queue) for queue in tenant.redelivered]
            if tenant.paced:
                works.append(self.again_and_again(tenant, self._produce_in_bursts, tenant.paced))
            if tenant.trimmed:
                works.append(self.again_and_again(tenant, self._produce_and_delete, tenant.trimmed))
        for tenant, consumers in self._consumers:
            works += [self.again_and_again(tenant, self._consume, consumers) for _ in range(CONSUMERS)]
        return [asyncio.ensure_future(work) for work in works]

    async def again_and_again(
        self, tenant: Tenant, work: Callable[..., Coroutine[Any, Any, None]], argument: object
    ) -> None:
        """Do something whenever users are awake, somebody serves, and not much is owed."""
        client = self.site.client(tenant.key)
        try:
            while True:
                await self.awake.wait()
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
        if self.plan.pause_seconds:
            pause_seconds = self.plan.pause_seconds * (1 + size // 2)
            await asyncio.sleep(self.random.expovariate(1 / pause_seconds))
        await self.publish(client, self.random.choice(tenant.queues), size)

    async def _consume(self, client: Client, _tenant: Tenant, consumers: Consumers) -> None:
        await consumers.consume(client, lambda: self.is_gentle)

    async def pull_what_is_left(self, within_seconds: float) -> None:
        """All consumers acknowledge whatever comes, until nothing waits for them."""
        for tenant, consumers in self._consumers:
            client = self.site.client(tenant.key)
            await consumers.finish(client, within_seconds)
            client.close()

    async def _produce_in_order(self, client: Client, tenant: Tenant, queue: str) -> None:
        """Publish with one of a few keys or without one; some messages expire soon, but none that are redelivered."""
        await asyncio.sleep(self.random.expovariate(1 / _KEYED_APART_SECONDS))
        size = self.random.choice((1, 1, 1, 4))
        expires = queue not in tenant.redelivered and self.random.random() < _EXPIRING_SHARE
        expires_at = round(time.time() + _LIFE_SECONDS, 3) if expires else 0.0
        options = [DeliveryOptions(self.random.choice(_KEYS), expires_at) for _ in range(size)]
        await self.publish(client, queue, size, options)

    async def _produce_in_bursts(self, client: Client, _tenant: Tenant, queue: str) -> None:
        """More than the listener takes at once, and in the long run less than it takes."""
        await self.publish(client, queue, _BURST)
        await asyncio.sleep(_BURSTS_APART_SECONDS)

    async def _produce_and_delete(self, client: Client, _tenant: Tenant, queue: str) -> None:
        """Every other time delete one of the last messages, or of those that have just been published.

        Messages that were published together have a key of their own. Half of them are erased together.
        """
        await asyncio.sleep(self.random.expovariate(1 / _KEYED_APART_SECONDS))
        size = self.random.choice((1, 4))
        await self.publish(client, queue, size, [DeliveryOptions(key=f"erased-{next(self.numbers)}")] * size)
        recent = self.recorder.stored_lately(queue)
        if not recent or self.random.random() < 0.5:
            return
        published = self.random.choice((recent[-1], self.random.choice(recent)))
        message = self.random.choice(published.ids)
        if published.options and published.sent % 2:
            await self._erase(client, published)
            return
        was_asked = self.recorder.deleting_message(published, message)
        answer = await client.ask("DELETE", f"/queues/{queue}/messages/{message}")
        if answer.status in {200, 404}:
            published.deletions[message].was_unknown |= answer.status == 404 and not was_asked
            self.recorder.deleted_message(published, message)
        else:
            expect_busy(answer)

    async def _erase(self, client: Client, published: Published) -> None:
        were_asked = [self.recorder.deleting_message(published, message) for message in published.ids]
        key = published.options[0].key
        answer = await client.ask("POST", f"/queues/{published.queue}/erasures", {"key": key})
        if answer.status != 200:
            expect_busy(answer)
            return
        for message in published.ids:
            published.deletions[message].was_unknown |= not any(were_asked) and not answer.body["erasure"]["erased"]
            self.recorder.deleted_message(published, message)

    async def publish(self, client: Client, queue: str, size: int = 1, options: Sequence[DeliveryOptions] = ()) -> None:
        """Publish one message or a batch. Raises Lost if the response says that another worker may succeed."""
        bodies = [body_of(next(self.numbers)) for _ in range(size)]
        published = self.recorder.sending(queue, bodies, options)
        asked = [_asked(each) for each in options] or [{}] * size
        messages = [{"data": body, **fields} for body, fields in zip(bodies, asked, strict=True)]
        if size == 1:
            answer = await client.ask("POST", f"/queues/{queue}/messages", messages[0])
        else:
            answer = await client.ask("POST", f"/queues/{queue}/messages/batch", {"messages": messages})
        if answer.status == 200:
            shown = [answer.body["message"]] if size == 1 else answer.body["messages"]
            self.recorder.stored(published, [message["id"] for message in shown])
        elif answer.status == 422 and any(each.expires_at for each in options):
            # The database's clock is ahead, or the request was late.
            assert answer.body["errors"][0]["pointer"].endswith("/expires_at"), answer
        else:
            self.refused(answer, f"/queues/{queue}")

    async def until_nothing_waits(self, within_seconds: float) -> None:
        """Wait until no message waits: expired ones are missed when their turn comes. The checker names the rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                for tenant in self.tenants:
                    client = self.site.client(tenant.key)
                    while tenant.ordered and await self.has_waiting_soon(client, tenant.ordered):
                        pass

    async def has_waiting_soon(self, client: Client, queue: str) -> bool:
        await asyncio.sleep(_REQUESTS_APART_SECONDS)
        try:
            answer = await client.ask("GET", f"/queues/{queue}/listeners")
        except Lost:
            return True
        return answer.status != 200 or any(each["messages"]["pending_count"] for each in answer.body["listeners"])

    async def _come_and_go(self, client: Client, tenant: Tenant, queue: str) -> None:
        """A few listeners live for a while; the oldest makes room for another one."""
        await self.recorder.until_more(_EVENTS_OF_A_LIFE)
        await self._clear_away(client, tenant, queue)
        await self.create_listener(client, tenant, queue, self.random.choice(("steady-brief", "slow-brief")))
        mine = [name for name in self.recorder.listeners_of(queue) if "brief" in name]
        if len(mine) >= self.plan.brief_listeners:
            await self.delete_listener(client, queue, mine[0])

    async def _clear_away(self, client: Client, tenant: Tenant, queue: str) -> None:
        """Delete those whose coming or going was never answered, so that they do not become more and more."""
        address = f"/queues/{queue}/listeners"
        answer = await client.ask("GET", f"{address}?per_page=100")
        if answer.status != 200:
            expect_busy(answer)
        for shown in answer.body["listeners"]:
            name = shown.get("notify_url", "").rpartition("/")[2]
            known = self.recorder.history.listeners.get(name)
            if known is not None and "brief" in name and (known.delete_sent or not known.answered):
                if not known.id:
                    known.id = shown["id"]
                    self.recorder.made(f"{address}/{known.id}", tenant.organization, known.sent)
                await self.delete_listener(client, queue, name)

    async def create_listener(self, client: Client, tenant: Tenant, queue: str, kind: str) -> str | None:
        """Create a listener. Returns its path in the API, or None if the outcome is unknown."""
        name = f"{kind}-{next(self.numbers)}"
        rate = _RATE if kind == "paced" else None
        sort = self.random.choice(_SORTS) if kind == "picky" else ""
        attempts = {"lossy": 1, "ordered-lossy": 2}.get(kind, 0)
        listener = self.recorder.creating(name, queue, rate, sort, attempts)
        url = self._url(name)
        fields: dict[str, object] = {"notify_url": url}
        if kind in _PROBED:
            fields["liveness_url"] = url
        if kind in ("ordered", "once"):
            fields["retry"] = _OFTEN
        if kind == "interrupted":
            fields["retry"] = {"schedule": [_AILING_RETRY_SECONDS], "attempts": 100}
        if kind == "late":
            fields["retry"] = {"schedule": [_LATE_RETRY_SECONDS], "attempts": 100}
        if attempts:
            fields["retry"] = {"schedule": [2], "attempts": attempts}
        if sort:
            fields["filter"] = {"data": {"sort": sort}}
        if rate is not None:
            fields["rate_limit"] = {"per_second": rate.per_second, "burst": rate.burst}
        answer = await client.ask("POST", f"/queues/{queue}/listeners", fields)
        if answer.status != 200:
            self.refused(answer, f"/queues/{queue}")
            return None
        created = answer.body["listener"]
        self.recorder.created(listener, created["id"], created["secret"])
        address = f"/queues/{queue}/listeners/{created['id']}"
        self.recorder.made(address, tenant.organization, listener.sent)
        return address

    def refused(self, answer: Answer, resource: str) -> None:
        """Record that a request about a resource was refused; the checker knows whether rightly.

        Raises Lost if the worker cannot serve it at the moment, so that another worker is asked.
        """
        if answer.status in _REFUSED:
            self.recorder.requested(self.recorder.requesting(resource, -1), answer.status)
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


def body_of(number: int) -> str:
    return f'{{"number": {number}, "sort": "{_SORTS[number % len(_SORTS)]}", "filling": "{"ä" * 60}"}}'


def _asked(options: DeliveryOptions) -> dict[str, object]:
    """The fields of a message."""
    fields: dict[str, object] = {"key": options.key} if options.key else {}
    if options.delay:
        fields["delay"] = options.delay
    times = {"expires_at": options.expires_at, "deliver_at": 0.0 if options.delay else options.due_at}
    return fields | {name: round(at * 1_000) for name, at in times.items() if at}


def _is_one_of(many: int, delivered: Delivered) -> bool:
    """Return the same value for each attempt of a message."""
    return crc32(delivered.message.encode()) % many == 0
