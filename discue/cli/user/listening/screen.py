"""The output of `discue listen`: a line for each request to the local server, and notes."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple

from discue.cli.output import DIM, GREEN, RED, clock_time, coloured, excerpt, note, printable, say
from discue.domain.attempts import Outcome
from discue.domain.errors import reason_phrase
from discue.sending.request import AttemptRequest

Style = Literal["lines", "json", "quiet"]

_RESPONSE_SHOWN: Final = 100
_KEY_SHOWN: Final = 24
_COMPLETE: Final = frozenset({"", "status", "redirect"})
"""Errors of outcomes whose response was read to its end."""
_KNOWN: Final = frozenset(HTTPStatus)


class Forwarded(NamedTuple):
    """A request to the local server, and its outcome."""

    at: float
    """Seconds since the epoch."""
    queue: str
    key: str | None
    request: AttemptRequest
    outcome: Outcome
    is_repeated: bool
    """Whether a user asked to repeat it: it is not an attempt to deliver the message."""

    @property
    def reason(self) -> str:
        """The first line of the response, or why there was none, or only a part."""
        if self.outcome.error not in _COMPLETE:
            return self.outcome.detail
        lines = self.outcome.excerpt.decode(errors="replace").splitlines()
        return excerpt(next((line for line in lines if line.strip()), ""), _RESPONSE_SHOWN)


Repeat = Callable[[Forwarded], Coroutine[Any, Any, None]]
"""Sends a request again."""


class Screen:
    """Writes requests to standard output, and notes to the error output."""

    def __init__(self, style: Style) -> None:
        self._style = style

    def show(self, forwarded: Forwarded) -> None:
        """Write a request and its outcome. `quiet` writes only refused ones, as notes."""
        if self._style == "json":
            self.line(json_line(forwarded))
        elif self._style == "lines":
            self.line(line_of(forwarded))
        elif not forwarded.outcome.acknowledged:
            self.note(line_of(forwarded))

    def line(self, text: str) -> None:
        say(text)

    def note(self, text: str) -> None:
        note(text)

    def reading(self, repeat: Repeat, stop: Callable[[], None]) -> AbstractContextManager[None]:
        """Act on keys while the block runs. Without a terminal, there are none."""
        del repeat, stop
        return nullcontext()


def line_of(forwarded: Forwarded) -> str:
    """Return time, id, queue, attempt and key of a message, then the outcome, its duration and size."""
    request, outcome = forwarded.request, forwarded.outcome
    attempt = f" attempt {request.number}" if request.number > 1 else ""
    attempt = " again" if forwarded.is_repeated else attempt
    key = f" key {excerpt(forwarded.key, _KEY_SHOWN)}" if forwarded.key else ""
    phrase = f" {reason_phrase(outcome.status)}" if outcome.status in _KNOWN else ""
    result = f"{outcome.status}{phrase}" if outcome.error in _COMPLETE else outcome.error
    reason = "" if outcome.acknowledged else f"  {printable(forwarded.reason)}"
    return (
        f"{coloured(clock_time(forwarded.at), DIM)} {request.message_id} {printable(forwarded.queue)}{attempt}"
        f"{printable(key)}  {coloured(result, GREEN if outcome.acknowledged else RED)}  {outcome.duration_ms} ms"
        f"  {len(request.body):,} bytes{reason}"
    ).rstrip()


def json_line(forwarded: Forwarded) -> str:
    """Return the request and its outcome as JSON on one line."""
    request, outcome = forwarded.request, forwarded.outcome
    shown = {
        "at": round(forwarded.at * 1_000),
        "queue": forwarded.queue,
        "message_id": request.message_id,
        "key": forwarded.key,
        "attempt": request.number,
        "bytes": len(request.body),
        "accepted": outcome.acknowledged,
        "status": outcome.status,
        "error": outcome.error,
        "took_ms": outcome.duration_ms,
        "reason": None if outcome.acknowledged else forwarded.reason,
    }
    return json.dumps({name: value for name, value in shown.items() if value is not None}, ensure_ascii=False)
