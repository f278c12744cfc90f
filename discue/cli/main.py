"""The entry point: parses the command line, reads the settings, and turns errors into exit codes."""

import argparse
import asyncio
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from discue import __version__
from discue.cli import check, copy, dev, init, keys, migrate, organizations, rotate_key, serve, unlock
from discue.cli.command import FAILED, FINE, WRONG_USAGE, Invocation, exit_code_of, print_error
from discue.config.settings import Settings
from discue.config.sources import flags_of, load
from discue.domain.clock import SystemClock
from discue.domain.errors import SettingsInvalid
from discue.domain.suggestions import suggestion
from discue.observability import logs
from discue.observability.logs import Log


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 on success, 1 on failure, 2 on wrong usage."""
    # Characters that the terminal cannot encode must not fail a command.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parser = command_parser()
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(parsed.parser.unknown_arguments(unknown))
    return exit_code_of(lambda: _run(parsed))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors suggest names, and are redacted: they may repeat an argument with a password."""

    def error(self, message: str) -> NoReturn:
        super().error(logs.redact(message))

    def unknown_arguments(self, unknown: Sequence[str]) -> str:
        """Return the error for arguments that this parser does not know, without the values of flags."""
        flags = [argument.partition("=")[0] for argument in unknown if argument.startswith("-")]
        known = self._option_string_actions
        return f"unrecognized arguments: {', '.join(flag + suggestion(flag, known) for flag in flags or unknown)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += suggestion(str(value), map(str, action.choices or ()))
            raise


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="discue",
        description="Asynchronous messaging over plain HTTP: publish a message, every listener receives it, signed.",
        epilog="`discue COMMAND --help` shows the arguments of a command. "
        "Exit codes: 0 success, 1 failure, 2 wrong usage or invalid settings.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"discue {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (dev, serve, init, keys, organizations, unlock, migrate, copy, rotate_key, check):
        module.add(commands)
    return parser


_ON_EXISTING_DATABASES: Final = ("keys", "organizations", "unlock", "rotate-key")


def _found_base(command: str) -> dict[str, str]:
    """Return the database of `discue dev` for a command that needs one, where it is the only one in the folder."""
    default = Settings().database_path
    if command not in _ON_EXISTING_DATABASES or default is None or default.exists():
        return {}
    # The folder may be another user's.
    return {"database": dev.BASE["database"]} if os.access(dev.DATABASE, os.R_OK) else {}


def _run(parsed: argparse.Namespace) -> int:
    clock = SystemClock()
    try:
        settings = load(flags_of(parsed), os.environ, Path.read_bytes, parsed.base or _found_base(parsed.command))
    except SettingsInvalid as error:
        # For `discue check`, invalid settings are a finding, not wrong usage.
        return print_error(error, FAILED if parsed.command == "check" else WRONG_USAGE)
    logs.configure(settings.log_format, settings.log_level, clock, sys.stderr)
    result = parsed.run(Invocation(parsed, settings, clock, Log()))
    code: int | None = asyncio.run(result) if inspect.iscoroutine(result) else result
    return code or FINE
