"""Users: members of an organization, with a role. A user without a password gets an invitation to set one."""

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import usage
from discue.control.context import ControlContext, Record, changed_settings, one_of, require_found
from discue.crypto import passwords
from discue.crypto.passwords import Invitation, new_invitation
from discue.dashboard.users import identity_table, second_factor_table, session_table
from discue.domain.api_key import hash_secret
from discue.domain.errors import BadRequest, Conflict, Fault, Forbidden, Locked, invalid
from discue.domain.model import Role, User
from discue.domain.representation import shows
from discue.domain.scopes import PROTECTED, RESOURCES, Access, Principal, Scope, Scopes, all_scopes
from discue.store import organizations, users
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""All roles, the most powerful first."""

_OBSERVED: Final = ("channels", "domains", "events", "listeners", "messages", "queues", "schemas", "stats", "topics")
_DEVELOPED: Final = ("channels", "domains", "listeners", "messages", "queues", "schemas", "topics")
_UNPROTECTED: Final = tuple(resource for resource in RESOURCES if resource not in PROTECTED)


def _scopes(*granted: tuple[Access, tuple[str, ...]]) -> Scopes:
    """Return scopes on all targets. Later access to a resource replaces earlier access."""
    return {resource: Scope(access) for access, resources in granted for resource in resources}


_SCOPES: Final[Mapping[Role, Scopes]] = {
    "owner": all_scopes(),
    # Organizations are read only: an owner sets the limits, and deletes the organization.
    "admin": _scopes(("write", (*_UNPROTECTED, "api_keys", "portal", "users")), ("read", ("api_clients",))),
    "developer": _scopes(("read", (*_OBSERVED, "api_keys", "users")), ("write", _DEVELOPED)),
    "viewer": _scopes(("read", _OBSERVED)),
}


def scopes_of_role(role: Role) -> Scopes:
    return _SCOPES[role]


def may_manage(own: Role, other: Role) -> bool:
    """Return whether a user with the role `own` may grant the role `other`, and change users who have it.

    Otherwise an admin could become an owner, or take over the account of one.
    """
    return ROLES.index(own) <= ROLES.index(other)


_STATUSES: Final[tuple[Literal["enabled", "disabled"], ...]] = ("enabled", "disabled")
_EMAIL = re.compile(r"[^\s\x00-\x1f\x7f@]+@[^\s\x00-\x1f\x7f@]+")
_EMAIL_LENGTHS = range(3, 255)
_LONGEST_NAME = 128
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OWNERS_AT_ONCE = 100


@shows("email", "role")
class UserFields(msgspec.Struct, frozen=True):
    """The fields of a user in a request. None keeps the stored value."""

    email: str | None = None
    display_name: str | UnsetType | None = UNSET
    role: str | None = None
    password: str | None = None
    invite: bool = False
    status: str | None = None


class UserDetails(msgspec.Struct, frozen=True):
    user: User
    invitation: Invitation | None = None


async def create(control: ControlContext, principal: Principal, fields: UserFields) -> UserDetails:
    """Create a user with a password, or with an invitation if the request has no password.

    Raises BadRequest without an email or a role, Unprocessable for a taken or invalid email and invalid values.
    """
    principal.require("users", "write")
    missing = [name for name in ("email", "role") if getattr(fields, name) is None]
    if missing:
        faults = tuple(Fault(f"/{name}", "is missing") for name in missing)
        raise BadRequest(f"The request body lacks {' and '.join(missing)}.", code="missing_field", faults=faults)
    entry = await _entry(control, principal, fields, invites=fields.password is None)
    now = control.clock.now()
    draft = User(
        organization=principal.organization,
        id=control.row_ids.next(),
        public_id=control.public_ids.next(),
        email="",
        display_name="",
        role="viewer",
        created_at=now,
        updated_at=now,
    )
    user = _changed(draft, fields, entry, now)
    require_rank(principal, user.role)

    async def work(tx: Transaction, record: Record) -> UserDetails:
        await usage.require_room(tx, control, user, "users")
        await _require_free(tx, user)
        await users.insert(tx, user)
        await record("user_added", user)
        return UserDetails(user, entry.invitation)

    return await control.write_as(principal, work)


async def get(control: ControlContext, principal: Principal, public_id: str) -> User:
    return await control.store.read(lambda tx: _own(tx, principal, "read", public_id))


async def page(control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE) -> Listing[User]:
    targets = principal.targets_of("users", "read")
    return await control.store.read(lambda tx: users.page(tx, principal.organization, selection, targets))


async def change(control: ControlContext, principal: Principal, public_id: str, fields: UserFields) -> UserDetails:
    """Change a user. A password or a new invitation voids the previous invitation.

    A new password, and disabling the user, end their sessions. Raises what `create` raises, and Conflict if no active
    owner would remain.
    """
    entry = await _entry(control, principal, fields, invites=fields.invite)
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> UserDetails:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        changed = _changed(stored, fields, entry, now)
        for role in (stored.role, changed.role):
            require_rank(principal, role)
        if changed.email != stored.email:
            await _require_free(tx, changed)
        if not changed.is_active_owner:
            await _require_another_owner(tx, stored)
        await users.update(tx, changed)
        if changed.password_hash != stored.password_hash or changed.status != "enabled":
            await session_table.delete_of_user(tx, changed.organization, changed.id)
        await record("user_updated", changed, changes=changed_settings(stored, changed))
        return UserDetails(changed, entry.invitation)

    return await control.write_as(principal, work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete a user. Raises Conflict if no active owner would remain."""

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        require_rank(principal, stored.role)
        await _require_another_owner(tx, stored)
        await users.delete(tx, stored.organization, stored.id)
        await session_table.delete_of_user(tx, stored.organization, stored.id)
        await second_factor_table.delete(tx, stored.organization, stored.id)
        await identity_table.delete_of_user(tx, stored.organization, stored.id)
        await record("user_deleted", stored)

    await control.write_as(principal, work)


