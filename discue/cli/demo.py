"""`discue demo`: a service with the traffic of a shop, to look at the dashboard."""

from dataclasses import replace
from typing import Final

import uvloop

from discue.cli.command import Invocation, operator_command
from discue.cli.declarations import Command, option
from discue.cli.dev import require_cleartext
from discue.config.settings import Settings
from discue.server.process import prepare_process

BASE: Final = {
    "allow_private_targets": "true",
    "attempt_details": "all",
    "drain_timeout_seconds": "1",
    "log_level": "error",
    "organization": "com.example.shop",
    "rate_limit": "0",
}

_LONGEST_HISTORY_HOURS: Final = 72
_FASTEST: Final = 200.0
_SPEED: Final = 0.05
"""Twice the rate of the simulated day at its busiest: the page moves, and the charts of the day keep their shape."""


def command() -> Command:
    return operator_command(
        "demo",
        run,
        option(
            "--speed N",
            f"Messages published per second. 0: none. Default: {_SPEED}, which is {_SPEED * 60:.0f} per minute.",
            float,
            default=_SPEED,
        ),
        option("--hours N", "Hours of traffic before the start. Default: 24.", int, default=24),
        description="Makes a new database, which is deleted at the end unless the setting `database` names another "
        "one, and prints a link to the dashboard, signed in. The endpoints of the shop are part of the demo: it sends "
        "requests to this machine only.",
        base=BASE,
    )


def run(invocation: Invocation) -> None:
    # Other commands do without the test kit and the client.
    from discue.cli.demo_shop import show  # noqa: PLC0415
    from discue.testing.server import temporary_folder  # noqa: PLC0415

    arguments, settings = invocation.arguments, invocation.settings
    if not 0 <= arguments.speed <= _FASTEST:
        arguments.parser.error(f"--speed must be from 0 to {_FASTEST:.0f}")
    if not 0 <= arguments.hours <= _LONGEST_HISTORY_HOURS:
        arguments.parser.error(f"--hours must be from 0 to {_LONGEST_HISTORY_HOURS}")
    require_cleartext(settings)
    prepare_process()
    with temporary_folder() as folder:
        settings, place = replace(settings, role="all", dashboard_port=None), f"Data is stored in {settings.database}"
        if settings.database == Settings().database:
            settings = replace(settings, database=f"sqlite:///{folder}/discue.db")
            place = "Its data is deleted at the end"
        uvloop.run(show(replace(invocation, settings=settings), place))
