"""`discue apply`: makes queues, listeners, schedules, topics and channels as a file says."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from discue.cli.exit_codes import FAILED
from discue.cli.output import GREEN, RED, coloured, excerpt, note, printable, say, say_json
from discue.cli.user.arguments import file_content
from discue.cli.user.command import CommandFailed, UsageInvalid, add_command, connect, is_confirmed
from discue.cli.verbs import Commands

if TYPE_CHECKING:
    from discue.cli.user.wanted import Wanted, WantedFile
    from discue_client import Discue

_NOT_PRUNED: Final = ("system/", "listen/")
"""Beginnings of aliases of what the service itself and `discue listen` make."""
_NEVER_SHOWN: Final = frozenset({"password", "client_secret", "private_key"})
"""Fields of `authentication` that the service never shows, and that are not printed."""
_VALUE_SHOWN: Final = 60


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "apply",
        run,
        summary="make queues, listeners, schedules, topics and channels as a file says",
        description="Shows the difference, then creates and changes what differs, by alias. A second run changes "
        "nothing. Fields that the file leaves out stay as they are; null clears them.",
    )
    files = parser.add_mutually_exclusive_group(required=True)
    files.add_argument("-f", "--file", metavar="FILE", help="file in YAML or JSON; - for the input")
    files.add_argument("misplaced", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="show the difference, and change nothing")
    parser.add_argument(
        "--prune", action="store_true", help="delete what the lists of the file leave out; asks before it does"
    )
    parser.add_argument("--yes", action="store_true", help="delete without asking")


class Difference(NamedTuple):
    """A difference between the file and the service."""

    action: str
    """`create`, `change` or `delete`."""
    wanted: Wanted
    before: dict[str, Any]
    """Values of the fields that differ, for a change."""


def run(arguments: argparse.Namespace) -> int | None:
    # Other commands do not wait for the parser.
    from discue.cli.user.wanted import read_wanted  # noqa: PLC0415

    if arguments.misplaced is not None:
        raise UsageInvalid(f"Name the file with -f: discue apply -f {arguments.misplaced}")
    found = read_wanted(file_content(arguments.file), arguments.file)
    with connect(arguments) as client:
        _check_queues(client, found)
        changes = [change for each in found.resources if (change := _change_of(client, each))]
        if arguments.prune:
            changes += _deletions(client, found)
        _show(changes, as_json=arguments.json)
        if arguments.dry_run or not changes:
            return None
        deleted = sum(change.action == "delete" for change in changes)
        if deleted and not (arguments.yes or is_confirmed(f"Delete {deleted} of these, with all that they have?")):
            note("Nothing is changed.")
            return FAILED
        _make(client, changes)
    return None


def _check_queues(client: Discue, found: WantedFile) -> None:
    """Raise CommandFailed for a channel to a queue that neither the file nor the service has."""
    in_file = {each.path for each in found.resources}
    for each in found.resources:
        if each.kind == "channels" and "queue" in each.fields:
            queue = ("queues", str(each.fields["queue"]))
            if queue not in in_file and _current(client, queue) is None:
                raise CommandFailed(
                    f"{each.label}: there is no queue {queue[1]}. Add it to the file, or correct its alias."
                )


def _change_of(client: Discue, wanted: Wanted) -> Difference | None:
    """Return how a resource differs from the file; None if it does not."""
    current = _current(client, wanted.path)
    if current is None:
        return Difference("create", wanted, {})
    fields = _as_sent(client, wanted)
    before = {name: current.get(name) for name, value in fields.items() if not _is_same(current.get(name), value)}
    return Difference("change", wanted, before) if before else None


def _current(client: Discue, path: tuple[str, ...]) -> dict[str, Any] | None:
    import msgspec  # noqa: PLC0415 - imported with the client

    from discue.cli.user.wanted import SINGULAR  # noqa: PLC0415 - as in `run`
    from discue_client import NotFound  # noqa: PLC0415 - as above
    from discue_client.wire import path_of  # noqa: PLC0415 - as above

    try:
        content = client.request("GET", path_of(*path))
    except NotFound:
        return None
    found: dict[str, Any] = msgspec.json.decode(content)[SINGULAR[path[-2]]]
    return found


def _as_sent(client: Discue, wanted: Wanted) -> dict[str, Any]:
    """Return the fields as the API shows them: channels have the id of a queue, and a list of delays is a policy."""
    fields = dict(wanted.fields)
    if "queue" in fields and wanted.kind == "channels":
        queue = fields.pop("queue")
        found = _current(client, ("queues", str(queue)))
        fields["queue_id"] = f"the id of {queue}" if found is None else found["id"]
    if isinstance(fields.get("retry"), list):
        fields["retry"] = {"schedule": fields["retry"]}
    return fields


def _is_same(current: Any, wanted: Any) -> bool:
    """Return whether the current value has what the file wants.

    The service shows neither secrets nor fields of an object that are null, and adds fields of its own: of an object,
    what it shows of the file's fields decides.
    """
    if isinstance(current, dict) and isinstance(wanted, dict):
        shown = {name: value for name, value in wanted.items() if value is not None and name not in _NEVER_SHOWN}
        return all(_is_same(current.get(name), value) for name, value in shown.items())
    # For Python, true is 1.
    return bool(current == wanted and isinstance(current, bool) == isinstance(wanted, bool))


def _deletions(client: Discue, found: WantedFile) -> list[Difference]:
    """Return what is in the collections of the file and not in the file. Children come before their parents."""
    from discue.cli.user.wanted import Wanted  # noqa: PLC0415 - as in `run`

    named = {each.path for each in found.resources}
    return [
        Difference("delete", Wanted((*path, alias), {}), {})
        for path in reversed(found.collections)
        # A parent that is about to be created has no children.
        if len(path) == 1 or _current(client, path[:-1]) is not None
        for alias in _aliases(client, path)
        if (*path, alias) not in named and not alias.startswith(_NOT_PRUNED)
    ]


def _aliases(client: Discue, path: tuple[str, ...]) -> list[str]:
    match path:
        case ("queues",):
            return [each.alias for each in client.queues.list()]
        case ("topics",):
            return [each.alias for each in client.topics.list()]
        case (_, parent, "listeners"):
            return [each.alias for each in client.listeners.list(parent)]
        case (_, parent, "schedules"):
            return [each.alias for each in client.schedules.list(parent)]
        case (_, parent, _):
            return [each.alias for each in client.channels.list(parent)]
    return []


def _make(client: Discue, changes: list[Difference]) -> None:
    """Make the changes in order. If it ends early, it says how many are made. Raises CommandFailed for a refusal."""
    from discue_client import APIError, DiscueError  # noqa: PLC0415 - imported by now
    from discue_client.wire import path_of  # noqa: PLC0415 - as above

    for number, change in enumerate(changes):
        path = path_of(*change.wanted.path)
        try:
            if change.action == "delete":
                client.request("DELETE", path)
            else:
                client.request("PUT", path, body=_as_sent(client, change.wanted))
        except APIError as error:
            raise CommandFailed(
                f"{change.wanted.label} is refused: {error} {number} of {len(changes)} changes were made: correct the "
                "file, and run the command again."
            ) from None
        except (DiscueError, KeyboardInterrupt):
            note(
                f"{number} of {len(changes)} changes were made, and perhaps that of the {change.wanted.label}. "
                "Run the command again to go on."
            )
            raise
    note(f"{len(changes)} {'change was' if len(changes) == 1 else 'changes were'} made.")


def _show(changes: list[Difference], *, as_json: bool) -> None:
    if as_json:
        shown = [
            {"action": each.action, "resource": each.wanted.label, "fields": sorted(each.before or each.wanted.fields)}
            for each in changes
        ]
        say_json({"changes": shown})
        return
    if not changes:
        say("Nothing differs.")
    for change in changes:
        match change.action:
            case "create":
                say(coloured(f"+ {change.wanted.label}", GREEN))
                for name, value in change.wanted.fields.items():
                    say(f"    {name}: {_text(value)}")
            case "delete":
                say(coloured(f"- {change.wanted.label}", RED))
            case _:
                say(f"~ {change.wanted.label}")
                for name, value in change.before.items():
                    say(f"    {name}: {_text(value)} → {_text(change.wanted.fields.get(name, '(changed)'))}")


def _text(value: Any) -> str:
    import json  # noqa: PLC0415 - other commands do not need it

    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if name not in _NEVER_SHOWN}
    return printable(excerpt(json.dumps(value, ensure_ascii=False, default=str), _VALUE_SHOWN))
