"""The process that is measured: the product as `discue serve` composes it, and one more route to compare with."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import uvloop

from discue.api.route import GET, Call, RawResponse, Route
from discue.cli.serve import until_stopped
from discue.cli.tls import certificate_files
from discue.config.settings import Settings
from discue.control.context import ControlContext
from discue.control.organizations import ensure_operator
from discue.dashboard.users.sign_in import one_time_code
from discue.dispatch.ownership import Predecessors
from discue.domain.clock import SystemClock
from discue.domain.reservations import FEW_ROWS
from discue.observability import logs
from discue.observability.logs import Log
from discue.observability.metrics import exposition
from discue.product import ROUTES, edge
from discue.server.http import Address
from discue.server.installation import open_installation
from discue.server.metric_table import METRICS, snapshot_of
from discue.server.process import freeze_memory, prepare_process
from discue.server.signals import stop_on_signal
from discue.server.worker import Worker, served
from discue.store import organizations

_PUBLISH = "/queues/{queue_id}/messages"


class Echoed(msgspec.Struct, frozen=True):
    """The constant that `echo` answers."""

    status: str = "fine"


async def echo(_call: Call) -> Echoed:
    return Echoed()


def echo_route() -> Route:
    """Takes the same body as publishing does."""
    publish = next(route for route in ROUTES if route.path == _PUBLISH and "POST" in route.methods)
    return Route(
        methods=("POST",),
        path="/echo",
        handler=echo,
        request=publish.request,
        response=Echoed,
        needs=None,
        reads=FEW_ROWS,
    )


def scrape_route(worker: Callable[[], Worker]) -> Route:
    """Returns the metrics, as a scrape gets them."""

    async def scrape(_call: Call) -> RawResponse:
        return RawResponse(exposition(METRICS, {"1": snapshot_of(worker())}, openmetrics=True))

    return Route(
        methods=GET,
        path="/scrape",
        handler=scrape,
        needs=None,
        reads=FEW_ROWS,
        media_type="application/openmetrics-text",
    )


class SignInCode(msgspec.Struct, frozen=True):
    """Signs a browser in."""

    code: str


def code_route(installation: ControlContext) -> Route:
    """Returns a one-time code for the dashboard, as `discue dev` prints one."""

    async def code(_call: Call) -> SignInCode:
        organization = await installation.store.read(organizations.operator)
        assert organization is not None
        return SignInCode(await one_time_code(installation, organization.id))

    return Route(methods=GET, path="/code", handler=code, response=SignInCode, needs=None, reads=FEW_ROWS)


def settings_for(database: str, key: str) -> Settings:
    """The defaults, on loopback, delivering to loopback, without a limit. `database` is its address."""
    return Settings(
        database=database,
        port=0,
        allow_private_targets=True,
        bootstrap_key=key,
        log_level="warning",
        rate_limit=0,
        address_rate_limit=0,
    )


@asynccontextmanager
async def founded(settings: Settings) -> AsyncIterator[ControlContext]:
    """The installation, with an operator's organization whose key is known."""
    async with open_installation(settings, SystemClock(), Log()) as installation:
        await ensure_operator(installation, settings.organization, settings.bootstrap_key)
        yield installation


async def _serve(settings: Settings) -> None:
    stop = stop_on_signal(Log())
    # The input is a pipe that nothing is written to: there is something to read when it was closed.
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    async with founded(settings) as installation:
        # On a file nobody else can be: whoever was there before is gone.
        predecessors: Predecessors = () if settings.database_path is None else "all"
        routes = [echo_route(), scrape_route(lambda: worker), code_route(installation)]
        worker = Worker(installation, Log(), edge(routes=routes), predecessors=predecessors)
        with certificate_files(settings, SystemClock()) as files:
            address = Address(settings.host, settings.port, files.cert, files.key)
            async with served(worker, address) as server:
                freeze_memory()
                _say({"port": server.address.port, "session_id": worker.lease.session.id})
                await until_stopped(stop, server.ended())
                asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


def _say(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    settings = settings_for(sys.argv[1], sys.argv[2])
    settings = replace(settings, **msgspec.json.decode(sys.argv[3]))
    logs.configure("text", settings.log_level, SystemClock(), sys.stderr)
    prepare_process()
    uvloop.run(_serve(settings))


if __name__ == "__main__":
    main()
