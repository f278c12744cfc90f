"""`discue organizations`: who is on this installation, how much each may have, and who is locked out of it."""

import argparse
import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final, Literal, NamedTuple

import msgspec

from discue.cli.command import Commands, Invocation, add_command, say
from discue.control.organizations import set_limits, set_state
from discue.domain.errors import BadRequest, NotFound
from discue.domain.model import Organization
from discue.server.installation import Installation, opened
from discue.store import organizations
from discue.store.pagination import Selection

_PER_PAGE = 100
_NONE = "none"
_DIGITS_LIMIT = 18


class Limit(NamedTuple):
    """What the operator can set for an organization: its flag, and its name among the organization's settings."""

    flag: str
    setting: str
    help: str


LIMITS: Final = (
    Limit("rate-limit", "rate_limit", "how many requests each of its keys may make a minute; 0 for any number"),
    Limit("quota-queues", "quota_queues", "how many queues it may have"),
    Limit("quota-listeners", "quota_listeners", "how many listeners it may have, on all its queues"),
    Limit("quota-messages-a-day", "quota_messages_a_day", "how many messages it may publish a day, by UTC"),
    Limit("quota-bytes-stored", "quota_bytes_stored", "how many bytes of messages may be kept for it"),
    Limit(
        "retention", "retention_seconds", "for how many seconds messages of its queues are kept that say nothing else"
    ),
)

_BESIDE_A_SERVER = "It works beside a server on the same database, which follows within a second."


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "organizations",
        help="list, suspend, resume and limit organizations",
        description="Organizations, against the database directly.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    summary = "list organizations"
    listing = add_command(verbs, "list", "organizations", lambda call: asyncio.run(_list(call)), summary=summary)
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    _add_alias(
        add_command(
            verbs,
            "suspend",
            "organizations",
            lambda call: asyncio.run(_change(call, "suspended")),
            summary="lock an organization out",
            description="What its keys ask for is answered 423, and its deliveries wait, until it is resumed. "
            f"The operator's own organization cannot be suspended. {_BESIDE_A_SERVER}",
        )
    )
    _add_alias(
        add_command(
            verbs,
            "resume",
            "organizations",
            lambda call: asyncio.run(_change(call, "active")),
            summary="let a suspended organization in again",
            description=f"Its keys work and its deliveries go on where they stood. {_BESIDE_A_SERVER}",
        )
    )
    _add_limits(
        add_command(
            verbs,
            "set",
            "organizations",
            lambda call: asyncio.run(_set(call)),
            summary="change an organization's limits",
            description=f"What is not named stays; `none` goes back to what the settings say. {_BESIDE_A_SERVER}",
        )
    )


def _add_alias(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alias", help="the organization's alias, as `discue organizations list` shows it")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    _add_alias(parser)
    for limit in LIMITS:
        parser.add_argument(
            f"--{limit.flag}", dest=f"set_{limit.setting}", metavar="N", type=_number_or_none, help=limit.help
        )


def _number_or_none(text: str) -> int | str:
    """A number, or the word `none`: None itself stands for a flag that is not there."""
    if text == _NONE:
        return text
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_LIMIT):
        raise argparse.ArgumentTypeError(f"must be a whole number or {_NONE}")
    return int(text)


async def _set(call: Invocation) -> int:
    alias, given = call.arguments.alias, vars(call.arguments)
    sent = {limit.setting: given[f"set_{limit.setting}"] for limit in LIMITS}
    limits = {name: None if value == _NONE else value for name, value in sent.items() if value is not None}
    if not limits:
        raise BadRequest("Nothing to change is named; `discue organizations set --help` shows what there is.")
    async with opened(call.settings, call.clock, call.log) as installation:
        with _naming(alias):
            changed = await set_limits(installation.control, alias, limits)
    say(f"The organization {alias} has {_limits_shown(changed) or 'no limits of its own'}.")
    return 0


@contextmanager
def _naming(alias: str) -> Iterator[None]:
    """Name the organization that was not found, and say how to find it."""
    try:
        yield
    except NotFound:
        raise NotFound(f"There is no organization {alias}. `discue organizations list` shows them.") from None


async def _list(call: Invocation) -> int:
    async with opened(call.settings, call.clock, call.log) as installation:
        found = await _all(installation)
    if call.arguments.json:
        say(json.dumps({"organizations": [_shown(organization) for organization in found]}))
    else:
        say("\n".join(_lines(found)))
    return 0


async def _all(installation: Installation) -> list[Organization]:
    found: list[Organization] = []
    selection = Selection(per_page=_PER_PAGE)
    while True:
        listing = await installation.store.read(partial(organizations.page, selection=selection))
        found += listing.items
        if not listing.has_next:
            return found
        selection = msgspec.structs.replace(selection, after=found[-1].public_id)


async def _change(call: Invocation, state: Literal["active", "suspended"]) -> int:
    alias = call.arguments.alias
    async with opened(call.settings, call.clock, call.log) as installation:
        with _naming(alias):
            await set_state(installation.control, alias, state)
    say(f"The organization {alias} is {state}.")
    return 0


def _shown(organization: Organization) -> dict[str, object]:
    return {
        "id": organization.public_id,
        "alias": organization.alias,
        "state": organization.state,
        "is_operator": organization.is_operator,
        "limits": {limit.setting: organization.settings.get(limit.setting) for limit in LIMITS},
        "created_at": organization.created_at,
        "updated_at": organization.updated_at,
    }


def _lines(found: Iterable[Organization]) -> Iterable[str]:
    yield "Organizations, newest first:"
    for organization in found:
        yield f"\n{organization.public_id}  {organization.alias}"
        operator = ", the operator's" if organization.is_operator else ""
        yield f"  {organization.state}{operator}; created {_minute(organization.created_at)}"
        if limits := _limits_shown(organization):
            yield f"  {limits}"


def _limits_shown(organization: Organization) -> str:
    settings = organization.settings
    return ", ".join(f"{limit.flag} {settings[limit.setting]}" for limit in LIMITS if limit.setting in settings)


def _minute(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
