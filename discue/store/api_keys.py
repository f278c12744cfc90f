"""API keys."""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Final

from discue.domain.model import ApiKey
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, read_one, row_reader

_COLUMNS: Final = (
    "id, organization, public_id, alias, status, scopes, expires_at, last_used_at, created_at, updated_at, secret_hash"
)
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM api_key WHERE public_id = $1 AND organization = $2"
_IN_ANY_ORGANIZATION: Final = f"SELECT {_COLUMNS} FROM api_key WHERE public_id = $1"
_LIST: Final = f"SELECT {_COLUMNS} FROM api_key WHERE organization = $1"
_ENABLED: Final = f"""
    SELECT {_COLUMNS} FROM api_key
    WHERE organization = $1 AND id > $2 AND status = 'enabled' ORDER BY id LIMIT $3"""
_INSERT: Final = f"INSERT INTO api_key ({_COLUMNS}) VALUES ({placeholders(1, 11)})"
_UPDATE: Final = """
    UPDATE api_key SET alias = $1, status = $2, scopes = $3, expires_at = $4, updated_at = $5
    WHERE organization = $6 AND id = $7"""
_MARK_USED: Final = """
    UPDATE api_key SET last_used_at = $1 WHERE organization = $2 AND id = $3 AND last_used_at < $1"""

_from_row = row_reader(ApiKey, _COLUMNS)
_values: Callable[[ApiKey], Row] = attrgetter(*_COLUMNS.split(", "))


async def get(tx: Transaction, organization: int, public_id: str) -> ApiKey | None:
    return await read_one(tx, _from_row, _BY_PUBLIC_ID, public_id, organization)


async def by_public_id(tx: Transaction, public_id: str) -> ApiKey | None:
    """Find a key in any organization. Only authentication may use this."""
    return await read_one(tx, _from_row, _IN_ANY_ORGANIZATION, public_id)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[ApiKey]:
    """Read a page of the organization's keys, or of those in `only` (public ids)."""
    return await listed(tx, Table("api_key", _LIST, (organization,)), selection, _from_row, only=only)


async def enabled_after(tx: Transaction, organization: int, after: int, limit: int) -> list[ApiKey]:
    """Read enabled keys, including expired ones, in the order of row ids."""
    return [_from_row(row) for row in await tx.rows(_ENABLED, organization, after, limit)]


async def insert(tx: Transaction, key: ApiKey) -> None:
    """Insert a key. Raises UniqueViolation if its alias is taken."""
    await tx.execute(_INSERT, *_values(key))


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
