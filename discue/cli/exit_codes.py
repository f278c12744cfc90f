"""Exit codes of commands, and the errors that lead to them."""

import os
import sys
from collections.abc import Callable
from typing import Final

FINE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
"""Wrong usage, or settings that are missing or invalid."""
NOT_ALLOWED: Final = 4
"""The API key is missing, not accepted, or lacks a scope."""
NO_RESPONSE: Final = 5
"""The service did not respond, or another server did."""


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
