"""Organizations."""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.model import Organization
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, read_one, row_reader

_PLAIN: Final = "id, public_id, alias, state, created_at, updated_at, founder"
COLUMNS: Final = f"{_PLAIN}, is_operator, settings"
_BY_ID: Final = f"SELECT {COLUMNS} FROM organization WHERE id = $1 AND deleted_at IS NULL"
_BY_PUBLIC_ID: Final = f"SELECT {COLUMNS} FROM organization WHERE public_id = $1 AND deleted_at IS NULL"
_BY_ALIAS: Final = f"SELECT {COLUMNS} FROM organization WHERE alias = $1 AND deleted_at IS NULL"
_OPERATOR: Final = f"""
    SELECT {COLUMNS} FROM organization WHERE is_operator = 1 AND deleted_at IS NULL ORDER BY id LIMIT 1"""
_LIST: Final = f"SELECT {COLUMNS} FROM organization WHERE deleted_at IS NULL"
_INSERT: Final = f"INSERT INTO organization ({COLUMNS}) VALUES ({placeholders(1, 9)})"
_UPDATE: Final = """
    UPDATE organization SET alias = $1, state = $2, settings = $3, updated_at = $4
    WHERE id = $5 AND deleted_at IS NULL"""
_OF_FOUNDER: Final = "SELECT id FROM organization WHERE founder = $1 AND founder > 0"
_MARK_DELETED: Final = "UPDATE organization SET deleted_at = $1 WHERE id = $2 AND deleted_at IS NULL"

read_settings = msgspec.json.Decoder(dict[str, int | bool]).decode
"""Decodes stored settings."""

read_row = row_reader(Organization, COLUMNS, is_operator=bool, settings=read_settings)
"""Makes an organization of a row of `COLUMNS`."""
_plain_values: Callable[[Organization], Row] = attrgetter(*_PLAIN.split(", "))


async def get(tx: Transaction, organization: int) -> Organization | None:
    return await read_one(tx, read_row, _BY_ID, organization)


async def by_public_id(tx: Transaction, public_id: str) -> Organization | None:
    return await read_one(tx, read_row, _BY_PUBLIC_ID, public_id)


async def by_alias(tx: Transaction, alias: str) -> Organization | None:
    return await read_one(tx, read_row, _BY_ALIAS, alias)


async def operator(tx: Transaction) -> Organization | None:
    """Find the operator's own organization; None in an empty database."""
    return await read_one(tx, read_row, _OPERATOR)


async def page(tx: Transaction, selection: Selection, only: Collection[str] | None = None) -> Listing[Organization]:
    """Read a page of all organizations, or of those in `only` (public ids)."""
    return await listed(tx, Table("organization", _LIST, ()), selection, read_row, only=only)


async def insert(tx: Transaction, organization: Organization) -> None:
    """Insert an organization. Raises UniqueViolation if its alias is taken."""
    settings = msgspec.json.encode(organization.settings).decode()
    await tx.execute(_INSERT, *_plain_values(organization), int(organization.is_operator), settings)


async def update(tx: Transaction, organization: Organization) -> bool:
    """Update an organization. Returns False if it was deleted; raises UniqueViolation if its alias is taken."""
    settings = msgspec.json.encode(organization.settings).decode()
    changed = await tx.execute(
        _UPDATE, organization.alias, organization.state, settings, organization.updated_at, organization.id
    )
    return changed == 1


async def created_by_tenant(tx: Transaction, founder: int, *, deleted: bool = False) -> list[int]:
    """Return the ids of the organizations that a tenant created; with `deleted`, those that are not purged yet too."""
    rows = await tx.rows(_OF_FOUNDER if deleted else f"{_OF_FOUNDER} AND deleted_at IS NULL", founder)
    return [int(row[0]) for row in rows]


async def mark_deleted(tx: Transaction, organization: int, now: int) -> bool:
    return await tx.execute(_MARK_DELETED, now, organization) == 1


async def delete(tx: Transaction, organization: int) -> None:
    await tx.execute("DELETE FROM organization WHERE id = $1", organization)
