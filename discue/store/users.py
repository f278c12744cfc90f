"""Users of organizations."""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.model import User
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, read_one, row_reader

_COLUMNS: Final = (
    "id, organization, public_id, email, display_name, role, password_hash, invitation_hash, invitation_expires_at, "
    "created_at, updated_at"
)
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM organization_user WHERE public_id = $1 AND organization = $2"
_BY_EMAIL: Final = f"SELECT {_COLUMNS} FROM organization_user WHERE organization = $1 AND email_key = $2"
_INVITED: Final = f"SELECT {_COLUMNS} FROM organization_user WHERE invitation_hash = $1"
_LIST: Final = f"SELECT {_COLUMNS} FROM organization_user WHERE organization = $1"
_OF_ROLE: Final = f"""
    SELECT {_COLUMNS} FROM organization_user
    WHERE organization = $1 AND role = $2 AND id > $3 ORDER BY id LIMIT $4"""
_INSERT: Final = f"INSERT INTO organization_user ({_COLUMNS}, email_key) VALUES ({placeholders(1, 12)})"
_UPDATE: Final = """
    UPDATE organization_user SET email = $1, email_key = $2, display_name = $3, role = $4, password_hash = $5,
        invitation_hash = $6, invitation_expires_at = $7, updated_at = $8
    WHERE organization = $9 AND id = $10"""
_DELETE: Final = "DELETE FROM organization_user WHERE organization = $1 AND id = $2"

_from_row = row_reader(User, _COLUMNS)
_values: Callable[[User], Row] = attrgetter(*_COLUMNS.split(", "))


async def get(tx: Transaction, organization: int, public_id: str) -> User | None:
    return await read_one(tx, _from_row, _BY_PUBLIC_ID, public_id, organization)


async def by_email(tx: Transaction, organization: int, email: str) -> User | None:
    """Find a user by email, ignoring case."""
    return await read_one(tx, _from_row, _BY_EMAIL, organization, key_of(email))


async def invited(tx: Transaction, invitation_hash: bytes) -> User | None:
    """Find the user of any organization whose invitation has that hash, expired or not."""
    return await read_one(tx, _from_row, _INVITED, invitation_hash)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[User]:
    """Read a page of the organization's users, or of those in `only` (public ids). Their alias is their email."""
    table = Table("organization_user", _LIST, (organization,), alias_column="email_key")
    if selection.alias is not None:
        selection = msgspec.structs.replace(selection, alias=key_of(selection.alias))
    return await listed(tx, table, selection, _from_row, only=only)


async def of_role(tx: Transaction, organization: int, role: str, after: int, *, limit: int) -> list[User]:
    """Read users who have a role, in the order of row ids."""
    return [_from_row(row) for row in await tx.rows(_OF_ROLE, organization, role, after, limit)]


async def insert(tx: Transaction, user: User) -> None:
    """Insert a user. Raises UniqueViolation if the email is taken."""
    await tx.execute(_INSERT, *_values(user), key_of(user.email))


async def update(tx: Transaction, user: User) -> bool:
    """Update a user. Returns False if it was deleted; raises UniqueViolation if the email is taken."""
    access = (user.role, user.password_hash, user.invitation_hash, user.invitation_expires_at)
    values = (user.email, key_of(user.email), user.display_name, *access, user.updated_at)
    return await tx.execute(_UPDATE, *values, user.organization, user.id) == 1


async def delete(tx: Transaction, organization: int, user: int) -> bool:
    return await tx.execute(_DELETE, organization, user) == 1


def key_of(email: str) -> str:
    """Return the same key for all spellings of an address that are equal."""
    return email.casefold()
