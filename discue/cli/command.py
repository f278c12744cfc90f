"""TODO."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TextIO

from discue.config import sources
from discue.config.settings import Command, Settings
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError, SettingsInvalid
from discue.observability import logs
from discue.observability.logs import Log


class Commands(Protocol):
    """What commands are added to: that of argparse has no public name."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,  # noqa: A002 - argparse calls it so
        description: str,
        allow_abbrev: bool,
    ) -> argparse.ArgumentParser: ...


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of a command: its arguments, parsed, and the settings that hold."""

    arguments: argparse.Namespace
    settings: Settings
    clock: Clock
    log: Log


Run = Callable[[Invocation], int]
"""Does what the command is for, and returns the exit code. Raises DiscueError with a sentence for people."""


def add_command(
    commands: Commands, name: str, command: Command, run: Run, *, summary: str, description: str = ""
) -> argparse.ArgumentParser:
    """A command with the flags of its settings. Its own arguments are added to what this returns."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[:1].upper()}{summary[1:]}. {description}".rstrip(),
        allow_abbrev=False,
    )
    flags = parser.add_argument_group("settings", "flags win over DISCUE_… variables, those over the TOML file")
    sources.add_flags(flags, command)
    parser.set_defaults(run=run, base={}, command=command)
    return parser


def say(text: str) -> None:
    """A line for the person who runs the command, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


FINE, FAILED, WRONG_USAGE = 0, 1, 2


def exit_code_of(run: Callable[[], int]) -> int:
    """What `run` returns. What it raises of what can go wrong becomes a line on standard error, and exit code 1."""
    try:
        return run()
    except DiscueError as error:
        return complain(error, FAILED)
    except BrokenPipeError:
        # Whoever read the output went away; the interpreter would complain about it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return complain(DiscueError(f"{place}{error.strerror or type(error).__name__}"), FAILED)
    except KeyboardInterrupt:
        return FAILED


def complain(error: DiscueError, code: int) -> int:
    """Say what is wrong, with every place of it. Returns the code."""
    lines = [f"discue: {error.detail}"]
    if not isinstance(error, SettingsInvalid):
        lines += [f"  {fault.pointer}: {fault.detail}" for fault in error.faults]
    sys.stderr.write(logs.redact("\n".join(lines)) + "\n")
    return code


_REWRITTEN_SECONDS: Final = 0.1
_REPEATED_SECONDS: Final = 10.0
_CLEAR_LINE: Final = "\r\x1b[K"


class ProgressLine:
    """About so many rows in all. Nothing is written for what is over at once."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._every = _REWRITTEN_SECONDS if stream.isatty() else _REPEATED_SECONDS
        self._begun_at = self._shown_at = clock.monotonic()
        self._begun_with = 0
        self._total = 0

    def begin(self, done: int, total: int) -> None:
        """Something of `total` rows, of which so many were done before."""
        self._begun_at = self._clock.monotonic()
        self._begun_with, self._total = done, total

    def show(self, what: str, done: int) -> None:
        """It has come so far, and is at `what`."""
        now = self._clock.monotonic()
        if now - self._shown_at >= self._every:
            self._shown_at = now
            self._write(self._text(what, done, now - self._begun_at))

    def end(self) -> None:
        """Leave the line to others."""
        if self._stream.isatty():
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()

    def _text(self, what: str, done: int, seconds: float) -> str:
        share = 100 * done // max(self._total, done, 1)
        rate = round((done - self._begun_with) / max(seconds, 0.001))
        return f"{what}: {done:,} of {self._total:,} rows, {share}%, {rate:,} a second"

    def _write(self, text: str) -> None:
        if self._stream.isatty():
            columns = shutil.get_terminal_size().columns
            self._stream.write(_CLEAR_LINE + text[: columns - 1])
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
