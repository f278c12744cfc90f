"""Shared parts of operators' commands: arguments, settings, errors, and the progress line."""

import argparse
import asyncio
import inspect
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TextIO, TypeVar

from discue.cli.argument_names import with_arguments
from discue.cli.exit_codes import FAILED, FINE, WRONG_USAGE, guarded, say_error
from discue.cli.verbs import Commands
from discue.config import sources
from discue.config.settings import Command, Settings
from discue.config.sources import flags_of, load
from discue.control.context import ControlContext
from discue.domain.clock import Clock, SystemClock
from discue.domain.errors import DiscueError, NotFound, SettingsInvalid, StoreUnusable, Unavailable, sentence_of
from discue.domain.model import ApiKey, Organization, User
from discue.observability import logs
from discue.observability.logs import Log
from discue.server.installation import inspect_database, open_installation
from discue.server.signals import stop_on_signal
from discue.store import organizations
from discue.store.pagination import Listing, Selection

Item = TypeVar("Item", ApiKey, Organization, User)

_PER_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Invocation:
    """The parsed arguments of a command, and the settings in effect."""

    arguments: argparse.Namespace
    settings: Settings
    clock: Clock
    log: Log


Run = Callable[[Invocation], int | None | Awaitable[None]]
"""Runs the command and returns its exit code, None for 0. Raises DiscueError with the text to print."""


def add_command(
    commands: Commands,
    name: Command,
    run: Run,
    *,
    verb: str = "",
    summary: str,
    description: str = "",
    base: Mapping[str, str] | None = None,
) -> argparse.ArgumentParser:
    """Add a command, or one of its verbs, with the flags of its settings. Returns its parser.

    `base` overrides the defaults of the settings.
    """
    parser = commands.add_parser(
        verb or name,
        help=summary,
        description=f"{summary[:1].upper()}{summary[1:]}. {description}".rstrip(),
        allow_abbrev=False,
    )
    sources.add_flags(parser, name, base)
    parser.set_defaults(start=_start, run=run, base=base or {}, command=name, parser=parser)
    return parser


@asynccontextmanager
async def existing_installation(call: Invocation) -> AsyncIterator[ControlContext]:
    """Open the database. Raises StoreUnusable, rather than creates one, if there is none."""
    await require_database(call.settings)
    async with open_installation(call.settings, call.clock, call.log) as control:
        yield control


async def require_database(settings: Settings) -> None:
    """Raise StoreUnusable if no database exists, or if it is empty."""
    if not (await inspect_database(settings)).version:
        raise no_database(settings)


def no_database(settings: Settings) -> StoreUnusable:
    return StoreUnusable(
        f"There is no database at {settings.database_shown}. Pass the `--config FILE` or `--database URL` of the "
        "running service. If there is no service yet, `discue init` or `discue serve` creates the database."
    )


