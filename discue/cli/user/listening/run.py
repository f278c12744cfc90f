"""Running `discue listen` to its end: signals, limits, and the exit code."""

from __future__ import annotations

import argparse
import asyncio
import signal
import ssl
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import uvloop

from discue.cli.exit_codes import FAILED, UsageInvalid
from discue.cli.output import excerpt, note
from discue.cli.user.command import connect_async
from discue.cli.user.listening.forwarding import Forwarder
from discue.cli.user.listening.screen import Screen
from discue.cli.user.listening.session import QueueSession
from discue.cli.user.listening.target import Signing, local_target, signing_of
from discue.cli.user.listening.terminal import Terminal, is_interactive
from discue.cli.user.waiting import warnings_shown
from discue.domain.clock import SystemClock
from discue.domain.egress import EgressPolicy
from discue.domain.message_data import TEXT
from discue.sending.request import AttemptRequest
from discue.sending.sender import Sender
from discue.server.signals import completed

if TYPE_CHECKING:
    from discue_client import AsyncDiscue

_DEADLINE_SECONDS: Final = 60.0
"""How long results are sent again: a service that restarts must get them."""
_CLOSING_SECONDS: Final = 0.2
_ENDING_SECONDS: Final = (5.0, 1.0, 1.0, 1.0)
"""How long requests to the local server may go on at the end, and then how long each cancellation may take."""
_SYSTEM: Final = "system/"
_FILTER_SHOWN: Final = 60


def listen(arguments: argparse.Namespace) -> int | None:
    """Forward messages until a signal or a limit. Returns the exit code."""
    target = local_target(arguments.url, allow_remote=arguments.allow_remote)
    signing, context = signing_of(arguments.secret), _tls(arguments)
    template = AttemptRequest(
        target=target,
        message_id="",
        codec=TEXT,
        body=b"",
        keys=signing.keys,
        queue_id="",
        listener_id="",
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
    screen = Terminal() if is_interactive(arguments.output) else Screen(arguments.output)
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
                # The service may not respond, and the user stop waiting.
                if await completed(_open(sessions), ended):
                    _say_start(arguments, sessions, template, signing)
                    with screen.reading(forwarder.repeat, ended.set):
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
        each.stop()
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
    found = [each.alias async for each in client.queues.list() if not each.alias.startswith(_SYSTEM)]
    if not found:
        raise UsageInvalid("There is no queue. Create one with `discue queues set NAME`.")
    return found[::-1]


def _say_start(
    arguments: argparse.Namespace, sessions: Sequence[QueueSession], template: AttemptRequest, signing: Signing
) -> None:
    target, queues = template.target, ", ".join(each.queue for each in sessions)
    matching = ""
    if arguments.filter is not None:
        matching = f" that pass {excerpt(bytes(arguments.filter).decode(), _FILTER_SHOWN)}"
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
