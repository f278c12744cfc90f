"""API keys from the command line: for whoever holds the database, so the rules of scopes do not apply."""

import msgspec

from discue.control import key_making
from discue.control.api_keys import Status
from discue.control.context import ControlContext, require_found
from discue.control.key_making import CreatedKey
from discue.domain import aliases
from discue.domain.model import ApiKey, Organization
from discue.domain.scopes import Scopes
from discue.store import api_keys, events, feed, organizations
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection


async def create(
    control: ControlContext, organization_alias: str, alias: str | None, scopes: Scopes, expires_at: int = 0
) -> CreatedKey:
    """A key with any scopes, protected ones too. Raises NotFound without such an organization."""
    if alias is not None:
        aliases.check_alias(alias)
    organization = await control.store.read(lambda tx: _organization(tx, organization_alias))
    made = key_making.make(control, organization.id, alias, scopes, expires_at)
    occurrence = control.occurrence(None)

    async def work(tx: Transaction) -> None:
        await _organization(tx, organization_alias)
        await api_keys.insert(tx, made.key)
        await feed.record(tx, "api_key", made.key.organization, made.key.id)
        await events.record(tx, occurrence, "api_key_added", organization.id, made.key.public_id, made.key.alias)

    await control.write(work)
    return made


async def restore(control: ControlContext, organization: Organization, text: str) -> None:
    """See to it that the key of this text works and has every scope, whatever became of it.

    Raises SettingsInvalid for a text that is no key.
    """
    made = key_making.first(control, organization.id, text)
    occurrence = control.occurrence(None)

    async def work(tx: Transaction) -> None:
        stored = await api_keys.get(tx, organization.id, made.key.public_id)
        if stored is not None:
            await api_keys.delete(tx, organization.id, stored.id)
            await feed.record(tx, "api_key", organization.id, stored.id)
        await api_keys.insert(tx, made.key)
        await feed.record(tx, "api_key", organization.id, made.key.id)
        kind: events.EventKind = "api_key_added" if stored is None else "api_key_updated"
        await events.record(tx, occurrence, kind, organization.id, made.key.public_id, made.key.alias)

    await control.write(work)


async def page(control: ControlContext, organization_alias: str, selection: Selection = FIRST_PAGE) -> Listing[ApiKey]:
    async def work(tx: Transaction) -> Listing[ApiKey]:
        organization = await _organization(tx, organization_alias)
        return await api_keys.page(tx, organization.id, selection)

    return await control.store.read(work)


async def set_status(control: ControlContext, organization_alias: str, public_id: str, status: Status) -> ApiKey:
    """Enable or disable a key, the last one too."""
    now = control.clock.now()
    occurrence = control.occurrence(None)

    async def work(tx: Transaction) -> ApiKey:
        organization = await _organization(tx, organization_alias)
        stored = require_found(await api_keys.get(tx, organization.id, public_id))
        changed = msgspec.structs.replace(stored, status=status, updated_at=now)
        await api_keys.update(tx, changed)
        await feed.record(tx, "api_key", stored.organization, stored.id)
        await events.record(tx, occurrence, "api_key_updated", organization.id, stored.public_id, stored.alias)
        return changed

    return await control.write(work)


async def remove(control: ControlContext, organization_alias: str, public_id: str) -> None:
    occurrence = control.occurrence(None)

    async def work(tx: Transaction) -> None:
        organization = await _organization(tx, organization_alias)
        stored = require_found(await api_keys.get(tx, organization.id, public_id))
        await api_keys.delete(tx, stored.organization, stored.id)
        await feed.record(tx, "api_key", stored.organization, stored.id)
        await events.record(tx, occurrence, "api_key_deleted", organization.id, stored.public_id, stored.alias)

    await control.write(work)


async def _organization(tx: Transaction, alias: str) -> Organization:
    return require_found(await organizations.by_alias(tx, alias))
