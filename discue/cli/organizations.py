"""`discue organizations`: lists, suspends, resumes and limits organizations."""

import argparse
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, Literal

from discue.cli.command import Invocation, all_items, existing_installation, operator_command, utc
from discue.cli.declarations import JSON, CommandGroup, argument, option
from discue.cli.output import say, say_data
from discue.control.context import ControlContext
from discue.control.organizations import set_limits, set_state
from discue.domain.errors import BadRequest, NotFound
from discue.domain.model import Organization
from discue.store import organizations

_NONE = "none"
_DIGITS_LIMIT = 18


_LIMITS: Final[Mapping[str, str]] = {
    "rate_limit": "requests per minute and key; 0: no limit",
    "quota_queues": "maximum number of queues",
    "quota_listeners": "maximum number of listeners, over all queues",
    "quota_topics": "maximum number of topics",
    "quota_domains": "maximum number of domains",
    "quota_api_keys": "maximum number of API keys",
    "quota_users": "maximum number of users",
    "quota_portal_sessions": "maximum number of portal sessions",
    "quota_creations_a_day": "resources created per day (UTC)",
    "quota_messages_a_day": "messages published per day (UTC)",
    "quota_bytes_stored": "bytes of stored messages, schedules and responses",
    "retention_seconds": "retention of messages in queues without their own, in seconds",
}
"""Settings that organizations can override, each with the help of its flag."""

_LIVE = "Safe while servers run; they apply the change within a second."


def command() -> CommandGroup:
    alias = argument("alias", "alias of the organization, as shown by `discue organizations list`")
    return CommandGroup(
        {
            "list": operator_command("organizations", _list, JSON, summary="list organizations"),
            "suspend": operator_command(
                "organizations",
                partial(_change, "suspended"),
                alias,
                summary="suspend an organization",
                description="Requests with its keys get 423, and its deliveries wait until it is resumed. "
                f"The operator's organization cannot be suspended. {_LIVE}",
            ),
            "resume": operator_command(
                "organizations",
                partial(_change, "active"),
                alias,
                summary="resume a suspended organization",
                description=f"Its keys work again, and its deliveries continue. {_LIVE}",
            ),
            "set": operator_command(
                "organizations",
                _set,
                alias,
                # Settings have such names, too, and are read from all arguments that have one.
                *(
                    option(f"--{_flag(setting)} N", usage, _number_or_none, dest=f"set_{setting}")
                    for setting, usage in _LIMITS.items()
                ),
                summary="change an organization's limits",
                description=f"Only the given limits change; `none` restores the default of the settings. {_LIVE}",
            ),
        },
        "Changes the database directly.",
    )


def _number_or_none(text: str) -> int | str:
    """Return the number, or the word `none`. None itself stands for an omitted flag."""
    if text == _NONE:
        return text
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_LIMIT):
        raise argparse.ArgumentTypeError(f"must be a whole number or {_NONE}")
    return int(text)


async def _set(call: Invocation) -> None:
    given = vars(call.arguments)
    sent = {setting: given[f"set_{setting}"] for setting in _LIMITS}
    limits = {name: None if value == _NONE else value for name, value in sent.items() if value is not None}
    if not limits:
        detail = "No limit is given. Run `discue organizations set --help` to see the limits."
        raise BadRequest(detail, code="missing_field")
    changed = await _changed(call, partial(set_limits, limits=limits))
    say(f"Organization {changed.alias}: {_limits_shown(changed) or 'no limits of its own'}.")


async def _changed(call: Invocation, change: Callable[[ControlContext, str], Awaitable[Organization]]) -> Organization:
    """Change the organization that the command names. Raises NotFound with its alias."""
    alias = call.arguments.alias
    async with existing_installation(call) as control:
        try:
            return await change(control, alias)
        except NotFound:
            raise NotFound(f"Organization {alias} not found. Run `discue organizations list` to see all.") from None


async def _list(call: Invocation) -> None:
    async with existing_installation(call) as control:
        read = control.store.read
        found = await all_items(lambda selection: read(partial(organizations.page, selection=selection)))
    if call.arguments.json:
        say_data({"organizations": [_shown(organization) for organization in found]})
        return
    say("Organizations, newest first:")
    for each in found:
        operator = ", the operator's" if each.is_operator else ""
        say(f"\n{each.public_id}  {each.alias}")
        say(f"  {each.state}{operator}; created {utc(each.created_at):%Y-%m-%d %H:%M} UTC")
        if limits := _limits_shown(each):
            say(f"  {limits}")


async def _change(state: Literal["active", "suspended"], call: Invocation) -> None:
    changed = await _changed(call, partial(set_state, state=state))
    say(f"Organization {changed.alias} is {state}.")


def _shown(organization: Organization) -> dict[str, object]:
    return {
        "id": organization.public_id,
        "alias": organization.alias,
        "state": organization.state,
        "is_operator": organization.is_operator,
        "limits": {setting: organization.settings.get(setting) for setting in _LIMITS},
        "created_at": organization.created_at,
        "updated_at": organization.updated_at,
    }


def _limits_shown(organization: Organization) -> str:
    settings = organization.settings
    return ", ".join(f"{_flag(each)} {settings[each]}" for each in _LIMITS if each in settings)


def _flag(setting: str) -> str:
    return setting.removesuffix("_seconds").replace("_", "-")
