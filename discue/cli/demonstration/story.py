"""The story of the shop: its past on a clock that is moved, and its present."""

import asyncio
import secrets
from functools import partial
from textwrap import dedent

from discue import __version__
from discue.cli.command import Invocation
from discue.cli.demonstration import shop
from discue.cli.demonstration.endpoints import HOUR_MS, ShopSender, resolve_loopback
from discue.cli.demonstration.traffic import Traffic
from discue.cli.output import say
from discue.cli.serve import until_stopped
from discue.server.machine import Machine
from discue.server.signals import completed, stop_on_signal
from discue.testing.clock import MovableClock
from discue.testing.server import running
from discue_client import AsyncDiscue


async def show(invocation: Invocation, place: str) -> None:
    """Serve a shop until a signal comes. `place` says where its data is. Raises SettingsInvalid for a used database."""
    arguments, log = invocation.arguments, invocation.log
    stop = stop_on_signal(log)
    started_at, length_ms = invocation.clock.now(), arguments.hours * HOUR_MS
    clock = MovableClock(-length_ms)
    clock.freeze()
    make_sender = partial(ShopSender, started_at=started_at)
    machine = Machine(resolve=resolve_loopback)
    async with (
        running(invocation.settings, log, clock=clock, make_sender=make_sender, machine=machine) as server,
        AsyncDiscue(server.url, server.key) as client,
    ):
        say(f"discue {__version__} lives through {arguments.hours} hours of a shop …")
        password = secrets.token_urlsafe(9)
        traffic = Traffic(client, server.timeline)
        if not await completed(_live_through(client, traffic, started_at, password=password), stop):
            return
        await server.timeline.pass_until(invocation.clock.now())
        clock.unfreeze()
        await shop.begin_long_jobs(client, started_at - HOUR_MS, started_at - length_ms // 2)
        dashboard = f"{server.url}/dashboard/open?code={await server.sign_in_code()}"
        say(_welcome(server.url, server.key, dashboard, place=place, password=password))
        async with asyncio.TaskGroup() as group:
            going_on = group.create_task(traffic.go_on(arguments.speed))
            await until_stopped(stop, server)
            going_on.cancel()
        say("Stopping.")


async def _live_through(client: AsyncDiscue, traffic: Traffic, until: int, *, password: str) -> None:
    """Open the shop, and live through its past up to a time in milliseconds since the epoch."""
    await shop.open_shop(client)
    await traffic.live_until(until - HOUR_MS)
    await shop.let_people_in(client, password)
    await shop.redeliver_rejected(client)
    await traffic.live_until(until - HOUR_MS // 2)
    await shop.publish_blocked_invoices(client)
    await traffic.live_until(until)


def _welcome(url: str, key: str, dashboard: str, *, place: str, password: str) -> str:
    """Return the text shown once the past is lived through."""
    start = dedent(f"""
        The shop is open at {url}. {place}. Press Ctrl-C to stop.

        Dashboard: {dashboard}

        The link signs in once, within a minute. Afterwards, sign in with the
        password {password} as one of these users:

        """)
    users = "\n".join(f"  {email:<22} {role}" for email, role in shop.USERS.items())
    return f"{start}{users}\n\nAPI key: {key}\n"
