"""Organizations."""

from collections.abc import Collection
from typing import Final

import msgspec

from discue.domain.model import Organization
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed

_COLUMNS: Final = "id, public_id, alias, state, is_operator, settings, created_at, updated_at"
_BY_ID: Final = f"SELECT {_COLUMNS} FROM organization WHERE id = $1 AND deleted_at IS NULL"
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM organization WHERE public_id = $1 AND deleted_at IS NULL"
_BY_ALIAS: Final = f"SELECT {_COLUMNS} FROM organization WHERE alias = $1 AND deleted_at IS NULL"
_OPERATOR: Final = f"""
    SELECT {_COLUMNS} FROM organization WHERE is_operator = 1 AND deleted_at IS NULL ORDER BY id LIMIT 1"""
_LIST: Final = f"SELECT {_COLUMNS} FROM organization WHERE deleted_at IS NULL"
_ANCHOR: Final = "SELECT id FROM organization WHERE public_id = $1"
_INSERT: Final = f"INSERT INTO organization ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
_UPDATE: Final = """
    UPDATE organization SET alias = $1, state = $2, settings = $3, updated_at = $4
    WHERE id = $5 AND deleted_at IS NULL"""
_MARK_DELETED: Final = "UPDATE organization SET deleted_at = $1 WHERE id = $2 AND deleted_at IS NULL"


async def get(tx: Transaction, organization: int) -> Organization | None:
    return _read(await tx.row(_BY_ID, organization))


async def by_public_id(tx: Transaction, public_id: str) -> Organization | None:
    return _read(await tx.row(_BY_PUBLIC_ID, public_id))


async def by_alias(tx: Transaction, alias: str) -> Organization | None:
    return _read(await tx.row(_BY_ALIAS, alias))


async def operator(tx: Transaction) -> Organization | None:
    """Find the operator's own organization; None in an empty database."""
    return _read(await tx.row(_OPERATOR))


async def page(tx: Transaction, selection: Selection, only: Collection[str] | None = None) -> Listing[Organization]:
    """Read a page of all organizations, or of those in `only` (public ids)."""
    table = Table(_LIST, (), "id", _ANCHOR)
    found = await listed(tx, table, selection, only)
    return found.listing(map(_from_row, found.rows))


async def insert(tx: Transaction, organization: Organization) -> None:
    """Insert an organization. Raises UniqueViolation if its alias is taken."""
    await tx.execute(
        _INSERT,
        organization.id,
        organization.public_id,
        organization.alias,
        organization.state,
        int(organization.is_operator),
        msgspec.json.encode(organization.settings).decode(),
        organization.created_at,
        organization.updated_at,
    )


async def update(tx: Transaction, organization: Organization) -> bool:
    """Update an organization. Returns False if it was deleted; raises UniqueViolation if its alias is taken."""
    settings = msgspec.json.encode(organization.settings).decode()
    changed = await tx.execute(
        _UPDATE, organization.alias, organization.state, settings, organization.updated_at, organization.id
    )
    return changed == 1


async def mark_deleted(tx: Transaction, organization: int, now: int) -> bool:
    return await tx.execute(_MARK_DELETED, now, organization) == 1


async def delete(tx: Transaction, organization: int) -> None:
    await tx.execute("DELETE FROM organization WHERE id = $1", organization)


def _read(row: Row | None) -> Organization | None:
    return _from_row(row) if row is not None else None


def _from_row(row: Row) -> Organization:
    organization, public_id, alias, state, is_operator, settings, created_at, updated_at = row
    return Organization(
        id=organization,
        public_id=public_id,
        alias=alias,
        state=state,
        is_operator=bool(is_operator),
        settings=msgspec.json.decode(settings, type=dict[str, int | bool]),
        created_at=created_at,
        updated_at=updated_at,
    )
