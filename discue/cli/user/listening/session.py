"""A run of `discue listen`: temporary listeners in pull mode, whose messages are forwarded and settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from discue.cli.user.command import CommandFailed, explain
from discue.cli.user.listening.earlier import EarlierMessage, earlier_messages
from discue.cli.user.listening.forwarding import Forwardable, Forwarded, Forwarder, QueueListener, Stopped
from discue.domain.attempts import Outcome
from discue_client import NotFound, Reject, Retry
from discue_client.errors import DiscueError

if TYPE_CHECKING:
    from discue_client import AsyncDiscue
    from discue_client._async.consumer import AsyncConsumer, AsyncDelivery
    from discue_client.models import Listener

_MOST_FROM_BEFORE: Final = 10_000
_GRACE_SECONDS: Final = 5.0
"""How long requests to the local server may go on after Ctrl-C."""
_OPENING_SECONDS: Final = 10.0
_REMOVAL_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 1
_CANCELLATIONS: Final = 3
_PREFETCHED: Final = 4
_MOST_LEASED: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Selects messages and how they are forwarded, and says when the command ends."""

    queues: tuple[str, ...]
    name: str
    """Alias of the listeners. Another run with the same alias goes on where this one was killed."""
    filter: Mapping[str, Any] | None
    since: int | None
    """From when messages of before the listener are forwarded, too, in milliseconds since the epoch."""
    concurrency: int
    lease_seconds: int
    count: int | None
    for_seconds: float | None
    keep: bool

    @property
    def leased(self) -> int:
        """How many messages of a queue are leased at a time: some wait, so that no request waits for a message."""
        return min(_PREFETCHED * self.concurrency, self.count or _MOST_LEASED, _MOST_LEASED)


class Opened(NamedTuple):
    """A queue whose messages are forwarded, and the listener that gets them."""

    queue: str
    """Alias of the queue."""
    listener: Listener
    continues: bool
    """Whether the listener is of an earlier run, which could not remove it."""
    turns: asyncio.Semaphore
    """Limits the requests at a time."""


class Counts:
    """Counts requests to the local server, and says when there were enough."""

    def __init__(self, wanted: int | None, on_enough: Callable[[], None]) -> None:
        self.accepted = 0
        self.refused = 0
        self.started = 0
        """Messages that are being forwarded or were."""
        self._wanted = wanted
        self._on_enough = on_enough

    def may_begin(self) -> bool:
        """Count a message that is about to be forwarded; False if there were enough already."""
        if self._wanted is not None and self.started >= self._wanted:
            return False
        self.started += 1
        return True

    def add(self, forwarded: Forwarded) -> None:
        if forwarded.is_repeated:
            return
        if forwarded.outcome.acknowledged:
            self.accepted += 1
        else:
            self.refused += 1
        if self._wanted is not None and self.accepted + self.refused >= self._wanted:
            self._on_enough()

    @property
    def missing(self) -> int:
        """How many messages `--count` still waits for."""
        return max((self._wanted or 0) - self.accepted - self.refused, 0)


