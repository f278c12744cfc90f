"""Serving a worker where the settings say: what `serve` and `dev` share."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from discue import __version__
from discue.cli.certificates import certificate_files
from discue.cli.invocation import Invocation
from discue.server.http import Address, HttpServer
from discue.server.worker import Worker, served


@asynccontextmanager
async def serving(invocation: Invocation, worker: Worker, /, **told: object) -> AsyncIterator[HttpServer]:
    """The worker at its address, over TLS if that was asked for. Leaving drains it. `told` is logged, too.

    Raises SettingsInvalid when the address is taken, and for TLS files that do not work.
    """
    settings = invocation.settings
    async with AsyncExitStack() as stack:
        with certificate_files(settings, invocation.clock) as files:
            address = Address(settings.host, settings.port, files.cert, files.key, shared=settings.workers > 1)
            server = await stack.enter_async_context(served(worker, address, max_connections=settings.max_connections))
        invocation.log.info(
            "serving",
            version=__version__,
            url=server.address.url,
            database=settings.database_shown,
            role=settings.role,
            pid=os.getpid(),
            **told,
        )
        yield server
    invocation.log.info("stopped", **told)
