"""Accounts of users at identity providers."""

from typing import Final

import msgspec

from discue.domain.model import User
from discue.store import users
from discue.store.engine import Transaction
from discue.store.tables import prefixed, read_one, row_reader

_COLUMNS: Final = "organization, id, user_id, issuer, subject, created_at"
_INSERT: Final = f"INSERT INTO user_identity ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"
_USER: Final = f"""
    SELECT {prefixed("u", users.COLUMNS)}
    FROM user_identity i JOIN organization_user u ON u.organization = i.organization AND u.id = i.user_id
    WHERE i.organization = $1 AND i.issuer = $2 AND i.subject = $3"""
IDENTITIES_OF_A_USER: Final = 10
_OF_USER: Final = f"""
    SELECT {_COLUMNS} FROM user_identity WHERE organization = $1 AND user_id = $2
    ORDER BY id LIMIT {IDENTITIES_OF_A_USER}"""
_DELETE_OF_USER: Final = "DELETE FROM user_identity WHERE organization = $1 AND user_id = $2"


class UserIdentity(msgspec.Struct, frozen=True):
    """The account of a user at a provider, for good: the email of the account may change."""

    organization: int
    id: int
    user_id: int
    issuer: str
    subject: str
    created_at: int


_read: Final = row_reader(UserIdentity, _COLUMNS)


async def find_user(tx: Transaction, organization: int, issuer: str, subject: str) -> User | None:
    return await read_one(tx, users.read_row, _USER, organization, issuer, subject)


async def of_user(tx: Transaction, organization: int, user: int) -> list[UserIdentity]:
    """Read the accounts of a user, the oldest first."""
    return [_read(row) for row in await tx.rows(_OF_USER, organization, user)]


async def insert(tx: Transaction, identity: UserIdentity) -> None:
    """Insert an account. Raises UniqueViolation if a user of the organization has it."""
    await tx.execute(_INSERT, *msgspec.structs.astuple(identity))


async def delete_of_user(tx: Transaction, organization: int, user: int) -> None:
    await tx.execute(_DELETE_OF_USER, organization, user)
