"""Messages that are due later, and schedules that live for a while."""

import asyncio
import time
from contextlib import suppress
from itertools import count

from tests.faults.client import Answer, Client, Lost, expect_busy
from tests.faults.history import DeliveryOptions, Scheduled
from tests.faults.load import Load
from tests.faults.plan import Tenant

RUNS_APART_SECONDS = 1
_SCHEDULES = 2
"""Schedules of each organization at a time."""
_LOOKS = 8
_REQUESTS_APART_SECONDS = 1.0
_APART_SECONDS = 0.2
_DELAYED_SHARE = 0.7
_LATEST_STEPS = 6
_STEPS_A_SECOND = 2
"""Messages are due at times that they share, so that they are few for the store."""
_CATCH_UP_LIMIT = 100
"""More runs than come due while a fault lasts."""


class Timing:
    """A queue of each organization in which some messages are delayed, and one into which schedules publish."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._recorder = load.recorder
        self._history = load.recorder.history
        self._numbers = count()
        self._queues: list[tuple[Tenant, str, str]] = []

    async def prepare(self) -> None:
        for tenant in self._load.tenants:
            client = self._load.site.client(tenant.key)
            delaying = await self._load.lay_queue(client, tenant, ("steady", "slow"))
            self._history.delaying.append(delaying)
            self._queues.append((tenant, delaying, await self._load.lay_queue(client, tenant, ("steady",))))
            client.close()

    def tasks(self) -> "list[asyncio.Future[None]]":
        works = [self._load.again_and_again(tenant, self._delay, queue) for tenant, queue, _ in self._queues]
        works += [self._load.again_and_again(tenant, self._live, queue) for tenant, _, queue in self._queues]
        return [asyncio.ensure_future(work) for work in works]

    async def finish(self, within_seconds: float) -> None:
        """End all schedules, and wait until everything that was delayed is due and nothing waits any more.

        The checker names the rest.
        """
        options = (each for published in self._history.publishes for each in published.options)
        last_due_at = max((each.due_at for each in options), default=0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await asyncio.sleep(last_due_at - time.time())
                for tenant, *queues in self._queues:
                    client = self._load.site.client(tenant.key)
                    while await self._are_there_soon(client, queues[1]):
                        pass
                    for queue in queues:
                        while await self._load.has_waiting_soon(client, queue):
                            pass
                    client.close()

    async def _delay(self, client: Client, _tenant: Tenant, queue: str) -> None:
        choices = self._load.random
        await asyncio.sleep(choices.expovariate(1 / _APART_SECONDS))
        size = choices.choice((1, 1, 1, 4))
        now = int(time.time() * _STEPS_A_SECOND)
        steps = [choices.randint(0, _LATEST_STEPS) * (choices.random() < _DELAYED_SHARE) for _ in range(size)]
        options = [_delayed(now, each) if each else DeliveryOptions() for each in steps]
        await self._load.publish(client, queue, size, options)

    async def _live(self, client: Client, _tenant: Tenant, queue: str) -> None:
        """Schedules are made, run for a while, and are deleted: those as well whose creation was never answered."""
        await self._clear_away(client, queue)
        schedules = [await self._make(client, queue) for _ in range(_SCHEDULES)]
        for _ in range(_LOOKS):
            await asyncio.sleep(_REQUESTS_APART_SECONDS)
            for scheduled in schedules:
                try:
                    await self._look(client, queue, scheduled)
                except Lost:
                    # The runs of this time are missed: schedules live on to make up for them.
                    client.close()

    async def _look(self, client: Client, queue: str, scheduled: Scheduled) -> None:
        sent_at = time.monotonic()
        answer = _shown(await client.ask("GET", f"/queues/{queue}/schedules/{scheduled.id}"))
        scheduled.looked_at, scheduled.reached = sent_at, answer.body["schedule"]["next_runs"][0]

    async def _make(self, client: Client, queue: str) -> Scheduled:
        body = f'{{"schedule": {next(self._numbers)}}}'
        scheduled = Scheduled(queue, body, RUNS_APART_SECONDS * 1_000, time.monotonic())
        self._history.schedules.append(scheduled)
        fields = {"cron": "* * * * *", "data": body, "missed_runs": "catch_up", "catch_up_limit": _CATCH_UP_LIMIT}
        shown = _shown(await client.ask("POST", f"/queues/{queue}/schedules", fields)).body["schedule"]
        scheduled.id, scheduled.first_run = shown["id"], shown["next_runs"][0]
        return scheduled

    async def _clear_away(self, client: Client, queue: str) -> None:
        """Delete the schedules of a queue. Raises Lost."""
        known = {each.id: each for each in self._history.schedules}
        shown = _shown(await client.ask("GET", f"/queues/{queue}/schedules?per_page=100")).body["schedules"]
        for each in shown:
            answer = await client.ask("DELETE", f"/queues/{queue}/schedules/{each['id']}")
            if answer.status == 200 and each["id"] in known:
                known[each["id"]].deleted_at = time.monotonic()
            elif answer.status not in {200, 404}:
                expect_busy(answer)

    async def _are_there_soon(self, client: Client, queue: str) -> bool:
        """Try to clear away in a moment. Returns whether that may have left something."""
        await asyncio.sleep(_APART_SECONDS)
        with suppress(Lost):
            await self._clear_away(client, queue)
            return False
        client.close()
        return True


def _delayed(now: int, steps: int) -> DeliveryOptions:
    """Request whole seconds as a `delay`, which workers add to the time, and other due times as `deliver_at`."""
    seconds, rest = divmod(steps, _STEPS_A_SECOND)
    return DeliveryOptions(due_at=(now + steps) / _STEPS_A_SECOND, delay=0 if rest else seconds)


def _shown(answer: Answer) -> Answer:
    """Raises Lost when it cannot be shown at the moment."""
    if answer.status != 200:
        expect_busy(answer)
    return answer
