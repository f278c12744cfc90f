"""Users on the command line: access to the database replaces scopes. It makes the first user, and rescues the last."""

from functools import partial

from discue.control.context import ControlContext, require_found
from discue.dashboard.users import users
from discue.dashboard.users.users import UserDetails, UserFields
from discue.domain.model import Organization, User
from discue.domain.scopes import Principal, all_scopes
from discue.store import organizations
from discue.store import users as stored_users
from discue.store.pagination import FIRST_PAGE, Listing, Selection


async def create_user(control: ControlContext, organization_alias: str, email: str, role: str) -> UserDetails:
    """Create a user with an invitation. Raises NotFound without the organization, and what `users.create` raises."""
    principal = _principal(await _organization(control, organization_alias))
    return await users.create(control, principal, UserFields(email=email, role=role))


async def invite_user(control: ControlContext, organization_alias: str, email: str) -> UserDetails:
    """Make a new invitation for a user, by which they choose a new password. Raises NotFound without the user."""
    principal = _principal(await _organization(control, organization_alias))
    read = partial(stored_users.by_email, organization=principal.organization, email=email)
    user = require_found(await control.store.read(read))
    return await users.change(control, principal, user.public_id, UserFields(invite=True))


async def page_of_users(
    control: ControlContext, organization_alias: str, selection: Selection = FIRST_PAGE
) -> Listing[User]:
    return await users.page(control, _principal(await _organization(control, organization_alias)), selection)


async def _organization(control: ControlContext, alias: str) -> Organization:
    return require_found(await control.store.read(partial(organizations.by_alias, alias=alias)))


def _principal(organization: Organization) -> Principal:
    """Return a caller with every scope, whom events do not name."""
    return Principal(organization.id, organization.public_id, 0, "", all_scopes(), organization.is_operator)
