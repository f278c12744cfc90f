"""Lines that `discue listen` prints for each request to the local server."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Literal

from discue.cli.output import DIM, GREEN, RED, clock_time, coloured, excerpt, printable
from discue.cli.user.listening.forwarding import Forwarded
from discue.cli.user.listening.screen import Screen
from discue.domain.attempts import Outcome

Style = Literal["lines", "json", "quiet"]

_RESPONSE_SHOWN: Final = 100
_KEY_SHOWN: Final = 24


def printer(style: Style, screen: Screen) -> Callable[[Forwarded], None]:
    """Return a function that prints a request and its outcome. `quiet` prints only refused ones, as notes."""
    if style == "json":
        return lambda forwarded: screen.line(json_line(forwarded))
    if style == "quiet":
        return lambda forwarded: None if forwarded.outcome.acknowledged else screen.note(line_of(forwarded))
    return lambda forwarded: screen.line(line_of(forwarded))


def line_of(forwarded: Forwarded) -> str:
    """Return time, id, queue, attempt and key of a message, then the outcome, its duration and size."""
    message, outcome = forwarded.message, forwarded.outcome
    attempt = f" attempt {message.attempt}" if message.attempt > 1 else ""
    attempt = " again" if forwarded.is_repeated else attempt
    key = f" key {excerpt(message.key, _KEY_SHOWN)}" if message.key else ""
    result = coloured(_result(forwarded), GREEN if outcome.acknowledged else RED)
    queue = printable(forwarded.source.queue)
    line = (
        f"{coloured(clock_time(forwarded.at), DIM)} {message.id} {queue}{attempt}{printable(key)}"
        f"  {result}  {outcome.duration_ms} ms  {len(message.body):,} bytes"
    )
    return line if outcome.acknowledged else f"{line}  {printable(_reason(forwarded))}".rstrip()


def _result(forwarded: Forwarded) -> str:
    outcome = forwarded.outcome
    status = outcome.status
    if not _is_complete(outcome):
        return outcome.error
    return f"{status} {HTTPStatus(status).phrase}" if status in _KNOWN else str(status)


_WITH_RESPONSE: Final = frozenset({"", "status", "redirect"})
_KNOWN: Final = frozenset(HTTPStatus)


def _reason(forwarded: Forwarded) -> str:
    """Return the first line of the response, or why there was none, or only a part."""
    outcome = forwarded.outcome
    if not _is_complete(outcome):
        return outcome.detail
    text = next((line for line in outcome.excerpt.decode(errors="replace").splitlines() if line.strip()), "")
    return excerpt(text, _RESPONSE_SHOWN)


def _is_complete(outcome: Outcome) -> bool:
    return outcome.error in _WITH_RESPONSE


def json_line(forwarded: Forwarded) -> str:
    """Return the request and its outcome as JSON on one line."""
    message, outcome = forwarded.message, forwarded.outcome
    shown = {
        "at": round(forwarded.at * 1_000),
        "queue": forwarded.source.queue,
        "message_id": message.id,
        "key": message.key,
        "attempt": message.attempt,
        "bytes": len(message.body),
        "accepted": outcome.acknowledged,
        "status": outcome.status,
        "error": outcome.error,
        "took_ms": outcome.duration_ms,
    }
    if not outcome.acknowledged:
        shown["reason"] = _reason(forwarded)
    return json.dumps({name: value for name, value in shown.items() if value is not None}, ensure_ascii=False)
