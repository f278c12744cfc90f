"""Runs `discue listen`: creates a temporary pull listener per queue and forwards its messages to the local server.

The local server gets the same request as a listener of the service. Its response settles the message.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import signal
import ssl
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from discue.cli.exit_codes import FAILED, CommandFailed, UsageInvalid
from discue.cli.output import excerpt, note
from discue.cli.user.command import connect_async, explain, warnings_shown
from discue.cli.user.listen import Signing, local_target, signing_of
from discue.cli.user.listen_screen import Forwarded, Screen, Terminal
from discue.domain.attempts import Outcome
from discue.domain.clock import SystemClock
from discue.domain.egress import EgressPolicy
from discue.domain.message_data import BYTES, TEXT, Data, data_of
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS
from discue.sending.request import AttemptRequest, Destination
from discue.sending.sender import Sender
from discue.server.signals import completed
from discue_client import NotFound, Reject, Retry
from discue_client.errors import DiscueError
from discue_client.models import Listener, Message, MessagesResponse, PulledMessage

if TYPE_CHECKING:
    from discue_client import AsyncDiscue
    from discue_client._async.consumer import AsyncDelivery

_DEADLINE_SECONDS: Final = 60.0
"""How long results are sent again: a service that restarts must get them."""
_CLOSING_SECONDS: Final = 0.2
_ENDING_SECONDS: Final = (5.0, 1.0, 1.0, 1.0)
"""How long requests to the local server may go on at the end, and then how long each cancellation may take."""
_FILTER_SHOWN: Final = 60
_AWAY: Final = frozenset({"connect", "connect_timeout", "resolve"})
"""Failures before anything was sent: no server is there."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 3.0
_MOST_FROM_BEFORE: Final = 10_000
_OPENING_SECONDS: Final = 10.0
_REMOVAL_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 1
_PREFETCHED: Final = 4
_MOST_LEASED: Final = 1_000


def listen(arguments: argparse.Namespace) -> int | None:
    """Forward messages until a signal or a limit. Returns the exit code."""
    target = local_target(arguments.url, allow_remote=arguments.allow_remote)
    signing, context = signing_of(arguments.secret), _tls(arguments)
    template = AttemptRequest(
        destination=Destination(target, "", ""),
        message_id="",
        codec=TEXT,
        body=b"",
        keys=signing.keys,
        number=1,
        headers=tuple(arguments.header),
        timeout_ms=round(arguments.timeout * 1_000),
    )
    return uvloop.run(_listen(arguments, template, signing, context))


def _tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if not (arguments.insecure or arguments.cacert):
        return None
    try:
        context = ssl.create_default_context(cafile=arguments.cacert)
    except (OSError, ssl.SSLError) as error:
        reason = "the file contains none" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageInvalid(f"Cannot use the certificates in {arguments.cacert}: {reason}.") from None
    if arguments.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _listen(
    arguments: argparse.Namespace, template: AttemptRequest, signing: Signing, context: ssl.SSLContext | None
) -> int | None:
    # A user at a terminal can press keys, and sees their effect.
    is_interactive = arguments.output == "lines" and all(each.isatty() for each in (sys.stdin, sys.stdout, sys.stderr))
    screen = Terminal() if is_interactive else Screen(arguments.output)
    # The address was given by the person who runs the command.
    sender = Sender(clock=SystemClock(), policy=EgressPolicy(allow_private=True), ssl_context=context)
    forwarder = Forwarder(sender, template, screen, arguments.count)
    ended = forwarder.ended
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with warnings_shown(screen.note):
        async with connect_async(arguments, deadline=_DEADLINE_SECONDS) as client:
            queues = await _all_queues(client) if arguments.all else dict.fromkeys(arguments.queue)
            sessions = [QueueSession(client, arguments, forwarder, queue) for queue in queues]
            try:
                # The service may not respond, and the user may stop waiting.
                if await completed(_open(sessions), ended):
                    _say_start(arguments, sessions, template, signing)
                    with screen.reading(forwarder.repeat, ended.set) if isinstance(screen, Terminal) else nullcontext():
                        await _run(sessions, ended, arguments.for_seconds)
            finally:
                await sender.close(_CLOSING_SECONDS)
                is_removed = arguments.keep or all([await each.remove() for each in sessions])
    is_success = is_removed and not forwarder.is_gone and _is_success(arguments, forwarder)
    return None if is_success else FAILED


async def _open(sessions: Iterable[QueueSession]) -> None:
    for each in sessions:
        await each.open()


