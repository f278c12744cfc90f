"""Lines that `discue listen` prints for each request to the local server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Literal

from discue.cli.output import DIM, GREEN, RED, clock_time, coloured, excerpt, note, printable
from discue.cli.user.listening.forwarding import Forwarded

Style = Literal["lines", "json", "quiet"]

_RESPONSE_SHOWN: Final = 100
_KEY_SHOWN: Final = 24


def printer(style: Style) -> Callable[[Forwarded], None]:
    """Return what prints a request and its outcome. `quiet` prints only those that the local server refused."""
    if style == "json":
        return lambda forwarded: _write(json_line(forwarded))
    if style == "quiet":
        return lambda forwarded: None if forwarded.outcome.acknowledged else note(line_of(forwarded))
    return lambda forwarded: _write(line_of(forwarded))


def _write(line: str) -> None:
    # One write per line: readers of a pipe see each line as soon as it is there.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def line_of(forwarded: Forwarded) -> str:
    """Return time, id, queue, attempt and key of a message, then the outcome, its duration and size."""
    message, outcome = forwarded.message, forwarded.outcome
    attempt = f" attempt {message.attempt}" if message.attempt > 1 else ""
    key = f" key {excerpt(message.key, _KEY_SHOWN)}" if message.key else ""
    result = coloured(_result(forwarded), GREEN if outcome.acknowledged else RED)
    line = (
        f"{coloured(clock_time(forwarded.at), DIM)} {message.id} {printable(forwarded.queue)}{attempt}{printable(key)}"
        f"  {result}  {outcome.duration_ms} ms  {len(message.body):,} bytes"
    )
    return line if outcome.acknowledged else f"{line}  {printable(_reason(forwarded))}".rstrip()


def _result(forwarded: Forwarded) -> str:
    status = forwarded.outcome.status
    if not status:
        return forwarded.outcome.error
    return f"{status} {HTTPStatus(status).phrase}" if status in _KNOWN else str(status)


_KNOWN: Final = frozenset(HTTPStatus)


def _reason(forwarded: Forwarded) -> str:
    """Return the first line of the response, or why there was none."""
    outcome = forwarded.outcome
    text = next((line for line in outcome.excerpt.decode(errors="replace").splitlines() if line.strip()), "")
    return excerpt(text, _RESPONSE_SHOWN) or ("" if outcome.status else outcome.detail)


def json_line(forwarded: Forwarded) -> str:
    """Return the request and its outcome as JSON on one line."""
    message, outcome = forwarded.message, forwarded.outcome
    shown = {
        "at": round(forwarded.at * 1_000),
        "queue": forwarded.queue,
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
