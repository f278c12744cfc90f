"""`discue replay`: sends a part of a queue to a listener again."""

from __future__ import annotations

import argparse
from typing import Any

from discue.cli.user import jobs
from discue.cli.user.arguments import content_of, json_of, moment
from discue.cli.user.command import UsageInvalid, add_command
from discue.cli.verbs import Commands


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "replay",
        run,
        summary="send a part of a queue to a listener again",
        description="Shows first which messages these are, and asks. The service does the work: Ctrl-C ends only the "
        "progress that is shown.",
    )
    jobs.add_arguments(parser, "replay")
    parser.add_argument("--since", type=moment, metavar="TIME", help="from this time on, such as 2h")
    parser.add_argument("--from-message", metavar="ID", help="from this message on")
    parser.add_argument("--until", type=moment, metavar="TIME", help="up to this time; default: now")
    parser.add_argument("--until-message", metavar="ID", help="up to this message")
    parser.add_argument("--filter", metavar="JSON", help="filter that messages must pass; @FILE reads it from a file")


def run(arguments: argparse.Namespace) -> int | None:
    kind = jobs.JobKind("replay", "replays", "replay", _done)
    return jobs.run(arguments, kind, _selection)


def _done(found: Any) -> int:
    return int(found.counts.selected - found.counts.remaining)


def _selection(arguments: argparse.Namespace) -> dict[str, Any]:
    bounds = {
        "from_at": arguments.since,
        "from_message": arguments.from_message,
        "until_at": arguments.until,
        "until_message": arguments.until_message,
    }
    wanted: dict[str, Any] = {key: value for key, value in bounds.items() if value is not None}
    if ("from_at" in wanted) == ("from_message" in wanted):
        raise UsageInvalid("Say where it begins: with --since or with --from-message.")
    if arguments.filter is not None:
        wanted["filter"] = json_of(content_of(arguments.filter), "The filter")
    return wanted
