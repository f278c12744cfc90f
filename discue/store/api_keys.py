"""API keys."""

from typing import Final

from discue.domain.model import ApiKey
from discue.store.engine import Transaction
from discue.store.resource_table import ResourceTable
from discue.store.tables import read_one

_COLUMNS: Final = (
    "id, organization, public_id, alias, status, scopes, expires_at, last_used_at, created_at, updated_at, secret_hash"
)
_TABLE: Final = ResourceTable("api_key", ApiKey, _COLUMNS, changed="alias, status, scopes, expires_at, updated_at")
get, page, insert, update, delete = _TABLE.get, _TABLE.page, _TABLE.insert, _TABLE.update, _TABLE.delete

_IN_ANY_ORGANIZATION: Final = f"SELECT {_COLUMNS} FROM api_key WHERE public_id = $1"
_ENABLED: Final = f"{_TABLE.select} AND id > $2 AND status = 'enabled' ORDER BY id LIMIT $3"
_MARK_USED: Final = """
    UPDATE api_key SET last_used_at = $1 WHERE organization = $2 AND id = $3 AND last_used_at < $1"""


async def by_public_id(tx: Transaction, public_id: str) -> ApiKey | None:
    """Find a key in any organization. Only authentication may use this."""
    return await read_one(tx, _TABLE.read, _IN_ANY_ORGANIZATION, public_id)


async def enabled_after(tx: Transaction, organization: int, after: int, limit: int) -> list[ApiKey]:
    """Read enabled keys, including expired ones, in the order of row ids."""
    return [_TABLE.read(row) for row in await tx.rows(_ENABLED, organization, after, limit)]


async def mark_used(tx: Transaction, organization: int, key: int, at: int) -> None:
    await tx.execute(_MARK_USED, at, organization, key)
