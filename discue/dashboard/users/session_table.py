"""Sessions of browsers in the dashboard, their expiry times, and the one-time codes that are exchanged for them.

Times are in milliseconds since the epoch.
"""

from typing import Final, Literal

import msgspec

from discue.domain.model import Organization, Role, User
from discue.domain.representation import shows
from discue.store import organizations, users
from discue.store.engine import Row, Transaction
from discue.store.resource_table import ResourceTable
from discue.store.tables import prefixed, read_one

IDLE_MS: Final = 12 * 3_600_000
"""A session ends after this time without a request of its user."""
LIFETIME_MS: Final = 30 * 86_400_000
"""A session ends after this time, however often it is used."""
UNFINISHED_MS: Final = 5 * 60_000
"""Time for entering the code of the second factor."""
SEEN_EVERY_MS: Final = 60_000
"""The time of the last request is stored at most this often."""
CONFIRMED_MS: Final = 15 * 60_000
"""How long after a sign-in a session may grant lasting access, for example with an API key or to another user."""
CODE_MS: Final = 60_000
"""How long a one-time code is valid."""
SESSIONS_OF_A_USER: Final = 50
"""The oldest sessions of a user beyond this number end."""
MOST_USER_AGENT_CHARACTERS: Final = 256

SignInMethod = Literal["password", "one_time_code", "oidc"]


@shows("organization", "public_id", "state")
class BrowserSession(msgspec.Struct, frozen=True):
    """A browser that has signed in. Its token is not stored, only a hash of it."""

    organization: int
    id: int
    public_id: str
    user_id: int
    """Row id of the user. 0: none; the operator has opened the session on the command line."""
    role: Role | Literal[""]
    """Role of a session without a user; empty for one with a user, who has a role."""
    state: Literal["active", "unfinished"]
    """`unfinished`: the code of the second factor is still missing. Such a session grants nothing."""
    method: SignInMethod
    provider: str
    """Name of the identity provider of the method `oidc`; empty for others."""
    address: str
    """Address of the browser when it signed in."""
    user_agent: str
    created_at: int
    """When the user proved their identity. An identity provider that remembered the browser had it proved earlier.

    A user who confirms it gets a new session.
    """
    last_seen_at: int
    idle_at: int
    """When the session ends unless it is used before."""
    expires_at: int
    """When it ends in any case."""
    token_hash: bytes = b""

    def ended(self, now: int) -> bool:
        return now >= min(self.idle_at, self.expires_at)

    def needs_confirmation(self, now: int) -> bool:
        """Return whether the user must confirm their identity before the session may grant lasting access.

        False for a session without a user, which cannot: a development server opened it on its own machine.
        """
        return self.user_id != 0 and now - self.created_at >= CONFIRMED_MS

    def is_due(self, now: int) -> bool:
        """Return whether a request at `now` is to be stored as the last one."""
        return now - self.last_seen_at >= SEEN_EVERY_MS


def ends_at(now: int, expires_at: int) -> int:
    """Return when a session ends that is used now and not again."""
    return min(now + IDLE_MS, expires_at)


_COLUMNS: Final = (
    "id, organization, public_id, user_id, role, state, method, provider, address, user_agent, created_at, "
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
_OF_USER: Final = f"SELECT {_COLUMNS} FROM session WHERE organization = $1 AND user_id = $2 ORDER BY id DESC LIMIT $3"
_SAW: Final = """
    UPDATE session SET last_seen_at = $1, idle_at = $2 WHERE organization = $3 AND id = $4 AND last_seen_at < $1"""
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

_TABLE: Final = ResourceTable("session", BrowserSession, _COLUMNS)
get, insert, delete = _TABLE.get, _TABLE.insert, _TABLE.delete


class FoundSession(msgspec.Struct, frozen=True):
    """A session, and the organization and user that it belongs to."""

    session: BrowserSession
    organization: Organization
    user: User | None
    """None if the session was opened on the command line, or if the user was deleted."""

    @property
    def role(self) -> Role:
        return role_of(self.session, self.user)

    @property
    def name(self) -> str:
        """The name or the email address that pages show."""
        return "Opened on the command line" if self.user is None else self.user.display_name or self.user.email


def role_of(session: BrowserSession, user: User | None) -> Role:
    """Return the role of a session. A user who was deleted has the least."""
    return user.role if user is not None else session.role or "viewer"


async def find(tx: Transaction, token_hash: bytes) -> FoundSession | None:
    """Find a session in any organization, ended or not. Only authentication may use this."""
    return await read_one(tx, _found, _FIND, token_hash)


async def of_user(tx: Transaction, organization: int, user: int, *, limit: int) -> list[BrowserSession]:
    """Read the sessions of a user, ended or not, the newest first."""
    return [_TABLE.read(row) for row in await tx.rows(_OF_USER, organization, user, limit)]


async def saw(tx: Transaction, session: BrowserSession, at: int, idle_at: int) -> None:
    """Store the time of the last request, unless a later one is stored."""
    await tx.execute(_SAW, at, idle_at, session.organization, session.id)


async def delete_by_token(tx: Transaction, token_hash: bytes) -> BrowserSession | None:
    """Delete the session with a token, and return it; None if there is none."""
    return await read_one(tx, _TABLE.read, _DELETE_BY_TOKEN, token_hash)


async def delete_of_user(tx: Transaction, organization: int, user: int, *, but: int = 0) -> int:
    """Delete the sessions of a user, except one by its row id, and return how many."""
    return await tx.execute(_DELETE_OTHERS, organization, user, but)


async def delete_unfinished(tx: Transaction, organization: int, user: int) -> None:
    await tx.execute(_DELETE_UNFINISHED, organization, user)


async def delete_oldest(tx: Transaction, organization: int, user: int, *, kept: int) -> None:
    await tx.execute(_DELETE_OLDEST, organization, user, kept)


async def delete_ended(tx: Transaction, before: int) -> int:
    """Delete some sessions that ended by then, and return how many."""
    return await tx.execute(_DELETE_ENDED, before, _ROWS_A_STEP)


def _found(row: Row) -> FoundSession:
    session, rest = row[:_COUNT], row[_COUNT:]
    organization, user = rest[:_ORGANIZATION_COUNT], rest[_ORGANIZATION_COUNT:]
    # Without a user, the outer join has no values.
    found = None if user[0] is None else users.read_row(user)
    return FoundSession(_TABLE.read(session), organizations.read_row(organization), found)


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


@shows("organization", "id")
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


async def insert_code(tx: Transaction, code: SignInCode) -> None:
    """Insert a code, which replaces the earlier one of its user."""
    if code.user_id:
        await tx.execute(_DELETE_CODES_OF_USER, code.organization, code.user_id)
    await tx.execute(_INSERT_CODE, *msgspec.structs.astuple(code))


async def has_code(tx: Transaction, code_hash: bytes) -> bool:
    return await tx.row(_HAS_CODE, code_hash) is not None


async def redeem_code(tx: Transaction, code_hash: bytes) -> SignInCode | None:
    """Delete a code, expired or not, and return it; None if there is none, or it was redeemed before."""
    return await read_one(tx, lambda row: SignInCode(*row), _REDEEM, code_hash)


async def delete_expired_codes(tx: Transaction, before: int) -> int:
    """Delete some codes that expired by then, and return how many."""
    return await tx.execute(_DELETE_EXPIRED_CODES, before, _ROWS_A_STEP)
