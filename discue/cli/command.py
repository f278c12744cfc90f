"""The parser, arguments, exit codes and progress line of all commands."""

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
    """The subparsers of argparse, whose class has no public name."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,  # noqa: A002 - the name in argparse
        description: str,
        allow_abbrev: bool,
    ) -> argparse.ArgumentParser: ...


@dataclass(frozen=True, slots=True)
class Invocation:
    """The parsed arguments of a command, and the settings in effect."""

    arguments: argparse.Namespace
    settings: Settings
    clock: Clock
    log: Log


Run = Callable[[Invocation], int]
"""Runs the command and returns its exit code. Raises DiscueError with the text to print."""


def add_command(
    commands: Commands, name: str, command: Command, run: Run, *, summary: str, description: str = ""
) -> argparse.ArgumentParser:
    """Add a command with the flags of its settings. Returns its parser, for its own arguments."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[:1].upper()}{summary[1:]}. {description}".rstrip(),
        allow_abbrev=False,
    )
    flags = parser.add_argument_group("settings", "flags override DISCUE_… variables, which override the TOML file")
    sources.add_flags(flags, command)
    parser.set_defaults(run=run, base={}, command=command)
    return parser


def say(text: str) -> None:
    """Print a line and flush it."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


FINE, FAILED, WRONG_USAGE = 0, 1, 2


def exit_code_of(run: Callable[[], int]) -> int:
    """Return the exit code of `run`. An expected error is printed to standard error, and the exit code is 1."""
    try:
        return run()
    except DiscueError as error:
        return print_error(error, FAILED)
    except BrokenPipeError:
        # The reader of the output has exited. Without this, the interpreter prints another error when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return print_error(DiscueError(f"{place}{error.strerror or type(error).__name__}"), FAILED)
    except KeyboardInterrupt:
        return FAILED


def print_error(error: DiscueError, code: int) -> int:
    """Print the error with all its faults, and return the code."""
    lines = [f"discue: {error.detail}"]
    if not isinstance(error, SettingsInvalid):
        lines += [f"  {fault.pointer}: {fault.detail}" for fault in error.faults]
    sys.stderr.write(logs.redact("\n".join(lines)) + "\n")
    return code


_REWRITTEN_SECONDS: Final = 0.1
_REPEATED_SECONDS: Final = 10.0
_CLEAR_LINE: Final = "\r\x1b[K"


class ProgressLine:
    """The progress of a long command: a line that is redrawn on a terminal, and repeated every ten seconds elsewhere.

    Nothing is written before the first interval has passed.
    """

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._every = _REWRITTEN_SECONDS if stream.isatty() else _REPEATED_SECONDS
        self._started_at = self._shown_at = clock.monotonic()
        self._started_with = 0
        self._total = 0

    def begin(self, done: int, total: int) -> None:
        """Start a phase over `total` rows, of which `done` were processed before."""
        self._started_at = self._clock.monotonic()
        self._started_with, self._total = done, total

    def show(self, what: str, done: int) -> None:
        """Show the number of processed rows and the current step."""
        now = self._clock.monotonic()
        if now - self._shown_at >= self._every:
            self._shown_at = now
            self._write(self._text(what, done, now - self._started_at))

    def end(self) -> None:
        """Clear the line."""
        if self._stream.isatty():
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()

    def _text(self, what: str, done: int, seconds: float) -> str:
        share = 100 * done // max(self._total, done, 1)
        rate = round((done - self._started_with) / max(seconds, 0.001))
        return f"{what}: {done:,} of {self._total:,} rows, {share}%, {rate:,} per second"

    def _write(self, text: str) -> None:
        if self._stream.isatty():
            columns = shutil.get_terminal_size().columns
            self._stream.write(_CLEAR_LINE + text[: columns - 1])
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
