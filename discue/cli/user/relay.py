"""`discue relay`: publishes the messages of an outbox in the database of an application."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from typing import Final

from discue.cli.output import note
from discue.cli.user.arguments import duration, positive
from discue.cli.user.command import UsageInvalid, add_command, connect_async
from discue.cli.user.waiting import warnings_shown
from discue.cli.verbs import Commands

DATABASE_VARIABLE: Final = "DISCUE_OUTBOX_DATABASE"
_MAX_MESSAGES: Final = 100
_MOST_MESSAGES: Final = 1_000
_POLL_SECONDS: Final = 30.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "relay",
        run,
        summary="publish the messages that an application stores in the outbox of its database",
        description="Runs until Ctrl-C or SIGTERM, and finishes the requests in flight. It may be killed, and several "
        "may run: each message is published once. Needs an outbox: see the page Never lose an event.",
        has_json=False,
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help=f"database of the application, such as postgresql://user@host/shop; default: {DATABASE_VARIABLE}, "
        "where other users of the machine do not see a password",
    )
    parser.add_argument(
        "--max-messages",
        type=positive,
        default=_MAX_MESSAGES,
        metavar="N",
        help=f"messages in a request, at most {_MOST_MESSAGES:,}; default: {_MAX_MESSAGES}",
    )
    parser.add_argument(
        "--poll",
        type=duration,
        default=_POLL_SECONDS,
        metavar="TIME",
        help=f"how often to look for messages that no commit has reported; default: {_POLL_SECONDS:.0f}s",
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
