"""Users of organizations."""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.model import User
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection
from discue.store.resource_table import ResourceTable
from discue.store.tables import read_one, row_reader, rows_among

COLUMNS: Final = (
    "id, organization, public_id, email, display_name, role, password_hash, invitation_hash, invitation_expires_at, "
    "created_at, updated_at, status, has_identity"
)
read_row = row_reader(User, COLUMNS, has_identity=bool)
"""Makes a user of a row of `COLUMNS`."""
_plain_values: Callable[[User], Row] = attrgetter(*COLUMNS.split(", ")[:-1])


def key_of(email: str) -> str:
    """Return the same key for all spellings of an address that are equal."""
    return email.casefold()


_TABLE: Final = ResourceTable(
    "organization_user",
    User,
    COLUMNS,
    changed="email, email_key, display_name, role, password_hash, invitation_hash, invitation_expires_at, updated_at, "
    "status, has_identity",
    written="email_key",
    alias_column="email_key",
    read=read_row,
    values=lambda user: (*_plain_values(user), int(user.has_identity), key_of(user.email)),
)
get, insert, update, delete = _TABLE.get, _TABLE.insert, _TABLE.update, _TABLE.delete

_WITH_EMAIL: Final = f"SELECT {COLUMNS} FROM organization_user WHERE email_key = $1 ORDER BY id LIMIT $2"
_INVITED: Final = f"SELECT {COLUMNS} FROM organization_user WHERE invitation_hash = $1"
_OF_ROLE: Final = f"{_TABLE.select} AND role = $2 AND id > $3 ORDER BY id LIMIT $4"
_NAMES: Final = """
    SELECT public_id, display_name, email FROM organization_user WHERE organization = $1 AND public_id IN ({})"""


async def by_email(tx: Transaction, organization: int, email: str) -> User | None:
    """Find a user by email, ignoring case."""
    return await _TABLE.find(tx, "email_key = $2", organization, key_of(email))


async def by_id(tx: Transaction, organization: int, user: int) -> User | None:
    return await _TABLE.find(tx, "id = $2", organization, user)


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
    if selection.alias is not None:
        selection = msgspec.structs.replace(selection, alias=key_of(selection.alias))
    return await _TABLE.page(tx, organization, selection, only)


async def of_role(tx: Transaction, organization: int, role: str, after: int, *, limit: int) -> list[User]:
    """Read users who have a role, in the order of row ids."""
    return [read_row(row) for row in await tx.rows(_OF_ROLE, organization, role, after, limit)]


async def names_of(tx: Transaction, organization: int, public_ids: Collection[str]) -> dict[str, str]:
    """Read the names of users by their public ids: the email of a user without one."""
    rows = await rows_among(tx, _NAMES, (organization,), list(public_ids))
    return {public_id: name or email for public_id, name, email in rows}
