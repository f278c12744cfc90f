"""Errors of commands: their exit codes, and their texts, which name arguments."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import Final

FINE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
"""Wrong usage, or settings that are missing or invalid."""
NOT_ALLOWED: Final = 4
"""The API key is missing, not accepted, or lacks a scope."""
NO_RESPONSE: Final = 5
"""The service did not respond, or another server did."""

_SENT_AS: Final = {
    "alias": "named",
    "data_base64": "file",
    "deliver_at": "delay",
    "expires_at": "expires_in",
    "retention_seconds": "retention",
}
"""Arguments by the members of requests that they are sent as, if the names differ."""


class CommandFailed(Exception):
    """The command cannot do what it was told. The text says why, and what to do."""

    exit_code = FAILED


class UsageInvalid(CommandFailed):
    """The arguments are not acceptable. The text says which, and what is."""

    exit_code = WRONG_USAGE


class KeyMissing(CommandFailed):
    """Neither the environment nor a profile has a key for the service. The text says what to do."""

    exit_code = NOT_ALLOWED


def guarded(run: Callable[[], int | None]) -> int:
    """Return the exit code of `run`, None for 0. Prints CommandFailed and errors of the operating system.

    Ctrl-C is a failure.
    """
    try:
        return run() or FINE
    except CommandFailed as error:
        return say_error(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of the output has exited. Without this, the interpreter prints another error when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        from discue.domain.connection_errors import connection_problem  # noqa: PLC0415 - only errors need it

        place = f"{error.filename}: " if error.filename else ""
        return say_error(f"{place}{connection_problem(error)}", FAILED)
    except KeyboardInterrupt:
        return FAILED


def say_error(text: str, code: int) -> int:
    """Print an error, without secrets, and return the code."""
    from discue.observability.logs import redact  # noqa: PLC0415 - only errors need it

    sys.stderr.write(redact(f"discue: {text}") + "\n")
    return code


def with_arguments(text: str, pointers: Iterable[str], parser: argparse.ArgumentParser) -> str:
    """Return an error that names the arguments of the command instead of JSON pointers, where there is one.

    The user has typed `--url`, not the member `/notify_url` of a body.
    """
    # The longest first: one pointer may be the beginning of another one.
    for pointer in sorted(set(pointers), key=len, reverse=True):
        name = argument_of(pointer, parser)
        if name:
            for subject in (f"The value at {pointer} ", f"The query parameter {pointer.removeprefix('?')} "):
                text = text.replace(subject, f"{name} ")
            text = text.replace(f"{pointer}: ", f"{name}: ")
    return text


def argument_of(pointer: str, parser: argparse.ArgumentParser) -> str:
    """Return the argument that a JSON pointer or a query parameter is about, and the place within it; "" if none is."""
    member, slash, place = pointer.removeprefix("?").removeprefix("/").partition("/")
    shown = _shown(member, parser) or _shown(_SENT_AS.get(member, ""), parser)
    # The place of an element says nothing about an argument that is repeated.
    return f"{shown} at {slash}{place}" if shown and place and not place.isdecimal() else shown


def _shown(name: str, parser: argparse.ArgumentParser) -> str:
    """Return an argument as the command line has it: an option, or the usage's name of a positional one."""
    option = f"--{name.replace('_', '-')}"
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        if action.dest == name or option in action.option_strings:
            return action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
    return ""
