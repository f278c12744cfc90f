"""Users of organizations."""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.model import User
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, read_one, row_reader, rows_among

COLUMNS: Final = (
    "id, organization, public_id, email, display_name, role, password_hash, invitation_hash, invitation_expires_at, "
    "created_at, updated_at, status, has_identity"
)
_BY_PUBLIC_ID: Final = f"SELECT {COLUMNS} FROM organization_user WHERE public_id = $1 AND organization = $2"
_BY_EMAIL: Final = f"SELECT {COLUMNS} FROM organization_user WHERE organization = $1 AND email_key = $2"
_BY_ID: Final = f"SELECT {COLUMNS} FROM organization_user WHERE organization = $1 AND id = $2"
_WITH_EMAIL: Final = f"SELECT {COLUMNS} FROM organization_user WHERE email_key = $1 ORDER BY id LIMIT $2"
_INVITED: Final = f"SELECT {COLUMNS} FROM organization_user WHERE invitation_hash = $1"
_LIST: Final = f"SELECT {COLUMNS} FROM organization_user WHERE organization = $1"
_OF_ROLE: Final = f"""
    SELECT {COLUMNS} FROM organization_user
    WHERE organization = $1 AND role = $2 AND id > $3 ORDER BY id LIMIT $4"""
_NAMES: Final = """
    SELECT public_id, display_name, email FROM organization_user WHERE organization = $1 AND public_id IN ({})"""
_INSERT: Final = f"INSERT INTO organization_user ({COLUMNS}, email_key) VALUES ({placeholders(1, 14)})"
_UPDATE: Final = """
    UPDATE organization_user SET email = $1, email_key = $2, display_name = $3, role = $4, password_hash = $5,
        invitation_hash = $6, invitation_expires_at = $7, updated_at = $8, status = $9,
        has_identity = $10
    WHERE organization = $11 AND id = $12"""
_DELETE: Final = "DELETE FROM organization_user WHERE organization = $1 AND id = $2"

read_row = row_reader(User, COLUMNS, has_identity=bool)
"""Makes a user of a row of `COLUMNS`."""
_values: Callable[[User], Row] = attrgetter(*COLUMNS.split(", ")[:-1])


async def get(tx: Transaction, organization: int, public_id: str) -> User | None:
    return await read_one(tx, read_row, _BY_PUBLIC_ID, public_id, organization)


async def by_email(tx: Transaction, organization: int, email: str) -> User | None:
    """Find a user by email, ignoring case."""
    return await read_one(tx, read_row, _BY_EMAIL, organization, key_of(email))


async def by_id(tx: Transaction, organization: int, user: int) -> User | None:
    return await read_one(tx, read_row, _BY_ID, organization, user)


async def with_email(tx: Transaction, email: str, *, limit: int) -> list[User]:
    """Read the users of all organizations with an email, ignoring case, the oldest first."""
    return [read_row(row) for row in await tx.rows(_WITH_EMAIL, key_of(email), limit)]


async def invited(tx: Transaction, invitation_hash: bytes) -> User | None:
    """Find the user of any organization whose invitation has that hash, expired or not."""
    return await read_one(tx, read_row, _INVITED, invitation_hash)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[User]:
    """Read a page of the organization's users, or of those in `only` (public ids). Their alias is their email."""
    table = Table("organization_user", _LIST, (organization,), alias_column="email_key")
    if selection.alias is not None:
        selection = msgspec.structs.replace(selection, alias=key_of(selection.alias))
    return await listed(tx, table, selection, read_row, only=only)


async def of_role(tx: Transaction, organization: int, role: str, after: int, *, limit: int) -> list[User]:
    """Read users who have a role, in the order of row ids."""
    return [read_row(row) for row in await tx.rows(_OF_ROLE, organization, role, after, limit)]


async def names_of(tx: Transaction, organization: int, public_ids: Collection[str]) -> dict[str, str]:
    """Read the names of users by their public ids: the email of a user without one."""
    rows = await rows_among(tx, _NAMES, (organization,), list(public_ids))
    return {public_id: name or email for public_id, name, email in rows}


async def insert(tx: Transaction, user: User) -> None:
    """Insert a user. Raises UniqueViolation if the email is taken."""
    await tx.execute(_INSERT, *_values(user), int(user.has_identity), key_of(user.email))


async def update(tx: Transaction, user: User) -> bool:
    """Update a user. Returns False if it was deleted; raises UniqueViolation if the email is taken."""
    access = (user.role, user.password_hash, user.invitation_hash, user.invitation_expires_at)
    values = (user.email, key_of(user.email), user.display_name, *access, user.updated_at)
    return await tx.execute(_UPDATE, *values, user.status, int(user.has_identity), user.organization, user.id) == 1


async def delete(tx: Transaction, organization: int, user: int) -> bool:
    return await tx.execute(_DELETE, organization, user) == 1


def key_of(email: str) -> str:
    """Return the same key for all spellings of an address that are equal."""
    return email.casefold()
