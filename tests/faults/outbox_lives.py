"""Processes with an outbox that kill themselves: `python -m tests.faults.outbox_lives ROLE DATABASE POINT OCCURRENCE`.

The application commits orders with their messages, and the relay publishes them. Both end with SIGKILL when they reach
the point for that number of times, so that nothing is closed or rolled back by the process.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, NoReturn, TypeVar

from discue_client import AsyncDiscue, outbox
from discue_client.outbox.database import Database
from discue_client.outbox.relay import Relay
from discue_client.outbox.steps import Batch, Statement, Step
from tests.clients.python.outbox.databases import connect
from tests.faults.outbox_history import Order

T = TypeVar("T")

QUEUE = "orders"
CREATE_ORDERS = "CREATE TABLE orders (customer text, number integer)"
NEVER = "never"
APPLICATION_POINTS = ("before_commit", "after_commit")
_BETWEEN_ORDERS_SECONDS = 0.005
RELAY_POINTS = ("before_name", "after_name", "after_response", "before_delete", "after_delete")


class Death:
    """Kills the process at a point."""

    def __init__(self, point: str, occurrence: int) -> None:
        self._point = point
        self._left = occurrence

    def reached(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left <= 0:
                die()


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL is not survived")


class DoomedDatabase:
    """The database of a relay, which dies in its transactions or after them."""

    def __init__(self, database: Database, death: Death) -> None:
        self._database = database
        self._death = death

    async def transaction(self, step: Step[T], *, lock: str | None = None) -> T:
        kind = {"claim": "name", "delete": "delete"}.get(getattr(step, "__name__", ""), "")
        result = await self._database.transaction(self._doomed(step, kind), lock=lock)
        if kind == "delete" or isinstance(result, Batch):
            self._death.reached(f"after_{kind}")
        return result

    def _doomed(self, step: Step[T], kind: str) -> Generator[Statement, "list[Any]", T]:
        result = yield from step
        # The statements have run, and are not committed.
        if kind == "delete" or isinstance(result, Batch):
            self._death.reached(f"before_{kind}")
        return result

    async def listen(self, wake: Callable[[], None], /) -> None:
        await self._database.listen(wake)

    async def close(self) -> None:
        await self._database.close()


async def relay(url: str, death: Death) -> None:
    """Publish until the process is killed."""
    async with AsyncDiscue() as client:
        relay = Relay(url, client, max_messages=3, poll_seconds=0.05, lease_seconds=0.2)
        doomed: Any = DoomedDatabase(relay._database, death)
        relay._database = doomed
        send = relay._send

        async def send_and_reach(batch: Batch, number: int) -> None:
            await send(batch, number)
            death.reached("after_response")

        object.__setattr__(relay, "_send", send_and_reach)
        async with relay:
            await asyncio.Event().wait()


def application(url: str, death: Death, customer: str) -> None:
    """Commit orders of a customer, each in a transaction with its message, until the process is killed.

    The pauses let others lock a SQLite file: they try only ten times a second.
    """
    with closing(connect(url)) as connection:
        ((last,),) = connection.execute(f"SELECT max(number) FROM orders WHERE customer = '{customer}'").fetchall()
        number = last or 0
        while True:
            number += 1
            connection.execute("BEGIN IMMEDIATE" if url.startswith("sqlite") else "BEGIN")
            store(connection, Order(customer, number))
            death.reached("before_commit")
            connection.execute("COMMIT")
            death.reached("after_commit")
            time.sleep(_BETWEEN_ORDERS_SECONDS)


def store(connection: Any, order: Order) -> None:
    connection.execute(f"INSERT INTO orders VALUES ('{order.customer}', {order.number})")
    outbox.publish(connection, QUEUE, order._asdict(), key=order.customer)


if __name__ == "__main__":
    role, database, point, occurrence, *names = sys.argv[1:]
    if role == "relay":
        asyncio.run(relay(database, Death(point, int(occurrence))))
    else:
        application(database, Death(point, int(occurrence)), *names)
