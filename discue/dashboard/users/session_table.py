"""Sessions of the dashboard, and the one-time codes that are exchanged for them."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final, Literal

import msgspec

from discue.dashboard.users.session_rules import BrowserSession
from discue.domain.model import Organization, Role, User
from discue.store import organizations, users
from discue.store.engine import Row, Transaction
from discue.store.tables import placeholders, prefixed, read_one, row_reader

_COLUMNS: Final = (
    "organization, id, public_id, user_id, role, state, method, provider, address, user_agent, created_at, "
    "last_seen_at, idle_at, expires_at, token_hash"
)
_COUNT: Final = len(_COLUMNS.split(", "))
_ORGANIZATION_COUNT: Final = len(organizations.COLUMNS.split(", "))

# One statement: every page of the dashboard begins with it.
_FIND: Final = f"""
    SELECT {prefixed("s", _COLUMNS)}, {prefixed("o", organizations.COLUMNS)}, {prefixed("u", users.COLUMNS)}
    FROM session s JOIN organization o ON o.id = s.organization AND o.deleted_at IS NULL
    LEFT JOIN organization_user u ON u.organization = s.organization AND u.id = s.user_id
    WHERE s.token_hash = $1"""
_INSERT: Final = f"INSERT INTO session ({_COLUMNS}) VALUES ({placeholders(1, _COUNT)})"
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM session WHERE public_id = $1 AND organization = $2"
_OF_USER: Final = f"SELECT {_COLUMNS} FROM session WHERE organization = $1 AND user_id = $2 ORDER BY id DESC LIMIT $3"
_SAW: Final = """
    UPDATE session SET last_seen_at = $1, idle_at = $2 WHERE organization = $3 AND id = $4 AND last_seen_at < $1"""
_DELETE: Final = "DELETE FROM session WHERE organization = $1 AND id = $2"
_DELETE_BY_TOKEN: Final = f"DELETE FROM session WHERE token_hash = $1 RETURNING {_COLUMNS}"
_DELETE_OTHERS: Final = "DELETE FROM session WHERE organization = $1 AND user_id = $2 AND id <> $3"
_DELETE_UNFINISHED: Final = """
    DELETE FROM session WHERE organization = $1 AND user_id = $2 AND state = 'unfinished'"""
_DELETE_OLDEST: Final = """
    DELETE FROM session WHERE organization = $1 AND user_id = $2 AND id <= (
        SELECT id FROM session WHERE organization = $1 AND user_id = $2 ORDER BY id DESC LIMIT 1 OFFSET $3
    )"""
_DELETE_ENDED: Final = """
    DELETE FROM session WHERE (organization, id) IN (
        SELECT organization, id FROM session WHERE idle_at <= $1 ORDER BY idle_at LIMIT $2
    )"""
_ROWS_A_STEP: Final = 500

_read = row_reader(BrowserSession, _COLUMNS)
_values: Callable[[BrowserSession], Row] = attrgetter(*_COLUMNS.split(", "))


class FoundSession(msgspec.Struct, frozen=True):
    """A session, and the organization and user that it belongs to."""

    session: BrowserSession
    organization: Organization
    user: User | None
    """None for a session without a user, and if the user was deleted."""


async def find(tx: Transaction, token_hash: bytes) -> FoundSession | None:
    """Find a session in any organization, ended or not. Only authentication may use this."""
    return await read_one(tx, _found, _FIND, token_hash)


async def get(tx: Transaction, organization: int, public_id: str) -> BrowserSession | None:
    return await read_one(tx, _read, _BY_PUBLIC_ID, public_id, organization)


async def of_user(tx: Transaction, organization: int, user: int, *, limit: int) -> list[BrowserSession]:
    """Read the sessions of a user, ended or not, the newest first."""
    return [_read(row) for row in await tx.rows(_OF_USER, organization, user, limit)]


async def insert(tx: Transaction, session: BrowserSession) -> None:
    await tx.execute(_INSERT, *_values(session))


async def saw(tx: Transaction, session: BrowserSession, at: int, idle_at: int) -> None:
    """Store the time of the last request, unless a later one is stored."""
    await tx.execute(_SAW, at, idle_at, session.organization, session.id)


async def delete(tx: Transaction, organization: int, session: int) -> bool:
    return await tx.execute(_DELETE, organization, session) == 1


async def delete_by_token(tx: Transaction, token_hash: bytes) -> BrowserSession | None:
    """Delete the session with a token, and return it; None if there is none."""
    return await read_one(tx, _read, _DELETE_BY_TOKEN, token_hash)


async def delete_of_user(tx: Transaction, organization: int, user: int, *, but: int = 0) -> int:
    """Delete the sessions of a user, except one by its row id, and return how many."""
    return await tx.execute(_DELETE_OTHERS, organization, user, but)


async def delete_unfinished(tx: Transaction, organization: int, user: int) -> None:
    """Delete the sessions of a user that lack the code of the second factor."""
    await tx.execute(_DELETE_UNFINISHED, organization, user)


async def delete_oldest(tx: Transaction, organization: int, user: int, *, kept: int) -> None:
    """Delete the oldest sessions of a user beyond a number."""
    await tx.execute(_DELETE_OLDEST, organization, user, kept)


async def delete_ended(tx: Transaction, before: int) -> int:
    """Delete some sessions that ended by then, and return how many."""
    return await tx.execute(_DELETE_ENDED, before, _ROWS_A_STEP)


def _found(row: Row) -> FoundSession:
    session, rest = row[:_COUNT], row[_COUNT:]
    organization, user = rest[:_ORGANIZATION_COUNT], rest[_ORGANIZATION_COUNT:]
    # Without a user, the outer join has no values.
    return FoundSession(
        _read(session), organizations.read_row(organization), None if user[0] is None else users.read_row(user)
    )


_INSERT_CODE: Final = """
    INSERT INTO sign_in_code (organization, id, code_hash, user_id, role, expires_at) VALUES ($1, $2, $3, $4, $5, $6)"""
_DELETE_CODES_OF_USER: Final = "DELETE FROM sign_in_code WHERE organization = $1 AND user_id = $2"
_HAS_CODE: Final = "SELECT 1 FROM sign_in_code WHERE code_hash = $1"
_REDEEM: Final = """
    DELETE FROM sign_in_code WHERE code_hash = $1 RETURNING organization, id, code_hash, user_id, role, expires_at"""
_DELETE_EXPIRED_CODES: Final = """
    DELETE FROM sign_in_code WHERE (organization, id) IN (
        SELECT organization, id FROM sign_in_code WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
    )"""


class SignInCode(msgspec.Struct, frozen=True):
    """A one-time code by its hash, and whose session it is exchanged for."""

    organization: int
    id: int
    code_hash: bytes
    user_id: int
    """0: a session without a user."""
    role: Role | Literal[""]
    """Role of a session without a user."""
    expires_at: int

    def __repr__(self) -> str:
        return f"SignInCode(organization={self.organization}, id={self.id})"


async def insert_code(tx: Transaction, code: SignInCode) -> None:
    """Insert a code, which replaces the earlier one of its user."""
    if code.user_id:
        await tx.execute(_DELETE_CODES_OF_USER, code.organization, code.user_id)
    await tx.execute(_INSERT_CODE, *msgspec.structs.astuple(code))


async def has_code(tx: Transaction, code_hash: bytes) -> bool:
    """Return whether there is a code, expired or not."""
    return await tx.row(_HAS_CODE, code_hash) is not None


async def redeem_code(tx: Transaction, code_hash: bytes) -> SignInCode | None:
    """Delete a code, expired or not, and return it; None if there is none, or it was redeemed before."""
    return await read_one(tx, lambda row: SignInCode(*row), _REDEEM, code_hash)


async def delete_expired_codes(tx: Transaction, before: int) -> int:
    """Delete some codes that expired by then, and return how many."""
    return await tx.execute(_DELETE_EXPIRED_CODES, before, _ROWS_A_STEP)
