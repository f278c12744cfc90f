"""Connections to PostgreSQL: their settings, hosts, transactions and errors."""

import asyncio
import os
import socket
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from secrets import token_hex
from typing import Any, Final, TypeVar, cast
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import asyncpg

from discue.config.types import InvalidDatabaseUrl, check_postgres_url, without_password
from discue.domain.connection_errors import connection_problem
from discue.domain.errors import StoreDamaged, StoreUnavailable, StoreUnusable, Unprocessable
from discue.store.engine import QueueKey, Row, UniqueViolation, Value, Work
from discue.store.tables import on_server

T = TypeVar("T")

EXCLUSIVE_KEY: Final = 0x64_69_73_63
"""The advisory lock of exclusive transactions."""
_EXCLUSIVELY: Final = "SELECT pg_advisory_xact_lock($1)"

_CACHED_STATEMENTS: Final = 512
_IDLE_SECONDS: Final = 5
_PROBE_SECONDS: Final = 2
_PROBES: Final = 3
_UNACKNOWLEDGED_MS: Final = 10_000

# Every statement goes by an index, whatever the statistics say: without any, the planner would consider a table small
# and scan it. Costs are set so that the number of index entries decides, not that of pages. A connection makes each
# plan once.
_SESSION: Final = {
    "cpu_index_tuple_cost": "0.1",
    "default_transaction_isolation": "read committed",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_memoize": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
    # Longer than a process that hangs keeps a transaction open: what waits for its locks gets them.
    "lock_timeout": "7s",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_generic_plan",
    "random_page_cost": "0.1",
    "seq_page_cost": "0.1",
    "statement_timeout": "0",
    # The server ends the session, and frees the locks, of a client that the network has cut off in silence.
    "tcp_keepalives_count": str(_PROBES),
    "tcp_keepalives_idle": str(_IDLE_SECONDS),
    "tcp_keepalives_interval": str(_PROBE_SECONDS),
    "tcp_user_timeout": str(_UNACKNOWLEDGED_MS),
}
# Set per session, so that no default of the server, user or database lets a commit return before it is durable.
_DURABLE: Final = """
SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)
"""


class Server:
    """The server that accepts writes, among the hosts of a database URL. The host of the last time is asked first.

    Raises InvalidDatabaseUrl for an invalid URL.
    """

    def __init__(self, address: str) -> None:
        self.application_name = f"{_PROCESS}{os.getpid()} {token_hex(4)}"
        """The name of new connections, by which the server's administrator and other workers find them."""
        check_postgres_url(address)
        self._hosts = list(_each_host(address))
        query = parse_qsl(urlsplit(address).query, keep_blank_values=True)
        # Unless the URL itself says if it means a primary or a standby.
        self._target = None if "target_session_attrs" in dict(query) else "read-write"

    async def connect(self, seconds: float, *, allow_standby: bool = False) -> asyncpg.Connection:
        """Connect so that commits are durable when they return. Each host has that many seconds to answer.

        Raises the error of the last host, preferably one other than that it accepts no writes. With `allow_standby`, a
        server that accepts no writes is enough.
        """
        target = "any" if allow_standby else self._target
        failure: Exception | None = None
        for host in tuple(self._hosts):
            try:
                connection = await _connect(host, seconds, target, self.application_name)
            except Exception as error:  # Try the next host
                if failure is None or not isinstance(error, asyncpg.TargetServerAttributeNotMatched):
                    failure = error
                continue
            self._hosts.remove(host)
            self._hosts.insert(0, host)
            return connection
        assert failure is not None  # noqa: S101 - there is at least one host
        raise failure


async def _connect(host: str, seconds: float, target: str | None, application_name: str) -> asyncpg.Connection:
    async with asyncio.timeout(seconds):
        connection = await asyncpg.connect(
            host,
            connection_class=_Connection,
            target_session_attrs=target,
            server_settings={**_SESSION, "application_name": application_name},
            statement_cache_size=_CACHED_STATEMENTS,
            max_cached_statement_lifetime=0,
            max_cacheable_statement_size=0,
        )
        try:
            await connection.execute(_DURABLE)
        except BaseException:
            connection.terminate()
            raise
        return connection


_PROCESS: Final = "discue process "
"""The beginning of the connection names of a process that is not a worker, or not yet."""
_MIGRATION: Final = "discue migration "


def application_name(session_id: int) -> str:
    """Return the name of the connections of a worker."""
    return f"discue {session_id}"


def migration_name(client: asyncpg.Connection) -> str:
    """Return the name of a process's connection while it migrates the schema."""
    return f"{_MIGRATION}{client.get_settings().application_name.removeprefix(_PROCESS)}"


