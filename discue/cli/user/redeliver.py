"""`discue redeliver`: sends missed messages of a listener again."""

from __future__ import annotations

import argparse
from typing import Any

from discue.cli.user import jobs
from discue.cli.user.arguments import moment
from discue.cli.user.command import UsageInvalid, add_command
from discue.cli.verbs import Commands

_REASONS = ("attempts_used_up", "expired", "final_status", "no_retry", "too_old")


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "redeliver",
        run,
        summary="send missed messages of a listener again",
        description="Shows first which messages these are, and asks. The service does the work: Ctrl-C ends only the "
        "progress that is shown.",
    )
    jobs.add_arguments(parser, "redeliver")
    parser.add_argument("--all", action="store_true", help="all missed messages")
    parser.add_argument(
        "--message", action="append", metavar="ID", help="this message, missed or acknowledged; can be repeated"
    )
    parser.add_argument("--reason", choices=_REASONS, help="only messages that were missed for this reason")
    parser.add_argument("--since", type=moment, metavar="TIME", help="only messages stored later, such as 2h")
    parser.add_argument("--until", type=moment, metavar="TIME", help="only messages stored earlier, such as 1h")


def run(arguments: argparse.Namespace) -> int | None:
    kind = jobs.JobKind("redeliver", "redeliveries", "redelivery", _done)
    return jobs.run(arguments, kind, _selection)


def _done(found: Any) -> int:
    return int(found.counts.redelivered + found.counts.gone)


def _selection(arguments: argparse.Namespace) -> dict[str, Any]:
    bounds = {"reason": arguments.reason, "created_after": arguments.since, "created_before": arguments.until}
    wanted = {key: value for key, value in bounds.items() if value is not None}
    if (arguments.all, bool(arguments.message), bool(wanted)).count(True) != 1:
        raise UsageInvalid("Select messages: with --all, with --message, or with --reason, --since and --until.")
    if arguments.all:
        return {"all": True}
    return {"messages": arguments.message} if arguments.message else {"filter": wanted}
