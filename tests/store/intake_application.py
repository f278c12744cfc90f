"""An application of PostgreSQL that publishes by a function, and the leader that moves its messages."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import asyncpg
import msgspec

from discue.dispatch.jobs.intake import Intake
from discue.dispatch.lease import Leadership
from discue.domain.messages import Entry
from discue.domain.model import Queue
from discue.observability.logs import Log
from discue.store import queues
from discue.store.store import Store
from tests.store.rows import row_id, stored_organization, stored_queue
from tests.support.cast import control_of
from tests.support.clocks import StandingClock

OURS = row_id(1)
_roles = count(1)


class Application:
    """An application whose role may publish to the queues of an organization, and the leader that moves them."""

    def __init__(self, store: Store, queue: Queue, role: str) -> None:
        self.store = store
        self.queue = queue
        self.role = role
        self.clock = StandingClock()
        self.control = control_of(store, self.clock)
        self.delayed: list[int] = []
        self.leadership = Leadership(is_held=True)
        self.errors: list[Exception] = []
        self.intake = Intake(
            self.control,
            Log("test"),
            self.leadership,
            on_error=self.errors.append,
            on_delayed=self.delayed.append,
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection]:
        """Connect as the role of the application."""
        engine: Any = self.store.engine
        connection = await asyncpg.connect(engine._address, user=self.role)
        try:
            yield connection
        finally:
            await connection.close()

    async def publish(self, data: object, queue: str = "orders", **fields: object) -> None:
        async with self.connected() as connection:
            await publish(connection, data, queue, **fields)

    async def run(self, sql: str, *values: object) -> list[Any]:
        """Run a statement as the operator."""
        engine: Any = self.store.engine
        connection = await asyncpg.connect(engine._address)
        try:
            return list(await connection.fetch(sql, *values))
        finally:
            await connection.close()

    async def waiting(self) -> list[Any]:
        return [(json.loads(row["body"]), row["error"]) for row in await self.run("SELECT * FROM intake ORDER BY id")]

    async def entries(self, queue: Queue | None = None) -> tuple[Entry, ...]:
        page = await self.store.page(OURS, (queue or self.queue).id, 0, 10_000, max_bytes=1 << 24)
        return page.entries

    async def published(self) -> list[Any]:
        return [json.loads(entry.body) for entry in await self.entries()]

    async def change_queue(self, **changes: object) -> None:
        self.queue = msgspec.structs.replace(self.queue, config_version=self.queue.config_version + 1, **changes)
        await self.store.write(partial(queues.update, queue=self.queue))
        await self.control.cache.reset()


async def publish(connection: asyncpg.Connection, data: object, queue: str = "orders", **fields: object) -> None:
    names = "".join(f", {name} => ${number}" for number, name in enumerate(fields, 3))
    await connection.execute(f"SELECT discue_publish($1, $2{names})", queue, json.dumps(data), *fields.values())


async def opened_application(store: Store) -> Application:
    role = f"shop_{next(_roles)}"
    await stored_organization(store, 1)
    application = Application(store, await stored_queue(store, OURS, 10), role)
    await application.control.cache.open()
    await application.change_queue(alias="orders")
    await application.run(f"CREATE ROLE {role} LOGIN")
    await application.run("SELECT discue_allow($1, 'com.example.n1')", role)
    return application


async def drop_role(application: Application) -> None:
    await application.run("SELECT discue_disallow($1)", application.role)
    await application.run(f"DROP ROLE {application.role}")
