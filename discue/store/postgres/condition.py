"""How a PostgreSQL server stands, for an operator who asks before anything relies on it."""

from collections.abc import Sequence

import msgspec

from discue.store.postgres.schema import connected


class ServerStatus(msgspec.Struct, frozen=True):
    """What one connection finds, made as those that serve are.

    `closed` are tables that this user may not work on. `unsafe` are settings that are off, and without which what was
    acknowledged can be lost. `connections` are those that this user may have in all, `taken` those that others have.
    `clock_ms` is the server's clock.
    """

    version: str
    database: str
    user: str
    schema: str
    takes_writes: bool
    is_standby: bool
    may_create: bool
    closed: Sequence[str]
    unsafe: Sequence[str]
    connections: int
    taken: int
    clock_ms: int


# A commit waits for the disk whatever `synchronous_commit` says: a connection of ours sees to it.
_SAFEGUARDS = ("fsync", "full_page_writes")

# A user who may not see what others do sees that they are there.
_CONDITION = """
SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
    current_database() AS database,
    current_user AS "user",
    current_schema() AS schema,
    current_setting('transaction_read_only') = 'off' AS takes_writes,
    pg_is_in_recovery() AS is_standby,
    has_schema_privilege(current_schema(), 'CREATE') AS may_create,
    ARRAY(
        SELECT relname::text FROM pg_class
        WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind = 'r' AND NOT (
            has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
            AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
        )
        ORDER BY relname
    ) AS closed,
    ARRAY(SELECT name FROM unnest($1::text[]) AS name WHERE current_setting(name) = 'off' ORDER BY name) AS unsafe,
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int AS connections,
    (
        SELECT count(*) FROM pg_stat_activity
        WHERE datid IS NOT NULL AND (datname, usename) IS DISTINCT FROM (current_database(), current_user)
    ) AS taken,
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS clock_ms
"""


async def server_status(address: str) -> ServerStatus:
    """Look, and change nothing. Raises StoreUnusable with the reason why it cannot be used, and the way out."""
    async with connected(address) as connection:
        return ServerStatus(**await connection.fetchrow(_CONDITION, _SAFEGUARDS))
