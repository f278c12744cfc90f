"""`discue redeliver` and `discue replay`: a preview, a question, and the progress of a job of the service."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from discue.cli.declarations import Argument, Command, option, repeated, switch
from discue.cli.exit_codes import FAILED, UsageInvalid
from discue.cli.output import note, say, say_json
from discue.cli.user.arguments import LISTENER, QUEUE, content_of, json_of, moment, name, positive
from discue.cli.user.command import connect, is_confirmed, until_interrupt, user_command

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client.models import DryRun, Listener, Redelivery, Replay

Select: TypeAlias = Callable[[argparse.Namespace], dict[str, Any]]
"""Returns the fields of a request that select the messages. Raises UsageInvalid."""

_REASONS: Final = ("attempts_used_up", "expired", "final_status", "no_retry", "too_old", "transform")
_STOPPED: Final = "stopped"
_ENDED: Final = frozenset({"done", _STOPPED})
_POLL_SECONDS: Final = 0.5
_CLEAR_LINE: Final = "\r\x1b[K"
_BAR: Final = 30


class JobKind(NamedTuple):
    """A kind of job, and the command for it."""

    verb: str
    """The command, which is also the word for its effect."""
    resources: str
    """The attribute of the client that has its requests."""
    resource: str
    """The field of a response that has the job."""
    done: Callable[[Any], int]
    """How many of the selected messages are finished with."""


def redeliver() -> Command:
    return _command(
        JobKind("redeliver", "redeliveries", "redelivery", lambda found: found.counts.redelivered + found.counts.gone),
        _redelivered,
        switch("--all", "all missed messages"),
        repeated("--message ID", "this message, missed or acknowledged; can be repeated", dest="messages"),
        option("--reason", "only messages that were missed for this reason", choices=_REASONS),
        option("--group ID", "only messages of this group, which `discue missed` lists", name),
        option("--trial N", "try N messages first, one by one; stop and exit with 1 at the first failure", positive),
        option("--since TIME", "only messages stored later, such as 2h", moment, dest="created_after"),
        option("--until TIME", "only messages stored earlier, such as 1h", moment, dest="created_before"),
    )


def replay() -> Command:
    return _command(
        JobKind("replay", "replays", "replay", lambda found: found.counts.selected - found.counts.remaining),
        _replayed,
        option("--since TIME", "from this time on, such as 2h", moment, dest="from_at"),
        option("--from-message ID", "from this message on"),
        option("--until TIME", "up to this time; default: now", moment, dest="until_at"),
        option("--until-message ID", "up to this message"),
        option("--filter JSON", "filter that messages must pass; @FILE reads it from a file"),
    )


def _command(kind: JobKind, select: Select, *arguments: Argument) -> Command:
    return user_command(
        partial(_run, kind, select),
        QUEUE,
        LISTENER,
        option("--pace N", "at most N messages a second; default: no limit", positive),
        switch("--dry-run", "show which messages it would be, and end"),
        switch("--yes", "start without asking"),
        switch("--detach", "end when the job has started"),
        option("--follow ID", f"show the progress of an earlier `discue {kind.verb}`", name),
        *arguments,
        description="Shows first which messages these are, and asks. The service does the work: Ctrl-C ends only the "
        "progress that is shown, and the command exits with 1.",
    )


def _redelivered(arguments: argparse.Namespace) -> dict[str, Any]:
    wanted = _given(arguments, "reason", "created_after", "created_before")
    selections = {
        "all": arguments.all,
        "messages": arguments.messages,
        "group": arguments.group,
        "filter": wanted,
    }
    chosen = {field: value for field, value in selections.items() if value}
    if len(chosen) != 1:
        choices = "--all, with --group, with --message, or with --reason, --since and --until"
        raise UsageInvalid(f"Select messages: with {choices}.")
    return chosen | _given(arguments, "trial")


def _replayed(arguments: argparse.Namespace) -> dict[str, Any]:
    wanted = _given(arguments, "from_at", "from_message", "until_at", "until_message")
    if ("from_at" in wanted) == ("from_message" in wanted):
        raise UsageInvalid("Say where it begins: with --since or with --from-message.")
    if arguments.filter is not None:
        wanted["filter"] = json_of(content_of(arguments.filter), "The filter")
    return wanted


def _given(arguments: argparse.Namespace, *fields: str) -> dict[str, Any]:
    return {field: value for field in fields if (value := getattr(arguments, field)) is not None}


def _run(kind: JobKind, select: Select, arguments: argparse.Namespace) -> int | None:
    """Preview, ask, start and follow a job. Returns the exit code."""
    selection = {} if arguments.follow else select(arguments)
    with connect(arguments) as client:
        if arguments.follow is None:
            return _start(arguments, kind, client, selection)
        return _progress(arguments, kind, client, arguments.follow)


def _start(arguments: argparse.Namespace, kind: JobKind, client: Discue, selection: dict[str, Any]) -> int | None:
    resources, place = getattr(client, kind.resources), (arguments.queue, arguments.listener)
    found: DryRun = resources.create(*place, dry_run=True, **selection).dry_run
    if arguments.dry_run and arguments.json:
        say_json({"dry_run": found})
        return None
    count = f"{found.selected:,} {'message' if found.selected == 1 else 'messages'}"
    bounds = f", from {found.first_message} to {found.last_message}" if found.selected else ""
    if found.first_message == found.last_message:
        bounds = f": {found.first_message}" if found.selected else ""
    listener = client.listeners.get(*place)
    # The preview of a replay includes the messages that its filter, or the listener, rejects.
    is_filtered = kind.verb == "replay" and bool(
        found.selected and (selection.get("filter") or listener.filter or listener.types)
    )
    shown = f"up to {count}" if is_filtered else count
    sentence = f"{shown} for the listener {arguments.listener}{bounds}."
    note(f"{sentence[0].upper()}{sentence[1:]}")
    if is_filtered:
        note("Only messages that match the types and filters are sent.")
    _warn(arguments, listener)
    if arguments.dry_run or not found.selected:
        return None
    if not (arguments.yes or is_confirmed(f"{kind.verb.capitalize()} {shown}?")):
        note("Nothing is changed.")
        return FAILED
    limits = {} if arguments.pace is None else {"pace": arguments.pace}
    started = getattr(resources.create(*place, **selection, **limits), kind.resource)
    if arguments.detach:
        _show_result(arguments, started)
        return None
    beginning = f"Started {started.id}. It continues after Ctrl-C."
    return _progress(arguments, kind, client, started.id, beginning=beginning)


def _warn(arguments: argparse.Namespace, listener: Listener) -> None:
    """Say why the listener receives nothing, or little, and how to enable it."""
    reason = f"The listener{listener.status_reason.removeprefix('It')}"
    if listener.status == "disabled":
        enable = f"discue listeners enable {arguments.queue} {arguments.listener}"
        note(f"{reason} Messages wait until you enable it: {enable}")
    elif listener.status_reason:
        note(f"{reason} Messages may wait.")


def _progress(
    arguments: argparse.Namespace, kind: JobKind, client: Discue, job_id: str, *, beginning: str = ""
) -> int | None:
    """Show the progress until the job is done, or until Ctrl-C, which leaves it to the service."""
    is_terminal = sys.stderr.isatty()
    found: Redelivery | Replay | None = None

    def follow() -> None:
        nonlocal found
        if beginning:
            note(beginning)
        while True:
            found = getattr(client, kind.resources).get(arguments.queue, arguments.listener, job_id)
            if found.state in _ENDED:
                break
            if is_terminal:
                sys.stderr.write(_CLEAR_LINE + _bar(kind.done(found), found.counts.selected))
                sys.stderr.flush()
            time.sleep(_POLL_SECONDS)

    until_interrupt(follow)
    if is_terminal:
        sys.stderr.write(_CLEAR_LINE)
        sys.stderr.flush()
    if found is not None and found.state in _ENDED:
        _show_result(arguments, found)
        return FAILED if found.state == _STOPPED else None
    place = f"{arguments.queue} {arguments.listener}"
    note(f"It goes on without this command. See it again: discue {kind.verb} {place} --follow {job_id}")
    return FAILED


def _bar(done: int, selected: int) -> str:
    share = min(done / max(selected, 1), 1.0)
    filled = round(share * _BAR)
    return f"[{'█' * filled}{'·' * (_BAR - filled)}] {done:,} of {selected:,}, {share:.0%}"


def _show_result(arguments: argparse.Namespace, found: Redelivery | Replay) -> None:
    if arguments.json:
        say_json({type(found).__name__.lower(): found})
        return
    named = ((field, getattr(found.counts, field)) for field in found.counts.__struct_fields__)
    counts = ", ".join(f"{value:,} {field}" for field, value in named if value)
    say(f"{found.id}  {found.state}: {counts or 'nothing'}")
    failure = getattr(found, "stopped_by", None)
    if failure is not None:
        note(f"The trial failed ({failure.reason}, status {failure.status}): {failure.text}")
