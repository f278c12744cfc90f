"""Resolution of host names by the system's resolver, in daemon threads."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address

from discue.domain.egress import IPAddress

Resolve = Callable[[str, int], Awaitable[Sequence[IPAddress]]]
"""Returns all addresses of a host and port, best first, or raises OSError. The caller keeps the deadline."""

_LOOKUPS_AT_ONCE = 64


class Resolver:
    """Resolves host names. Concurrent lookups of a name share one; nothing is cached.

    The threads are daemons: a lookup cannot be interrupted, and must delay neither other names nor the end of the
    process.
    """

    def __init__(self, lookups_at_once: int = _LOOKUPS_AT_ONCE) -> None:
        self._free = asyncio.Semaphore(lookups_at_once)
        self._in_flight: dict[tuple[str, int], asyncio.Task[list[IPAddress]]] = {}

    async def __call__(self, host: str, port: int) -> list[IPAddress]:
        key = (host, port)
        lookup = self._in_flight.get(key)
        if lookup is None:
            lookup = asyncio.get_running_loop().create_task(self._look_up(host, port))
            self._in_flight[key] = lookup
            lookup.add_done_callback(lambda ended: self._ended(key, ended))
        # A caller that is cancelled must not cancel the lookup for the others.
        return await asyncio.shield(lookup)

    def _ended(self, key: tuple[str, int], lookup: asyncio.Task[list[IPAddress]]) -> None:
        del self._in_flight[key]
        if not lookup.cancelled():
            lookup.exception()  # Mark the exception as retrieved, even if every caller was cancelled.

    async def _look_up(self, host: str, port: int) -> list[IPAddress]:
        async with self._free:
            result: asyncio.Future[list[IPAddress]] = asyncio.get_running_loop().create_future()
            threading.Thread(target=_look_up_in_thread, args=(host, port, result), name="resolver", daemon=True).start()
            return await result


def _look_up_in_thread(host: str, port: int, result: asyncio.Future[list[IPAddress]]) -> None:
    try:
        addresses = _addresses(host, port)
    except (OSError, UnicodeError) as error:
        _hand_over(result, partial(result.set_exception, OSError(str(error))))
    else:
        _hand_over(result, partial(result.set_result, addresses))


def _hand_over(result: asyncio.Future[list[IPAddress]], act: Callable[[], None]) -> None:
    # The loop may be closed by now; then no caller waits for the result.
    with suppress(RuntimeError):
        result.get_loop().call_soon_threadsafe(lambda: None if result.done() else act())


def _addresses(host: str, port: int) -> list[IPAddress]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(address[0]) for _, _, _, _, address in found]
