"""TODO."""

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
    "fsync": "the server's disk need not hold what was acknowledged when the machine fails",
    "full_page_writes": "the database can be destroyed when the machine fails",
}


def server_findings(invocation: Invocation, found: DatabaseInspection) -> Iterator[Finding]:
    """Whether it takes writes and keeps them, and has room for the workers, by its own account."""
    settings = invocation.settings
    try:
        stands = asyncio.run(server_status(settings.database))
    except StoreUnusable as error:
        yield Finding("database", error.detail, is_problem=True)
        return
    state = f"{settings.database_shown} is served by PostgreSQL {stands.version}; {schema_state(found)}"
    yield Finding("database", state, is_problem=False)
    yield from _problems(stands, found)
    yield _connections_finding(stands, settings.workers)
    yield _clock_finding(stands.clock_ms - invocation.clock.now())


def _problems(stands: ServerStatus, found: DatabaseInspection) -> Iterator[Finding]:
    if stands.is_standby:
        detail = (
            "the server is a standby and takes no writes; name the primary, or all hosts and "
            "target_session_attrs=primary"
        )
        yield Finding("database", detail, is_problem=True)
    elif not stands.takes_writes:
        detail = (
            f"transactions of {stands.user} are read-only; turn default_transaction_read_only off for that user, for "
            f"the database {stands.database} and for the server"
        )
        yield Finding("database", detail, is_problem=True)
    if found.pending and not stands.may_create:
        yield Finding("database", _may_not_create(stands), is_problem=True)
    if stands.closed:
        yield Finding("database", _may_not_work(stands), is_problem=True)
    for name in stands.unsafe:
        yield Finding("database", f"{name} is off: {_COST[name]}; turn it on", is_problem=True)


def _may_not_work(stands: ServerStatus) -> str:
    return (
        f"{stands.user} may not work on {len(stands.closed)} tables, such as {stands.closed[0]}: GRANT SELECT, INSERT, "
        f"UPDATE, DELETE ON ALL TABLES IN SCHEMA {stands.schema} TO {stands.user}"
    )


def _may_not_create(stands: ServerStatus) -> str:
    return (
        f"{stands.user} may not create the tables that the next start needs: GRANT CREATE ON SCHEMA {stands.schema} "
        f"TO {stands.user}, or run discue migrate as a user who may"
    )


def _connections_finding(stands: ServerStatus, workers: int) -> Finding:
    needed, free = workers * CONNECTIONS.total, stands.connections - stands.taken
    detail = (
        f"the server has room for {free} connections besides {stands.taken} of others, and this installation has up "
        f"to {needed} with workers = {workers}"
    )
    if needed <= free:
        return Finding("connections", detail, is_problem=False)
    return Finding("connections", f"{detail}; raise max_connections, or have fewer workers", is_problem=True)


def _clock_finding(ahead_ms: int) -> Finding:
    seconds, way = abs(ahead_ms) / 1_000, "ahead of" if ahead_ms > 0 else "behind"
    if seconds <= CLOCK_TOLERANCE_SECONDS:
        return Finding("clock", "that of the database agrees with this machine's", is_problem=False)
    detail = f"that of the database is {seconds:.0f} s {way} this machine's; set the one that is wrong"
    return Finding("clock", detail, is_problem=True)