_END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()
    AND pg_has_role(usesysid, 'USAGE')"""

_UNSENT_SECONDS: Final = 3
"""How long a client may be silent between the two steps of a statement that it prepares."""

# Each process aborts its own transactions earlier. A commit may wait longer for a standby: ending its session would not
# help. Migrations may take long: `schema.migrate` sets their limits. Between the steps of a statement, the server waits
# for its client without the limit for idle transactions.
END_STUCK_SESSIONS: Final = f"""
SELECT application_name, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'discue %' AND application_name NOT LIKE '{_MIGRATION}%'
    AND pid <> pg_backend_pid() AND pg_has_role(usesysid, 'USAGE') AND (
        (xact_start < clock_timestamp() - $1::float * interval '1 second' AND wait_event IS DISTINCT FROM 'SyncRep')
        OR (query_start < clock_timestamp() - interval '{_UNSENT_SECONDS} seconds'
            AND state = 'active' AND wait_event = 'ClientRead')
    )"""


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that ends by itself when the network has cut it off in silence."""

    def __init__(self, protocol: object, transport: asyncio.Transport, *others: object) -> None:
        super().__init__(protocol, transport, *others)
        own = transport.get_extra_info("socket")
        if own.family == socket.AF_UNIX:
            return
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            # Not every system has all of them, nor by these names.
            if (option := getattr(socket, name, None)) is not None:
                own.setsockopt(socket.IPPROTO_TCP, option, value)


_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", _IDLE_SECONDS),
    ("TCP_KEEPINTVL", _PROBE_SECONDS),
    ("TCP_KEEPCNT", _PROBES),
    ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MS),
)


class PostgresTransaction:
    """`engine.Transaction` on one connection, on which a transaction has begun."""

    __slots__ = ("_client", "failure", "heads", "is_asking")
    inline_bytes = (1 << 31) - 1
    """The server moves long values out of their rows by itself."""
    has_intake = True

    def __init__(self, client: asyncpg.Connection) -> None:
        self._client = client
        self.failure: Exception | None = None
        self.heads: dict[QueueKey, int] = {}
        self.is_asking = False

    async def row(self, sql: str, *values: Value) -> Row | None:
        found = await self._ask(self._client.fetchrow, sql, *values)
        return None if found is None else tuple(found)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        return [tuple(row) for row in await self._ask(self._client.fetch, sql, *values)]

    async def execute(self, sql: str, *values: Value) -> int:
        """See `engine.Transaction.execute`. Returns 0 for statements without a count, such as `CREATE TABLE`."""
        count = (await self._ask(self._client.execute, sql, *values)).rpartition(" ")[2]
        return int(count) if count.isdecimal() else 0

    async def exclusive(self) -> None:
        await self.row(_EXCLUSIVELY, EXCLUSIVE_KEY)

    async def end_sessions(self, session_id: int) -> None:
        await self.rows(_END_SESSIONS, application_name(session_id))

    async def _ask(self, call: Callable[..., Awaitable[T]], sql: str, *values: Any) -> T:
        self.is_asking = True
        try:
            # On a connection that is lost, the call itself fails.
            return await call(on_server(sql), *values)
        except Exception as error:  # Kept, and raised as a store error
            self.failure = error
            raise translated(error, before_commit=True) from without_data(error)
        finally:
            self.is_asking = False


@types.coroutine
def run_work(work: Work[T], tx: PostgresTransaction) -> Generator[Any, Any, T]:
    """Run work that waits only for the transaction's statements: others wait for its rows and locks."""
    running = cast("Coroutine[Any, Any, T]", work(tx))
    resume: Callable[[Any], Any] = running.send
    value: Any = None
    while True:
        try:
            waits_for = resume(value)
        except StopIteration as finished:
            return cast("T", finished.value)
        if not tx.is_asking:
            running.close()
            raise RuntimeError("work inside a transaction waited for something that is not the transaction")
        try:
            resume, value = running.send, (yield waits_for)
        except BaseException as error:  # Raised in the work
            resume, value = running.throw, error


def _each_host(address: str) -> tuple[str, ...]:
    """Return the URL once per host, in their order.

    The driver would spend the whole timeout on a host that drops packets, in which another one would have answered.
    """
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts:
        return tuple(_joined(parts._replace(netloc=f"{credentials}{at}{host}")) for host in hosts.split(","))
    if hosts or "," not in query.get("host", ""):
        return (address,)
    named = query["host"].split(",")
    ports = query.pop("port", "").split(",")
    each = zip(named, ports if len(ports) == len(named) else ports[:1] * len(named), strict=True)
    queries = (urlencode({**query, "host": host, **({"port": port} if port else {})}) for host, port in each)
    return tuple(_joined(parts._replace(query=each_query)) for each_query in queries)


def _joined(parts: SplitResult) -> str:
    # `urlunsplit` omits the two slashes if no host follows them.
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if parts.query else ''}{parts.query}"


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
