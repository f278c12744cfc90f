"""What an error of the server, or of the way to it, means: for a caller, and for whoever starts the program."""

from typing import Final

import asyncpg

from discue.config.database_url import InvalidDatabaseUrl, without_password
from discue.domain.errors import StoreUnavailable, StoreUnusable, Unprocessable
from discue.store.engine import UniqueViolation

_DATA, _INTEGRITY, _LIMITS = "22", "23", "54"
_CONFLICTS = ("40001", "40P01")
_UNENCODABLE = (
    "A text holds NUL or one half of a surrogate pair, or a number is too large: the database cannot store it."
)


class ConnectionCut(Exception):
    """The connection to the database was lost, or cut because the server did not answer in time."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class CommitInDoubt(Exception):
    """The server warned while it committed: it may not have waited for its standby."""


OUTAGES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    ConnectionCut,
    CommitInDoubt,
)
"""The database, or the way to it, is to blame for these."""

FAILURES_TO_OPEN: Final = (*OUTAGES, StoreUnusable, InvalidDatabaseUrl, ValueError)
"""What an address, a server or a database that cannot be used brings about."""


def sqlstate(error: BaseException) -> str:
    """The five characters that say what the server found; empty for an error that is not its own."""
    return getattr(error, "sqlstate", None) or ""


def is_conflict(error: BaseException) -> bool:
    """Whether transactions were in each other's way, or the schema changed: this one did nothing, and may run again."""
    return sqlstate(error) in _CONFLICTS or isinstance(error, asyncpg.InvalidCachedStatementError)


def is_of_one(error: BaseException) -> bool:
    """Whether one value or row of a statement is to blame, so that the others can be stored without it."""
    return sqlstate(error)[:2] in (_DATA, _INTEGRITY, _LIMITS)


def is_of_a_standby(error: BaseException) -> bool:
    """Whether the server takes no writes any more: it is not the primary now."""
    return isinstance(error, asyncpg.ReadOnlySQLTransactionError)


def translated(error: Exception) -> Exception:
    """What a caller is told. The server's own words stay in the chain, for the log."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return UniqueViolation()
    if sqlstate(error)[:2] == _DATA:
        return Unprocessable(_UNENCODABLE)
    return StoreUnavailable() if isinstance(error, OUTAGES) else error


def without_data(error: BaseException) -> BaseException:
    """The error as it may be logged: a detail quotes rows, and the client's own complaint about a value quotes that."""
    if isinstance(error, asyncpg.PostgresError):
        cause = error.__cause__
        is_of_connection = isinstance(cause, (OSError, asyncpg.PostgresError))
        if error.severity is None and cause is not None and not is_of_connection:
            return ValueError(f"a statement was given a value that cannot be sent: {type(cause).__name__}")
        error.detail = None
    return error


def opening_error(error: BaseException, address: str) -> StoreUnusable:
    """Why a database could not be opened, and the way out."""
    if isinstance(error, StoreUnusable):
        return error
    if isinstance(error, InvalidDatabaseUrl):
        return StoreUnusable(f"The address of the database cannot be read: {error}.")
    return StoreUnusable(f"The database {without_password(address)} cannot be used: {_reason(error)}.")


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (asyncpg.InvalidPasswordError, "the server refuses the password: correct the one in the address"),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "the server refuses the user: correct the one in the address, or let it in (pg_hba.conf)",
    ),
    (asyncpg.InvalidCatalogNameError, "there is no such database on the server: make it with CREATE DATABASE"),
    (asyncpg.CannotConnectNowError, "the server is starting or stopping: try again soon"),
    (asyncpg.TooManyConnectionsError, "the server has no connection left: raise its max_connections"),
    (
        asyncpg.TargetServerAttributeNotMatched,
        "no server in the address takes writes: name the primary, or all hosts",
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        "the user may not make or change tables there: GRANT CREATE ON SCHEMA to it, or run this as another user",
    ),
    (asyncpg.LockNotAvailableError, "another process holds it locked: wait for that process, or stop it"),
    (asyncpg.ReadOnlySQLTransactionError, "the server takes no writes: name the primary"),
    (TimeoutError, "the server does not answer: check that the host and the port are right, and the network between"),
)


def _reason(error: BaseException) -> str:
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, asyncpg.PostgresError):
        return f"the server said: {error.args[0]}"
    if isinstance(error, OSError):
        return f"the server cannot be reached ({error.strerror or type(error).__name__}): check the host and the port"
    return f"{type(error).__name__} while connecting: check the address"
