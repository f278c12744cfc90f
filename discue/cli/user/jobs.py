"""Redeliveries and replays: a preview, a question, and the progress of a job that belongs to the service."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from discue.cli.exit_codes import FAILED
from discue.cli.output import note, say, say_json
from discue.cli.user.arguments import name, positive
from discue.cli.user.command import connect, is_confirmed
from discue.cli.user.interrupts import interrupts, until_interrupt

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client._sync.resources import Redeliveries, Replays
    from discue_client.models import DryRun, Listener, Redelivery, Replay

_DONE: Final = "done"
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


class _Job:
    """The requests for a job."""

    def __init__(self, client: Discue, kind: JobKind, arguments: argparse.Namespace) -> None:
        self.kind = kind
        self._client = client
        self._resources: Redeliveries | Replays = getattr(client, kind.resources)
        self._place = (arguments.queue, arguments.listener)
        self._options = {} if arguments.pace is None else {"pace": arguments.pace}

    def preview(self, selection: Mapping[str, Any]) -> DryRun:
        queue, listener = self._place
        found = self._resources.create(queue, listener, dry_run=True, **selection).dry_run
        assert found is not None  # noqa: S101 - a dry run has no other result
        return found

    def listener(self) -> Listener:
        return self._client.listeners.get(*self._place)

    def start(self, selection: Mapping[str, Any]) -> Redelivery | Replay:
        queue, listener = self._place
        created = self._resources.create(queue, listener, **selection, **self._options)
        found: Redelivery | Replay = getattr(created, self.kind.resource)
        return found

    def get(self, job_id: str) -> Redelivery | Replay:
        return self._resources.get(*self._place, job_id)


def add_arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("queue", type=name, help="alias or id of the queue")
    parser.add_argument("listener", type=name, help="alias or id of the listener")
    parser.add_argument("--pace", type=positive, metavar="N", help="at most N messages a second; default: no limit")
    parser.add_argument("--dry-run", action="store_true", help="show which messages it would be, and end")
    parser.add_argument("--yes", action="store_true", help="start without asking")
    parser.add_argument("--detach", action="store_true", help="end when the job has started")
    parser.add_argument("--follow", metavar="ID", type=name, help=f"show the progress of an earlier `discue {verb}`")


def run(
    arguments: argparse.Namespace, kind: JobKind, select: Callable[[argparse.Namespace], Mapping[str, Any]]
) -> int | None:
    """Preview, ask, start and follow a job. Returns the exit code."""
    selection = {} if arguments.follow else select(arguments)
    with connect(arguments) as client:
        job = _Job(client, kind, arguments)
        return (
            _start(arguments, job, selection)
            if arguments.follow is None
            else _progress(arguments, job, arguments.follow)
        )


def _start(arguments: argparse.Namespace, job: _Job, selection: Mapping[str, Any]) -> int | None:
    found = job.preview(selection)
    if arguments.dry_run and arguments.json:
        say_json({"dry_run": found})
        return None
    count = f"{found.selected:,} {'message' if found.selected == 1 else 'messages'}"
    bounds = f", from {found.first_message} to {found.last_message}" if found.selected else ""
    if found.first_message == found.last_message:
        bounds = f": {found.first_message}" if found.selected else ""
    listener = job.listener()
    # The preview of a replay includes the messages that its filter, or that of the listener, rejects.
    is_filtered = job.kind.verb == "replay" and bool(found.selected and (selection.get("filter") or listener.filter))
    shown = f"up to {count}" if is_filtered else count
    sentence = f"{shown} for the listener {arguments.listener}{bounds}."
    note(f"{sentence[0].upper()}{sentence[1:]}")
    if is_filtered:
        note("Only messages that the filter selects are sent.")
    _warn(arguments, listener)
    if arguments.dry_run or not found.selected:
        return None
    if not (arguments.yes or is_confirmed(f"{job.kind.verb.capitalize()} {shown}?")):
        note("Nothing is changed.")
        return FAILED
    with interrupts() as interrupted:
        started = job.start(selection)
        if arguments.detach:
            _show_result(arguments, started)
            return None
        note(f"Started {started.id}. Ctrl-C leaves it to the service.")
        return _progress(arguments, job, started.id, interrupted.is_set)


def _warn(arguments: argparse.Namespace, listener: Listener) -> None:
    """Say why the listener receives nothing, or little, and how to enable it."""
    reason = f"The listener{listener.status_reason.removeprefix('It')}"
    if listener.status == "disabled":
        enable = f"discue listeners enable {arguments.queue} {arguments.listener}"
        note(f"{reason} Messages wait until you enable it: {enable}")
    elif listener.status_reason:
        note(f"{reason} Messages may wait.")


def _progress(
    arguments: argparse.Namespace, job: _Job, job_id: str, is_interrupted: Callable[[], bool] = lambda: False
) -> int | None:
    """Show the progress until the job is done, or until Ctrl-C, which leaves it to the service."""
    is_terminal = sys.stderr.isatty()
    found: Redelivery | Replay | None = None

    def follow() -> None:
        nonlocal found
        while not is_interrupted():
            found = job.get(job_id)
            if found.state == _DONE:
                break
            if is_terminal:
                sys.stderr.write(_CLEAR_LINE + _bar(job.kind.done(found), found.counts.selected))
                sys.stderr.flush()
            time.sleep(_POLL_SECONDS)

    until_interrupt(follow)
    if is_terminal:
        sys.stderr.write(_CLEAR_LINE)
        sys.stderr.flush()
    if found is not None and found.state == _DONE:
        _show_result(arguments, found)
        return None
    place = f"{arguments.queue} {arguments.listener}"
    note(f"It goes on without this command. See it again: discue {job.kind.verb} {place} --follow {job_id}")
    return FAILED


def _bar(done: int, selected: int) -> str:
    share = min(done / max(selected, 1), 1.0)
    filled = round(share * _BAR)
    return f"[{'█' * filled}{'·' * (_BAR - filled)}] {done:,} of {selected:,}, {share:.0%}"


def _show_result(arguments: argparse.Namespace, found: Redelivery | Replay) -> None:
    import msgspec  # noqa: PLC0415 - imported with the client

    if arguments.json:
        say_json({type(found).__name__.lower(): found})
        return
    counts = ", ".join(f"{value:,} {name_}" for name_, value in msgspec.to_builtins(found.counts).items() if value)
    say(f"{found.id}  {found.state}: {counts or 'nothing'}")
