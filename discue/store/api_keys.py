"""API keys."""

from collections.abc import Collection
from typing import Final

from discue.domain.model import ApiKey
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed

_COLUMNS: Final = (
    "id, organization, public_id, alias, status, scopes, expires_at, last_used_at, created_at, updated_at, secret_hash"
)
_BY_ID: Final = f"SELECT {_COLUMNS} FROM api_key WHERE organization = $1 AND id = $2"
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM api_key WHERE public_id = $1 AND organization = $2"
_IN_ANY_ORGANIZATION: Final = f"SELECT {_COLUMNS} FROM api_key WHERE public_id = $1"
_LIST: Final = f"SELECT {_COLUMNS} FROM api_key WHERE organization = $1"
_ANCHOR: Final = "SELECT id FROM api_key WHERE organization = $1 AND public_id = $2"
_ENABLED: Final = f"""
    SELECT {_COLUMNS} FROM api_key
    WHERE organization = $1 AND id > $2 AND status = 'enabled' ORDER BY id LIMIT $3"""
_INSERT: Final = f"INSERT INTO api_key ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_UPDATE: Final = """
    UPDATE api_key SET alias = $1, status = $2, scopes = $3, expires_at = $4, updated_at = $5
    WHERE organization = $6 AND id = $7"""
_MARK_USED: Final = """
    UPDATE api_key SET last_used_at = $1 WHERE organization = $2 AND id = $3 AND last_used_at < $1"""


async def get(tx: Transaction, organization: int, public_id: str) -> ApiKey | None:
    return _read(await tx.row(_BY_PUBLIC_ID, public_id, organization))


async def by_id(tx: Transaction, organization: int, key: int) -> ApiKey | None:
    return _read(await tx.row(_BY_ID, organization, key))


async def by_public_id(tx: Transaction, public_id: str) -> ApiKey | None:
    """Find a key in any organization. Only authentication may use this."""
    return _read(await tx.row(_IN_ANY_ORGANIZATION, public_id))


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[ApiKey]:
    """Read a page of the organization's keys, or of those in `only` (public ids)."""
    table = Table(_LIST, (organization,), "id", _ANCHOR, (organization,))
    found = await listed(tx, table, selection, only)
    return found.listing(map(_from_row, found.rows))


async def enabled_after(tx: Transaction, organization: int, after: int, limit: int) -> list[ApiKey]:
    """Read enabled keys, including expired ones, in the order of row ids."""
    return [_from_row(row) for row in await tx.rows(_ENABLED, organization, after, limit)]


async def insert(tx: Transaction, key: ApiKey) -> None:
    """Insert a key. Raises UniqueViolation if its alias is taken."""
    await tx.execute(
        _INSERT,
        key.id,
        key.organization,
        key.public_id,
        key.alias,
        key.status,
        key.scopes,
        key.expires_at,
        key.last_used_at,
        key.created_at,
        key.updated_at,
        key.secret_hash,
    )


async def update(tx: Transaction, key: ApiKey) -> bool:
    """Update a key, except its secret.

    Returns False if it was deleted; raises UniqueViolation if its alias is taken.
    """
    values = (key.alias, key.status, key.scopes, key.expires_at, key.updated_at, key.organization, key.id)
    return await tx.execute(_UPDATE, *values) == 1


async def mark_used(tx: Transaction, organization: int, key: int, at: int) -> None:
    await tx.execute(_MARK_USED, at, organization, key)


async def delete(tx: Transaction, organization: int, key: int) -> bool:
    return await tx.execute("DELETE FROM api_key WHERE organization = $1 AND id = $2", organization, key) == 1


def _read(row: Row | None) -> ApiKey | None:
    return _from_row(row) if row is not None else None


def _from_row(row: Row) -> ApiKey:
    key, organization, public_id, alias, status, scopes, expires_at, last_used_at, *rest = row
    created_at, updated_at, secret_hash = rest
    return ApiKey(
        organization=organization,
        id=key,
        public_id=public_id,
        alias=alias,
        status=status,
        scopes=scopes,
        expires_at=expires_at,
        last_used_at=last_used_at,
        created_at=created_at,
        updated_at=updated_at,
        secret_hash=bytes(secret_hash),
    )
