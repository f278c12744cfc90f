"""The entry point: finds the command, reads the settings, and turns what goes wrong into a line and an exit code."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from discue import __version__
from discue.cli import check, copy, dev, init, keys, migrate, organizations, rotate_key, serve, unlock
from discue.cli.command import FAILED, WRONG_USAGE, Invocation, complain, exit_code_of
from discue.config.sources import flags_of, load
from discue.domain.clock import SystemClock
from discue.domain.errors import SettingsInvalid
from discue.observability import logs
from discue.observability.logs import Log


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 when it did what it is for, 1 when it failed; wrong usage is 2."""
    # What a terminal cannot show must not end a command.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parsed = command_parser().parse_args(arguments)
    return exit_code_of(lambda: _run(parsed))


class _Parser(argparse.ArgumentParser):
    """What it complains of may repeat an argument that holds a password."""

    def error(self, message: str) -> NoReturn:
        super().error(logs.redact(message))


def command_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="discue",
        description="Asynchronous messaging over plain HTTP: publish a message, every listener receives it, signed.",
        epilog="`discue COMMAND --help` lists what a command takes. "
        "Exit codes: 0 fine, 1 failed, 2 wrong usage or invalid settings.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"discue {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (dev, serve, init, keys, organizations, unlock, migrate, copy, rotate_key, check):
        module.add(commands)
    return parser


def _run(parsed: argparse.Namespace) -> int:
    clock = SystemClock()
    try:
        settings = load(flags_of(parsed), os.environ, Path.read_bytes, parsed.base)
    except SettingsInvalid as error:
        # To find out whether they are valid is what `check` is for: they are a finding there.
        return complain(error, FAILED if parsed.command == "check" else WRONG_USAGE)
    logs.configure(settings.log_format, settings.log_level, clock, sys.stderr)
    code: int = parsed.run(Invocation(parsed, settings, clock, Log()))
    return code
