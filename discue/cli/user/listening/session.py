"""A queue of `discue listen`: a temporary listener in pull mode, whose messages are forwarded and settled."""

from __future__ import annotations

import argparse
import asyncio
import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from discue.cli.exit_codes import CommandFailed
from discue.cli.output import note
from discue.cli.user.command import explain
from discue.cli.user.listening.forwarding import Forwarder
from discue.domain.message_data import BYTES, TEXT, data_of
from discue_client import NotFound, Reject, Retry
from discue_client.errors import DiscueError
from discue_client.models import Listener, Message, MessagesResponse

if TYPE_CHECKING:
    from discue_client import AsyncDiscue
    from discue_client._async.consumer import AsyncDelivery

_MOST_FROM_BEFORE: Final = 10_000
_OPENING_SECONDS: Final = 10.0
_REMOVAL_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 1
_PREFETCHED: Final = 4
_MOST_LEASED: Final = 1_000


class _EarlierMessage(Message, frozen=True, kw_only=True):
    """A message of a list. Its data is not decoded: the local server gets the bytes that were published."""

    data: msgspec.Raw = msgspec.Raw(b"null")


class _EarlierMessages(MessagesResponse, frozen=True, kw_only=True):
    messages: tuple[_EarlierMessage, ...]


class QueueSession:
    """Forwards the messages of a queue until the command ends."""

    def __init__(self, client: AsyncDiscue, arguments: argparse.Namespace, forwarder: Forwarder, queue: str) -> None:
        self._client = client
        self._arguments = arguments
        self._forwarder = forwarder
        self.queue = queue
        # Some messages wait, so that no request waits for a message.
        self._leased = min(_PREFETCHED * arguments.concurrency, arguments.count or _MOST_LEASED, _MOST_LEASED)
        self._turns = asyncio.Semaphore(arguments.concurrency)
        self._may_have_listener = False
        """Whether the listener was requested. An interrupted request may have created it."""

    async def open(self) -> None:
        """Create the listener, or take over that of a run that was killed."""
        client, arguments = self._client.with_options(deadline=_OPENING_SECONDS), self._arguments
        try:
            await client.listeners.list(self.queue, alias=arguments.name).first()
        except NotFound:
            raise CommandFailed(
                f"Queue {self.queue} not found. Create it with `discue queues set {self.queue}`."
            ) from None
        self._may_have_listener = True
        self.listener: Listener = await client.listeners.update(
            self.queue,
            arguments.name,
            mode="pull",
            status="enabled",
            lease_seconds=max(round(arguments.lease), 1),
            max_in_flight=self._leased,
            filter=arguments.filter,
        )
        self._consumer = self._client.consume(self.queue, listener=self.listener.id, concurrency=self._leased)

    async def run(self) -> None:
        """Forward messages until the command ends. Raises an error that stays."""
        await self._forward_from_before()
        if not self._forwarder.ended.is_set():
            await self._consumer.run(self._handle)

    def stop(self) -> None:
        """Take no more messages."""
        self._consumer.stop()

    async def remove(self) -> bool:
        """Remove the listener. Returns False, after saying what is left, if it is still there."""
        client, queue, name = self._client.with_options(deadline=_REMOVAL_SECONDS), self.queue, self._arguments.name
        if not self._may_have_listener:
            return True
        try:
            waiting = (await client.listeners.get(queue, name)).messages.pending_count
            await client.listeners.delete(queue, name)
        except NotFound:
            return True
        except DiscueError as error:
            note(
                f"The listener {name} of the queue {queue} is still there: {explain(error)} Messages wait for it. "
                f"Run the same command again to go on, or `discue listeners delete {queue} {name}`."
            )
            return False
        if waiting:
            count = "1 message was" if waiting == 1 else f"{waiting} messages were"
            note(f"{queue}: {count} waiting. `--since 1h` forwards the past hour again.")
        return True

    async def _handle(self, delivery: AsyncDelivery) -> None:
        message = delivery.message
        if self._forwarder.ended.is_set():
            raise Retry(after=0)
        if not self._forwarder.may_begin():
            # Not at once: until the last of `--count` is done, it would come again and again.
            raise Retry(after=_PAUSE_SECONDS)
        async with self._turns:
            outcome = await self._forwarder.forward(self.queue, self.listener, message, (delivery.body, TEXT))
        if outcome is None:
            raise Retry(after=0)
        if outcome.retry_after_seconds is not None:
            raise Retry(after=outcome.retry_after_seconds)
        if not outcome.acknowledged:
            raise Reject

    async def _forward_from_before(self) -> None:
        """Forward the messages that are older than the listener, oldest first, one after the other."""
        since, until = self._arguments.since, self.listener.created_at
        if since is None or since >= until:
            return
        listed = self._client.messages.list(
            self.queue, created_after=since - 1, created_before=until + 1, data="true", limit=_MOST_FROM_BEFORE + 1
        )
        found = [each async for each in replace(listed, page_type=_EarlierMessages)]
        if len(found) > _MOST_FROM_BEFORE:
            raise CommandFailed(f"Queue {self.queue} has more than {_MOST_FROM_BEFORE:,} messages since then.")
        for message in reversed(found):
            if not self._forwarder.ended.is_set() and await self._passes(message) and self._forwarder.may_begin():
                encoded = message.data_base64
                data = data_of(bytes(message.data), message.content_type)
                data = data if encoded is None else (base64.b64decode(encoded), BYTES)
                await self._forwarder.forward(self.queue, self.listener, message, data)

    async def _passes(self, message: Message) -> bool:
        if message.deliver_at is not None and message.deliver_at >= self.listener.created_at:
            # The listener gets it when it is due.
            return False
        if self._arguments.filter is None:
            return True
        tested = await self._client.listeners.test_filter(self.queue, self.listener.id, message_id=message.id)
        return tested.matches