async def _run(sessions: Sequence[QueueSession], ended: asyncio.Event, seconds: float | None) -> None:
    """Run until a signal, a limit, or an error that stays, which is raised."""
    tasks = [asyncio.create_task(each.run()) for each in sessions]
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({*tasks, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    ended.set()
    for each in sessions:
        each.consumer.stop()
    late = set(tasks)
    for patience in _ENDING_SECONDS:
        # A request that a debugger holds must not hold the command. A consumer that is cancelled still sends results,
        # for as long as it is not cancelled again.
        if late:
            _, late = await asyncio.wait(late, timeout=patience)
        for task in late:
            task.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def _all_queues(client: AsyncDiscue) -> list[str]:
    found = [each.alias async for each in client.queues.list() if each.alias != SYSTEM_QUEUE_ALIAS]
    if not found:
        raise UsageInvalid("There is no queue. Create one with `discue queues set NAME`.")
    return found[::-1]


def _say_start(
    arguments: argparse.Namespace, sessions: Sequence[QueueSession], template: AttemptRequest, signing: Signing
) -> None:
    target, queues = template.destination.target, ", ".join(each.queue for each in sessions)
    matching = f" of the types {' '.join(arguments.types)}" if arguments.types else ""
    if arguments.filter is not None:
        matching += f" that pass {excerpt(bytes(arguments.filter).decode(), _FILTER_SHOWN)}"
    note(f"Forwarding {queues}{matching} to {target.scheme}://{target.authority}{target.path}. Ctrl-C stops.")
    if signing.is_new:
        note(f"Signed with a secret of your own, which stays the same:\n  export DISCUE_WEBHOOK_SECRET={signing.text}")
    else:
        note(f"Signed with the secret of {signing.source}; --print-secret prints it.")
    for each in sessions:
        # A new listener has no messages.
        if waiting := each.listener.messages.pending_count:
            count = "1 message waits" if waiting == 1 else f"{waiting} messages wait"
            note(f"{each.queue}: {count} from an earlier run.")


def _is_success(arguments: argparse.Namespace, forwarder: Forwarder) -> bool:
    """Return whether a script gets 0: without a limit, a user watched and decided."""
    if arguments.count is None and arguments.for_seconds is None:
        return True
    wanted, started = arguments.count or 0, forwarder.started
    unanswered = started - forwarder.accepted - forwarder.refused
    if wanted > started:
        note(f"{wanted - started} of {wanted} messages did not come in time.")
    elif not started:
        note("No message came in time.")
    if unanswered:
        count = "1 message" if unanswered == 1 else f"{unanswered} messages"
        note(f"The local server did not respond to {count} in time.")
    return forwarder.accepted > 0 and not forwarder.refused and forwarder.accepted >= wanted


class Forwarder:
    """Sends messages to one local server and counts them. Waits while it is away: only a response is an outcome."""

    def __init__(self, sender: Sender, template: AttemptRequest, screen: Screen, wanted: int | None) -> None:
        """`template` is a request without a message. `wanted` outcomes end the command."""
        self._sender = sender
        self._template = template
        self._screen = screen
        self._wanted = wanted
        self._is_away = False
        self._changed_at = 0.0
        self.ended = asyncio.Event()
        """Ends the command: nothing more is sent."""
        self.started = 0
        """Messages that are being forwarded or were."""
        self.accepted = 0
        self.refused = 0
        self.is_gone = False
        """Whether the local server has responded `410`, which ends the command."""

    def may_begin(self) -> bool:
        """Count a message that is about to be forwarded; False if there were enough already."""
        if self.started == self._wanted:
            return False
        self.started += 1
        return True

    async def forward(
        self, queue: str, listener: Listener, message: Message | PulledMessage, data: Data
    ) -> Outcome | None:
        """Send a message once. Returns None if it is neither accepted nor refused: the command ends."""
        body, codec = data
        pulled = message if isinstance(message, PulledMessage) else None
        request = msgspec.structs.replace(
            self._template,
            message_id=message.id,
            codec=codec,
            body=body,
            destination=Destination(self._template.destination.target, listener.queue_id, listener.id),
            number=1 if pulled is None else pulled.attempt,
            headers=tuple({**(message.headers or {}), **dict(self._template.headers)}.items()),
            media_type=message.content_type or "",
            traceparent="" if pulled is None else pulled.traceparent or "",
            # A pulled message has it in its headers.
            sequence=(message.sequence or 0) if pulled is None else 0,
        )
        outcome = await self._send(queue, message.key, request)
        if outcome is None:
            return None
        self.accepted += outcome.acknowledged
        self.refused += not outcome.acknowledged
        if self.accepted + self.refused == self._wanted:
            self.ended.set()
        # An incomplete response does not disable a listener in push mode.
        if outcome.status != HTTPStatus.GONE or outcome.error != "status":
            return outcome
        if not self.is_gone:
            self._screen.note(
                f"Stopped for 410 Gone: the service would now disable the listener of {queue}, and its messages would "
                "wait until it is enabled."
            )
        self.is_gone = True
        self.ended.set()
        return None

    async def repeat(self, forwarded: Forwarded) -> None:
        """Send a message again, which does not count."""
        await self._send(forwarded.queue, forwarded.key, forwarded.request, is_repeated=True)

    async def _send(
        self, queue: str, key: str | None, request: AttemptRequest, *, is_repeated: bool = False
    ) -> Outcome | None:
        """Send a request as soon as the local server is there. Returns None if the command ends before that."""
        pause = _FIRST_PAUSE
        while not self.ended.is_set():
            at = time.time()
            outcome = await self._sender.attempt(request)
            is_away = outcome.error in _AWAY
            # The outcome of a request that was sent before the last change is outdated.
            if is_away != self._is_away and at >= self._changed_at:
                self._is_away, self._changed_at = is_away, time.time()
                change = (
                    f"is away ({outcome.detail.rstrip('.')}). Messages wait; none is lost" if is_away else "is back"
                )
                self._screen.note(f"{request.destination.target.authority} {change}.")
            if not is_away:
                self._screen.show(Forwarded(at, queue, key, request, outcome, is_repeated))
                return outcome
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return None


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
        """Create the listener, or reuse the one that a killed run has left: it has the same alias."""
        client, arguments = self._client.with_options(deadline=_OPENING_SECONDS), self._arguments
        try:
            # Only to know whether the queue exists.
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
            types=arguments.types or None,
            filter=arguments.filter,
        )
        self.consumer = self._client.consume(self.queue, listener=self.listener.id, concurrency=self._leased)

    async def run(self) -> None:
        """Forward messages until the command ends. Raises an error that stays."""
        await self._forward_from_before()
        if not self._forwarder.ended.is_set():
            await self.consumer.run(self._handle)

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
        if self._arguments.filter is None and not self._arguments.types:
            return True
        tested = await self._client.listeners.test_filter(self.queue, self.listener.id, message_id=message.id)
        return tested.matches