def add_organization(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the organization a command is about."""
    parser.add_argument(
        "--organization",
        dest="owner",
        metavar="ALIAS",
        help="alias of the organization; default: the operator's",
    )


async def organization_of(control: ControlContext, arguments: argparse.Namespace) -> str:
    """Return the alias of the selected organization. Raises NotFound if it does not exist."""
    alias: str | None = arguments.owner
    read = control.store.read
    if alias is not None:
        if await read(lambda tx: organizations.by_alias(tx, alias)) is None:
            raise NotFound(f"Organization {alias} not found.")
        return alias
    operator = await read(organizations.operator)
    if operator is None:
        raise NotFound("The database has no organization. Run `discue init` or `discue serve` to create the first one.")
    return operator.alias


async def items_of_organization(
    call: Invocation, page: Callable[[ControlContext, str, Selection], Awaitable[Listing[Item]]]
) -> tuple[str, list[Item]]:
    """Return the alias of the selected organization, and its items of all pages, newest first. Raises NotFound."""
    async with existing_installation(call) as control:
        owner = await organization_of(control, call.arguments)
        return owner, await all_items(partial(page, control, owner))


async def all_items(page: Callable[[Selection], Awaitable[Listing[Item]]]) -> list[Item]:
    """Return the items of all pages, newest first."""
    items: list[Item] = []
    while True:
        listing = await page(Selection(per_page=_PER_PAGE, after=items[-1].public_id if items else None))
        items += listing.items
        if not listing.has_next:
            return items


def utc(at: int) -> datetime:
    """Return a time, in milliseconds since the epoch, as a datetime in UTC."""
    return datetime.fromtimestamp(at / 1_000, UTC)


def exit_code_of(run: Callable[[], int], parser: argparse.ArgumentParser | None = None) -> int:
    """Return the exit code of `run`. An expected error is printed to standard error, and the exit code is 1.

    `parser` is that of the command, whose arguments errors name.
    """

    def run_or_explain() -> int:
        try:
            return run()
        except DiscueError as error:
            return _explain(error, FAILED, parser)

    return guarded(run_or_explain)


def _explain(error: DiscueError, code: int, parser: argparse.ArgumentParser | None = None) -> int:
    """Print the error with all its faults, and return the code."""
    lines, faults = [error.detail], () if isinstance(error, SettingsInvalid) else error.faults
    # The sentence about a single fault says all of it.
    if len(faults) > 1 or any(sentence_of(*fault) != error.detail for fault in faults):
        lines += [f"  {fault.pointer}: {fault.detail}" for fault in faults]
    text = "\n".join(lines)
    return say_error(with_arguments(text, [fault.pointer for fault in faults], parser) if parser else text, code)


def _start(parsed: argparse.Namespace) -> int:
    """Read the settings, run a command, and return its exit code."""
    return exit_code_of(lambda: _run(parsed), parsed.parser)


def _run(parsed: argparse.Namespace) -> int:
    clock = SystemClock()
    try:
        settings = load(flags_of(parsed), os.environ, Path.read_bytes, parsed.base or _found_base(parsed.command))
    except SettingsInvalid as error:
        return _explain(error, WRONG_USAGE)
    logs.configure(settings.log_format, settings.log_level, clock, sys.stderr)
    result = parsed.run(Invocation(parsed, settings, clock, Log()))
    code: int | None = asyncio.run(result) if inspect.iscoroutine(result) else result
    return code or FINE


DEVELOPMENT_DATABASE: Final = Path(".discue") / "discue.db"
"""The database of `discue dev`, in its working directory."""
DEVELOPMENT_URL: Final = DEVELOPMENT_DATABASE.with_name("url")
"""A file with the URL at which `discue dev` serves, or has served last."""

URL_OF_THIS_MACHINE: Final = re.compile(r"https?://(?:127\.0\.0\.1|\[::1\]|localhost):[0-9]+/?")

_ON_EXISTING_DATABASES: Final = ("keys", "organizations", "users", "unlock", "rotate-key")


def _found_base(command: str) -> dict[str, str]:
    """Return the settings of `discue dev` for a command on its database, where that is the only one in the folder."""
    default = Settings().database_path
    if command not in _ON_EXISTING_DATABASES or default is None or default.exists():
        return {}
    # The folder may be another user's.
    if not os.access(DEVELOPMENT_DATABASE, os.R_OK):
        return {}
    base = {"database": f"sqlite:///{DEVELOPMENT_DATABASE}"}
    if command == "users" and os.access(DEVELOPMENT_URL, os.R_OK):
        # For links: it takes another port if its own is in use.
        url = DEVELOPMENT_URL.read_text(encoding="ascii", errors="replace").strip()
        if URL_OF_THIS_MACHINE.fullmatch(url):
            base["public_url"] = url
    return base


_REWRITTEN_SECONDS: Final = 0.1
_REPEATED_SECONDS: Final = 10.0
_CLEAR_LINE: Final = "\r\x1b[K"


@contextmanager
def resumable(invocation: Invocation, hint: str) -> Iterator["ProgressLine"]:
    """Yield the progress line of long work, which stops at a signal. Errors say how to resume it: `hint`."""
    stop = stop_on_signal(invocation.log)

    def require_running() -> None:
        if stop.is_set():
            raise DiscueError(f"Stopped. {hint}")

    line = ProgressLine(sys.stderr, invocation.clock, require_running)
    try:
        yield line
    except Unavailable as error:
        raise DiscueError(f"{error.detail} {hint}") from error
    finally:
        line.end()


class ProgressLine:
    """The progress of a long command: a line that is redrawn on a terminal, and repeated every ten seconds elsewhere.

    Nothing is written before the first interval has passed.
    """

    def __init__(self, stream: TextIO, clock: Clock, require_running: Callable[[], None]) -> None:
        """`require_running` raises DiscueError if the work must stop. It is called at each step."""
        self.require_running = require_running
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
        """Show the number of processed rows and the current step. Raises DiscueError if the work must stop."""
        self.require_running()
        now = self._clock.monotonic()
        if now - self._shown_at < self._every:
            return
        self._shown_at = now
        # Rows may be added meanwhile: never more than 100%.
        share = 100 * done // max(self._total, done, 1)
        rate = round((done - self._started_with) / max(now - self._started_at, 0.001))
        text = f"{what}: {done:,} of {self._total:,} rows, {share}%, {rate:,} per second"
        if self._stream.isatty():
            # A line that wraps could not be cleared.
            self._stream.write(_CLEAR_LINE + text[: shutil.get_terminal_size().columns - 1])
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._stream.isatty():
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()
