"""`discue tail`: shows attempts to deliver as they happen."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from discue.cli.declarations import Command, option, switch
from discue.cli.output import DIM, GREEN, RED, clock_time, coloured, printable, say, say_json
from discue.cli.user.arguments import QUEUE, duration, moment, name
from discue.cli.user.command import connect, until_interrupt, user_command

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client.models import Attempt

_POLL_SECONDS: Final = 1.0
_LATE_MS: Final = 2_000
"""How much later than its time an attempt may be listed: workers store outcomes in batches, by their own clocks."""


def command() -> Command:
    return user_command(
        run,
        QUEUE,
        option("--listener LISTENER", "only of this listener; default: all of them", name),
        switch("--failed", "only attempts that failed"),
        option("--since TIME", "begin with attempts of the past, such as 10m", moment),
        option("--for TIME", "end after this time", duration, dest="for_seconds"),
        description="Asks once a second. With --json, each attempt is an object on a line. Ctrl-C ends it.",
    )


def run(arguments: argparse.Namespace) -> None:
    until_interrupt(partial(_run, arguments))


def _run(arguments: argparse.Namespace) -> None:
    started_at = time.monotonic()
    with connect(arguments) as client:
        for batch in _batches(client, arguments):
            for listener, attempt in batch:
                _show(listener, attempt, as_json=arguments.json)
            if arguments.for_seconds is not None and time.monotonic() - started_at >= arguments.for_seconds:
                return
            time.sleep(_POLL_SECONDS)


def _batches(client: Discue, arguments: argparse.Namespace) -> Iterator[list[tuple[str, Attempt]]]:
    """Yield the new attempts of each poll in the order in which they ended, with the names of their listeners."""
    queue: str = arguments.queue
    state: Literal["failed"] | None = "failed" if arguments.failed else None
    since: int = arguments.since or round(time.time() * 1_000)
    # Attempts that may be listed again, and when they ended.
    shown: dict[str, int] = {}
    while True:
        names = [arguments.listener]
        if arguments.listener is None:
            names = [each.alias or each.id for each in client.queues.get(queue).listeners]
        new = [
            (name, each)
            for name in names
            for each in client.listeners.attempts(queue, name, created_after=since - 1, state=state)
            if each.id not in shown
        ]
        shown |= {each.id: each.created_at for _, each in new}
        since = max(since, max(shown.values(), default=0) - _LATE_MS)
        shown = {each: at for each, at in shown.items() if at >= since}
        yield sorted(new, key=lambda pair: pair[1].created_at)


def _show(listener: str, attempt: Attempt, *, as_json: bool) -> None:
    if as_json:
        say_json({"listener": listener, **{field: getattr(attempt, field) for field in attempt.__struct_fields__}})
        return
    is_good = attempt.state == "acknowledged"
    result = coloured(str(attempt.status or attempt.error), GREEN if is_good else RED)
    reason = "" if is_good else f"  {printable(attempt.detail or attempt.error)}"
    at = coloured(clock_time(attempt.created_at / 1_000), DIM)
    message = attempt.message_id or "(deleted)"
    say(f"{at} {message} {printable(listener)} attempt {attempt.number}  {result}  {attempt.took_ms} ms{reason}")