class Session:
    """Forwards the messages of some queues until it is stopped."""

    def __init__(
        self, client: AsyncDiscue, plan: Plan, forwarder: Forwarder, *, counts: Counts, note: Callable[[str], None]
    ) -> None:
        self._client = client
        self._plan = plan
        self._forwarder = forwarder
        self._counts = counts
        self._note = note
        self._consumers: list[AsyncConsumer] = []
        self._is_stopping = False
        self.is_gone = False
        """Whether the local server has responded `410`, which ends the run."""
        self._from_before: set[str] = set()
        """Ids of messages that `--since` has forwarded and that the listener may get as well."""
        self._asked: list[str] = []
        """Queues that may have a listener of this run. A request that was interrupted may have created it."""
        self.opened: list[Opened] = []

    async def open(self) -> None:
        """Create the listeners, or take over those of a run that was killed."""
        plan, client = self._plan, self._client.with_options(deadline=_OPENING_SECONDS)
        for queue in plan.queues:
            try:
                earlier = await client.listeners.list(queue, alias=plan.name).first()
            except NotFound:
                raise CommandFailed(f"Queue {queue} not found. Create it with `discue queues set {queue}`.") from None
            self._asked.append(queue)
            listener = await client.listeners.update(
                queue,
                plan.name,
                mode="pull",
                status="enabled",
                lease_seconds=plan.lease_seconds,
                max_in_flight=plan.leased,
                filter=plan.filter,
            )
            self.opened.append(Opened(queue, listener, earlier is not None, asyncio.Semaphore(plan.concurrency)))

    async def run(self) -> None:
        """Forward messages until `stop` or an error that stays, which is raised."""
        tasks = [asyncio.create_task(self._follow(each)) for each in self.opened]
        try:
            await asyncio.gather(*tasks)
        finally:
            self.stop()
            # A request that a debugger holds must not hold the command.
            _, late = await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
            for _ in range(_CANCELLATIONS):
                # A consumer that is cancelled still sends results, for as long as it is not cancelled again.
                for task in late:
                    task.cancel()
                if late:
                    _, late = await asyncio.wait(late, timeout=1)

    def stop(self) -> None:
        """Take no more messages, and give back messages that wait for the local server."""
        self._is_stopping = True
        self._forwarder.stop()
        for consumer in self._consumers:
            consumer.stop()

    async def remove(self) -> bool:
        """Remove the listeners. Returns False, after saying what is left, if one is still there."""
        client, name = self._client.with_options(deadline=_REMOVAL_SECONDS), self._plan.name
        is_done = True
        for queue in self._asked:
            try:
                waiting = (await client.listeners.get(queue, name)).messages.pending_count
                await client.listeners.delete(queue, name)
            except NotFound:
                continue
            except DiscueError as error:
                is_done = False
                self._note(
                    f"The listener {name} of the queue {queue} is still there: {explain(error)} Messages "
                    "wait for it. Run the same command again to go on, or `discue listeners delete "
                    f"{queue} {name}`."
                )
                continue
            if waiting:
                count = "1 message was" if waiting == 1 else f"{waiting} messages were"
                self._note(f"{queue}: {count} waiting. `--since 1h` forwards the past hour again.")
        return is_done

    async def _follow(self, opened: Opened) -> None:
        await self._forward_from_before(opened)
        if self._is_stopping:
            return
        consumer = self._client.consume(opened.queue, listener=opened.listener.id, concurrency=self._plan.leased)
        self._consumers.append(consumer)
        await consumer.run(lambda delivery: self._handle(opened, delivery))

    async def _handle(self, opened: Opened, delivery: AsyncDelivery) -> None:
        if delivery.id in self._from_before:
            # `--since` has shown it to the local server already.
            self._from_before.discard(delivery.id)
            return
        if self._is_stopping:
            raise Retry(after=0)
        if not self._counts.may_begin():
            # Not at once: until the last of `--count` is done, it would come again and again.
            raise Retry(after=_PAUSE_SECONDS)
        try:
            async with opened.turns:
                outcome = await self._forward(opened, Forwardable.of(delivery.message))
        except Stopped:
            raise Retry(after=0) from None
        if _is_gone(outcome):
            self._end_as_gone(opened)
            raise Retry(after=0)
        if outcome.retry_after_seconds is not None:
            raise Retry(after=outcome.retry_after_seconds)
        if not outcome.acknowledged:
            raise Reject

    def _end_as_gone(self, opened: Opened) -> None:
        if not self.is_gone:
            self.is_gone = True
            self._note(
                f"Stopped for 410 Gone: the service would now disable the listener of {opened.queue}, and its messages "
                "would wait until it is enabled."
            )
        self.stop()

    async def _forward(self, opened: Opened, message: Forwardable) -> Outcome:
        source = QueueListener(opened.queue, opened.listener.queue_id, opened.listener.id)
        return await self._forwarder.forward(source, message)

    async def _forward_from_before(self, opened: Opened) -> None:
        """Forward the messages that are older than the listener, oldest first, one after the other."""
        since, until = self._plan.since, opened.listener.created_at
        if since is None or since >= until:
            return
        found = []
        async for message in earlier_messages(self._client, opened.queue, since, until):
            found.append(message)
            if len(found) > _MOST_FROM_BEFORE:
                raise CommandFailed(f"Queue {opened.queue} has more than {_MOST_FROM_BEFORE:,} messages since then.")
        for message in reversed(found):
            if self._is_stopping or not await self._passes(opened, message) or not self._counts.may_begin():
                continue
            try:
                outcome = await self._forward(opened, message.forwardable())
            except Stopped:
                return
            if _is_gone(outcome):
                self._end_as_gone(opened)
            # In the millisecond in which the listener was created, both may have it.
            if message.created_at >= until and outcome.acknowledged:
                self._from_before.add(message.id)

    async def _passes(self, opened: Opened, message: EarlierMessage) -> bool:
        if message.deliver_at is not None and message.deliver_at >= opened.listener.created_at:
            # The listener gets it when it is due.
            return False
        if self._plan.filter is None:
            return True
        tested = await self._client.listeners.test_filter(opened.queue, opened.listener.id, message_id=message.id)
        return tested.matches


def _is_gone(outcome: Outcome) -> bool:
    """Whether the response disables a listener in push mode: it must be complete."""
    return outcome.status == HTTPStatus.GONE and outcome.error == "status"
