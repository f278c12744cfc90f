"""The schema on PostgreSQL: migrating it, and inspecting a database and its server."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import msgspec

from discue.domain.errors import StoreUnusable
from discue.store.migrations import (
    COMPATIBLE_FROM,
    DatabaseInspection,
    Migration,
    SchemaState,
    migrations,
    pending,
    written_by,
)
from discue.store.postgres.connection import FAILURES_TO_OPEN, Server, migration_name, opening_error

# Free space in each page lets an update stay in the page of the old version, without touching an index. Its space is
# soon reused there, and vacuum runs often for the rest.
_HOT: Final = (
    "WITH (fillfactor=50, autovacuum_vacuum_scale_factor=0.05, autovacuum_vacuum_threshold=500, "
    "autovacuum_vacuum_cost_delay=0)"
)
_CLOCK: Final = """
CREATE FUNCTION clock_ms() RETURNS BIGINT LANGUAGE sql VOLATILE AS
    'SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint';
"""
_BODY_START: Final = """
CREATE FUNCTION body_start(body_id BIGINT, most INTEGER) RETURNS BYTEA LANGUAGE sql STABLE AS
    'SELECT substr(bytes, 1, most) FROM body WHERE id = body_id';
"""
_INTAKE: Final = r"""
CREATE TABLE intake (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    size BIGINT NOT NULL,
    options TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    error TEXT COLLATE "C"
) WITH (autovacuum_vacuum_scale_factor=0.05, autovacuum_vacuum_threshold=500, autovacuum_vacuum_cost_delay=0);
CREATE INDEX intake_waiting ON intake (organization, queue, id) WHERE error IS NULL;
CREATE INDEX intake_refused ON intake (organization, queue, id) WHERE error IS NOT NULL;

-- The roles of applications that may publish, each to the queues of one organization.
CREATE TABLE intake_role (
    role TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization BIGINT NOT NULL
);

