"""Opening one connection the way this service needs it, and statements on it."""

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeVar, cast
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import asyncpg

from discue.config.database_url import check_postgres_url
from discue.store.engine import Row, Value, Work
from discue.store.postgres.errors import translated, without_data

T = TypeVar("T")

EXCLUSIVE_KEY: Final = 0x64_69_73_63
"""The advisory lock of whoever reads and then writes what it read."""

_CACHED_STATEMENTS: Final = 512

# Every statement goes by an index, whatever the statistics say: a table that was never analysed has none, and the
# planner would take it for small and walk it. What counts is how many entries of an index are passed, not how many
# pages are read. A plan is made once a connection.
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
# Named for the session, so that no default of the server, the user or the database answers before a commit is durable.
_DURABLE: Final = """
SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)
"""


class Server:
    """Where the database is. Of several hosts it is the one that takes writes, and the one of last time is asked first.

    Raises AddressUnreadable for an address that none can be found by.
    """

    def __init__(self, address: str) -> None:
        check_postgres_url(address)
        self._hosts = list(_each_host(address))
        self._target = None if _names_target(address) else "read-write"

    async def connect(self, seconds: float, *, only_to_look: bool = False) -> asyncpg.Connection:
        """A connection whose commits are durable when they are answered. Each host has so many seconds to answer.

        Raises what the last host answered, if that is more than that it takes no writes. A server that does not
        take any will do if it is `only_to_look`.
        """
        target = "any" if only_to_look else self._target
        failure: Exception | None = None
        for host in tuple(self._hosts):
            try:
                connection = await _connect(host, seconds, target)
            except Exception as error:  # noqa: BLE001 - the next host may be better
                failure = _more_telling(failure, error)
                continue
            self._hosts.remove(host)
            self._hosts.insert(0, host)
            return connection
        assert failure is not None  # noqa: S101 - there is at least one host
        raise failure

    def __repr__(self) -> str:
        return f"Server({len(self._hosts)} hosts)"


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


def _more_telling(one: Exception | None, other: Exception) -> Exception:
    return one if one is not None and isinstance(other, asyncpg.TargetServerAttributeNotMatched) else other


class PostgresTransaction:
    """`engine.Transaction` on one connection. `failure` is what a statement met, as the server said it."""

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
        except Exception as error:  # noqa: BLE001 - kept, and raised as what it means
            self.failure = error
            raise translated(error) from without_data(error)
        finally:
            self.is_asking = False


@types.coroutine
def run_work(work: Work[T], tx: PostgresTransaction) -> Generator[Any, Any, T]:
    """The result of work that waits for the transaction's statements only: others wait for its rows and locks."""
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
        except BaseException as error:  # noqa: BLE001 - it is for the work
            resume, value = running.throw, error


def _changed(status: str) -> int:
    """`UPDATE 3`, `INSERT 0 3`, `CREATE TABLE`."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0


_TARGET = "target_session_attrs"


def _each_host(address: str) -> tuple[str, ...]:
    """The address once for each of its hosts, in their order."""
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
    return tuple(_joined(parts._replace(query=_with_host(query, host, port))) for host, port in each)


def _names_target(address: str) -> bool:
    """Whether it says itself if a primary or a standby is meant."""
    return _TARGET in dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))


def _with_host(query: dict[str, str], host: str, port: str) -> str:
    return urlencode({**query, "host": host, **({"port": port} if port else {})})


def _joined(parts: SplitResult) -> str:
    # The library leaves out the two slashes where no host follows them.
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if parts.query else ''}{parts.query}"
