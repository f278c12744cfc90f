"""`discue serve`: for production."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import uvloop

from discue import __version__
from discue.cli import init
from discue.cli.command import FINE, Commands, Invocation, add_command, exit_code_of
from discue.cli.encryption import establish
from discue.cli.tls import certificate_files
from discue.domain.errors import DiscueError
from discue.server.http import Address, HttpServer, held_port
from discue.server.installation import opened
from discue.server.processes import WorkerPipe, WorkerProcesses, all_before, stop_asked, stop_told
from discue.server.worker import Worker, alone_on, prepare_process, served


def add(commands: Commands) -> None:
    add_command(
        commands,
        "serve",
        "serve",
        run,
        summary="answer the API and deliver messages",
        description="On an empty database the operator's organization is made, and its first key printed once. "
        "SIGTERM or Ctrl-C drains: what is under way ends, the rest waits for the next start; a second one ends "
        "at once.",
    )


def run(invocation: Invocation) -> int:
    prepare_process()
    with alone_on(invocation.settings.database_path):
        if invocation.settings.workers > 1:
            return _run_several(invocation)
        uvloop.run(_serve(invocation))
        return 0


def _run_several(invocation: Invocation) -> int:
    """What all of them share is made here, once: the port, and the certificate."""
    settings = invocation.settings
    with (
        held_port(Address(settings.host, settings.port)) as port,
        certificate_files(settings, invocation.clock) as files,
    ):
        shared = replace(settings, port=port, tls_cert=files.cert, tls_key=files.key, tls_self_signed=False)

        def serve(place: WorkerPipe) -> int:
            uvloop.run(_serve_from(place, replace(invocation, settings=shared)))
            return FINE

        def serve_worker(place: WorkerPipe) -> int:
            return exit_code_of(lambda: serve(place))

        return WorkerProcesses(serve_worker, settings, invocation.clock, invocation.log).run()


async def _serve(invocation: Invocation) -> None:
    stop = stop_asked(invocation.log)
    async with opened(invocation.settings, invocation.clock, invocation.log) as installation:
        await establish(installation, invocation.log)
        await init.found(installation)
        worker = Worker(installation, invocation.log, predecessors=all_before(invocation.settings))
        async with serving(invocation, worker) as server:
            await until_stopped(stop, server)


async def _serve_from(place: WorkerPipe, invocation: Invocation) -> None:
    """As one of several workers."""
    stop = stop_told(invocation.log, place.parent_pipe)
    async with opened(invocation.settings, invocation.clock, invocation.log) as installation:
        await establish(installation, invocation.log)
        await init.found(installation)
        worker = Worker(installation, invocation.log, predecessors=place.predecessors)
        worker.lease.announce = place.report_session_id
        async with serving(invocation, worker, worker=place.number) as server:
            place.report_serving()
            await until_stopped(stop, server)


async def until_stopped(stop: asyncio.Event, server: HttpServer) -> None:
    """Returns when a stop was asked for. Raises DiscueError when the server ended without that."""
    asked = asyncio.ensure_future(stop.wait())
    ended = asyncio.ensure_future(server.ended())
    try:
        await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        ended.cancel()
    if not stop.is_set():
        raise DiscueError("The HTTP server ended by itself.")


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
