"""API keys. A key never grants more than its creator has, and one that can manage keys always remains."""

from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import usage
from discue.control.context import ControlContext, Record, changed_settings, require_found
from discue.domain import api_key
from discue.domain.aliases import NameFields, changed_alias, check_alias, new_alias
from discue.domain.clock import LAST_INSTANT, check_unit
from discue.domain.errors import Conflict, SettingsInvalid, invalid
from discue.domain.model import ApiKey, Organization
from discue.domain.representation import shows
from discue.domain.scopes import (
    Access,
    Principal,
    Scopes,
    all_scopes,
    check_grant,
    default_grant,
    parse_scopes,
    render_scopes,
)
from discue.store import api_keys, feed, organizations
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection


@shows("key")
class CreatedKey(msgspec.Struct, frozen=True):
    """A new key, and its text, which is shown only once."""

    key: ApiKey
    text: str
    """The value of the X-API-KEY header. Only a hash of its secret part is stored."""


def new_key(
    control: ControlContext,
    organization: int,
    scopes: Scopes,
    *,
    alias: str | None = None,
    expires_at: int = 0,
    parts: api_key.PresentedKey | None = None,
) -> CreatedKey:
    """Return a key that is not stored yet, by default with a random id and secret. Its default alias is its id."""
    if parts is None:
        parts = api_key.PresentedKey(control.public_ids.next(), api_key.new_secret(control.random_text))
    now = control.clock.now()
    key = ApiKey(
        organization=organization,
        id=control.row_ids.next(),
        public_id=parts.public_id,
        alias=alias or parts.public_id,
        status="enabled",
        scopes=_encode_scopes(scopes),
        expires_at=expires_at,
        last_used_at=0,
        created_at=now,
        updated_at=now,
        secret_hash=api_key.hash_secret(parts.secret),
    )
    return CreatedKey(key, api_key.compose(*parts))


def first_key(control: ControlContext, organization: int, given: str | None = None) -> CreatedKey:
    """Return an organization's first key, with every scope. `given` is the text that the operator chose, if any.

    Raises SettingsInvalid if the given text is not a valid key.
    """
    parts = None if given is None else api_key.parse(given)
    if given is not None and parts is None:
        raise SettingsInvalid("bootstrap_key: must be dsk_ followed by 43 to 128 letters and digits.")
    return new_key(control, organization, all_scopes(), parts=parts)


def _encode_scopes(scopes: Scopes) -> str:
    return msgspec.json.encode(render_scopes(scopes)).decode()


Status = Literal["enabled", "disabled"]

_KEYS_AT_ONCE = 100
_REMEMBERED = 1_024


class KeyFields(NameFields, frozen=True):
    """The fields of a key in a request. UNSET and None keep the stored value unless documented otherwise."""

    status: Status | None = None
    scopes: Scopes | UnsetType = UNSET
    expires_at: int | UnsetType | None = UNSET
    """Milliseconds since the epoch. 0 and None: never."""


async def create(control: ControlContext, principal: Principal, fields: KeyFields) -> CreatedKey:
    """Create a key. The default alias is its id, the default scopes are all that the caller may grant.

    Raises Unprocessable for a taken or invalid alias and for protected scopes, Forbidden for scopes that the caller
    does not have.
    """
    principal.require("api_keys", "write")
    scopes: Scopes = default_grant(principal.scopes)
    if not isinstance(fields.scopes, UnsetType):
        check_grant(fields.scopes, principal.scopes)
        scopes = fields.scopes
    expires_at = _expiry(fields, 0, control.clock.now())
    made = new_key(control, principal.organization, scopes, expires_at=expires_at)
    alias = new_alias(fields, made.key.public_id)
    key = msgspec.structs.replace(made.key, alias=alias, status=fields.status or "enabled")

    async def work(tx: Transaction, record: Record) -> CreatedKey:
        await usage.require_room(tx, control, key, "api_keys")
        await api_keys.insert(tx, key)
        await record("api_key_added", key)
        return CreatedKey(key, made.text)

    return await control.write_as(principal, work)


async def get(control: ControlContext, principal: Principal, public_id: str) -> ApiKey:
    return await control.store.read(lambda tx: _own(tx, principal, "read", public_id))


async def page(control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE) -> Listing[ApiKey]:
    targets = principal.targets_of("api_keys", "read")
    return await control.store.read(lambda tx: api_keys.page(tx, principal.organization, selection, targets))


