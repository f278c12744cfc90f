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
from discue.cli.user.arguments import duration, positive
from discue.cli.user.command import connect_async, user_command
from discue.cli.user.waiting import warnings_shown

DATABASE_VARIABLE: Final = "DISCUE_OUTBOX_DATABASE"
_MAX_MESSAGES: Final = 100
_MOST_MESSAGES: Final = 1_000
_POLL_SECONDS: Final = 30.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def command() -> Command:
    return user_command(
        run,
        option(
            "--database URL",
            f"database of the application, such as postgresql://user@host/shop; default: {DATABASE_VARIABLE}, "
            "where other users of the machine do not see a password",
        ),
        option(
            "--max-messages N",
            f"messages in a request, at most {_MOST_MESSAGES:,}; default: {_MAX_MESSAGES}",
            positive,
            default=_MAX_MESSAGES,
        ),
        option(
            "--poll TIME",
            f"how often to look for messages that no commit has reported; default: {_POLL_SECONDS:.0f}s",
            duration,
            default=_POLL_SECONDS,
        ),
        description="Runs until Ctrl-C or SIGTERM, and finishes the requests in flight. It may be killed, and several "
        "may run: each message is published once. Needs an outbox: see the page Never lose an event.",
        has_json=False,
    )


def run(arguments: argparse.Namespace) -> None:
    database = arguments.database or os.environ.get(DATABASE_VARIABLE)
    if not database:
        raise UsageInvalid(f"The database is missing: give --database, or set {DATABASE_VARIABLE}.")
    if arguments.max_messages > _MOST_MESSAGES:
        raise UsageInvalid(f"--max-messages is {_MOST_MESSAGES:,} at most.")
    asyncio.run(_relay(arguments, database))


async def _relay(arguments: argparse.Namespace, database: str) -> None:
    from discue_client.outbox import Relay  # noqa: PLC0415 - `discue relay --help` does not wait for it

    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    async with connect_async(arguments) as client:
        relay = Relay(database, client, max_messages=arguments.max_messages, poll_seconds=arguments.poll)
        with warnings_shown(note):
            for number in _SIGNALS:
                loop.add_signal_handler(number, stopped.set)
            async with relay:
                note("Publishing the messages of the outbox. Ctrl-C stops.")
                await stopped.wait()
                # A second Ctrl-C does not wait for the requests in flight.
                for number in _SIGNALS:
                    loop.remove_signal_handler(number)
