"""Looking at a PostgreSQL database before anything is done with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from discue.store.migrations import DatabaseInspection, Migration, pending
from discue.store.postgres.connection import Server
from discue.store.postgres.errors import FAILURES_TO_OPEN, opening_error
from discue.store.postgres.schema import versions

CONNECT_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0
_ENCRYPTION: Final = "SELECT value FROM meta WHERE key = 'encryption'"


async def inspect_database(address: str, known: tuple[Migration, ...]) -> DatabaseInspection:
    """Look, and change nothing. Raises StoreUnusable with the reason why it cannot be used, and the way out."""
    async with connected(address) as connection:
        version, compatible_from = await versions(connection)
        encryption = await connection.fetchval(_ENCRYPTION) if version else None
    names = tuple(migration.name for migration in pending(known, version, compatible_from))
    return DatabaseInspection(exists=True, version=version, pending=names, encryption=encryption or "")


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as those that serve are made; to a server that takes no writes, if there is no other.

    Raises StoreUnusable with the reason and the way out, also for what fails while it is in use.
    """
    try:
        server = Server(address)
        connection = await _connect(server)
        try:
            yield connection
        finally:
            await connection.close(timeout=_CLOSE_SECONDS)
    except FAILURES_TO_OPEN as error:
        raise opening_error(error, address) from None


async def _connect(server: Server) -> asyncpg.Connection:
    try:
        return await server.connect(CONNECT_SECONDS)
    except asyncpg.TargetServerAttributeNotMatched:
        return await server.connect(CONNECT_SECONDS, only_to_look=True)
