"""Notifications of other workers, each in a transaction of its own that no request waits for.

Within the transaction of a publish, they would make all commits take turns.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Final

import msgspec

from discue.domain.errors import StoreUnavailable
from discue.store.engine import Notification
from discue.store.notifications import WaitingNotifications
from discue.store.postgres.connection import without_data
from discue.store.postgres.pool import Report, ServerConnection, ServerConnections

CHANNEL: Final = "discue"

_PAUSE_SECONDS: Final = 0.005
_LIMIT_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.25
_CLOSE_SECONDS: Final = 1.0
_MOST_PER_SECOND: Final = 20_000
"""Every role of the database may send notifications: more than these would leave the event loop no time for others."""
_FLOOD_SECONDS: Final = 5.0
"""How long to listen to nothing after too many notifications. Polls find everything meanwhile."""
# The server limits a payload to less than 8,000 bytes. A head takes up to 64 of them.
_HEADS_PER_PAYLOAD: Final = 100
_NOTIFY: Final = f"SELECT pg_notify('{CHANNEL}', payload) FROM unnest($1::text[]) AS payload"


class TooManyNotifications(Exception):
    """Some role of the database sends more notifications than workers do."""

    def __init__(self) -> None:
        super().__init__(
            f"More than {_MOST_PER_SECOND:,} notifications a second arrive on the channel {CHANNEL}. This worker polls "
            f"for {_FLOOD_SECONDS:.0f} seconds instead."
        )


class Notifier:
    """Sends and receives notifications on one connection. It drops what it cannot send: polling finds that."""

    def __init__(self, connections: ServerConnections, report: Report) -> None:
        self._connections = connections
        self._report = report
        self._id = token_hex(8)
        self._waiting = WaitingNotifications(_HEADS_PER_PAYLOAD)
        self._connection: ServerConnection | None = None
        self._lock = asyncio.Lock()
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._second = 0.0
        """When counting the notifications that arrive began, which it does every second."""
        self._received = 0

    def notify(self, notification: Notification) -> None:
        """See `engine.Engine.notify`."""
        self._waiting.add(notification)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    def listen(self, on_notify: Callable[[Notification], None]) -> None:
        """See `engine.Engine.listen`. After each connection, one unspecific notification covers what was missed."""
        self._listening = asyncio.get_running_loop().create_task(self._listen(on_notify))

    async def close(self) -> None:
        """Stop listening, and give what waits a moment to be sent."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if (sending := self._sending) is not None:
            await asyncio.wait([sending], timeout=_CLOSE_SECONDS)
            sending.cancel()

    async def _send_all(self) -> None:
        try:
            while waiting := self._waiting.take():
                payloads = [msgspec.json.encode((self._id, each)).decode() for each in waiting]
                try:
                    async with self._connected() as connection:
                        await connection.client.execute(_NOTIFY, payloads)
                except Exception as error:  # Other workers poll
                    if not isinstance(error, StoreUnavailable):
                        self._report("notify", without_data(error))
                # Notifications that are added meanwhile share the next transaction.
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._sending = None

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ServerConnection]:
        """Use the connection alone, for a limited time."""
        async with self._lock:
            if self._connection is None or not self._connection.is_open:
                self._connection = await self._connect()
            with self._connection.limited(_LIMIT_SECONDS):
                yield self._connection

    async def _connect(self) -> ServerConnection:
        connection = await self._connections.connect()
        with connection.limited(_LIMIT_SECONDS):
            await connection.take_name(self._connections.server.application_name)
            # A notification does not need to be durable.
            await connection.client.execute("SET synchronous_commit = off")
        connection.is_idle = True
        return connection

    async def _listen(self, on_notify: Callable[[Notification], None]) -> None:
        def received(client: object, _pid: int, _channel: str, text: str) -> None:
            if self._is_flooded():
                # Not while it sends something: then the next notification closes it.
                if self._connection is not None and self._connection.client is client and not self._lock.locked():
                    self._connection.discard()
                return
            try:
                sender, notification = msgspec.json.decode(text, type=tuple[str, Notification])
            except msgspec.MsgspecError:
                sender, notification = "", Notification(anything=True)
            if sender != self._id:
                on_notify(notification)

        while True:
            try:
                async with self._connected() as connection:
                    await connection.client.add_listener(CHANNEL, received)
            except Exception as error:  # Reported, and retried
                if not isinstance(error, StoreUnavailable):
                    self._report("listen", without_data(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            on_notify(Notification(anything=True))
            await connection.ended.wait()
            if self._received > _MOST_PER_SECOND:
                self._received = 0
                self._report("listen", TooManyNotifications())
                await asyncio.sleep(_FLOOD_SECONDS)

    def _is_flooded(self) -> bool:
        """Count a notification, and return whether too many have arrived."""
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1:
            self._second, self._received = now, 0
        self._received += 1
        return self._received > _MOST_PER_SECOND
