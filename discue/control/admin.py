"""API keys on the command line: access to the database replaces scopes."""

from typing import Literal

import msgspec

from discue.control.api_keys import CreatedKey, Status, first_key, new_key
from discue.control.context import ControlContext, Record, require_found
from discue.domain import aliases
from discue.domain.model import ApiKey, Organization
from discue.domain.scopes import Scopes
from discue.store import api_keys, feed, organizations
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection


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
