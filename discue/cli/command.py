"""Shared parts of operators' commands: settings, errors, the database, and progress."""

import argparse
import asyncio
import inspect
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from discue.cli.declarations import Argument, Command, OneOf, option
from discue.cli.exit_codes import FAILED, UsageInvalid, guarded, say_error, with_arguments
from discue.cli.output import note
from discue.config.settings import Command as SettingsCommand
from discue.config.settings import Settings
from discue.config.sources import add_flags, flags_of, load
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
_PROGRESS_SECONDS: Final = 5.0

ORGANIZATION: Final = option("--organization ALIAS", "alias of the organization; default: the operator's", dest="owner")


@dataclass(frozen=True, slots=True)
class Invocation:
    """The parsed arguments of a command, and the settings in effect."""

    arguments: argparse.Namespace
    settings: Settings
    clock: Clock
    log: Log


Run = Callable[[Invocation], int | None | Awaitable[None]]
"""Runs the command and returns its exit code, None for 0. Raises DiscueError with the text to print."""


def operator_command(
    name: SettingsCommand,
    run: Run,
    *arguments: Argument | OneOf,
    summary: str = "",
    description: str = "",
    base: Mapping[str, str] | None = None,
) -> Command:
    """Return a command, or one of its verbs, with the flags of its settings. `base` overrides their defaults."""
    return Command(
        start=_start,
        arguments=arguments,
        summary=summary,
        description=description,
        defaults={"run": run, "base": base or {}, "command": name},
        add_settings=partial(add_flags, command=name, base=base),
    )


@asynccontextmanager
async def existing_installation(call: Invocation) -> AsyncIterator[ControlContext]:
    """Open the database. Raises StoreUnusable, rather than creates one, if there is none."""
    await require_database(call.settings)
    async with open_installation(call.settings, call.clock, call.log) as control:
        yield control


async def open_once(call: Invocation) -> None:
    """Open the database as a server would, which applies pending migrations, and close it."""
    async with open_installation(call.settings, call.clock, call.log):
        pass


async def require_database(settings: Settings) -> None:
    """Raise StoreUnusable if no database exists, or if it is empty."""
    if not (await inspect_database(settings)).version:
        raise no_database(settings)


def no_database(settings: Settings) -> StoreUnusable:
    return StoreUnusable(
        f"There is no database at {settings.database_shown}. Pass the `--config FILE` or `--database URL` of the "
        "running service. If there is no service yet, `discue init` or `discue serve` creates the database."
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


class Progress:
    """Shows the progress of a long operation as a line on stderr every few seconds. A signal stops the operation."""

    def __init__(self, call: Invocation) -> None:
        self._clock, self._stop = call.clock, stop_on_signal(call.log)
        self.begin(0)

    def begin(self, total: int) -> None:
        """Start a phase over `total` rows."""
        self._started_at = self._shown_at = self._clock.monotonic()
        self._total = total

    def show(self, what: str, done: int) -> None:
        """Report the current step and the number of processed rows. Raises Unavailable after a signal."""
        self.require_running()
        now = self._clock.monotonic()
        if now - self._shown_at >= _PROGRESS_SECONDS:
            self._shown_at = now
            # Rows may be added meanwhile: never more than 100%.
            share = 100 * done // max(self._total, done, 1)
            rate = round(done / (now - self._started_at))
            note(f"{what}: {done:,} of {self._total:,} rows, {share}%, {rate:,} per second")

    def require_running(self) -> None:
        if self._stop.is_set():
            raise Unavailable("Stopped.")


@contextmanager
def resumable(call: Invocation, hint: str) -> Iterator[Progress]:
    """Yield the progress of a long operation. Errors end with `hint`, which tells how to resume it."""
    try:
        yield Progress(call)
    except Unavailable as error:
        raise DiscueError(f"{error.detail} {hint}") from error


def utc(at: int) -> datetime:
    """Return a time, in milliseconds since the epoch, as a datetime in UTC."""
    return datetime.fromtimestamp(at / 1_000, UTC)


def exit_code_of(run: Callable[[], int | None], parser: argparse.ArgumentParser | None = None) -> int:
    """Return the exit code of `run`. An expected error is printed to standard error, and the exit code is 1.

    `parser` is that of the command, whose arguments errors name.
    """
    try:
        return guarded(run)
    except DiscueError as error:
        return say_error(_explained(error, parser), FAILED)


def _explained(error: DiscueError, parser: argparse.ArgumentParser | None) -> str:
    """Return the error with all its faults."""
    lines, faults = [error.detail], () if isinstance(error, SettingsInvalid) else error.faults
    # The sentence about a single fault says all of it.
    if len(faults) > 1 or any(sentence_of(*fault) != error.detail for fault in faults):
        lines += [f"  {fault.pointer}: {fault.detail}" for fault in faults]
    text = "\n".join(lines)
    return with_arguments(text, [fault.pointer for fault in faults], parser) if parser else text


def _start(parsed: argparse.Namespace) -> int:
    """Read the settings, run a command, and return its exit code."""
    return exit_code_of(lambda: _run(parsed), parsed.parser)


def _run(parsed: argparse.Namespace) -> int | None:
    clock = SystemClock()
    try:
        settings = load(flags_of(parsed), os.environ, Path.read_bytes, parsed.base or _found_base(parsed.command))
    except SettingsInvalid as error:
        raise UsageInvalid(error.detail) from error
    logs.configure(settings.log_format, settings.log_level, clock, sys.stderr)
    result = parsed.run(Invocation(parsed, settings, clock, Log()))
    code: int | None = asyncio.run(result) if inspect.iscoroutine(result) else result
    return code


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
