"""`discue init`: creates the operator's organization, as `serve` does on an empty database, without serving."""

import json

from discue.cli.command import Invocation, add_command
from discue.cli.output import say
from discue.cli.verbs import Commands
from discue.control.context import ControlContext
from discue.control.encryption import ensure_encryption
from discue.control.organizations import ensure_operator
from discue.domain.model import Organization
from discue.server.installation import open_installation


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "init",
        _init,
        summary="create the operator's organization in an empty database and print its first key",
        description="Does nothing if an organization already exists.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


async def create_operator(control: ControlContext) -> None:
    """Create the operator's organization if there is none, and print its first key."""
    organization, key = await _ensured(control)
    if key is not None:
        say(_announcement(organization, key))


async def _init(invocation: Invocation) -> None:
    async with open_installation(invocation.settings, invocation.clock, invocation.log) as control:
        await ensure_encryption(control, invocation.log)
        organization, key = await _ensured(control)
    if invocation.arguments.json:
        shown = {"id": organization.public_id, "alias": organization.alias}
        say(json.dumps({"organization": shown, "api_key": key}))
    elif key is not None:
        say(_announcement(organization, key))
    else:
        say(f"The operator's organization is {organization.alias}.")


async def _ensured(control: ControlContext) -> tuple[Organization, str | None]:
    """Return the organization, and its first key if this call created a random one."""
    settings = control.settings
    organization, key = await ensure_operator(control, settings.organization, settings.bootstrap_key)
    return organization, key if settings.bootstrap_key is None else None


def _announcement(organization: Organization, key: str) -> str:
    return f"The operator's organization is {organization.alias}. Its first API key, shown only once:\n{key}"
