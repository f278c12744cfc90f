"""Arguments that several commands take: durations, times, headers, JSON, and data from files."""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from discue.cli.declarations import Argument, argument, option, repeated
from discue.cli.exit_codes import CommandFailed, UsageInvalid

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0, None: 1.0}
_STDIN: Final = "-"
_LONGEST_KEY: Final = 255


def duration(text: str) -> float:
    """Parse a duration such as 500ms, 30s, 10m, 2h, 3d or 1w. Returns seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 30s, 10m, 2h or 3d")
    return float(found[1]) * _UNITS[found[2]]


def moment(text: str) -> int:
    """Parse a time: a duration before now, or a date in ISO 8601. Returns milliseconds since the epoch."""
    if _DURATION.fullmatch(text):
        return round((time.time() - duration(text)) * 1_000)
    try:
        return _milliseconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a duration such as 2h nor a time such as 2026-07-01T12:00Z"
        ) from None


def instant(text: str) -> int:
    """Parse a date in ISO 8601. Returns milliseconds since the epoch."""
    try:
        return _milliseconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-07-01T12:00Z") from None


def _milliseconds(text: str) -> int:
    parsed = datetime.fromisoformat(text)
    # Logs and the API speak UTC: a time without a zone is one.
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1_000)


def name(text: str) -> str:
    """Parse an alias or an id, which becomes a segment of a path."""
    if text in ("", ".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} is neither an alias nor an id")
    return text


def alias(text: str) -> str:
    """Parse the alias of what may be created, or its id."""
    from discue.domain.aliases import check_alias  # noqa: PLC0415 - `discue --help` does not wait for it
    from discue.domain.errors import Unprocessable  # noqa: PLC0415 - as above

    try:
        check_alias(name(text))
    except Unprocessable as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an alias: it {error.faults[0].detail}") from None
    return text


def event_type(text: str) -> str:
    """Parse the type of an event type that may be created, or its id."""
    from discue.domain.errors import Unprocessable  # noqa: PLC0415 - as above
    from discue.domain.event_types import check_type  # noqa: PLC0415 - as above

    try:
        check_type(text, "/type")
    except Unprocessable as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a type: it {error.faults[0].detail}") from None
    return text


def idempotency_key(text: str) -> str:
    if not (1 <= len(text) <= _LONGEST_KEY and text.isascii() and text.isprintable() and " " not in text):
        raise argparse.ArgumentTypeError(f"must have 1 to {_LONGEST_KEY} visible ASCII characters")
    return text


def header(text: str) -> tuple[str, str]:
    """Parse a header such as `Name: value`."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not a header such as 'Name: value'")
    return name.strip().lower(), value.strip()


def positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def content_of(text: str) -> bytes:
    """Return an argument's content: itself, that of a file for `@FILE`, or the standard input for `-`."""
    if text == _STDIN:
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return text.encode()
    return file_content(text[1:])


def file_content(name: str) -> bytes:
    """Return the content of a file, or the standard input for `-`. Raises CommandFailed with its name."""
    if name == _STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise CommandFailed(f"Cannot read {name}: {error.strerror}.") from None


def json_of(content: bytes, what: str) -> Any:
    """Return JSON as it is, checked: numbers keep their digits on the way. Raises UsageInvalid."""
    import msgspec  # noqa: PLC0415 - a command imports it with the client

    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageInvalid(f"{what} is not JSON: {error}.") from None
    return msgspec.Raw(content)


QUEUE: Final = argument("queue", "alias or id of the queue", name)
LISTENER: Final = argument("listener", "alias or id of the listener", name)
HEADERS: Final = repeated(
    "--header NAME:VALUE", "header of each request to a listener; can be repeated", header, dest="headers"
)
TYPE: Final = option("--type TYPE", "type of the event, such as order.paid")
DELAY: Final = option("--delay TIME", "deliver it later, such as 10m or 2h", duration)


def limit(default: int) -> Argument:
    """Return the option that bounds a list."""
    return option("--limit N", f"list at most N; default: {default}", positive, default=default)
