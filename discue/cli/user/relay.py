"""`discue relay`: publishes the messages of an outbox in the database of an application."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from typing import Final

from discue.cli.declarations import Command, option
from discue.cli.exit_codes import UsageInvalid
from discue.cli.output import note
from discue.cli.user.command import connect_async, user_command, warnings_shown

DATABASE_VARIABLE: Final = "DISCUE_OUTBOX_DATABASE"
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def command() -> Command:
    return user_command(
        run,
        option(
            "--database URL",
            f"database of the application, such as postgresql://user@host/shop; default: {DATABASE_VARIABLE}, "
            "where other users of the machine do not see a password",
        ),
        description="Runs until Ctrl-C or SIGTERM, and finishes the requests in flight. It may be killed, and several "
        "may run: each message is published once. Needs an outbox: see the page Never lose an event.",
        has_json=False,
    )


def run(arguments: argparse.Namespace) -> None:
    database = arguments.database or os.environ.get(DATABASE_VARIABLE)
    if not database:
        raise UsageInvalid(f"The database is missing: give --database, or set {DATABASE_VARIABLE}.")
    asyncio.run(_relay(arguments, database))


async def _relay(arguments: argparse.Namespace, database: str) -> None:
    from discue_client.outbox import Relay  # noqa: PLC0415 - `discue relay --help` does not wait for it

    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    async with connect_async(arguments) as client:
        with warnings_shown(note):
            for number in _SIGNALS:
                loop.add_signal_handler(number, stopped.set)
            async with Relay(database, client):
                note("Publishing the messages of the outbox. Ctrl-C stops.")
                await stopped.wait()
                # A second Ctrl-C does not wait for the requests in flight.
                for number in _SIGNALS:
                    loop.remove_signal_handler(number)
