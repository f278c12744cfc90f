"""Shared parts of users' commands: arguments, the client, what it logs, interrupts, and exit codes of its errors."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote

from discue.cli.declarations import JSON, Argument, Command, OneOf, option
from discue.cli.exit_codes import (
    FAILED,
    NO_RESPONSE,
    NOT_ALLOWED,
    WRONG_USAGE,
    UsageInvalid,
    guarded,
    say_error,
    with_arguments,
)
from discue.cli.output import note

if TYPE_CHECKING:
    from discue.cli.user.profiles import ServiceTarget
    from discue_client import AsyncDiscue, Discue
    from discue_client.errors import DiscueError

Found = TypeVar("Found")
Run: TypeAlias = Callable[[argparse.Namespace], int | None]
"""Runs a command and returns its exit code, None for 0. Raises CommandFailed, UsageInvalid and errors of the client."""

_PROFILE: Final = option("--profile NAME", "profile that `discue login --profile NAME` has stored")
_DEADLINE_SECONDS: Final = 10.0
"""How long a request is retried: a user waits for it."""
_SILENT_SECONDS: Final = 1.0
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
    from discue_client import Discue  # noqa: PLC0415

    target = target_of(arguments.profile)
    given = {"deadline": _DEADLINE_SECONDS, **options}
    is_for_programs = getattr(arguments, "json", False)
    shown = nullcontext() if is_for_programs else _waiting_shown(given["deadline"])
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


def _waiting_shown(deadline: float) -> AbstractContextManager[None]:
    """Say once what a command waits for, if that takes a second. `deadline` is the one of its requests."""
    started_at = time.monotonic()
    is_said = False

    def show(record: logging.LogRecord) -> None:
        nonlocal is_said
        # What the client logs before it sends a request again: the pause, and the error.
        if is_said or not isinstance(record.args, tuple) or len(record.args) != 2:
            return
        pause, error = record.args
        waited = time.monotonic() - started_at
        if waited + float(str(pause)) >= _SILENT_SECONDS:
            is_said = True
            note(f"discue: {error} Trying again for up to {deadline - waited:.0f} s.")

    return _client_log_shown(show)


def warnings_shown(show: Callable[[str], None]) -> AbstractContextManager[None]:
    """Show what the client warns of, and when its consumer can fetch messages again."""

    def show_record(record: logging.LogRecord) -> None:
        # Not each attempt to send a request again.
        if record.levelno >= logging.WARNING or record.module == "consumer":
            show(record.getMessage())

    return _client_log_shown(show_record)


@contextmanager
def _client_log_shown(show: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    log, handler = logging.getLogger("discue_client"), logging.Handler(logging.INFO)
    handler.emit = show  # type: ignore[assignment, method-assign]
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def until_interrupt(work: Callable[[], None]) -> None:
    """Run the work until Ctrl-C or SIGTERM, which end it at once, also while the service does not respond."""
    # Not a context manager: a signal between its beginning and that of the block would end the command.
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in kept:
            signal.signal(number, signal.default_int_handler)
        work()
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


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
    try:
        return guarded(lambda: parsed.run(parsed))
    except Exception as error:
        # Nothing but the client raises its errors, and then it is imported.
        errors = sys.modules.get("discue_client.errors")
        if errors is None or not isinstance(error, errors.DiscueError):
            raise
        pointers = () if parsed.writes_body else getattr(error, "pointers", ())
        return say_error(with_arguments(explain(error), pointers, parsed.parser), exit_code(error))


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


_LISTS: Final = re.compile(
    r"GET (?:/v1)?/(?:queues/|topics/)?([^/ ]*?)/?"
    r"(queues|listeners|messages|schedules|topics|channels|event_types|sources) lists"
)
"""Advice of the service to send a request, for which there is a command."""


def _listing(found: re.Match[str]) -> str:
    command = f"discue {found[2].replace('_', '-')} list {unquote(found[1])}"
    return f"`{command.strip()}` lists"


def explain(error: DiscueError) -> str:
    """Return an error of the client as one line, with the way out."""
    text = _LISTS.sub(_listing, str(error))
    # An error about a certificate has its own advice.
    way_out = "" if "SSL_CERT_FILE" in text else _WAYS_OUT.get(type(error).__name__, "")
    if getattr(error, "code", None) == _LOCKED_OUT:
        wait = getattr(error, "retry_after", None)
        way_out = f"Try again in {wait:.0f} s." if wait else ""
    way_out = " ".join(filter(None, [*getattr(error, "__notes__", ()), way_out]))
    if not way_out:
        return text
    return f"{text}{'' if text.endswith(('.', ']')) else '.'} {way_out}"
