"""`discue init`: what `serve` does first on an empty database, without serving."""

import asyncio
import json

from discue.cli.command import Commands, Invocation, add_command, say
from discue.cli.encryption import establish
from discue.control.organizations import ensure_operator
from discue.domain.model import Organization
from discue.server.installation import Installation, opened


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "init",
        "init",
        run,
        summary="make the operator's organization on an empty database, and print its first key",
        description="On another one nothing changes.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(invocation: Invocation) -> int:
    asyncio.run(_init(invocation))
    return 0


async def found(installation: Installation) -> None:
    """Make the operator's organization if there is none, and print the key that was made for it."""
    organization, key = await _ensured(installation)
    if key is not None:
        say(_announcement(organization, key))


async def _init(invocation: Invocation) -> None:
    async with opened(invocation.settings, invocation.clock, invocation.log) as installation:
        await establish(installation, invocation.log)
        organization, key = await _ensured(installation)
    if invocation.arguments.json:
        shown = {"id": organization.public_id, "alias": organization.alias}
        say(json.dumps({"organization": shown, "api_key": key}))
    elif key is not None:
        say(_announcement(organization, key))
    else:
        say(f"The operator's organization is {organization.alias}.")


async def _ensured(installation: Installation) -> tuple[Organization, str | None]:
    """The organization, and its first key if that was made now and nobody knows it yet."""
    settings = installation.settings
    organization, key = await ensure_operator(installation.control, settings.organization, settings.bootstrap_key)
    return organization, key if settings.bootstrap_key is None else None


def _announcement(organization: Organization, key: str) -> str:
    return f"The operator's organization is {organization.alias}. Its first key, shown only now:\n{key}"
