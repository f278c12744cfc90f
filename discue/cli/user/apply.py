"""`discue apply`: creates and changes event types, queues, listeners, schedules, topics and channels as a file says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from discue.cli.declarations import Argument, Command, OneOf, argument, option, switch
from discue.cli.exit_codes import FAILED, FINE, CommandFailed, UsageInvalid
from discue.cli.output import GREEN, RED, coloured, excerpt, note, printable, say, say_json
from discue.cli.user.arguments import file_content
from discue.cli.user.command import connect, is_confirmed, user_command
from discue.cli.user.wanted import Wanted, WantedFile, read_wanted, singular
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from discue_client import Discue
    from discue_client.models import Listener, Queue

_NEVER_SHOWN: Final = frozenset({"password", "client_secret", "private_key"})
"""Fields of `authentication` that the service never shows, and that are not printed."""
_VALUE_SHOWN: Final = 60
_MOST_SHOWN: Final = 100
_OTHERS: Final = 0o077

Secrets: TypeAlias = dict[str, dict[str, str]]
"""Secrets by the alias of the listener, by the alias of its queue."""


def command() -> Command:
    return user_command(
        run,
        OneOf(
            (
                Argument(("-f", "--file"), {"metavar": "FILE", "help": "file in YAML or JSON; - for the input"}),
                argument("misplaced", argparse.SUPPRESS, nargs="?"),
            ),
            required=True,
        ),
        switch("--dry-run", "show the difference, and change nothing"),
        switch("--prune", "delete what the lists of the file leave out, except what belongs to customers; asks first"),
        switch("--yes", "delete without asking"),
        option(
            "--secrets FILE",
            "write the signing secrets of new listeners to this file, readable only by you; default: print them",
        ),
        description="Shows the difference, then creates and changes what differs, by alias. A second run changes "
        "nothing. Fields that the file leaves out stay as they are; null clears them.",
    )


class Difference(NamedTuple):
    """A difference between the file and the service."""

    action: str
    """`create`, `change` or `delete`."""
    wanted: Wanted
    before: dict[str, Any]
    """Values of the fields that differ, for a change."""
    content: str = ""
    """Listeners and messages that are deleted with a queue."""


Left: TypeAlias = dict[str, str]
"""Resources that the file leaves out and `--prune` does not delete, and the reasons."""


def run(arguments: argparse.Namespace) -> int | None:
    if arguments.misplaced is not None:
        raise UsageInvalid(f"Name the file with -f: discue apply -f {arguments.misplaced}")
    found = read_wanted(file_content(arguments.file), arguments.file)
    file = SecretsFile(arguments.secrets) if arguments.secrets else None
    with connect(arguments) as client:
        _check_queues(client, found)
        changes, left = [change for each in found.resources if (change := _change_of(client, each))], Left()
        if arguments.prune:
            deletions, left = _deletions(client, found)
            changes += deletions
        if not arguments.json:
            _show(changes, left)
        if arguments.dry_run or not changes:
            if arguments.json:
                say_json(_report(changes, left))
            return None
        _require_agreement(arguments, changes)
        if file is not None and any(_gets_secret(each) for each in changes):
            # Fails now if the file cannot be written, not after the service has shown a secret: it shows it only once.
            file.write({})
        return _made(client, changes, left, file, as_json=arguments.json)


def _require_agreement(arguments: argparse.Namespace, changes: list[Difference]) -> None:
    """Ask whether to delete. Raises CommandFailed if the user declines, and UsageInvalid if the command cannot ask."""
    deleted = sum(change.action == "delete" for change in changes)
    if not deleted or arguments.yes:
        return
    if arguments.json:
        raise UsageInvalid("--yes is missing: with --json, the command does not show the difference before it deletes.")
    if not is_confirmed(f"Delete {deleted} of these, and everything in them?"):
        raise CommandFailed("Nothing was changed.")


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
    from discue_client import NotFound  # noqa: PLC0415 - imported by now
    from discue_client.wire import path_of  # noqa: PLC0415 - imported by now

    try:
        content = client.request("GET", path_of(*path))
    except NotFound:
        return None
    found: dict[str, Any] = msgspec.json.decode(content)[singular(path[-2])]
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


def _deletions(client: Discue, found: WantedFile) -> tuple[list[Difference], Left]:
    """Return the resources to delete, and those that the file leaves out but that stay.

    Children come before their parents.
    """
    named = {each.path for each in found.resources}
    deletions, left = list[Difference](), Left()
    for path in reversed(found.collections):
        # A parent that is about to be created has no children.
        if len(path) > 1 and _current(client, path[:-1]) is None:
            continue
        for each in getattr(client, path[-1]).list(*path[1::2]):
            if (*path, each.alias) in named:
                continue
            wanted = Wanted((*path, each.alias), {})
            if reason := _reason_to_stay(client, wanted.path, getattr(each, "customer", None)):
                left[wanted.label] = reason
            else:
                content = _content(each) if wanted.kind == "queues" else ""
                deletions.append(Difference("delete", wanted, {}, content))
    return deletions, left


def _reason_to_stay(client: Discue, path: tuple[str, ...], customer: str | None) -> str:
    """Return why a resource is not deleted; "" if it is. `customer` is the customer that it belongs to, if any."""
    *_, kind, alias = path
    if kind == "queues" and alias == SYSTEM_QUEUE_ALIAS:
        return "the service creates it"
    if kind == "listeners" and alias.startswith("listen/"):
        return "`discue listen` creates it"
    if customer:
        return f"it belongs to the customer {customer}"
    if kind == "queues" and (owned := _listener_of_a_customer(client, alias)) is not None:
        return f"its listener {owned.alias} belongs to the customer {owned.customer}"
    if kind == "channels" and (channel := _current(client, path)) is not None:
        # Without the channel, the customer would receive nothing more.
        queue = _current(client, ("queues", channel["queue_id"])) or {"alias": channel["queue_id"]}
        owned = _listener_of_a_customer(client, queue["alias"])
        customer = queue.get("customer") or (owned.customer if owned is not None else None)
        if customer:
            return f"it leads to the queue {queue['alias']} of the customer {customer}"
    return ""


def _listener_of_a_customer(client: Discue, queue: str) -> Listener | None:
    return next((each for each in client.listeners.list(queue) if each.customer), None)


def _content(queue: Queue) -> str:
    """Return how many listeners a queue has ("100+" for 100 or more), and how many messages were published to it."""
    count = len(queue.listeners)
    shown = f"{count}+" if count == _MOST_SHOWN else str(count)
    return f"listeners: {shown}, messages published: {queue.messages.published_count}"


class SecretsFile:
    """A JSON file with the secrets of new listeners, readable only by its owner. Secrets in it are kept."""

    def __init__(self, name: str) -> None:
        """Read the file, if it exists. Raises CommandFailed if others can read it, or if it has other content."""
        # A symbolic link stays: its target is replaced.
        self._path = Path(name).resolve()
        self._read()

    def write(self, new: Secrets) -> None:
        """Add the secrets, and replace the file in one step. Raises CommandFailed."""
        from discue.cli.user.profiles import write_private  # noqa: PLC0415 - it needs the client

        secrets = self._read()
        for queue, listeners in new.items():
            secrets.setdefault(queue, {}).update(listeners)
        try:
            write_private(self._path, json.dumps(secrets, indent=2) + "\n")
        except OSError as error:
            raise CommandFailed(f"Cannot write {self._path}: {error.strerror}. Name another file.") from None

    def _read(self) -> Secrets:
        try:
            if not self._path.exists():
                return {}
            if not self._path.is_file():
                raise CommandFailed(f"{self._path} is not a regular file. Name another file.")
            if self._path.stat().st_mode & _OTHERS:
                raise CommandFailed(
                    f"Other users can read or change {self._path}. Run `chmod 600 {self._path}`, or name another file."
                )
            content = self._path.read_bytes()
        except OSError as error:
            raise CommandFailed(f"Cannot read {self._path}: {error.strerror}. Name another file.") from None
        try:
            return msgspec.json.decode(content, type=Secrets)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise CommandFailed(
                f"{self._path} is not a file of secrets from `discue apply`. Name another file."
            ) from None


def _gets_secret(change: Difference) -> bool:
    """Return whether the change creates a listener with a signing secret."""
    wanted = change.wanted
    return change.action == "create" and wanted.kind == "listeners" and wanted.fields.get("mode") != "pull"


def _made(client: Discue, changes: list[Difference], left: Left, file: SecretsFile | None, *, as_json: bool) -> int:
    """Make the changes, and write or print the secrets of new listeners, even if the run ends early."""
    printed: Secrets = {}

    def keep(queue: str, listener: str, secret: str) -> None:
        printed.setdefault(queue, {})[listener] = secret
        if file is not None:
            file.write({queue: {listener: secret}})
            del printed[queue][listener]

    try:
        return _make(client, changes, keep)
    finally:
        if as_json:
            say_json({**_report(changes, left), "secrets": {queue: each for queue, each in printed.items() if each}})
        else:
            for queue, listeners in printed.items():
                for listener, secret in listeners.items():
                    say(f"secret {queue} {listener} {secret}")


def _make(client: Discue, changes: list[Difference], keep: Callable[[str, str, str], None]) -> int:
    """Make the changes in order. If it ends early, it says how many were made. Raises CommandFailed for a refusal.

    `keep` gets the aliases of a queue and of its new listener, and the secret.
    """
    from discue_client import APIError, DiscueError  # noqa: PLC0415 - imported by now

    made, code = 0, FINE
    for change in changes:
        try:
            if change.action == "delete":
                current = _current(client, change.wanted.path) or {}
                # A customer may have created an endpoint since the question was asked.
                if reason := _reason_to_stay(client, change.wanted.path, current.get("customer")):
                    note(f"{change.wanted.label} stays: {reason}.")
                    continue
                client.request("DELETE", _place(change))
            elif not _put(client, change, keep):
                code = FAILED
        except APIError as error:
            reason = str(error)
            # The field is `queue` in the file, and `queue_id` in the API.
            if change.wanted.kind == "channels":
                reason = reason.replace("/queue_id", "/queue")
            raise CommandFailed(
                f"{change.wanted.label} was refused: {reason} {made} of {len(changes)} changes were made. Correct the "
                "file, and run the command again."
            ) from None
        except (DiscueError, KeyboardInterrupt):
            note(
                f"{made} of {len(changes)} changes were made, and perhaps that of the {change.wanted.label}. "
                "Run the command again to continue."
            )
            raise
        made += 1
    note(f"{made} {'change was' if made == 1 else 'changes were'} made.")
    return code


def _put(client: Discue, change: Difference, keep: Callable[[str, str, str], None]) -> bool:
    """Create or change a resource. Returns whether the secret of a new listener is known."""
    wanted = change.wanted
    content = client.request("PUT", _place(change), body=_as_sent(client, wanted))
    if not _gets_secret(change):
        return True
    _, queue, _, listener = wanted.path
    secret = msgspec.json.decode(content)["listener"].get("secret")
    if secret is None:
        # The response to an earlier attempt was lost, or another program has created the listener.
        note(
            f"The secret of the {wanted.label} did not arrive. Create another one: "
            f"discue api POST {_place(change)}/secrets --data '{{}}'"
        )
        return False
    keep(queue, listener, secret)
    return True


def _place(change: Difference) -> str:
    from discue_client.wire import path_of  # noqa: PLC0415 - imported by now

    return path_of(*change.wanted.path)


def _report(changes: list[Difference], left: Left) -> dict[str, Any]:
    shown = [
        {"action": each.action, "resource": each.wanted.label, "fields": sorted(each.before or each.wanted.fields)}
        for each in changes
    ]
    return {"changes": shown, "left": [{"resource": label, "reason": reason} for label, reason in left.items()]}


def _show(changes: list[Difference], left: Left) -> None:
    if not changes:
        say("Nothing differs.")
    for change in changes:
        match change.action:
            case "create":
                say(coloured(f"+ {change.wanted.label}", GREEN))
                for name, value in change.wanted.fields.items():
                    say(f"    {name}: {_text(value)}")
            case "delete":
                content = f" ({change.content})" if change.content else ""
                say(coloured(f"- {change.wanted.label}{content}", RED))
            case _:
                say(f"~ {change.wanted.label}")
                for name, value in change.before.items():
                    say(f"    {name}: {_text(value)} → {_text(change.wanted.fields.get(name, '(changed)'))}")
    for label, reason in left.items():
        say(printable(f"= {label} stays: {reason}"))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if name not in _NEVER_SHOWN}
    return printable(excerpt(json.dumps(value, ensure_ascii=False, default=str), _VALUE_SHOWN))
