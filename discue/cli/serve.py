"""`discue serve`: for production."""

import asyncio
from dataclasses import replace

import uvloop

from discue.cli import init
from discue.cli.certificates import certificate_files
from discue.cli.encryption import establish
from discue.cli.invocation import Commands, Invocation, add_command
from discue.cli.serving import serving
from discue.domain.errors import DiscueError
from discue.server.http import Address, HttpServer, held_port
from discue.server.installation import opened
from discue.server.processes import WorkerProcesses
from discue.server.signals import stop_asked, stop_told
from discue.server.worker import Worker, alone_on, prepare_process
from discue.server.worker_pipe import WorkerPipe, all_before


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
            return 0

        return WorkerProcesses(serve, settings, invocation.clock, invocation.log).run()


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
