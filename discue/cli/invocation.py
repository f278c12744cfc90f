"""What a command is given, and what it is."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from discue.config import sources
from discue.config.settings import Command, Settings
from discue.domain.clock import Clock
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
