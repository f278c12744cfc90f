"""`discue init`: creates the operator's organization, as `serve` does on an empty database, without serving."""

from discue.cli.command import Invocation, operator_command
from discue.cli.declarations import JSON, Command
from discue.cli.output import say, say_data
from discue.control.context import ControlContext
from discue.control.encryption import ensure_encryption
from discue.control.organizations import ensure_operator
from discue.domain.model import Organization
from discue.server.installation import open_installation


def command() -> Command:
    return operator_command("init", _init, JSON, description="Does nothing if an organization already exists.")


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
        say_data({"organization": shown, "api_key": key})
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
