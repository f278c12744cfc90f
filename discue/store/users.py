"""Users of organizations."""

from collections.abc import Collection
from typing import Final

import msgspec

from discue.domain.model import User
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed

_COLUMNS: Final = (
    "id, organization, public_id, email, email_key, display_name, role, password_hash, invitation_hash, "
    "invitation_expires_at, created_at, updated_at"
)
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM organization_user WHERE public_id = $1 AND organization = $2"
_BY_EMAIL: Final = f"SELECT {_COLUMNS} FROM organization_user WHERE organization = $1 AND email_key = $2"
_INVITED: Final = f"SELECT {_COLUMNS} FROM organization_user WHERE invitation_hash = $1"
_LIST: Final = f"SELECT {_COLUMNS} FROM organization_user WHERE organization = $1"
_ANCHOR: Final = "SELECT id FROM organization_user WHERE organization = $1 AND public_id = $2"
_OF_ROLE: Final = f"""
    SELECT {_COLUMNS} FROM organization_user
    WHERE organization = $1 AND role = $2 AND id > $3 ORDER BY id LIMIT $4"""
_INSERT: Final = f"""
    INSERT INTO organization_user ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"""
_UPDATE: Final = """
    UPDATE organization_user SET email = $1, email_key = $2, display_name = $3, role = $4, password_hash = $5,
        invitation_hash = $6, invitation_expires_at = $7, updated_at = $8
    WHERE organization = $9 AND id = $10"""
_DELETE: Final = "DELETE FROM organization_user WHERE organization = $1 AND id = $2"


async def get(tx: Transaction, organization: int, public_id: str) -> User | None:
    return _read(await tx.row(_BY_PUBLIC_ID, public_id, organization))


async def by_email(tx: Transaction, organization: int, email: str) -> User | None:
    """Find a user by email, ignoring case."""
    return _read(await tx.row(_BY_EMAIL, organization, key_of(email)))


async def invited(tx: Transaction, invitation_hash: bytes) -> User | None:
    """Find the user of any organization whose invitation has that hash, expired or not."""
    return _read(await tx.row(_INVITED, invitation_hash))


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[User]:
    """Read a page of the organization's users, or of those in `only` (public ids). Their alias is their email."""
    table = Table(_LIST, (organization,), "id", _ANCHOR, (organization,), alias_column="email_key")
    if selection.alias is not None:
        selection = msgspec.structs.replace(selection, alias=key_of(selection.alias))
    found = await listed(tx, table, selection, only)
    return found.listing(map(_from_row, found.rows))


async def of_role(tx: Transaction, organization: int, role: str, after: int, *, limit: int) -> list[User]:
    """Read users who have a role, in the order of row ids."""
    return [_from_row(row) for row in await tx.rows(_OF_ROLE, organization, role, after, limit)]


async def insert(tx: Transaction, user: User) -> None:
    """Insert a user. Raises UniqueViolation if the email is taken."""
    await tx.execute(
        _INSERT,
        user.id,
        user.organization,
        user.public_id,
        user.email,
        key_of(user.email),
        user.display_name,
        user.role,
        user.password_hash,
        user.invitation_hash,
        user.invitation_expires_at,
        user.created_at,
        user.updated_at,
    )


async def update(tx: Transaction, user: User) -> bool:
    """Update a user. Returns False if it was deleted; raises UniqueViolation if the email is taken."""
    changed = await tx.execute(
        _UPDATE,
        user.email,
        key_of(user.email),
        user.display_name,
        user.role,
        user.password_hash,
        user.invitation_hash,
        user.invitation_expires_at,
        user.updated_at,
        user.organization,
        user.id,
    )
    return changed == 1


async def delete(tx: Transaction, organization: int, user: int) -> bool:
    return await tx.execute(_DELETE, organization, user) == 1


def key_of(email: str) -> str:
    """Return the same key for all spellings of an address that are equal."""
    return email.casefold()


def _read(row: Row | None) -> User | None:
    return _from_row(row) if row is not None else None


def _from_row(row: Row) -> User:
    user, organization, public_id, email, _, display_name, role, password_hash, invitation_hash, *rest = row
    invitation_expires_at, created_at, updated_at = rest
    return User(
        organization=organization,
        id=user,
        public_id=public_id,
        email=email,
        display_name=display_name,
        role=role,
        password_hash=password_hash,
        invitation_hash=None if invitation_hash is None else bytes(invitation_hash),
        invitation_expires_at=invitation_expires_at,
        created_at=created_at,
        updated_at=updated_at,
    )
