"""Users who sign in with an account at an identity provider.

An account is recognized by its issuer and subject, never by its email: the holder of a mailbox, or of an account
at a provider that does not check addresses, must not become another user.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from discue.auth.authenticator import Authenticator, sign_in_subject
from discue.control import usage
from discue.control.context import ControlContext, Record, changed_settings
from discue.dashboard.users import identity_table, session_table
from discue.dashboard.users.identity_table import IDENTITIES_OF_A_USER, UserIdentity
from discue.dashboard.users.provider import ExternalIdentity, PendingSignIn, Provider, ProviderSettings, SignInRefused
from discue.dashboard.users.session_table import SignInCode
from discue.dashboard.users.sessions import token_hash
from discue.dashboard.users.sign_in import Browser, NewSession, SessionRequest, open_session
from discue.dashboard.users.users import display_name_of, is_email, is_last_owner
from discue.domain.model import Organization, Role, User
from discue.domain.scopes import Principal
from discue.store import organizations, users
from discue.store.engine import Transaction

_PERMIT_CHARACTERS: Final = 43
_PERMIT_MS: Final = 600_000


class ProviderResponse(msgspec.Struct, frozen=True):
    """The response of a provider, as a browser has brought it."""

    provider: Provider
    pending: PendingSignIn
    query: Mapping[str, str]
    redirect_uri: str

    async def identity(self) -> ExternalIdentity:
        """Return who has signed in at the provider. Raises SignInRefused and ProviderFailed."""
        return await self.provider.finish(self.pending, self.query, self.redirect_uri)


async def sign_in(
    control: ControlContext, authenticator: Authenticator, response: ProviderResponse, browser: Browser
) -> NewSession:
    """Open a session for the account with which a browser comes back. A new user gets the role of their groups.

    The role of a user is brought up to date with the groups, except that the last active owner stays one. Raises
    SignInRefused, which counts as a failed attempt of the browser's address, LockedOut, ProviderFailed, and Locked if
    the organization is suspended.
    """
    subjects = [sign_in_subject(browser.address)]
    refusals: list[SignInRefused] = []
    authenticator.require_unlocked(subjects)
    # Before the attempt: an address has few at once, and a provider that hangs must not keep others from signing in.
    try:
        identity = await response.identity()
    except SignInRefused as error:
        identity = None
        refusals.append(error)

    async def work() -> NewSession | None:
        try:
            return None if identity is None else await _sign_in(control, response.provider.settings, identity, browser)
        except SignInRefused as error:
            refusals.append(error)
            return None

    opened = await authenticator.attempt(subjects, work)
    if opened is None:
        raise refusals[0]
    return opened


async def permit_connection(control: ControlContext, user: User) -> str:
    """Return a code with which an account is connected to the user once, within ten minutes.

    Call this after the user has entered the password: a session alone must not be enough, or someone who has stolen one
    could connect an account of their own, and keep it.
    """
    code, now = control.random_text.take(_PERMIT_CHARACTERS), control.clock.now()
    row = SignInCode(user.organization, control.row_ids.next(), _permit_hash(code), user.id, "", now + _PERMIT_MS)
    await control.store.write(partial(session_table.insert_code, code=row))
    return code


async def connect(control: ControlContext, principal: Principal, response: ProviderResponse) -> None:
    """Connect an account to the user who is signed in and has the permit. Raises SignInRefused and ProviderFailed."""
    settings, now = response.provider.settings, control.clock.now()
    code = await control.store.write(
        partial(session_table.redeem_code, code_hash=_permit_hash(response.pending.permit))
    )
    if code is None or code.expires_at <= now or code.user_id != principal.key:
        raise SignInRefused("Connecting the account took too long. Start again, with your password.")
    identity = await response.identity()
    row_id, connected_at = control.row_ids.next(), control.clock.now()

    async def work(tx: Transaction, record: Record) -> None:
        organization = await _organization(tx, settings)
        user = await users.by_id(tx, principal.organization, principal.key)
        if user is None or organization.id != user.organization:
            raise SignInRefused(f"{settings.title} is for users of another organization.")
        if await identity_table.find_user(tx, organization.id, identity.issuer, identity.subject) is not None:
            raise SignInRefused(f"This account at {settings.title} is connected already.")
        if len(await identity_table.of_user(tx, organization.id, user.id)) >= IDENTITIES_OF_A_USER:
            raise SignInRefused(f"You have connected {IDENTITIES_OF_A_USER} accounts, and no more are possible.")
        await identity_table.insert(tx, _row(user, row_id, identity, connected_at))
        await users.update(tx, replace(user, has_identity=True, updated_at=connected_at))
        await record("user_updated", user, changes=("identity",))

    await control.write_as(principal, work)


def _permit_hash(code: str) -> bytes:
    """Return a hash that is never that of a one-time code, which would open a session."""
    return token_hash(f"connect {code}")


def _row(user: User, row_id: int, identity: ExternalIdentity, now: int) -> UserIdentity:
    return UserIdentity(user.organization, row_id, user.id, identity.issuer, identity.subject, now)


async def _sign_in(
    control: ControlContext, settings: ProviderSettings, identity: ExternalIdentity, browser: Browser
) -> NewSession:
    role = settings.role_of(identity.groups)
    if role is None:
        raise SignInRefused(f"None of your groups at {settings.title} has a role here.")
    now, public_id = control.clock.now(), control.public_ids.next()
    user_id, row_id = control.row_ids.next(), control.row_ids.next()

    async def work(tx: Transaction, record: Record) -> User:
        organization = await _organization(tx, settings)
        user = await identity_table.find_user(tx, organization.id, identity.issuer, identity.subject)
        if user is not None:
            return await _with_role(tx, record, replace(user, updated_at=now), role)
        added = User(
            organization=organization.id,
            id=user_id,
            public_id=public_id,
            email=identity.email,
            display_name=display_name_of(identity.name),
            role=role,
            created_at=now,
            updated_at=now,
            has_identity=True,
        )
        await _require_new(tx, settings, added)
        await usage.require_room(tx, control, added, "users")
        await users.insert(tx, added)
        await identity_table.insert(tx, _row(added, row_id, identity, now))
        await record("user_added", added)
        return added

    user = await control.write_as(None, work)
    request = SessionRequest(
        browser, "oidc", user.organization, user.id, provider=settings.name, proved_at=identity.signed_in_at
    )
    opened = await open_session(control, request)
    if opened is None:
        raise SignInRefused("This user is disabled.")
    return opened


async def _with_role(tx: Transaction, record: Record, user: User, role: Role) -> User:
    if user.role == role or (role != "owner" and await is_last_owner(tx, user)):
        return user
    changed = replace(user, role=role)
    await users.update(tx, changed)
    await record("user_updated", changed, changes=changed_settings(user, changed))
    return changed


async def _require_new(tx: Transaction, settings: ProviderSettings, user: User) -> None:
    """Raise SignInRefused unless the email of a new user is verified and not taken."""
    if not is_email(user.email):
        raise SignInRefused(
            f"{settings.title} sent no email that it has verified. Ask for an invitation, then connect the account."
        )
    if await users.by_email(tx, user.organization, user.email) is not None:
        raise SignInRefused(
            f"A user has this email already. Sign in with the password, and connect {settings.title} in your account."
        )


async def _organization(tx: Transaction, settings: ProviderSettings) -> Organization:
    alias = settings.organization
    found = await (organizations.by_alias(tx, alias) if alias else organizations.operator(tx))
    if found is None:
        raise SignInRefused(f"The organization of {settings.title} does not exist.")
    return found