async def change(control: ControlContext, principal: Principal, public_id: str, fields: KeyFields) -> ApiKey:
    """Change a key. Raises what `create` raises, and Conflict if no key that can manage keys would remain."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> ApiKey:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        changed = _changed(principal, stored, fields, now)
        # With a new expiry, the key can manage keys for a shorter time than before.
        still_manages = manages_keys(changed, now) and changed.expires_at in (0, stored.expires_at)
        if manages_keys(stored, now) and not still_manages:
            await _require_another_manager(tx, stored, now)
        await api_keys.update(tx, changed)
        await record("api_key_updated", changed, changes=changed_settings(stored, changed))
        return changed

    return await control.write_as(principal, work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete a key. Raises Conflict if no key that can manage keys would remain."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        if manages_keys(stored, now):
            await _require_another_manager(tx, stored, now)
        await api_keys.delete(tx, stored.organization, stored.id)
        await record("api_key_deleted", stored)

    await control.write_as(principal, work)


@lru_cache(_REMEMBERED)
def scopes_of(scopes: str) -> Scopes:
    """Return the scopes of a key from their stored form."""
    # Most keys have one of a few sets of scopes.
    return parse_scopes(msgspec.json.decode(scopes))


def manages_keys(key: ApiKey, now: int) -> bool:
    """Return whether the key can change every key of its organization: enabled, not expired, with the scope."""
    if key.status != "enabled" or 0 < key.expires_at <= now:
        return False
    scope = scopes_of(key.scopes).get("api_keys")
    return scope is not None and scope.access == "write" and scope.on_all


async def _own(tx: Transaction, principal: Principal, access: Access, public_id: str) -> ApiKey:
    principal.require("api_keys", access, public_id)
    return require_found(await api_keys.get(tx, principal.organization, public_id))


async def _require_another_manager(tx: Transaction, key: ApiKey, now: int) -> None:
    # The transaction is exclusive, or two keys that are deleted at the same time could each count on the other one.
    last = 0
    while enabled := await api_keys.enabled_after(tx, key.organization, last, _KEYS_AT_ONCE):
        if any(other.id != key.id and manages_keys(other, now) for other in enabled):
            return
        last = enabled[-1].id
    detail = "This is the last key that can manage keys. Create another one with the scope api_keys first."
    raise Conflict(detail, code="last_admin_key")


def _changed(principal: Principal, stored: ApiKey, fields: KeyFields, now: int) -> ApiKey:
    alias, scopes = changed_alias(fields, stored.alias), stored.scopes
    # Scopes that the key already has are not checked again.
    if not isinstance(fields.scopes, UnsetType) and dict(fields.scopes) != scopes_of(stored.scopes):
        check_grant(fields.scopes, principal.scopes)
        scopes = _encode_scopes(fields.scopes)
    return msgspec.structs.replace(
        stored,
        alias=alias,
        status=fields.status or stored.status,
        scopes=scopes,
        expires_at=_expiry(fields, stored.expires_at, now),
        updated_at=now,
    )


def _expiry(fields: KeyFields, stored: int, now: int) -> int:
    if isinstance(fields.expires_at, UnsetType):
        return stored
    expires_at = fields.expires_at or 0
    if expires_at in (0, stored):
        return expires_at
    check_unit(expires_at, "/expires_at")
    if not now < expires_at <= LAST_INSTANT:
        raise invalid("/expires_at", "must be a time in the future, in milliseconds since the epoch, or 0")
    return expires_at


async def create_for(
    control: ControlContext, organization_alias: str, alias: str | None, scopes: Scopes, *, expires_at: int = 0
) -> CreatedKey:
    """Create a key on the command line. It can have protected scopes: access to the database replaces scopes.

    Raises NotFound if the organization does not exist.
    """
    if alias is not None:
        check_alias(alias)
    draft = new_key(control, 0, scopes, alias=alias, expires_at=expires_at)

    async def work(tx: Transaction, record: Record) -> CreatedKey:
        organization = require_found(await organizations.by_alias(tx, organization_alias))
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


async def page_for(
    control: ControlContext, organization_alias: str, selection: Selection = FIRST_PAGE
) -> Listing[ApiKey]:
    async def work(tx: Transaction) -> Listing[ApiKey]:
        organization = require_found(await organizations.by_alias(tx, organization_alias))
        return await api_keys.page(tx, organization.id, selection)

    return await control.store.read(work)


async def change_for(
    control: ControlContext, organization_alias: str, public_id: str, status: Status | Literal["deleted"]
) -> None:
    """Enable, disable or delete a key on the command line, even the last one that can manage keys."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> None:
        organization = require_found(await organizations.by_alias(tx, organization_alias))
        stored = require_found(await api_keys.get(tx, organization.id, public_id))
        if status == "deleted":
            await api_keys.delete(tx, stored.organization, stored.id)
            await record("api_key_deleted", stored)
        else:
            await api_keys.update(tx, msgspec.structs.replace(stored, status=status, updated_at=now))
            await record("api_key_updated", stored, changes=(status,))

    await control.write_as(None, work)
