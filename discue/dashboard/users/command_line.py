"""Users and lockouts on the command line: access to the database replaces scopes.

The command line creates the first user, and restores access for the last owner.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Final

from discue.control.context import ControlContext, require_found
from discue.dashboard.users import second_factor_table, users
from discue.dashboard.users.users import UserDetails, UserFields
from discue.domain.lockout import MAX_REFUSAL_MS, Lockout, LockoutKind, LockoutSubject, remaining_ms
from discue.domain.model import User
from discue.domain.scopes import Principal, all_scopes
from discue.store import lockouts, organizations
from discue.store import users as stored_users
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection


async def create_user(control: ControlContext, organization_alias: str, email: str, role: str) -> UserDetails:
    """Create a user with an invitation. Raises NotFound without the organization, and what `users.create` raises."""
    principal = await _principal(control, organization_alias)
    return await users.create(control, principal, UserFields(email=email, role=role))


async def invite_user(control: ControlContext, organization_alias: str, email: str) -> UserDetails:
    """Make a new invitation for a user, by which they choose a new password. Raises NotFound without the user."""
    principal = await _principal(control, organization_alias)
    read = partial(stored_users.by_email, organization=principal.organization, email=email)
    user = require_found(await control.store.read(read))
    return await users.change(control, principal, user.public_id, UserFields(invite=True))


async def page_of_users(
    control: ControlContext, organization_alias: str, selection: Selection = FIRST_PAGE
) -> Listing[User]:
    return await users.page(control, await _principal(control, organization_alias), selection)


async def _principal(control: ControlContext, organization_alias: str) -> Principal:
    """Return a principal with every scope in an organization. Events do not name it. Raises NotFound."""
    organization = require_found(await control.store.read(partial(organizations.by_alias, alias=organization_alias)))
    return Principal(organization.id, organization.public_id, 0, "", all_scopes(), organization.is_operator)


RowKey = tuple[int, int]
"""Row ids of an organization and a user of it."""

_OF_USERS: Final[Sequence[LockoutKind]] = ("user", "device")
_UNLOCKED_PER_STEP: Final = 500
_FIRST: Final = (0, 0)


async def active_lockouts(control: ControlContext, limit: int) -> list[Lockout]:
    """Return the lockouts in effect, those that end last first. The codes of a user may be refused for longer."""
    now = control.clock.now()
    held = await control.store.read(lambda tx: lockouts.active(tx, now, limit))
    refused = await control.store.read(lambda tx: _refused(tx, now, _FIRST, limit))
    return _latest([*held, *(lock for _, lock in refused)])[:limit]


async def unlock_key(control: ControlContext, public_id: str) -> list[Lockout]:
    """End the lockouts of a key at all addresses, and reset its failure counts. Returns the active lockouts."""
    return await _release(control, partial(lockouts.of_name, kind="api_key", name=public_id, limit=_UNLOCKED_PER_STEP))


async def unlock_address(control: ControlContext, network: str) -> list[Lockout]:
    """End all lockouts at an address, and reset its failure counts. Returns the active lockouts."""
    return await _release(control, partial(lockouts.of_address, address=network, limit=_UNLOCKED_PER_STEP))


async def unlock_user(control: ControlContext, email: str) -> list[Lockout]:
    """End the lockouts of an email and of its browsers, and reset failure counts and wrong codes.

    Returns the active lockouts.
    """
    subject = LockoutSubject.user(email)
    now = control.clock.now()

    async def reset(tx: Transaction) -> list[Lockout]:
        refused = []
        for user in await stored_users.with_email(tx, subject.name, limit=_UNLOCKED_PER_STEP):
            factor = await second_factor_table.get(tx, user.organization, user.id)
            if factor is not None and remaining_ms(factor.refused_until, now, MAX_REFUSAL_MS):
                refused.append(Lockout(subject, factor.refused_until))
            await second_factor_table.reset_failures(tx, user.organization, user.id)
        return refused

    ended = await control.write(reset)
    for kind in _OF_USERS:
        ended += await _release(
            control, partial(lockouts.of_name, kind=kind, name=subject.name, limit=_UNLOCKED_PER_STEP)
        )
    return _latest(ended)


async def unlock_all(control: ControlContext) -> list[Lockout]:
    """End all lockouts in effect, and all refusals of codes of second factors, and return them."""
    now = control.clock.now()
    last = _FIRST

    async def reset(tx: Transaction) -> list[tuple[RowKey, Lockout]]:
        refused = await _refused(tx, now, last, _UNLOCKED_PER_STEP)
        for (organization, user), _ in refused:
            await second_factor_table.reset_failures(tx, organization, user)
        return refused

    ended = await _release(control, partial(lockouts.active, now=now, limit=_UNLOCKED_PER_STEP))
    while refused := await control.write(reset):
        ended += [lock for _, lock in refused]
        last = refused[-1][0]
    return _latest(ended)


async def _release(control: ControlContext, find: Callable[[Transaction], Awaitable[list[Lockout]]]) -> list[Lockout]:
    """Release subjects until `find` finds no more. Returns the lockouts among them that were active."""
    now = control.clock.now()

    async def step(tx: Transaction) -> list[Lockout]:
        # Read first: after the release, there is nothing left to report.
        found = await find(tx)
        for lock in found:
            await lockouts.release(tx, lock.subject)
        return found

    # In steps: one exclusive transaction for all of them would delay every other write.
    ended: list[Lockout] = []
    while found := await control.write(step):
        ended += found
    return _latest(lock for lock in ended if remaining_ms(lock.until, now))


async def _refused(tx: Transaction, now: int, after: RowKey, limit: int) -> list[tuple[RowKey, Lockout]]:
    """Return users whose codes of the second factor are refused, with the refusal as a lockout of their email."""
    found = []
    for factor in await second_factor_table.refused(tx, now, after, limit):
        user = await stored_users.by_id(tx, factor.organization, factor.id)
        name = "" if user is None else user.email
        found.append(((factor.organization, factor.id), Lockout(LockoutSubject.user(name), factor.refused_until)))
    return found


def _latest(held: Iterable[Lockout]) -> list[Lockout]:
    """Return the lockout of each subject that ends last, those that end last first."""
    found = {lock.subject: lock for lock in sorted(held, key=attrgetter("until"))}
    return sorted(found.values(), key=attrgetter("until"), reverse=True)
