"""Notifications to the service manager that started the process: the protocol of systemd's `sd_notify`.

The manager passes the address of a datagram socket in `NOTIFY_SOCKET`, and its watchdog's period in `WATCHDOG_USEC`.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from discue.observability.logs import Log

_BEATS_PER_PERIOD: Final = 3
"""systemd recommends two. With three, a beat that comes late by a third of the period kills nothing."""


class ServiceManager:
    """The service manager of this process. Without one, all methods do nothing.

    A notification that cannot be sent is logged and never fails: the manager then treats the service as hung, which is
    its decision.
    """

    def __init__(self, environ: Mapping[str, str], log: Log) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._log = log
        self._status = ""
        period, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        is_ours = process in ("", str(os.getpid()))
        has_watchdog = self._address and is_ours and period.isdecimal()
        self.watchdog_seconds = int(period) / 1_000_000 if has_watchdog else 0.0
        """Time without a beat after which the manager kills the process; 0 without a watchdog."""
        self.beat_seconds = self.watchdog_seconds / _BEATS_PER_PERIOD
        """Time between beats; 0 without a watchdog."""

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        """Tell that the service drains. The manager expects no beats from here on."""
        self._send("STOPPING=1\nSTATUS=Draining.")

    def beat(self, obstacle: str | None = None) -> None:
        """Tell that the process works, and what keeps it from serving, which the manager shows.

        A process whose database is unreachable works: to restart it would not bring the database back.
        """
        status = obstacle or "Serving."
        changed = f"\nSTATUS={status}" if status != self._status else ""
        self._status = status
        self._send(f"WATCHDOG=1{changed}")

    @asynccontextmanager
    async def informed(self, obstacle: Callable[[], str | None]) -> AsyncIterator[None]:
        """Tell that the service serves, beat from the running event loop, and at the end tell that it drains.

        `obstacle` returns what keeps the service from serving, if anything does.
        """
        self.ready()
        try:
            async with beating(self.beat_seconds, lambda: self.beat(obstacle())):
                yield
        finally:
            self.stopping()

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte of an abstract address.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A manager that reads nothing must not stop the service.
                sender.setblocking(False)
                sender.sendto(state.encode(), address)
        except OSError as error:
            self._log.warning("service_manager_not_notified", reason=error.strerror or str(error))


@asynccontextmanager
async def beating(seconds: float, beat: Callable[[], None]) -> AsyncIterator[None]:
    """Call `beat` at once and every `seconds`, 0 for never. An event loop that hangs does not beat."""
    if not seconds:
        yield
        return

    async def beat_on() -> None:
        while True:
            beat()
            await asyncio.sleep(seconds)

    beats = asyncio.get_running_loop().create_task(beat_on())
    try:
        yield
    finally:
        beats.cancel()
