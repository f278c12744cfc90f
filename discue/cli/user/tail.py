"""`discue tail`: shows attempts to deliver as they happen."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
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
        tail = _Tail(client, arguments)
        while True:
            for listener, attempt in tail.new():
                _show(listener, attempt, as_json=arguments.json)
            if arguments.for_seconds is not None and time.monotonic() - started_at >= arguments.for_seconds:
                return
            time.sleep(_POLL_SECONDS)


class _Tail:
    """Finds the attempts of a queue that were not shown yet."""

    def __init__(self, client: Discue, arguments: argparse.Namespace) -> None:
        self._client = client
        self._queue: str = arguments.queue
        self._only: str | None = arguments.listener
        self._state: Literal["failed"] | None = "failed" if arguments.failed else None
        self._since: int = arguments.since or round(time.time() * 1_000)
        self._shown: dict[str, int] = {}
        """Attempts that may be listed again, and when they ended."""

    def new(self) -> list[tuple[str, Attempt]]:
        """Return the names of listeners, and their attempts, in the order in which these ended."""
        found = [(alias, each) for alias in self._listeners() for each in self._attempts(alias)]
        new = [(alias, each) for alias, each in found if each.id not in self._shown]
        self._shown |= {each.id: each.created_at for _, each in new}
        newest = max([self._since, *self._shown.values()])
        self._since = max(self._since, newest - _LATE_MS)
        self._shown = {each: at for each, at in self._shown.items() if at >= self._since}
        return sorted(new, key=lambda pair: pair[1].created_at)

    def _listeners(self) -> list[str]:
        if self._only is not None:
            return [self._only]
        return [each.alias or each.id for each in self._client.queues.get(self._queue).listeners]

    def _attempts(self, listener: str) -> Iterable[Attempt]:
        return self._client.listeners.attempts(self._queue, listener, created_after=self._since - 1, state=self._state)


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
