"""An application that shares the database of the service, and publishes in its own transactions."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from random import Random

import asyncpg

from tests.faults.outbox_history import Order

QUEUE = "orders"
_NUMBERS = count(1)
_ROLLBACKS = 0.2
"""The share of transactions that are rolled back."""
_LOOK_SECONDS = 0.02
_LOG = """
    SELECT l.body FROM log l JOIN queue q ON q.organization = l.organization AND q.id = l.queue
    WHERE q.alias = $1 ORDER BY l.seq"""
_PUBLISH = """
    SELECT discue_publish($1, json_build_object('customer', $2::text, 'number', $3::bigint), key => $2::text)"""


class Shop:
    """The application. Its tables are in a schema of their own, and its role may publish only."""

    def __init__(self, database: str, role: str) -> None:
        self._database = database
        self._role = role

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self._database, user=self._role)
        try:
            yield connection
        finally:
            await connection.close()

    async def order(self, connection: asyncpg.Connection, order: Order) -> None:
        """Store an order and its message, in the transaction of the connection."""
        await connection.execute("INSERT INTO shop.orders VALUES ($1, $2)", *order)
        await connection.execute(_PUBLISH, QUEUE, *order)

    async def take_orders(self, customer: str, stop: asyncio.Event, random: Random) -> None:
        """Commit orders of a customer, one after the other, some of which are rolled back."""
        async with self.connected() as connection:
            number = 0
            while not stop.is_set():
                transaction = connection.transaction()
                await transaction.start()
                await self.order(connection, Order(customer, number + 1))
                if random.random() < _ROLLBACKS:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    number += 1

    async def committed(self) -> list[Order]:
        async with self.connected() as connection:
            return [Order(*row) for row in await connection.fetch("SELECT customer, number FROM shop.orders")]


@asynccontextmanager
async def opened(database: str) -> AsyncIterator[Shop]:
    """Create the role and the tables of the application in the database of a service, and let it publish."""
    role = f"shop_of_{next(_NUMBERS)}"
    operator = await asyncpg.connect(database)
    try:
        await operator.execute(f"CREATE ROLE {role} LOGIN; CREATE SCHEMA shop AUTHORIZATION {role}")
        await operator.execute("SELECT discue_allow($1, alias) FROM organization WHERE is_operator = 1", role)
        shop = Shop(database, role)
        async with shop.connected() as connection:
            await connection.execute("CREATE TABLE shop.orders (customer text, number bigint)")
        yield shop
        await operator.execute("SELECT discue_disallow($1)", role)
        await operator.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    finally:
        await operator.close()


async def moved(database: str) -> list[Order]:
    """Wait until nothing is left in the intake, and return the orders in the log, in its order."""
    operator = await asyncpg.connect(database)
    try:
        while await operator.fetchval("SELECT count(*) FROM intake"):  # noqa: ASYNC110 - other processes empty it
            await asyncio.sleep(_LOOK_SECONDS)
        bodies = await operator.fetch(_LOG, QUEUE)
    finally:
        await operator.close()
    return [Order(**json.loads(body)) for (body,) in bodies]
