"""TLS with certificates of our own: a context for each identity, none of which ever serves another."""

import asyncio
import os
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from discue.sending.presented import Identity

_KEPT: Final = 256


class Identities:
    """Makes contexts, on another thread: each reads the certificates of all authorities. Keeps those used lately."""

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        self._make = make
        self._contexts: OrderedDict[str, asyncio.Task[ssl.SSLContext]] = OrderedDict()

    async def context_of(self, identity: Identity) -> ssl.SSLContext:
        """Raises ssl.SSLError where the certificate cannot be used."""
        task = self._contexts.get(identity.name)
        if task is None:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._made, identity))
            task.add_done_callback(_seen)
            self._contexts[identity.name] = task
            if len(self._contexts) > _KEPT:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(identity.name)
        try:
            # Others may wait for it, too.
            return await asyncio.shield(task)
        except OSError:
            if self._contexts.get(identity.name) is task:
                del self._contexts[identity.name]
            raise

    def _made(self, identity: Identity) -> ssl.SSLContext:
        context = self._make()
        # It reads files alone. This one has no name, and on Linux lies in memory: the key is on no disk.
        descriptor = _unnamed_file()
        try:
            with os.fdopen(descriptor, "w", closefd=False) as file:
                file.write(f"{identity.private_key}\n{identity.certificate}\n")
            os.lseek(descriptor, 0, os.SEEK_SET)
            context.load_cert_chain(f"/dev/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return context


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("identity")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _seen(task: asyncio.Task[ssl.SSLContext]) -> None:
    """Whoever asked for it may have gone: then nobody else looks at what went wrong."""
    if not task.cancelled():
        task.exception()
