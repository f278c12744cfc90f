"""`discue serve` serves the API and delivers messages, with one or several processes; `discue init` prepares it."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from discue import __version__
from discue.cli.command import Invocation, exit_code_of, operator_command
from discue.cli.declarations import JSON, Command
from discue.cli.exit_codes import FINE
from discue.cli.output import say, say_data
from discue.cli.tls import certificate_files, require_valid_certificate
from discue.config.settings import Settings
from discue.control.context import ControlContext
from discue.control.encryption import NO_KEY, ensure_encryption, lacks_key
from discue.control.organizations import ensure_operator
from discue.domain.errors import DiscueError, SettingsInvalid
from discue.domain.model import Organization
from discue.observability.logs import Log
from discue.observability.span_export import traced
from discue.product import edge
from discue.server.http import Address, HttpServer, held_port
from discue.server.installation import Machine, inspect_database, open_installation
from discue.server.metrics import PATH as METRICS_PATH
from discue.server.metrics import MetricsApplication, WorkerMetrics, measured
from discue.server.process import (
    alone_on,
    collections_measured,
    freeze_memory,
    lacks_room,
    prepare_process,
    wait_for_room,
)
from discue.server.processes import WorkerPipe, WorkerProcesses, all_predecessors
from discue.server.sd_notify import ServiceManager, beating
from discue.server.signals import completed, stop_on_signal, stop_with_parent
from discue.server.worker import Worker, served
from discue.store.sqlite.siblings import SiblingSockets

_METRICS_CONNECTIONS: Final = 64
_DASHBOARD_CONNECTIONS: Final = 1_000
"""A worker has 500 streams of events; the rest is for pages."""
_GRACE_SECONDS: Final = 1.0
"""For requests in flight of servers that serve no API."""


def command() -> Command:
    return operator_command(
        "serve",
        run,
        description="If the database is empty, creates the operator's organization and prints its first API key once. "
        "SIGTERM or Ctrl-C waits for requests in flight and exits; another one after more than a second exits at once.",
    )


def init() -> Command:
    return operator_command("init", _init, JSON, description="Does nothing if an organization already exists.")


def run(invocation: Invocation) -> int:
    prepare_process()
    settings = invocation.settings
    require_valid_certificate(settings)
    # The ports come first: a start that cannot listen must not create a database, or print a key that is shown once.
    with _held_ports(settings) as settings:
        invocation = replace(invocation, settings=settings)
        database = settings.database_path
        if database is not None and lacks_room(database) and not uvloop.run(_has_room(invocation.log, database)):
            return FINE
        with alone_on(database):
            if settings.workers > 1:
                return _run_several(invocation)
            uvloop.run(_serve(invocation))
    return FINE


@contextmanager
def _held_ports(settings: Settings) -> Iterator[Settings]:
    """Reserve the ports, which several workers share. Yields the settings with the ports that were chosen for 0."""
    with ExitStack() as held:
        settings = replace(settings, port=held.enter_context(held_port(Address(settings.host, settings.port))))
        if settings.metrics_port is not None:
            metrics = _metrics_address(settings, settings.metrics_port)
            settings = replace(settings, metrics_port=held.enter_context(held_port(metrics)))
        if settings.dashboard_port is not None:
            dashboard = _dashboard_address(settings, settings.dashboard_port)
            settings = replace(settings, dashboard_port=held.enter_context(held_port(dashboard)))
        yield settings


def _metrics_address(settings: Settings, port: int) -> Address:
    return Address(settings.metrics_host, port, shared=True, settings="metrics_host, metrics_port")


def _dashboard_address(settings: Settings, port: int, cert: Path | None = None, key: Path | None = None) -> Address:
    names = "dashboard_host, dashboard_port"
    return Address(settings.dashboard_host, port, cert, key, shared=True, settings=names)


async def _has_room(log: Log, database: Path) -> bool:
    return await wait_for_room(database, log, stop_on_signal(log))


def _run_several(invocation: Invocation) -> int:
    """Serve with several workers. The parent creates the certificate that they share."""
    settings = invocation.settings
    with certificate_files(settings, invocation.clock) as files:
        shared = replace(settings, tls_cert=files.cert, tls_key=files.key, tls_self_signed=False)

        def serve(pipe: WorkerPipe) -> int:
            # An error of a worker is printed by its own process: the parent learns the exit code only.
            return exit_code_of(lambda: uvloop.run(_serve(replace(invocation, settings=shared), pipe)))

        manager = ServiceManager(os.environ, invocation.log)
        return WorkerProcesses(serve, settings, invocation.clock, invocation.log, manager=manager).run()


async def _serve(invocation: Invocation, pipe: WorkerPipe | None = None) -> None:
    """Serve: as one of several workers if there is a `pipe` to their parent."""
    settings, log = invocation.settings, invocation.log
    stop = stop_on_signal(log) if pipe is None else stop_with_parent(log, pipe.parent_pipe)
    reports = pipe is None or pipe.number == 1
    await _require_key(settings)
    siblings = None if pipe is None else SiblingSockets(pipe.folder, pipe.number, settings.workers)
    async with (
        open_installation(settings, invocation.clock, log, Machine(siblings=siblings)) as control,
        traced(os.environ, log, control.clock, control.random_bytes, reports=reports) as tracer,
    ):
        await ensure_encryption(control, log)
        organization, key = await _ensured(control)
        if key is not None:
            say(_announcement(organization, key))
        worker = Worker(
            control,
            log,
            edge(),
            predecessors=all_predecessors(settings) if pipe is None else pipe.predecessors,
            tracer=tracer,
            announce=None if pipe is None else pipe.report_session_id,
        )
        fields = {} if pipe is None else {"worker": pipe.number}
        async with _metrics_served(settings, worker, pipe), serving(invocation, worker, **fields) as server:
            if pipe is None:
                reporting = ServiceManager(os.environ, log).informed(lambda: worker.readiness.obstacle)
            else:
                pipe.report_serving()
                reporting = beating(pipe.beat_seconds, pipe.report_beat)
            async with reporting:
                await until_stopped(stop, server.ended())


@asynccontextmanager
async def _metrics_served(settings: Settings, worker: Worker, pipe: WorkerPipe | None) -> AsyncIterator[None]:
    """Serve the metrics of the worker, and of workers with the same parent process, as configured."""
    if settings.metrics_port is None and settings.metrics_key is None:
        yield
        return
    number, folder = (1, None) if pipe is None else (pipe.number, pipe.folder)
    metrics = WorkerMetrics(partial(measured, worker), number=number, folder=folder)
    if settings.metrics_key is not None:
        worker.application = MetricsApplication(metrics, key=settings.metrics_key, others=worker.application)
    async with AsyncExitStack() as stack:
        await metrics.start()
        stack.push_async_callback(metrics.stop)
        stack.enter_context(collections_measured(worker.control.store.measures))
        if settings.metrics_port is not None:
            application = MetricsApplication(metrics, key=settings.metrics_key)
            address = _metrics_address(settings, settings.metrics_port)
            server = HttpServer(application, address, max_connections=_METRICS_CONNECTIONS, log=worker.log)
            await server.start()
            stack.push_async_callback(server.stop, _GRACE_SECONDS)
            worker.log.info("metrics_served", url=f"{server.address.url}{METRICS_PATH}")
        yield


async def until_stopped(stop: asyncio.Event, ended: Coroutine[Any, Any, None]) -> None:
    """Return when `stop` is set. Raises DiscueError if `ended` returns first, because the server has ended."""
    if await completed(ended, stop) and not stop.is_set():
        raise DiscueError("The HTTP server ended unexpectedly.")


@asynccontextmanager
async def serving(invocation: Invocation, worker: Worker, /, **fields: object) -> AsyncIterator[HttpServer]:
    """Serve the worker at its address, with TLS if configured, and drain it at the end. `fields` is added to log lines.

    The caller reserves the port (`held_port`). Raises SettingsInvalid if the TLS files are invalid.
    """
    settings = invocation.settings
    async with AsyncExitStack() as stack:
        with certificate_files(settings, invocation.clock) as files:
            address = Address(settings.host, settings.port, files.cert, files.key, shared=True)
            server = await stack.enter_async_context(served(worker, address))
            if worker.dashboard is not None and settings.dashboard_port is not None:
                own = _dashboard_address(settings, settings.dashboard_port, files.cert, files.key)
                dashboard = HttpServer(
                    worker.dashboard,
                    own,
                    max_connections=min(settings.max_connections, _DASHBOARD_CONNECTIONS),
                    trusted_proxies=settings.trusted_proxies,
                    log=worker.log,
                )
                await dashboard.start()
                stack.push_async_callback(dashboard.stop, _GRACE_SECONDS)
                invocation.log.info("dashboard_served", url=f"{own.url}/dashboard")
        freeze_memory()
        invocation.log.info(
            "server_started",
            version=__version__,
            url=server.address.url,
            database=settings.database_shown,
            role=settings.role,
            pid=os.getpid(),
            **fields,
        )
        yield server
    invocation.log.info("server_stopped", **fields)


async def _require_key(settings: Settings) -> None:
    """Raise SettingsInvalid if a key is needed but not set, before tables are created in an empty database."""
    if lacks_key(settings) and not (await inspect_database(settings)).version:
        raise SettingsInvalid(NO_KEY)


async def _init(invocation: Invocation) -> None:
    await _require_key(invocation.settings)
    async with open_installation(invocation.settings, invocation.clock, invocation.log) as control:
        await ensure_encryption(control, invocation.log)
        organization, key = await _ensured(control)
    if invocation.arguments.json:
        shown = {"id": organization.public_id, "alias": organization.alias}
        say_data({"organization": shown, "api_key": key})
    elif key is not None:
        say(_announcement(organization, key))
    else:
        say(f"The operator's organization is {organization.alias}.")


async def _ensured(control: ControlContext) -> tuple[Organization, str | None]:
    """Return the organization, and its first key if this call created a random one."""
    settings = control.settings
    organization, key = await ensure_operator(control, settings.organization, settings.bootstrap_key)
    return organization, key if settings.bootstrap_key is None else None


def _announcement(organization: Organization, key: str) -> str:
    return f"The operator's organization is {organization.alias}. Its first API key, shown only once:\n{key}"
