"""Shared parts of users' commands: arguments, the client, and exit codes of its errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from discue.cli.argument_names import with_arguments
from discue.cli.exit_codes import FAILED, FINE, NO_RESPONSE, NOT_ALLOWED, WRONG_USAGE, guarded, say_error
from discue.cli.verbs import Commands, add_verbs

if TYPE_CHECKING:
    from discue.cli.user.profiles import ServiceTarget
    from discue_client import APIError, AsyncDiscue, Discue
    from discue_client.errors import DiscueError

Run: TypeAlias = Callable[[argparse.Namespace], int | None]
"""Runs a command and returns its exit code, None for 0. Raises CommandFailed, UsageInvalid and errors of the client."""

WRITES_BODY: Final = "writes_body"
"""The default that commands set if their caller writes the body of a request: errors then name places in it."""
JSON_HELP: Final = "print JSON instead of text"
_DEADLINE_SECONDS: Final = 10.0
"""How long a request is retried: a user waits for it."""
_LOCKED_OUT: Final = "locked_out"


class CommandFailed(Exception):
    """The command cannot do what it was told. The text says why, and what to do."""


class UsageInvalid(Exception):
    """The arguments are not acceptable. The text says which, and what is."""


class KeyMissing(Exception):
    """Neither the environment nor a profile has a key for the service. The text says what to do."""


def add_group(commands: Commands, name: str, *, summary: str) -> Commands:
    """Add a command that has verbs, and return what its verbs are added to."""
    parser = commands.add_parser(name, help=summary, description=_sentence(summary), allow_abbrev=False)
    return add_verbs(parser)


def add_command(
    commands: Commands,
    name: str,
    run: Run,
    *,
    summary: str,
    description: str = "",
    has_json: bool = True,
    needs_service: bool = True,
) -> argparse.ArgumentParser:
    """Add a command, or a verb of one, with the arguments that name the service. Returns its parser."""
    parser = commands.add_parser(
        name, help=summary, description=f"{_sentence(summary)} {description}".rstrip(), allow_abbrev=False
    )
    if has_json:
        parser.add_argument("--json", action="store_true", help=JSON_HELP)
    if needs_service:
        parser.add_argument("--profile", metavar="NAME", help="profile that `discue login --profile NAME` has stored")
    parser.set_defaults(start=_start, run=run, parser=parser)
    return parser


def _sentence(summary: str) -> str:
    return f"{summary[:1].upper()}{summary[1:]}."


@contextmanager
def connect(arguments: argparse.Namespace, **options: Any) -> Iterator[Discue]:
    """Connect to the service that the arguments, the environment or a profile name.

    While it does not respond, a line on the error output says so, unless the output is for programs.
    """
    # Commands that need no service do not wait for the client.
    from discue.cli.user.profiles import target_of  # noqa: PLC0415
    from discue.cli.user.waiting import waiting_is_shown  # noqa: PLC0415
    from discue_client import Discue  # noqa: PLC0415

    target = target_of(arguments.profile)
    given = {"deadline": _DEADLINE_SECONDS, **options}
    is_for_programs = getattr(arguments, "json", False)
    shown = nullcontext() if is_for_programs else waiting_is_shown(given["deadline"])
    with _sources_named(target), Discue(target.url, target.api_key, **given) as client, shown:
        yield client


@asynccontextmanager
async def connect_async(arguments: argparse.Namespace, **options: Any) -> AsyncIterator[AsyncDiscue]:
    """Connect in an event loop to the same service as `connect`."""
    from discue.cli.user.profiles import target_of  # noqa: PLC0415 - as above
    from discue_client import AsyncDiscue  # noqa: PLC0415 - as above

    target = target_of(arguments.profile)
    given = {"deadline": _DEADLINE_SECONDS, **options}
    with _sources_named(target):
        async with AsyncDiscue(target.url, target.api_key, **given) as client:
            yield client


@contextmanager
def _sources_named(target: ServiceTarget) -> Iterator[None]:
    """Add to the error for a key that is not accepted where the URL and the key come from."""
    from discue.cli.user.profiles import hidden_server  # noqa: PLC0415 - as above
    from discue_client import Unauthorized  # noqa: PLC0415 - as above

    try:
        yield
    except Unauthorized as error:
        error.add_note(f"The URL comes from {target.url_source}, and the key from {target.key_source}.")
        if hidden := hidden_server(target):
            error.add_note(hidden)
        raise


def is_confirmed(question: str) -> bool:
    """Ask a question on the terminal. Returns whether a person agrees. Raises UsageInvalid without a terminal."""
    if not sys.stdin.isatty():
        raise UsageInvalid("--yes is missing, and there is no terminal to ask.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _start(parsed: argparse.Namespace) -> int:
    parser = None if getattr(parsed, WRITES_BODY, False) else parsed.parser
    return guarded(lambda: exit_code_of(lambda: parsed.run(parsed), parser))


def exit_code_of(run: Callable[[], int | None], parser: argparse.ArgumentParser | None) -> int:
    """Return the exit code of `run`. An expected error is printed to standard error as a line that says what to do.

    `parser` is that of the command, whose arguments errors name; None: the caller has written the body of the request.
    """
    try:
        return run() or FINE
    except CommandFailed as error:
        return say_error(str(error), FAILED)
    except UsageInvalid as error:
        return say_error(str(error), WRONG_USAGE)
    except KeyMissing as error:
        return say_error(str(error), NOT_ALLOWED)
    except Exception as error:
        code = _code_of(error, parser)
        if code is None:
            raise
        return code


def _code_of(error: Exception, parser: argparse.ArgumentParser | None) -> int | None:
    """Print an error of the client and return its exit code; None for any other error."""
    # Nothing but the client raises its errors, and then it is imported.
    if "discue_client.errors" not in sys.modules:
        return None
    from discue_client import errors  # noqa: PLC0415 - as above

    if isinstance(error, errors.DiscueError):
        text = explain(error)
        if parser is not None and isinstance(error, errors.APIError):
            text = with_arguments(text, error.pointers, parser)
        return say_error(text, exit_code(error))
    return None


def exit_code(error: DiscueError) -> int:
    """Return the exit code for an error of the client."""
    from discue_client import errors  # noqa: PLC0415 - commands that need no service do not wait for it

    if isinstance(error, errors.Unauthorized | errors.Forbidden):
        return NOT_ALLOWED
    if isinstance(error, errors.ConnectionFailed | errors.TimedOut | errors.UnexpectedResponse):
        return NO_RESPONSE
    return WRONG_USAGE if isinstance(error, errors.ConfigurationError) else FAILED


_WAYS_OUT: Final[Mapping[str, str]] = {
    "Unauthorized": "Run `discue login` with a valid key, or set DISCUE_API_KEY.",
    "ConnectionFailed": "Check that the service runs, and that the URL is right: `discue whoami --offline` shows it.",
    "TimedOut": "Try again, or check the service: it may be overloaded.",
    "UnexpectedResponse": "Check the URL: `discue whoami --offline` shows it and where it comes from.",
}
"""Advice that is added to errors which do not give it themselves, by class."""


def explain(error: DiscueError) -> str:
    """Return an error of the client as one line, with the way out."""
    text = str(error)
    # An error about a certificate has its own advice.
    way_out = "" if "SSL_CERT_FILE" in text else _WAYS_OUT.get(type(error).__name__, "")
    if getattr(error, "code", None) == _LOCKED_OUT:
        way_out = _after(error)
    way_out = " ".join(filter(None, [*getattr(error, "__notes__", ()), way_out]))
    if not way_out:
        return text
    return f"{text}{'' if text.endswith(('.', ']')) else '.'} {way_out}"


def _after(error: DiscueError | APIError) -> str:
    wait = getattr(error, "retry_after", None)
    return f"Try again in {wait:.0f} s." if wait else ""
