"""`discue demo`: a service with the traffic of a shop, to look at the dashboard."""

import asyncio
import dataclasses
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Final

import uvloop

from discue import __version__
from discue.cli.command import Invocation, add_command, completed
from discue.cli.dev import require_cleartext
from discue.cli.output import say
from discue.cli.serve import serving, until_stopped
from discue.cli.verbs import Commands
from discue.config.addresses import reachable
from discue.config.settings import Settings
from discue.control.organizations import ensure_operator
from discue.control.sign_in import one_time_code
from discue.domain.egress import EgressPolicy
from discue.domain.errors import SettingsInvalid
from discue.server.http import Address, held_port
from discue.server.installation import open_installation
from discue.server.machine import Machine
from discue.server.process import prepare_process
from discue.server.signals import stop_on_signal
from discue.server.worker import Worker

if TYPE_CHECKING:
    from discue.cli.demonstration.traffic import History, Traffic
    from discue_client import AsyncDiscue

BASE: Final = {
    "allow_private_targets": "true",
    "attempt_details": "all",
    "drain_timeout_seconds": "1",
    "log_level": "error",
    "organization": "com.example.shop",
    "rate_limit": "0",
}

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only a folder with a random name in it is used
_LONGEST_HISTORY_HOURS: Final = 72
_FASTEST: Final = 200.0
_SPEED: Final = 0.05
"""Twice the rate of the simulated day at its busiest: the page moves, and the charts of the day keep their shape."""


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        run,
        summary="show the dashboard of a shop with a day of traffic and some problems",
        description="Makes a new database, which is deleted at the end unless the setting `database` names another "
        "one, and prints a link to the dashboard, signed in. The endpoints of the shop are part of the demo: it sends "
        "requests to this machine only.",
        base=BASE,
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=_SPEED,
        metavar="N",
        help=f"Messages published per second. 0: none. Default: {_SPEED}, which is {_SPEED * 60:.0f} per minute.",
    )
    parser.add_argument(
        "--hours", type=int, default=24, metavar="N", help="Hours of traffic before the start. Default: 24."
    )


def run(invocation: Invocation) -> None:
    arguments, settings = invocation.arguments, invocation.settings
    if not 0 <= arguments.speed <= _FASTEST:
        arguments.parser.error(f"--speed must be from 0 to {_FASTEST:.0f}")
    if not 0 <= arguments.hours <= _LONGEST_HISTORY_HOURS:
        arguments.parser.error(f"--hours must be from 0 to {_LONGEST_HISTORY_HOURS}")
    require_cleartext(settings)
    prepare_process()
    with held_port(Address(settings.host, settings.port)) as port:
        _run(dataclasses.replace(invocation, settings=dataclasses.replace(settings, port=port)))


def _run(invocation: Invocation) -> None:
    settings = dataclasses.replace(invocation.settings, role="all", dashboard_port=None)
    if settings.database != Settings().database:
        uvloop.run(_show(dataclasses.replace(invocation, settings=settings), "Data is stored in " + settings.database))
        return
    with tempfile.TemporaryDirectory(prefix="discue-demo-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        settings = dataclasses.replace(settings, database=f"sqlite:///{folder}/discue.db")
        uvloop.run(_show(dataclasses.replace(invocation, settings=settings), "Its data is deleted at the end"))


async def _show(invocation: Invocation, place: str) -> None:
    # Imported here: other commands do without them.
    from discue.cli.demonstration import shop  # noqa: PLC0415
    from discue.cli.demonstration.endpoints import HOUR_MS, LoopbackResolver, ShopSender  # noqa: PLC0415
    from discue.cli.demonstration.traffic import History, Traffic  # noqa: PLC0415
    from discue.sending.response import SenderLimits  # noqa: PLC0415
    from discue.testing.clock import MovableClock  # noqa: PLC0415
    from discue_client import AsyncDiscue  # noqa: PLC0415

    arguments, settings, log = invocation.arguments, invocation.settings, invocation.log
    stop = stop_on_signal(log)
    clock = MovableClock(-arguments.hours * HOUR_MS)
    clock.freeze()
    url = Address(reachable(settings.host), settings.port).url
    async with open_installation(settings, clock, log) as control:
        organization, key = await ensure_operator(control, settings.organization, settings.bootstrap_key)
        if key is None:
            raise SettingsInvalid("database: the demo needs a new database. Name one that does not exist yet.")
        limits = SenderLimits(connect_timeout_ms=settings.connect_timeout_seconds * 1_000)
        public = EgressPolicy(allow_private=True)
        sender = ShopSender(clock, limits, policy=control.egress, details="all", public=public)
        sender.started_at = invocation.clock.now()
        worker = Worker(control, log, sender=sender, machine=Machine(resolve=LoopbackResolver()))
        async with serving(invocation, worker) as server, AsyncDiscue(url, key) as client:
            say(f"discue {__version__} lives through {arguments.hours} hours of a shop …")
            password = secrets.token_urlsafe(9)
            traffic = Traffic(client)
            history = History(worker.activity, clock, sender, traffic)
            if not await completed(_live_through(history, client, sender.started_at, password), stop):
                return
            await history.advance_to(invocation.clock.now())
            await shop.begin_long_jobs(
                client,
                redelivered_from=sender.started_at - HOUR_MS,
                replayed_from=sender.started_at - arguments.hours * HOUR_MS // 2,
            )
            clock.unfreeze()
            sender.is_live = True
            code = await one_time_code(control, organization.id)
            say(_welcome(url, key, f"{url}/dashboard/open?code={code}", place=place, password=password))
            async with _live(traffic, arguments.speed):
                await until_stopped(stop, server)
            say("Stopping.")


async def _live_through(history: "History", client: "AsyncDiscue", until: int, password: str) -> None:
    """Open the shop, and live through its past up to a time in milliseconds since the epoch."""
    from discue.cli.demonstration import shop  # noqa: PLC0415
    from discue.cli.demonstration.endpoints import HOUR_MS  # noqa: PLC0415

    await shop.open_shop(client)
    await history.live_until(until - HOUR_MS)
    await shop.let_people_in(client, password)
    await shop.redeliver_rejected(client)
    await history.live_until(until - HOUR_MS // 2)
    await shop.publish_blocked_invoices(client)
    await history.live_until(until)


@asynccontextmanager
async def _live(traffic: "Traffic", per_second: float) -> AsyncIterator[None]:
    """Let the traffic go on while the block runs."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(traffic.consume_forever())]
        if per_second:
            tasks.append(group.create_task(traffic.publish_forever(per_second)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def _welcome(url: str, key: str, dashboard: str, *, place: str, password: str) -> str:
    """Return the text shown once the past is lived through."""
    from discue.cli.demonstration.shop import USERS  # noqa: PLC0415

    users = "\n".join(f"  {user.email:<22} {user.role}" for user in USERS)
    return (
        dedent(f"""
        The shop is open at {url}. {place}. Press Ctrl-C to stop.

        Dashboard: {dashboard}

        The link signs in once, within a minute. Afterwards, sign in with the
        password {password} as one of these users:

        """)
        + users
        + f"\n\nAPI key: {key}\n"
    )
