"""Connections to PostgreSQL with the settings of this service, transactions, and the hosts of a database URL."""

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeVar, cast
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import asyncpg

from discue.config.types import check_postgres_url
from discue.store.engine import Row, Value, Work
from discue.store.postgres.errors import translated, without_data

T = TypeVar("T")

EXCLUSIVE_KEY: Final = 0x64_69_73_63
"""The advisory lock of exclusive transactions."""

_CACHED_STATEMENTS: Final = 512

# Every statement goes by an index, whatever the statistics say: without any, the planner would consider a table small
# and scan it. Costs are set so that the number of index entries decides, not that of pages. A connection makes each
# plan once.
_SESSION: Final = {
    "application_name": "discue",
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
    "lock_timeout": "5s",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_generic_plan",
    "random_page_cost": "0.1",
    "seq_page_cost": "0.1",
    "statement_timeout": "0",
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
                connection = await _connect(host, seconds, target)
            except Exception as error:  # Try the next host
                if failure is None or not isinstance(error, asyncpg.TargetServerAttributeNotMatched):
                    failure = error
                continue
            self._hosts.remove(host)
            self._hosts.insert(0, host)
            return connection
        assert failure is not None  # noqa: S101 - there is at least one host
        raise failure


async def _connect(host: str, seconds: float, target: str | None) -> asyncpg.Connection:
    async with asyncio.timeout(seconds):
        connection = await asyncpg.connect(
            host,
            target_session_attrs=target,
            server_settings=_SESSION,
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


class PostgresTransaction:
    """`engine.Transaction` on one connection."""

    __slots__ = ("_connection", "failure", "is_asking")

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.failure: Exception | None = None
        self.is_asking = False

    async def row(self, sql: str, *values: Value) -> Row | None:
        found = await self._ask(self._connection.fetchrow(sql, *values))
        return None if found is None else tuple(found)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        return [tuple(row) for row in await self._ask(self._connection.fetch(sql, *values))]

    async def execute(self, sql: str, *values: Value) -> int:
        return _changed(await self._ask(self._connection.execute(sql, *values)))

    async def exclusive(self) -> None:
        await self.row("SELECT pg_advisory_xact_lock($1)", EXCLUSIVE_KEY)

    async def _ask(self, statement: Awaitable[Any]) -> Any:
        self.is_asking = True
        try:
            return await statement
        except Exception as error:  # Kept, and raised as a store error
            self.failure = error
            raise translated(error) from without_data(error)
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


def _changed(status: str) -> int:
    """Return the count in `UPDATE 3` or `INSERT 0 3`; 0 for `CREATE TABLE`."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0


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
