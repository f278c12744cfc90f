"""Errors of the server and the connection: what they mean to callers, and to the person who starts the program."""

from typing import Final

import asyncpg

from discue.config.types import InvalidDatabaseUrl, without_password
from discue.domain.connection_errors import connection_problem
from discue.domain.errors import StoreDamaged, StoreUnavailable, StoreUnusable, Unprocessable
from discue.store.engine import UniqueViolation

_DATA, _INTEGRITY, _LIMITS = "22", "23", "54"
_CONFLICTS = ("40001", "40P01")
_DAMAGED = ("XX001", "XX002")
_UNENCODABLE = "A text contains NUL or an unpaired surrogate, or a number is too large: the database cannot store it."


class ConnectionCut(Exception):
    """The connection to the database was lost, or cut because the server did not answer in time."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class CommitUncertain(Exception):
    """The server warned during a commit: it may not have waited for its standby."""


OUTAGES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    ConnectionCut,
    CommitUncertain,
)
"""Errors caused by the database or the connection to it."""

FAILURES_TO_OPEN: Final = (*OUTAGES, StoreUnusable, InvalidDatabaseUrl, ValueError)
"""Errors caused by a URL, a server or a database that cannot be used."""


def sqlstate(error: BaseException) -> str:
    """Return the server's five-character error code; empty for errors of the client."""
    return getattr(error, "sqlstate", None) or ""


def is_conflict(error: BaseException) -> bool:
    """Return whether transactions conflicted, or the schema changed: nothing was done, and a retry is safe.

    A conflict is also an idempotency key that another worker stored meanwhile: the next try finds it.
    """
    if isinstance(error, asyncpg.UniqueViolationError):
        return bool(error.table_name == "idempotency_key")
    return sqlstate(error) in _CONFLICTS or isinstance(error, asyncpg.InvalidCachedStatementError)


def concerns_one_part(error: BaseException) -> bool:
    """Return whether one value or row of a statement caused it, so that the others can be stored without it."""
    return sqlstate(error)[:2] in (_DATA, _INTEGRITY, _LIMITS) or sqlstate(error) in _DAMAGED


def translated(error: Exception, *, before_commit: bool = False) -> Exception:
    """Return the error for callers. The server's message stays in the chain, for the log.

    `before_commit`: nothing of the transaction can have been committed.
    """
    if isinstance(error, asyncpg.UniqueViolationError):
        return UniqueViolation()
    if sqlstate(error)[:2] == _DATA:
        return Unprocessable(_UNENCODABLE, code="invalid_value")
    if sqlstate(error) in _DAMAGED:
        return StoreDamaged()
    if not isinstance(error, OUTAGES):
        return error
    # Any other error may have come after the server had committed.
    changed_nothing = before_commit or is_conflict(error) or isinstance(error, asyncpg.ReadOnlySQLTransactionError)
    return StoreUnavailable(code="not_stored" if changed_nothing else "")


def without_data(error: BaseException) -> BaseException:
    """Return the error as it may be logged: details quote rows, and errors of the client quote values."""
    if isinstance(error, asyncpg.PostgresError):
        cause = error.__cause__
        is_of_connection = isinstance(cause, (OSError, asyncpg.PostgresError))
        if error.severity is None and cause is not None and not is_of_connection:
            return ValueError(f"a value of a statement cannot be encoded: {type(cause).__name__}")
        error.detail = None
    return error


def opening_error(error: BaseException, address: str) -> StoreUnusable:
    """Return why a database could not be opened, and what to do."""
    if isinstance(error, StoreUnusable):
        return error
    if isinstance(error, InvalidDatabaseUrl):
        return StoreUnusable(f"The database URL is invalid: {error}.")
    return StoreUnusable(f"The database {without_password(address)} cannot be used: {_reason(error)}.")


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (asyncpg.InvalidPasswordError, "the server rejects the password: correct the one in the URL"),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "the server rejects the user: correct the one in the URL, or allow it (pg_hba.conf)",
    ),
    (asyncpg.InvalidCatalogNameError, "the server has no such database: create it with CREATE DATABASE"),
    (asyncpg.CannotConnectNowError, "the server is starting or stopping: try again soon"),
    (asyncpg.TooManyConnectionsError, "the server has no connection left: raise its max_connections"),
    (
        asyncpg.TargetServerAttributeNotMatched,
        "no server in the URL accepts writes: name the primary, or all hosts",
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        "the user may not create or change tables there: GRANT CREATE ON SCHEMA to it, or use another user",
    ),
    (asyncpg.LockNotAvailableError, "another process holds it locked: wait for that process, or stop it"),
    (asyncpg.ReadOnlySQLTransactionError, "the server accepts no writes: name the primary"),
    (TimeoutError, "the server does not answer: check the host, the port and the network"),
)


def _reason(error: BaseException) -> str:
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, asyncpg.PostgresError):
        return f"the server said: {error.args[0]}"
    if isinstance(error, OSError):
        return f"the server cannot be reached ({connection_problem(error)}): check the host and the port"
    return f"{type(error).__name__} while connecting: check the URL"
