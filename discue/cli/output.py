"""Output of commands: JSON for programs, tables and lines for people."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

BOLD, DIM, GREEN, RED = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m"
PLAIN: Final = "\x1b[0m"
_GAP: Final = "  "
_BODY_SHOWN: Final = 200


def say(text: str) -> None:
    """Print a line and flush it."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line for people to the error output: the standard output stays for results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """Print the result of a command as JSON, indented on a terminal. Omits fields without a value."""
    say_data(_without_none(value))


def say_result(value: Any, text: str, *, as_json: bool) -> None:
    """Print the result of a command: as JSON for programs, or as a text for people."""
    if as_json:
        say_json(value)
    else:
        say(text)


def say_data(value: Any) -> None:
    """Print a value as JSON, indented on a terminal."""
    import msgspec  # noqa: PLC0415 - a command imports it with the client

    content = msgspec.json.encode(value)
    say(format_json(content) if sys.stdout.isatty() else content.decode())


def format_json(content: bytes) -> str:
    import msgspec  # noqa: PLC0415 - a command imports it with the client

    return msgspec.json.format(content, indent=2).decode()


def json_text(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _without_none(value: Any, *, is_content: bool = False) -> Any:
    """Return the value without fields that are None. The content of a message keeps its nulls."""
    if (fields := getattr(value, "__struct_fields__", None)) is not None:
        names = (
            (name, getattr(value, field)) for name, field in zip(value.__struct_encode_fields__, fields, strict=True)
        )
        return {name: _without_none(each, is_content=True) for name, each in names if each is not None}
    if isinstance(value, dict):
        kept = value.items() if is_content else ((name, each) for name, each in value.items() if each is not None)
        return {name: _without_none(each, is_content=is_content) for name, each in kept}
    if isinstance(value, list | tuple):
        return [_without_none(each, is_content=is_content) for each in value]
    return value


def has_colour(stream: TextIO) -> bool:
    """Return whether to colour what is written: on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return the text in a colour, if the stream (standard output) shows colours."""
    return f"{colour}{text}{PLAIN}" if has_colour(stream or sys.stdout) else text


def printable(text: str) -> str:
    """Return the text without control characters: what a stranger published must not control the terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns with headings. On a terminal, the last column is cut off where a line would wrap."""
    listed = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(columns, *listed, strict=True)]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    say(coloured(_line(columns, widths, limit), BOLD))
    for row in listed:
        say(_line(row, widths, limit))


def _line(cells: Sequence[str], widths: Sequence[int], limit: int) -> str:
    text = _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
    return f"{text[: limit - 1]}…" if 0 < limit < len(text) else text


def say_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one per line. Values that are empty are left out."""
    shown = [(name, printable(value)) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{coloured(name.ljust(width), DIM)}{_GAP}{value}")


def when(at: int | None) -> str:
    """Return a time, in milliseconds since the epoch, in UTC; "" for none."""
    return f"{datetime.fromtimestamp(at / 1_000, UTC):%Y-%m-%d %H:%M:%S}Z" if at else ""


def clock_time(at: float) -> str:
    """Return the time of day of this machine, for lines that appear as things happen."""
    return f"{datetime.fromtimestamp(at, UTC).astimezone():%H:%M:%S}"


def excerpt(text: str, length: int = 60) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def beginning(body: str) -> str:
    """Return a sentence with the beginning of a response's body, to be put after another one; "" for no body."""
    shown = excerpt(body, _BODY_SHOWN)
    return f" Its response begins: {shown}" if shown else ""