-- Names have their schema, and no other schema is searched: a caller cannot put anything in their place.
DO $do$ BEGIN EXECUTE replace(replace($functions$

CREATE FUNCTION <schema>.discue_publish(
    queue TEXT,
    data JSON,
    key TEXT DEFAULT NULL,
    headers JSON DEFAULT NULL,
    alias TEXT DEFAULT NULL,
    deliver_at TIMESTAMPTZ DEFAULT NULL,
    expires_at TIMESTAMPTZ DEFAULT NULL,
    type TEXT DEFAULT NULL
) RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
DECLARE
    owner BIGINT;
    target BIGINT;
    is_system BOOLEAN;
    most BIGINT;
    -- Blanks around the value are not part of it, as in the API. Otherwise, they would get past the limit of strings.
    body BYTEA := convert_to(btrim(discue_publish.data::text, E' \t\r\n'), 'UTF8');
    size BIGINT := octet_length(body);
    now_ms BIGINT := floor(extract(epoch FROM clock_timestamp()) * 1000);
    due_ms BIGINT := floor(extract(epoch FROM discue_publish.deliver_at) * 1000);
    end_ms BIGINT := floor(extract(epoch FROM discue_publish.expires_at) * 1000);
    fault TEXT;
BEGIN
    SELECT o.id INTO owner FROM <schema>.intake_role r JOIN <schema>.organization o ON o.id = r.organization
        WHERE r.role = session_user::text AND o.deleted_at IS NULL AND o.state = 'active';
    IF owner IS NULL THEN
        RAISE EXCEPTION 'The role "%" may not publish.', session_user USING ERRCODE = 'insufficient_privilege',
            HINT = 'The operator of discue allows it with discue_allow, for an organization that is active.';
    END IF;
    SELECT q.id, q.is_system = 1, (q.settings::json ->> 'max_message_bytes')::bigint INTO target, is_system, most
        FROM <schema>.queue q
        WHERE q.public_id = discue_publish.queue AND q.organization = owner AND q.deleted_at IS NULL;
    IF target IS NULL THEN
        SELECT q.id, q.is_system = 1, (q.settings::json ->> 'max_message_bytes')::bigint INTO target, is_system, most
            FROM <schema>.queue q
            WHERE q.alias = discue_publish.queue AND q.organization = owner AND q.deleted_at IS NULL;
    END IF;
    IF target IS NULL THEN
        RAISE EXCEPTION 'Queue "%" not found.', discue_publish.queue USING ERRCODE = 'undefined_object';
    END IF;
    IF is_system THEN
        RAISE EXCEPTION 'Only the service publishes to the queue of system events.'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF most IS NULL THEN
        -- The leader stores the setting. Until it has, the largest possible one applies here.
        SELECT coalesce(max(m.value::bigint), 8388608) INTO most FROM <schema>.meta m WHERE m.key = 'max_message_bytes';
    END IF;
    IF json_typeof(discue_publish.data) = 'string' THEN
        size := octet_length(convert_to(discue_publish.data #>> '{}', 'UTF8'));
    END IF;
    fault := CASE
        WHEN body IS NULL THEN 'data must be a JSON value; for null, write ''null''::json.'
        WHEN size > most THEN format('data has %s bytes; at most %s are allowed.', size, most)
        WHEN length(discue_publish.type) > 255 OR discue_publish.type !~ '^[!-)+,\-/-=?-~]+(\.[!-)+,\-/-=?-~]+)*$' THEN
            'type must be words of visible ASCII characters without * and >, separated by single dots, at most 255 '
            'characters.'
        WHEN length(discue_publish.key) NOT BETWEEN 1 AND 255 THEN 'key must have 1 to 255 characters.'
        WHEN discue_publish.alias !~ '^[A-Za-z0-9._/-]{1,64}$' THEN
            'alias must be 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore, slash and hyphen.'
        WHEN json_typeof(discue_publish.headers) <> 'object' THEN 'headers must be a JSON object of strings.'
        WHEN due_ms > now_ms + 31536000000 THEN 'deliver_at must be at most a year ahead.'
        WHEN end_ms <= now_ms THEN 'expires_at must be in the future.'
        WHEN end_ms > 253402300799999 THEN 'expires_at must be before the year 10000.'
        WHEN end_ms <= due_ms THEN 'expires_at must be later than deliver_at.'
    END;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%', fault USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF discue_publish.headers IS NOT NULL THEN
        PERFORM <schema>.discue_check_headers(discue_publish.headers);
    END IF;
    INSERT INTO <schema>.intake (organization, queue, size, options, body)
    VALUES (
        owner,
        target,
        octet_length(body),
        json_strip_nulls(json_build_object(
            'type', discue_publish.type,
            'key', discue_publish.key,
            'headers', discue_publish.headers,
            'alias', discue_publish.alias,
            'deliver_at', due_ms,
            'expires_at', end_ms
        ))::text,
        body
    );
    -- Commits with notifications take turns: an application may do without, and its messages wait for a poll.
    IF current_setting('discue.notify', true) IS DISTINCT FROM 'off' THEN
        -- Workers read it like the `Notification` of another worker.
        PERFORM pg_notify('discue', '["",[false,false,[],false,true]]');
    END IF;
END
$body$;

CREATE FUNCTION <schema>.discue_check_headers(headers JSON) RETURNS VOID LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    name TEXT;
    content JSON;
    reserved TEXT := '^(discue-.*|webhook-.*|proxy-.*|content-(type|length|encoding)|accept-encoding|user-agent|'
        'connection|expect|host|keep-alive|te|trailer|transfer-encoding|upgrade)$';
    allowed TEXT := '^([!-~\u00a0-\u00ff]([\t -~\u00a0-\u00ff]*[!-~\u00a0-\u00ff])?)?$';
    amount BIGINT := 0;
    characters BIGINT := 0;
    fault TEXT;
BEGIN
    IF (SELECT count(DISTINCT lower(each.key)) < count(*) FROM json_each(headers) AS each) THEN
        RAISE EXCEPTION 'headers has two names that differ only in case.' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR name, content IN SELECT each.key, each.value FROM json_each(headers) AS each LOOP
        amount := amount + 1;
        characters := characters + length(name) + length(content #>> '{}');
        fault := CASE
            WHEN json_typeof(content) <> 'string' THEN 'must be a string.'
            WHEN name !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]{1,128}$' OR lower(name) ~ reserved THEN
                'is not allowed: the name must be a token, and not one of the headers that discue sets itself.'
            WHEN content #>> '{}' !~ allowed THEN 'has invalid characters in its value, or blanks around it.'
            WHEN amount > 32 THEN 'is one too many: at most 32 headers are allowed.'
            WHEN characters > 4096 THEN 'is too long: at most 4096 characters are allowed in total.'
        END;
        IF fault IS NOT NULL THEN
            RAISE EXCEPTION 'The header "%" %', name, fault USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
END
$body$;

CREATE FUNCTION <schema>.discue_allow(role TEXT, organization TEXT) RETURNS VOID LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
DECLARE
    found BIGINT;
BEGIN
    SELECT o.id INTO found FROM <schema>.organization o
        WHERE (o.public_id = discue_allow.organization OR o.alias = discue_allow.organization) AND o.deleted_at IS NULL
        ORDER BY o.public_id = discue_allow.organization DESC LIMIT 1;
    IF found IS NULL THEN
        RAISE EXCEPTION 'Organization "%" not found.', discue_allow.organization USING ERRCODE = 'undefined_object';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', <name>, discue_allow.role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %I.discue_publish TO %I', <name>, discue_allow.role);
    INSERT INTO <schema>.intake_role (role, organization) VALUES (discue_allow.role, found)
        ON CONFLICT (role) DO UPDATE SET organization = excluded.organization;
END
$body$;

CREATE FUNCTION <schema>.discue_disallow(role TEXT) RETURNS VOID LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
BEGIN
    DELETE FROM <schema>.intake_role r WHERE r.role = discue_disallow.role;
    IF EXISTS (SELECT FROM pg_roles p WHERE p.rolname = discue_disallow.role) THEN
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %I.discue_publish FROM %I', <name>, discue_disallow.role);
        EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', <name>, discue_disallow.role);
    END IF;
END
$body$;

REVOKE ALL ON FUNCTION <schema>.discue_publish FROM PUBLIC;
REVOKE ALL ON FUNCTION <schema>.discue_check_headers FROM PUBLIC;
REVOKE ALL ON FUNCTION <schema>.discue_allow FROM PUBLIC;
REVOKE ALL ON FUNCTION <schema>.discue_disallow FROM PUBLIC;

$functions$, '<schema>', quote_ident(current_schema())), '<name>', quote_literal(current_schema())); END $do$;
"""
"""The intake: applications publish in their own transactions, by a function.

It only inserts a row, so it takes no lock that another publish would wait for. The leader moves the rows into the logs
(`discue.dispatch.jobs.intake`).
"""
DIALECT: Final = {
    "body_start": _BODY_START,
    "bytes": "BYTEA",
    "clock": _CLOCK,
    "clustered": "",
    "hot": _HOT,
    "intake": _INTAKE,
    "key": "BIGINT",
    "text": 'TEXT COLLATE "C"',
}

_OLDEST_SERVER: Final = 14
_MIGRATION_KEY: Final = 0x64_69_73_64
_WAIT_SECONDS: Final = 120
_IDLE_SECONDS: Final = 30
_CONNECT_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0
_APPLICATION: Final = "discue"

_FOUND: Final = """
SELECT coalesce(current_schema(), ''), current_setting('server_encoding'), to_regclass('meta') IS NOT NULL, EXISTS (
    SELECT FROM pg_class c
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
)
"""
_MARK: Final = """
CREATE TABLE meta (key TEXT COLLATE "C" NOT NULL PRIMARY KEY, value TEXT COLLATE "C" NOT NULL);
INSERT INTO meta (key, value) VALUES ('epoch', replace(gen_random_uuid()::text, '-', ''));
"""
_RUNNING: Final = "SELECT count(*) FROM worker WHERE dead = 0 AND lease_until > clock_ms()"
# Without parameters: the server parses and runs it in one step (see `PostgresTransaction`).
_PUT: Final = "INSERT INTO meta (key, value) VALUES ('{}', '{}') ON CONFLICT (key) DO UPDATE SET value = excluded.value"


async def schema_state(connection: asyncpg.Connection) -> SchemaState:
    """Read the state of the schema.

    Raises StoreUnusable for a server that is too old, or an unsuitable database.
    """
    major = connection.get_server_version().major
    if major < _OLDEST_SERVER:
        raise StoreUnusable(
            f"The server is PostgreSQL {major}, but discue needs {_OLDEST_SERVER} or newer. Upgrade it."
        )
    schema, encoding, is_marked, is_used = await connection.fetchrow(_FOUND)
    if not schema:
        raise StoreUnusable("None of the schemas in the user's search_path exists. Create one.")
    if encoding != "UTF8":
        raise StoreUnusable(
            f"The database's encoding is {encoding}, which cannot store every text. Create another one: "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    found = await _meta(connection) if is_marked else {}
    if is_used and found.get("application") != _APPLICATION:
        raise StoreUnusable("The database contains tables of another program. Name another database.")
    return SchemaState.of(found)


async def migrate(connection: asyncpg.Connection, known: tuple[Migration, ...]) -> int:
    """Migrate the schema; concurrent callers wait. A failed migration changes nothing.

    Returns the version that was migrated; 0 if the database was new or up to date. Raises StoreUnusable while workers
    run that could not use the new schema: they would not notice.
    """
    if not pending(known, await schema_state(connection)):
        return 0
    async with _alone(connection):
        found = await schema_state(connection)
        if not found.version:
            async with connection.transaction():
                await connection.execute(_MARK)
                await connection.execute(_PUT.format("application", _APPLICATION))
        outstanding = pending(known, found)
        if 0 < found.version < COMPATIBLE_FROM:
            await _require_no_workers(connection, found.version)
        for migration in outstanding:
            async with connection.transaction():
                await connection.execute(migration.sql)
                for item in written_by(migration, known).items():
                    await connection.execute(_PUT.format(*item))
        return found.version if outstanding else 0


async def _require_no_workers(connection: asyncpg.Connection, version: int) -> None:
    running = await connection.fetchval(_RUNNING)
    if running:
        workers = "A worker" if running == 1 else f"{running} workers"
        raise StoreUnusable(
            f"{workers} of an older version would go on with a database that is too new for them: they know schema "
            f"version {version}, and {COMPATIBLE_FROM} is needed. Stop them, then start this version. A worker that "
            "was killed counts until its lease ends."
        )


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Let workers that start together take turns."""
    # A lock of the session, not of a transaction: each migration commits by itself. A process that hangs between two of
    # them loses it.
    # Its name tells other processes that its transactions may take long.
    await connection.execute(
        f"SET lock_timeout = '{_WAIT_SECONDS}s'; SET idle_session_timeout = '{_IDLE_SECONDS}s'; "
        f"SET application_name = '{migration_name(connection)}'"
    )
    await connection.execute(f"SELECT pg_advisory_lock({_MIGRATION_KEY})")
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(f"SELECT pg_advisory_unlock({_MIGRATION_KEY})")
            await connection.execute("RESET lock_timeout; RESET idle_session_timeout; RESET application_name")


async def _meta(connection: asyncpg.Connection) -> dict[str, str]:
    """Read the table `meta`, ours or another program's."""
    try:
        return {row[0]: row[1] for row in await connection.fetch("SELECT key::text, value::text FROM meta")}
    except asyncpg.UndefinedColumnError:
        return {}


async def inspect_database(address: str) -> DatabaseInspection:
    """Inspect a database, and change nothing. Raises StoreUnusable with the reason and what to do."""
    async with connected(address) as connection:
        found = await schema_state(connection)
        encryption = None
        if found.version:
            encryption = await connection.fetchval("SELECT value FROM meta WHERE key = 'encryption'")
    names = tuple(migration.name for migration in pending(migrations(DIALECT), found))
    return DatabaseInspection(exists=True, version=found.version, pending=names, encryption=encryption or "")


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect like a worker does, or else to a server that accepts no writes.

    Raises StoreUnusable with the reason and what to do, also for errors while it is used.
    """
    try:
        server = Server(address)
        try:
            connection = await server.connect(_CONNECT_SECONDS)
        except asyncpg.TargetServerAttributeNotMatched:
            connection = await server.connect(_CONNECT_SECONDS, allow_standby=True)
        try:
            yield connection
        finally:
            await connection.close(timeout=_CLOSE_SECONDS)
    except FAILURES_TO_OPEN as error:
        raise opening_error(error, address) from None


class ServerStatus(msgspec.Struct, frozen=True):
    """The state of a server, as a connection of this service finds it."""

    version: str
    database: str
    user: str
    schema: str
    takes_writes: bool
    is_standby: bool
    may_create: bool
    closed: Sequence[str]
    """Tables that this user may not read or write."""
    unsafe: Sequence[str]
    """Settings that are off although acknowledged messages can be lost without them."""
    connections: int
    """The number of connections that this user may have."""
    taken: int
    """The number of other users' connections."""
    clock_ms: int
    """The server's clock, in milliseconds since the epoch."""


# Not `synchronous_commit`: our connections set it themselves.
_SAFEGUARDS = ("fsync", "full_page_writes")

# A user without further rights sees how many other connections there are.
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
    """Read the server's state, and change nothing. Raises StoreUnusable with the reason and what to do."""
    async with connected(address) as connection:
        return ServerStatus(**await connection.fetchrow(_CONDITION, _SAFEGUARDS))