async def accept(control: ControlContext, token: str, password: str) -> User | None:
    """Set the password of the user whom the token invites, and end their sessions.

    Returns None if the token is unknown or expired, or the user is disabled. Raises Unprocessable for an invalid
    password, whatever the token, and Locked if the organization is suspended.
    """
    passwords.check_password(password)
    hashed, now = hash_secret(token), control.clock.now()
    # Before hashing the password, which is expensive: guessed tokens must not cost that much.
    invited = await control.store.read(lambda tx: _invited(tx, hashed, now))
    if invited is None:
        return None
    entry = _Entry(await control.passwords.hash_of(password, control.random_bytes, line=invited.organization))

    async def work(tx: Transaction, record: Record) -> User | None:
        # Again: of two requests with one token, only the first finds it.
        stored = await _invited(tx, hashed, now)
        if stored is None:
            return None
        user = _changed(stored, UserFields(), entry, now)
        await users.update(tx, user)
        await session_table.delete_of_user(tx, user.organization, user.id)
        await record("user_updated", user, changes=changed_settings(stored, user))
        return user

    return await control.write_as(None, work)


async def invited(control: ControlContext, token: str) -> User | None:
    """Return the user whom the token invites; None if `accept` would.

    Raises Locked if the organization is suspended.
    """
    hashed, now = hash_secret(token), control.clock.now()
    return await control.store.read(lambda tx: _invited(tx, hashed, now))


def require_rank(principal: Principal, role: Role) -> None:
    """Raise Forbidden if the principal is a user whose role is below `role`."""
    if principal.role is not None and not may_manage(principal.role, role):
        raise Forbidden(f"The role {principal.role} cannot grant the role {role}, or change users who have it.")


def display_name_of(text: str) -> str:
    """Return as much of a name from elsewhere as is allowed in a display name."""
    return _CONTROL.sub("", text)[:_LONGEST_NAME]


def is_email(text: str) -> bool:
    return len(text) in _EMAIL_LENGTHS and _EMAIL.fullmatch(text) is not None


class _Entry(msgspec.Struct, frozen=True):
    """New means to sign in. Both None: unchanged."""

    password_hash: str | None = None
    invitation: Invitation | None = None


async def _entry(control: ControlContext, principal: Principal, fields: UserFields, *, invites: bool) -> _Entry:
    if fields.password is None:
        return _Entry(invitation=new_invitation(control.random_text, control.clock.now()) if invites else None)
    if fields.invite:
        raise invalid("/password", "cannot be combined with an invitation", code="conflicting_fields")
    passwords.check_password(fields.password)
    hashed = await control.passwords.hash_of(fields.password, control.random_bytes, line=principal.organization)
    return _Entry(password_hash=hashed)


async def _own(tx: Transaction, principal: Principal, access: Access, public_id: str) -> User:
    principal.require("users", access, public_id)
    return require_found(await users.get(tx, principal.organization, public_id))


async def _invited(tx: Transaction, hashed: bytes, now: int) -> User | None:
    user = await users.invited(tx, hashed)
    organization = None if user is None else await organizations.get(tx, user.organization)
    if user is None or organization is None or user.invitation_expires_at <= now or user.status != "enabled":
        return None
    if organization.state == "suspended":
        raise Locked
    return user


async def _require_free(tx: Transaction, user: User) -> None:
    holder = await users.by_email(tx, user.organization, user.email)
    if holder is not None and holder.id != user.id:
        raise invalid("/email", "is taken", code="email_taken")


async def _require_another_owner(tx: Transaction, user: User) -> None:
    """Raise Conflict if the user is the last active owner of the organization."""
    if await is_last_owner(tx, user):
        raise Conflict("This is the last active owner. Make another user an owner first.", code="last_owner")


async def is_last_owner(tx: Transaction, user: User) -> bool:
    """Return whether the user is the last active owner of the organization."""
    if not user.is_active_owner:
        return False
    # The transaction is exclusive, or two owners who are deleted at the same time could each count on the other one.
    last = 0
    while owners := await users.of_role(tx, user.organization, "owner", last, limit=_OWNERS_AT_ONCE):
        if any(other.is_active_owner and other.id != user.id for other in owners):
            return False
        last = owners[-1].id
    return True


def _changed(stored: User, fields: UserFields, entry: _Entry, now: int) -> User:
    changed = msgspec.structs.replace(
        stored,
        email=stored.email if fields.email is None else _email(fields.email),
        display_name=stored.display_name if fields.display_name is UNSET else _display_name(fields.display_name),
        role=stored.role if fields.role is None else one_of(ROLES, fields.role, "/role"),
        status=stored.status if fields.status is None else one_of(_STATUSES, fields.status, "/status"),
        updated_at=now,
    )
    if entry.password_hash is not None:
        return msgspec.structs.replace(
            changed, password_hash=entry.password_hash, invitation_hash=None, invitation_expires_at=0
        )
    if (made := entry.invitation) is not None:
        return msgspec.structs.replace(changed, invitation_hash=made.hash, invitation_expires_at=made.expires_at)
    return changed


def _email(text: str) -> str:
    """Return the email as sent: it is not normalized. Raises Unprocessable if it is invalid."""
    if not is_email(text):
        raise invalid("/email", "must be an address of 3 to 254 characters with one @ and no spaces")
    return text


def _display_name(text: str | UnsetType | None) -> str:
    if not isinstance(text, str):
        return ""
    if len(text) > _LONGEST_NAME or _CONTROL.search(text):
        raise invalid("/display_name", f"must have at most {_LONGEST_NAME} characters and no control characters")
    return text
