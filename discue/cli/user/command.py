"""Shared parts of users' commands: arguments, the client, and exit codes of its errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from discue.cli.argument_names import with_arguments
from discue.cli.declarations import JSON, Argument, Command, OneOf, option
from discue.cli.exit_codes import (
    FAILED,
    NO_RESPONSE,
    NOT_ALLOWED,
    WRONG_USAGE,
    UsageInvalid,
    guarded,
    say_error,
)

if TYPE_CHECKING:
    from discue.cli.user.profiles import ServiceTarget
    from discue_client import APIError, AsyncDiscue, Discue
    from discue_client.errors import DiscueError

Found = TypeVar("Found")
Run: TypeAlias = Callable[[argparse.Namespace], int | None]
"""Runs a command and returns its exit code, None for 0. Raises CommandFailed, UsageInvalid and errors of the client."""

_PROFILE: Final = option("--profile NAME", "profile that `discue login --profile NAME` has stored")
_DEADLINE_SECONDS: Final = 10.0
"""How long a request is retried: a user waits for it."""
_LOCKED_OUT: Final = "locked_out"


def user_command(
    run: Run,
    *arguments: Argument | OneOf,
    summary: str = "",
    description: str = "",
    has_json: bool = True,
    needs_service: bool = True,
    writes_body: bool = False,
) -> Command:
    """Return a command, or a verb of one, with the arguments that name the service.

    `writes_body`: the caller writes the body of the request, so that errors name places in it, not arguments.
    """
    return Command(
        start=_start,
        arguments=(*(JSON,) * has_json, *(_PROFILE,) * needs_service, *arguments),
        summary=summary,
        description=description,
        defaults={"run": run, "writes_body": writes_body},
    )


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


def readable(read: Callable[[], Found]) -> Found | None:
    """Return the result of a request; None if there is nothing at its path, or the key may not read it."""
    from discue_client import Forbidden, NotFound  # noqa: PLC0415 - imported by now

    try:
        return read()
    except (Forbidden, NotFound):
        return None


def is_confirmed(question: str) -> bool:
    """Ask a question on the terminal. Returns whether a person agrees. Raises UsageInvalid without a terminal."""
    if not sys.stdin.isatty():
        raise UsageInvalid("--yes is missing, and there is no terminal to ask.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _start(parsed: argparse.Namespace) -> int:
    def run_or_explain() -> int | None:
        try:
            code: int | None = parsed.run(parsed)
        except Exception as error:
            # Nothing but the client raises its errors, and then it is imported.
            errors = sys.modules.get("discue_client.errors")
            if errors is None or not isinstance(error, errors.DiscueError):
                raise
            pointers = () if parsed.writes_body else getattr(error, "pointers", ())
            return say_error(with_arguments(explain(error), pointers, parsed.parser), exit_code(error))
        return code

    return guarded(run_or_explain)


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
