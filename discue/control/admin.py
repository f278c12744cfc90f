"""API keys and lockouts on the command line: access to the database replaces scopes."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Final, Literal

import msgspec

from discue.control.api_keys import CreatedKey, Status, first_key, new_key
from discue.control.context import ControlContext, Record, require_found
from discue.domain import aliases
from discue.domain.lockout import MAX_REFUSAL_MS, Lockout, LockoutKind, LockoutSubject, remaining_ms
from discue.domain.model import ApiKey, Organization
from discue.domain.scopes import Scopes
from discue.store import api_keys, feed, lockouts, organizations, second_factors, users
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection

RowKey = tuple[int, int]
"""Row ids of an organization and a user of it."""

_OF_USERS: Final[Sequence[LockoutKind]] = ("user", "device")
_UNLOCKED_PER_STEP: Final = 500
_FIRST: Final = (0, 0)


async def create_key(
    control: ControlContext, organization_alias: str, alias: str | None, scopes: Scopes, *, expires_at: int = 0
) -> CreatedKey:
    """Create a key with any scopes, also protected ones. Raises NotFound if the organization does not exist."""
    if alias is not None:
        aliases.check_alias(alias)
    draft = new_key(control, 0, scopes, alias=alias, expires_at=expires_at)

    async def work(tx: Transaction, record: Record) -> CreatedKey:
        organization = await _organization(tx, organization_alias)
        key = msgspec.structs.replace(draft.key, organization=organization.id)
        await api_keys.insert(tx, key)
        await record("api_key_added", key)
        return CreatedKey(key, draft.text)

    return await control.write_as(None, work)


async def restore_key(control: ControlContext, organization: Organization, text: str) -> None:
    """Create or replace the key with this text, so that it is enabled and has every scope.

    Raises SettingsInvalid if the text is not a valid key.
    """
    made = first_key(control, organization.id, text)

    async def work(tx: Transaction, record: Record) -> None:
        stored = await api_keys.get(tx, organization.id, made.key.public_id)
        if stored is not None:
            await api_keys.delete(tx, organization.id, stored.id)
            # The new row has another id: without this entry, workers would keep what they cached of the old row.
            await feed.record(tx, "api_key", organization.id, stored.id)
        await api_keys.insert(tx, made.key)
        if stored is None:
            await record("api_key_added", made.key)
        else:
            await record("api_key_updated", made.key, changes=("key",))

    await control.write_as(None, work)


async def page_of_keys(
    control: ControlContext, organization_alias: str, selection: Selection = FIRST_PAGE
) -> Listing[ApiKey]:
    async def work(tx: Transaction) -> Listing[ApiKey]:
        organization = await _organization(tx, organization_alias)
        return await api_keys.page(tx, organization.id, selection)

    return await control.store.read(work)


async def change_key(
    control: ControlContext, organization_alias: str, public_id: str, status: Status | Literal["deleted"]
) -> None:
    """Enable, disable or delete a key, also the last one that can manage keys."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> None:
        organization = await _organization(tx, organization_alias)
        stored = require_found(await api_keys.get(tx, organization.id, public_id))
        if status == "deleted":
            await api_keys.delete(tx, stored.organization, stored.id)
            await record("api_key_deleted", stored)
        else:
            await api_keys.update(tx, msgspec.structs.replace(stored, status=status, updated_at=now))
            await record("api_key_updated", stored, changes=(status,))

    await control.write_as(None, work)


async def _organization(tx: Transaction, alias: str) -> Organization:
    return require_found(await organizations.by_alias(tx, alias))


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
        for user in await users.with_email(tx, subject.name, limit=_UNLOCKED_PER_STEP):
            factor = await second_factors.get(tx, user.organization, user.id)
            if factor is not None and remaining_ms(factor.refused_until, now, MAX_REFUSAL_MS):
                refused.append(Lockout(subject, factor.refused_until))
            await second_factors.reset_failures(tx, user.organization, user.id)
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
            await second_factors.reset_failures(tx, organization, user)
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
    for factor in await second_factors.refused(tx, now, after, limit):
        user = await users.by_id(tx, factor.organization, factor.id)
        name = "" if user is None else user.email
        found.append(((factor.organization, factor.id), Lockout(LockoutSubject.user(name), factor.refused_until)))
    return found


def _latest(held: Iterable[Lockout]) -> list[Lockout]:
    """Return the lockout of each subject that ends last, those that end last first."""
    found = {lock.subject: lock for lock in sorted(held, key=attrgetter("until"))}
    return sorted(found.values(), key=attrgetter("until"), reverse=True)
