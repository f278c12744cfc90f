"""Parts of queues are asked for once more, some of that is cancelled, and what was missed is redelivered."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from tests.faults.client import Answer, Client, Lost, expect_busy
from tests.faults.history import Published, Replayed
from tests.faults.load import Load
from tests.faults.plan import Tenant

_REDELIVERIES_APART_SECONDS = 3.0
_REQUESTS_APART_SECONDS = 0.2
_PUBLISHES = 15
"""From the first to the last."""
_PACED_MESSAGES = 4
"""More of them would leave no time for what is new."""
_TO_THE_END_SHARE = 0.2
_CANCELLED_SHARE = 0.1
_PACE = 100


class Again:
    """Redelivers and replays, with two tasks for each organization. The checker judges the requests later."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._recorder = load.recorder
        self._random = load.random

    def tasks(self) -> "list[asyncio.Future[None]]":
        again, tenants = self._load.again_and_again, self._load.tenants if self._load.plan.asks_again else []
        works = [again(tenant, self._replay, None) for tenant in tenants]
        works += [again(tenant, self._redeliver, None) for tenant in tenants]
        return [asyncio.ensure_future(work) for work in works]

    async def until_everything_came(self, within_seconds: float) -> None:
        """Redeliver missed messages and wait for replays to finish. The checker names those that do not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                for tenant in self._load.tenants:
                    client = self._load.site.client(tenant.key)
                    while await self._has_missed_soon(client, tenant) or await self._is_replaying(client, tenant):
                        pass
                    client.close()

    async def _replay(self, client: Client, tenant: Tenant, _argument: object) -> None:
        await asyncio.sleep(self._random.expovariate(1 / self._load.plan.replays_apart_seconds))
        is_paced = bool(tenant.paced) and self._random.random() < self._load.plan.paced_share
        others = [*tenant.queues, tenant.ordered] if tenant.ordered else tenant.queues
        queue = tenant.paced if is_paced else self._random.choice(others)
        names = [name for name in self._recorder.listeners_of(queue) if "brief" not in name]
        published = self._recorder.stored_lately(queue)
        if names and published:
            ends = self._paced_ends(published) if is_paced else self._ends(published)
            await self._ask(client, self._random.choice(names), *ends, is_paced=is_paced)

    def _paced_ends(self, published: Sequence[Published]) -> tuple[str, str]:
        ids = self._random.choice(published).ids
        place = self._random.randrange(len(ids))
        return ids[place], ids[min(place + _PACED_MESSAGES, len(ids)) - 1]

    def _ends(self, published: Sequence[Published]) -> tuple[str, str]:
        """The ids of a first and a last message, which stand in this order, or of the first alone."""
        place = self._random.randrange(len(published))
        first = published[place]
        later = [each for each in list(published)[place + 1 : place + _PUBLISHES] if first.answered < each.sent]
        if len(published) - place < _PUBLISHES and self._random.random() < _TO_THE_END_SHARE:
            return first.ids[0], ""
        return first.ids[0], self._random.choice(later or [first]).ids[-1]

    async def _ask(self, client: Client, name: str, first: str, last: str, *, is_paced: bool) -> None:
        replay = self._recorder.replaying(name, first, last)
        fields: dict[str, object] = {"from_message": first}
        if last:
            fields["until_message"] = last
        if not is_paced and self._random.random() < 0.5:
            fields["pace"] = _PACE
        answer = await client.ask("POST", self._place(name), fields)
        if answer.status == 200:
            self._recorder.replayed(replay, answer.body["replay"]["id"])
            if self._random.random() < _CANCELLED_SHARE:
                await self._cancel(client, replay)
            return
        if answer.status not in {409, 422}:
            # Whether it was taken is not known. (422: a message that was confirmed is not there. Others say so.)
            expect_busy(answer)
        self._recorder.history.replays.remove(replay)

    async def _cancel(self, client: Client, replay: Replayed) -> None:
        await asyncio.sleep(self._random.random())
        self._recorder.cancelling(replay)
        answer = await client.ask("DELETE", f"{self._place(replay.name)}/{replay.id}")
        if answer.status == 200:
            self._recorder.cancelled(replay)
        elif answer.status == 404:
            replay.was_unknown = True
        else:
            expect_busy(answer)

    async def _redeliver(self, client: Client, tenant: Tenant, _argument: object) -> None:
        await asyncio.sleep(_REDELIVERIES_APART_SECONDS)
        # A worker whose clock is an hour ahead would make the redelivered messages due in an hour.
        if not self._load.is_gentle:
            await self._has_missed(client, tenant)

    async def _has_missed_soon(self, client: Client, tenant: Tenant) -> bool:
        await asyncio.sleep(_REQUESTS_APART_SECONDS)
        try:
            return await self._has_missed(client, tenant)
        except Lost:
            client.close()
            return True

    async def _has_missed(self, client: Client, tenant: Tenant) -> bool:
        """Whether one of the listeners that miss some has done so, or may do so. All of it is redelivered."""
        found = False
        for name in self._lossy(tenant):
            place = self._place(name).removesuffix("/replays")
            counts = _shown(await client.ask("GET", place), "listener")["messages"]
            found = found or bool(counts["missed_count"] or counts["pending_count"])
            if counts["missed_count"]:
                answer = await client.ask("POST", f"{place}/redeliveries", {"all": True})
                if answer.status not in {200, 409}:
                    expect_busy(answer)
            if name not in self._recorder.history.redelivered:
                self._recorder.history.redelivered.append(name)
        return found

    async def _is_replaying(self, client: Client, tenant: Tenant) -> bool:
        """Whether a replay to a listener of the organization has not ended."""
        mine = {
            name
            for queue in (*tenant.queues, tenant.ordered, tenant.paced)
            for name in self._recorder.listeners_of(queue)
        }
        for replay in self._recorder.history.replays:
            if replay.name in mine and replay.answered and not replay.delete_sent:
                try:
                    answer = await client.ask("GET", f"{self._place(replay.name)}/{replay.id}")
                    if answer.status == 404:
                        # It was confirmed, and is gone: what did not come of it is found missing.
                        continue
                    if _shown(answer, "replay")["state"] != "done":
                        return True
                except Lost:
                    client.close()
                    return True
        return False

    def _lossy(self, tenant: Tenant) -> Iterable[str]:
        queues = (*tenant.queues, *tenant.redelivered)
        return [name for queue in queues for name in self._recorder.listeners_of(queue) if "lossy" in name]

    def _place(self, name: str) -> str:
        listener = self._recorder.history.listeners[name]
        return f"/queues/{listener.queue}/listeners/{listener.id}/replays"


def _shown(answer: Answer, kind: str) -> dict[str, Any]:
    """Raises Lost when it cannot be shown at the moment."""
    if answer.status != 200:
        expect_busy(answer)
    return dict(answer.body[kind])
