"""Running `discue listen` to its end: signals, limits, output, and the exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import ssl
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import uvloop

from discue.cli.exit_codes import FAILED
from discue.cli.output import excerpt, note, say
from discue.cli.user.command import UsageInvalid, connect_async
from discue.cli.user.listening.attempts import printer
from discue.cli.user.listening.forwarding import Forwarded, Forwarder
from discue.cli.user.listening.keyboard import Keyboard, has_keyboard
from discue.cli.user.listening.screen import Screen
from discue.cli.user.listening.session import Counts, Plan, Session
from discue.cli.user.listening.target import Signing, local_target, signing_of

if TYPE_CHECKING:
    from discue.domain.egress import Target
    from discue_client import AsyncDiscue

_DEADLINE_SECONDS: Final = 60.0
"""How long results are sent again: a service that restarts must get them."""
_SYSTEM: Final = "system/"
_FILTER_SHOWN: Final = 60


def print_secret(arguments: argparse.Namespace) -> None:
    say(signing_of(arguments.secret).text)


def listen(arguments: argparse.Namespace, plan: Plan) -> int | None:
    """Forward messages until a signal or a limit. Returns the exit code."""
    target = local_target(arguments.url, allow_remote=arguments.allow_remote)
    signing, context = signing_of(arguments.secret), _tls(arguments)
    return uvloop.run(_listen(arguments, plan, target, (signing, context)))


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
    arguments: argparse.Namespace, plan: Plan, target: Target, security: tuple[Signing, ssl.SSLContext | None]
) -> int | None:
    signing, context = security
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    counts = Counts(plan.count, ended.set)
    keyboard: Keyboard | None = None
    screen = Screen(has_status=has_keyboard(arguments.output))
    show = printer(arguments.output, screen)

    def shown(forwarded: Forwarded) -> None:
        show(forwarded)
        counts.add(forwarded)
        if keyboard is not None:
            keyboard.add(forwarded)

    forwarder = Forwarder(
        target,
        signing,
        headers=dict(arguments.header),
        timeout_seconds=arguments.timeout,
        ssl_context=context,
        show=shown,
        note=screen.note,
    )
    if has_keyboard(arguments.output):
        keyboard = Keyboard(screen, forwarder, ended.set)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    with _NotesOfClient(screen):
        async with connect_async(arguments, deadline=_DEADLINE_SECONDS) as client:
            if arguments.all:
                plan = replace(plan, queues=await _all_queues(client))
            session = Session(client, plan, forwarder, counts=counts, note=screen.note)
            try:
                if await _opened(session, ended):
                    _say_start(session, plan, target, signing)
                    with keyboard.reading() if keyboard else nullcontext():
                        await _run(session, ended, plan)
            finally:
                await forwarder.close()
                is_removed = plan.keep or await session.remove()
    return None if is_removed and not session.is_gone and _is_success(plan, counts) else FAILED


async def _opened(session: Session, ended: asyncio.Event) -> bool:
    """Create the listeners. Returns False if a signal ends the command before they are there."""
    opening, waiting = asyncio.create_task(session.open()), asyncio.create_task(ended.wait())
    await asyncio.wait({opening, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not opening.done():
        # The service does not respond, and the user has stopped waiting.
        opening.cancel()
        await asyncio.wait({opening})
        return False
    opening.result()
    return True


async def _run(session: Session, ended: asyncio.Event, plan: Plan) -> None:
    """Run until a signal, a limit, or an error that stays, which is raised."""
    running = asyncio.create_task(session.run())
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({running, waiting}, timeout=plan.for_seconds, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    session.stop()
    await running


async def _all_queues(client: AsyncDiscue) -> tuple[str, ...]:
    found = [each.alias async for each in client.queues.list() if not each.alias.startswith(_SYSTEM)]
    if not found:
        raise UsageInvalid("There is no queue. Create one with `discue queues set NAME`.")
    return tuple(reversed(found))


def _say_start(session: Session, plan: Plan, target: Target, signing: Signing) -> None:
    queues = ", ".join(each.queue for each in session.opened)
    matching = f" that pass {excerpt(str(plan.filter), _FILTER_SHOWN)}" if plan.filter else ""
    note(f"Forwarding {queues}{matching} to {target.scheme}://{target.authority}{target.path}. Ctrl-C stops.")
    if signing.is_new:
        note(f"Signed with a secret of your own, which stays the same:\n  export DISCUE_WEBHOOK_SECRET={signing.text}")
    else:
        note(f"Signed with the secret of {signing.source}; --print-secret prints it.")
    for each in session.opened:
        if each.continues and (waiting := each.listener.messages.pending_count):
            count = "1 message waits" if waiting == 1 else f"{waiting} messages wait"
            note(f"{each.queue}: {count} from an earlier run.")


def _is_success(plan: Plan, counts: Counts) -> bool:
    """Return whether a script gets 0: without a limit, a user watched and decided."""
    if plan.count is None and plan.for_seconds is None:
        return True
    if counts.missing:
        note(f"{counts.missing} of {plan.count} messages did not come in time.")
    elif not counts.started:
        note("No message came in time.")
    return counts.accepted > 0 and not (counts.refused or counts.missing)


class _NotesOfClient(logging.Handler):
    """Shows what the consumer logs, such as that the service is away, as notes. Use it as a context manager."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.INFO)
        self._screen = screen
        self._logger = logging.getLogger("discue_client")

    def emit(self, record: logging.LogRecord) -> None:
        # Not each attempt to send a request again.
        if record.module == "consumer":
            self._screen.note(record.getMessage())

    def __enter__(self) -> None:
        self._kept = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.level, self._logger.propagate = self._kept
