"""`discue keys`: manages API keys in the database directly, for the first key and for recovery."""

import argparse
from functools import partial
from typing import Final, Literal

from discue.api.resources.api_keys import key_view
from discue.cli.command import (
    ORGANIZATION,
    Invocation,
    existing_installation,
    items_of_organization,
    operator_command,
    organization_of,
    utc,
)
from discue.cli.declarations import JSON, CommandGroup, OneOf, argument, option, repeated, switch
from discue.cli.output import say, say_data, say_result
from discue.control import api_keys
from discue.control.api_keys import scopes_of
from discue.domain import scopes as access
from discue.domain.errors import DiscueError, NotFound
from discue.domain.scopes import Scope, Scopes

_DAY_MS = 86_400_000
_LONGEST_DAYS = 36_500
_CHANGES: Final[tuple[tuple[str, Literal["enabled", "disabled", "deleted"], str], ...]] = (
    ("disable", "disabled", "reject requests with a key until it is enabled"),
    ("enable", "enabled", "accept a disabled key again"),
    ("delete", "deleted", "delete a key permanently"),
)
_LIVE = "Safe while servers run; they apply the change within a second."


def command() -> CommandGroup:
    key = argument("id", "id of the key, as shown by `discue keys list`")
    changes = {
        verb: operator_command("keys", partial(_change, status), key, ORGANIZATION, summary=effect, description=_LIVE)
        for verb, status, effect in _CHANGES
    }
    scopes = (
        repeated(
            "--scope RESOURCE[:ACCESS[:TARGET,…]]",
            "scope, such as queues:read or messages:write:QUEUE_ID; can be repeated. "
            f"Resources: {', '.join(access.RESOURCES)}",
            _scope,
            dest="scopes",
        ),
        option(
            "--preset",
            "common scopes: publish messages, pull and settle them, read everything, or everything unprotected",
            choices=access.PRESETS,
        ),
        switch("--all", "every scope, including protected ones"),
    )
    creation = operator_command(
        "keys",
        _create,
        option("--alias", "alias of the key; default: its id"),
        OneOf(scopes),
        option("--expires-in DAYS", "days until the key expires; default: never", _days),
        JSON,
        ORGANIZATION,
        summary="create a key and print it once",
        description=f"Without --preset, --scope and --all, the key gets every scope that is not protected. {_LIVE}",
    )
    listing = operator_command("keys", _list, JSON, ORGANIZATION, summary="list keys")
    return CommandGroup(
        {"create": creation, "list": listing, **changes},
        "Changes the database directly. Only this command grants protected scopes.",
    )


def _scope(text: str) -> tuple[str, Scope]:
    resource, _, rest = text.partition(":")
    kind, _, targets = rest.partition(":")
    entry = {"access": kind or "write", "targets": targets.split(",") if targets else []}
    try:
        return resource, access.parse_scopes({resource: entry})[resource]
    except DiscueError as error:
        fault = error.faults[0]
        raise argparse.ArgumentTypeError(f"{text!r}: {fault.pointer.removeprefix('/scopes/')} {fault.detail}") from None


def _days(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= _LONGEST_DAYS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of days from 1 to {_LONGEST_DAYS}")
    return int(text)


def _granted(arguments: argparse.Namespace) -> dict[str, Scope]:
    if arguments.all:
        return access.all_scopes()
    if arguments.preset:
        return access.preset_scopes(arguments.preset, access.all_scopes())
    if not arguments.scopes:
        return access.default_grant(access.all_scopes())
    granted: dict[str, Scope] = {}
    for resource, scope in arguments.scopes:
        known = granted.get(resource)
        if known is None:
            granted[resource] = scope
        elif known.access == scope.access and not known.on_all and not scope.on_all:
            granted[resource] = Scope(known.access, (*known.targets, *scope.targets))
        else:
            raise DiscueError(f"The scopes for {resource} conflict. Use one --scope with one access and all targets.")
    return granted


async def _create(call: Invocation) -> None:
    arguments, now = call.arguments, call.clock.now()
    expires_at = now + arguments.expires_in * _DAY_MS if arguments.expires_in else 0
    scopes = _granted(arguments)
    async with existing_installation(call) as control:
        owner = await organization_of(control, arguments)
        made = await api_keys.create_for(control, owner, arguments.alias, scopes, expires_at=expires_at)
    text = f"The key {made.key.alias} of {owner}, shown only once:\n{made.text}"
    say_result({"api_key": key_view(made.key, made.text)}, text, as_json=arguments.json)


async def _list(call: Invocation) -> None:
    owner, keys = await items_of_organization(call, api_keys.page_for)
    if call.arguments.json:
        say_data({"api_keys": [key_view(key) for key in keys]})
        return
    say(f"Keys of {owner}, newest first:")
    for key in keys:
        say(f"\n{key.public_id}  {key.alias}" if key.alias != key.public_id else f"\n{key.public_id}")
        expired = ", expired" if 0 < key.expires_at <= call.clock.now() else ""
        say(f"  {key.status}{expired}; created {_day(key.created_at)}, last used {_day(key.last_used_at)}")
        say(f"  {_scopes_line(scopes_of(key.scopes))}")


async def _change(status: Literal["enabled", "disabled", "deleted"], call: Invocation) -> None:
    key = call.arguments.id
    async with existing_installation(call) as control:
        owner = await organization_of(control, call.arguments)
        try:
            await api_keys.change_for(control, owner, key, status)
        except NotFound:
            raise NotFound(f"{owner} has no key with the id {key}. Run `discue keys list` to see its keys.") from None
    say(f"The key {key} of {owner} is {status}.")


def _day(at: int) -> str:
    return f"{utc(at):%Y-%m-%d %H:%M} UTC" if at else "never"


def _scopes_line(scopes: Scopes) -> str:
    if scopes == access.all_scopes():
        return "every scope, including protected ones"
    if scopes == access.default_grant(access.all_scopes()):
        return "every scope that is not protected"
    shown = []
    for name, scope in scopes.items():
        targets = "" if scope.on_all else ":" + ",".join(scope.targets)
        shown.append(f"{name}:{scope.access}{targets}")
    return ", ".join(shown) or "no scope"
