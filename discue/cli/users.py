"""`discue users`: creates users and makes links to choose a password, in the database directly."""

from typing import Final

from discue.cli.command import (
    ORGANIZATION,
    Invocation,
    existing_installation,
    items_of_organization,
    operator_command,
    organization_of,
    utc,
)
from discue.cli.declarations import JSON, CommandGroup, argument, option
from discue.cli.output import say, say_data
from discue.control.context import require_found
from discue.dashboard.users import command_line
from discue.dashboard.users.users import ROLES, UserDetails
from discue.domain.errors import NotFound
from discue.domain.model import User

_LINK: Final = "The link works once, within seven days."


def command() -> CommandGroup:
    creation = operator_command(
        "users",
        _create,
        argument("email", "email address that the user signs in with", metavar="EMAIL"),
        # A setting has the name `role`, too, and is read from all arguments that have one.
        option("--role", "role of the user; default: owner", choices=ROLES, default="owner", dest="user_role"),
        JSON,
        ORGANIZATION,
        summary="create a user, and print a link with which they choose a password",
        description=_LINK,
    )
    link = operator_command(
        "users",
        _link,
        argument("email", "email address of the user", metavar="EMAIL"),
        JSON,
        ORGANIZATION,
        summary="print a link with which a user chooses a new password",
        description=f"{_LINK} An earlier link stops working. Until the user chooses a password, the present one works.",
    )
    listing = operator_command("users", _list, JSON, ORGANIZATION, summary="list users")
    return CommandGroup(
        {"create": creation, "link": link, "list": listing},
        "Changes the database directly: for the first user, and for an owner who has forgotten the password. Owners "
        "and admins manage all others in the dashboard.",
    )


async def _create(call: Invocation) -> None:
    arguments = call.arguments
    async with existing_installation(call) as control:
        owner = await organization_of(control, arguments)
        made = await command_line.create_user(control, owner, arguments.email, arguments.user_role)
    role = made.user.role
    article = "an" if role[0] in "ao" else "a"
    _say_link(call, made, f"{made.user.email} is {article} {role} of {owner}. To choose a password, open")


async def _link(call: Invocation) -> None:
    email = call.arguments.email
    async with existing_installation(call) as control:
        owner = await organization_of(control, call.arguments)
        try:
            made = await command_line.invite_user(control, owner, email)
        except NotFound:
            raise NotFound(f"{owner} has no user {email}. Run `discue users list` to see its users.") from None
    _say_link(call, made, f"To choose a new password for {made.user.email}, open")


async def _list(call: Invocation) -> None:
    owner, found = await items_of_organization(call, command_line.page_of_users)
    if call.arguments.json:
        say_data({"users": [_shown(user) for user in found]})
        return
    say(f"Users of {owner}, newest first:" if found else f"{owner} has no users. Run `discue users create EMAIL`.")
    for user in found:
        say(f"\n{user.email}\n  {user.role}, {_state(user)}; created {utc(user.created_at):%Y-%m-%d %H:%M} UTC")


def _say_link(call: Invocation, made: UserDetails, sentence: str) -> None:
    invitation = require_found(made.invitation)
    settings = call.settings
    # Without the dashboard, an application has the page, and sends the token to the API.
    page = f"{settings.dashboard_root(settings.service_url)}/dashboard/invitation"
    url = f"{page if settings.dashboard else f'{settings.service_url}/v1/invitations'}#{invitation.token}"
    if call.arguments.json:
        say_data({"user": _shown(made.user), "url": url, "expires_at": invitation.expires_at})
        return
    say(f"{sentence}\n{url}\nuntil {utc(invitation.expires_at):%Y-%m-%d %H:%M} UTC. The link works once.")
    name = "public_url" if settings.dashboard_port is None else "dashboard_url"
    if getattr(settings, name) is None:
        say(f"If browsers reach the dashboard elsewhere, change the start of the link, or set `{name}`.")
    if made.user.status == "disabled":
        say("The user is disabled: the link works once an owner has enabled them.")


def _state(user: User) -> str:
    return "disabled" if user.status == "disabled" else user.state


def _shown(user: User) -> dict[str, object]:
    return {
        "id": user.public_id,
        "email": user.email,
        "display_name": user.display_name,
        "role": user.role,
        "state": _state(user),
        "created_at": user.created_at,
        "updated_at": user.updated_at,
    }
