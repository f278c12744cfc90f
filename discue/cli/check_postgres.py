"""The checks of `discue check` for a PostgreSQL server."""

import asyncio
from collections.abc import Iterator

from discue.cli.check import Finding, schema_state
from discue.cli.command import Invocation
from discue.domain.errors import StoreUnusable
from discue.store.migrations import DatabaseInspection
from discue.store.postgres.engine import CONNECTIONS
from discue.store.postgres.schema import ServerStatus, server_status

CLOCK_TOLERANCE_SECONDS = 60

_COST = {
    "fsync": "acknowledged messages can be lost when the machine fails",
    "full_page_writes": "the database can be corrupted when the machine fails",
}


def server_findings(invocation: Invocation, found: DatabaseInspection) -> Iterator[Finding]:
    """Check that the server accepts and keeps writes, and has enough connections for the workers."""
    settings = invocation.settings
    try:
        status = asyncio.run(server_status(settings.database))
    except StoreUnusable as error:
        yield Finding("database", error.detail, is_problem=True)
        return
    state = f"{settings.database_shown} is served by PostgreSQL {status.version}; {schema_state(found)}"
    yield Finding("database", state, is_problem=False)
    yield from _problems(status, found)
    yield _connections_finding(status, settings.workers)
    yield _clock_finding(status.clock_ms - invocation.clock.now())


def _problems(status: ServerStatus, found: DatabaseInspection) -> Iterator[Finding]:
    if status.is_standby:
        detail = (
            "the server is a standby and rejects writes; name the primary, or all hosts and "
            "target_session_attrs=primary"
        )
        yield Finding("database", detail, is_problem=True)
    elif not status.takes_writes:
        detail = (
            f"transactions of {status.user} are read-only; set default_transaction_read_only to off for the user, "
            f"the database {status.database} and the server"
        )
        yield Finding("database", detail, is_problem=True)
    if found.pending and not status.may_create:
        yield Finding("database", _may_not_create(status), is_problem=True)
    if status.closed:
        yield Finding("database", _may_not_work(status), is_problem=True)
    for name in status.unsafe:
        yield Finding("database", f"{name} is off: {_COST[name]}; turn it on", is_problem=True)


def _may_not_work(status: ServerStatus) -> str:
    return (
        f"{status.user} lacks privileges on {len(status.closed)} tables, such as {status.closed[0]}: GRANT SELECT, "
        f"INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {status.schema} TO {status.user}"
    )


def _may_not_create(status: ServerStatus) -> str:
    return (
        f"{status.user} cannot create the tables that the next start needs: GRANT CREATE ON SCHEMA {status.schema} "
        f"TO {status.user}, or run discue migrate as a user who can"
    )


def _connections_finding(status: ServerStatus, workers: int) -> Finding:
    needed, free = workers * CONNECTIONS, status.connections - status.taken
    detail = (
        f"{free} connections are free, {status.taken} are in use by others; this installation needs up to {needed} "
        f"with workers = {workers}"
    )
    if needed <= free:
        return Finding("connections", detail, is_problem=False)
    return Finding("connections", f"{detail}; raise max_connections, or lower workers", is_problem=True)


def _clock_finding(ahead_ms: int) -> Finding:
    seconds, way = abs(ahead_ms) / 1_000, "ahead of" if ahead_ms > 0 else "behind"
    if seconds <= CLOCK_TOLERANCE_SECONDS:
        return Finding("clock", "the clock of the database agrees with this machine", is_problem=False)
    detail = f"the clock of the database is {seconds:.0f} s {way} this machine; correct the wrong one"
    return Finding("clock", detail, is_problem=True)
