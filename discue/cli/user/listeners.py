"""`discue listeners`: lists, shows, creates, disables, tests and deletes listeners."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from discue.cli.exit_codes import FAILED
from discue.cli.output import beginning, printable, say, say_fields, say_json, say_table, when
from discue.cli.user.arguments import alias, content_of, header, json_of, name, positive
from discue.cli.user.command import UsageInvalid, add_command, add_group, connect
from discue.cli.user.messages import failure_of
from discue.cli.user.queues import queue_names
from discue.cli.verbs import Commands

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client.models import Attempt, DeliveryTest, Listener

_LIMIT = 100
_WITHHELD = (
    "Responses of private addresses are not shown, unless the operator of the service sets show_private_responses."
)


def add(commands: Commands) -> None:
    verbs = add_group(commands, "listeners", summary="list, show, create, disable, test and delete listeners")
    listing = add_command(verbs, "list", _list, summary="list the listeners of a queue, or of all queues")
    listing.add_argument("queue", nargs="?", type=name, help="alias or id of the queue; default: all queues")
    listing.add_argument(
        "--limit", type=positive, default=_LIMIT, metavar="N", help=f"list at most N; default: {_LIMIT}"
    )
    listing.add_argument("--customer", metavar="NAME", help="list only the listeners of this customer")
    detail = add_command(verbs, "get", _get, summary="show a listener, and why it receives nothing if so")
    _add_place(detail)
    _add_set(verbs)
    changes: tuple[tuple[str, Literal["enabled", "disabled"], str], ...] = (
        ("disable", "disabled", "stop deliveries to a listener; its messages wait"),
        ("enable", "enabled", "continue deliveries to a listener"),
    )
    for verb, status, summary in changes:
        _add_place(add_command(verbs, verb, partial(_set_status, status), summary=summary))
    testing = add_command(
        verbs,
        "test",
        _test,
        summary="send a signed test request to a listener",
        description="It has the header discue-test: true, and is neither stored nor retried. Exits with 1 if it fails.",
    )
    _add_place(testing)
    testing.add_argument("--data", metavar="JSON", help="data of the request; @FILE reads it from a file")
    deleting = add_command(verbs, "delete", _delete, summary="delete a listener")
    _add_place(deleting)


def _add_set(verbs: Commands) -> None:
    parser = add_command(
        verbs,
        "set",
        _set,
        summary="create a listener, or change the one that has this alias",
        description="Only the given options change. Shows the signing secret of a new listener once.",
    )
    _add_place(parser, alias)
    parser.add_argument("--url", metavar="URL", help="where messages are sent")
    parser.add_argument("--pull", action="store_true", help="consumers fetch the messages instead; fixed")
    parser.add_argument(
        "--filter", metavar="JSON", help="filter that messages must pass; @FILE reads it from a file, null removes it"
    )
    parser.add_argument(
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="NAME:VALUE",
        help="header of each request; can be repeated",
    )


def _add_place(parser: argparse.ArgumentParser, listener_type: Callable[[str], str] = name) -> None:
    parser.add_argument("queue", type=name, help="alias or id of the queue")
    parser.add_argument("listener", type=listener_type, help="alias or id of the listener")


def _list(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        found = list(client.listeners.list(arguments.queue, limit=arguments.limit, customer=arguments.customer))
        names = {} if arguments.json or arguments.queue else queue_names(client)
    if arguments.json:
        say_json({"listeners": found})
        return
    rows = [
        (
            arguments.queue or names.get(each.queue_id, each.queue_id),
            each.alias,
            each.status,
            f"{each.messages.pending_count:,}",
            f"{each.messages.missed_count:,}",
            each.notify_url or each.mode,
            # After a success, only the details show the last failure.
            each.messages.last_failure_msg if each.messages.last_failure_at > each.messages.last_success_at else "",
        )
        for each in found
    ]
    say_table(("QUEUE", "ALIAS", "STATUS", "WAITING", "MISSED", "URL", "LAST FAILURE"), rows)


def _get(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        listener = client.listeners.get(arguments.queue, arguments.listener)
        failed = None
        if listener.messages.last_failure_at:
            failed = client.listeners.attempts(arguments.queue, arguments.listener, state="failed", limit=1).first()
    if arguments.json:
        say_json({"listener": listener, "last_failed_attempt": failed})
    else:
        _show(listener, as_json=False, failed=failed)


def _set(arguments: argparse.Namespace) -> None:
    fields: dict[str, Any] = {}
    if arguments.pull:
        fields["mode"] = "pull"
    if arguments.url is not None:
        fields["notify_url"] = arguments.url
    if arguments.filter is not None:
        fields["filter"] = json_of(content_of(arguments.filter), "The filter")
    if arguments.header:
        fields["headers"] = dict(arguments.header)
    with connect(arguments) as client:
        _show(_updated(client, arguments, fields), as_json=arguments.json)


def _updated(client: Discue, arguments: argparse.Namespace, fields: dict[str, Any]) -> Listener:
    """Create or change a listener. Raises UsageInvalid for a new one without a URL."""
    from discue_client import BadRequest  # noqa: PLC0415 - imported by now

    try:
        return client.listeners.update(arguments.queue, arguments.listener, **fields)
    except BadRequest as error:
        if error.pointers != ("/notify_url",) or arguments.url is not None:
            raise
        raise UsageInvalid(f"There is no listener {arguments.listener} yet. Give --url or --pull.") from None


def _set_status(status: Literal["enabled", "disabled"], arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        # An update would create the listener if it does not exist.
        client.listeners.get(arguments.queue, arguments.listener)
        _show(client.listeners.update(arguments.queue, arguments.listener, status=status), as_json=arguments.json)


def _test(arguments: argparse.Namespace) -> int | None:
    given = {} if arguments.data is None else {"data": json_of(content_of(arguments.data), "The data")}
    with connect(arguments) as client:
        found = client.listeners.test(arguments.queue, arguments.listener, **given)
    if arguments.json:
        say_json({"test": found})
    else:
        status = found.status or found.status_class
        shown = f", status {status}" if status else ""
        duration = "" if found.took_ms is None else f", {found.took_ms} ms"
        say(printable(f"{found.state}{shown}{duration}{_reason(found)}"))
    return FAILED if found.error else None


def _reason(found: DeliveryTest) -> str:
    """Return why a test failed, and the beginning of the response; "" if it did not fail."""
    if not found.error:
        return ""
    if found.withheld:
        return f". {_WITHHELD}" if found.status_class else f": {found.error}. {_WITHHELD}"
    return f": {found.detail or found.error}{beginning(found.response.body if found.response else '')}"


def _delete(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        client.listeners.delete(arguments.queue, arguments.listener)
    if arguments.json:
        say_json({})
    else:
        say(f"Listener {arguments.listener} of the queue {arguments.queue} is deleted.")


def _show(listener: Listener, *, as_json: bool, failed: Attempt | None = None) -> None:
    """Print a listener. `failed` is its last failed attempt, if that is known."""
    if as_json:
        say_json({"listener": listener})
        return
    counts, liveness = listener.messages, listener.liveness
    say_fields(
        [
            ("alias", listener.alias),
            ("id", listener.id),
            ("customer", listener.customer or ""),
            ("status", f"{listener.status}: {listener.status_reason}" if listener.status_reason else listener.status),
            ("url", listener.notify_url or listener.mode),
            ("liveness", liveness.state if listener.liveness_url else ""),
            ("last failed probe", _failure(liveness.last_failure_at, liveness.last_failure_msg)),
            ("waiting", f"{counts.pending_count:,}"),
            ("acknowledged", f"{counts.acknowledged_count:,}"),
            ("missed", f"{counts.missed_count:,}"),
            ("last success", when(counts.last_success_at)),
            ("last failure", _failure(counts.last_failure_at, failure_of(failed) if failed else "")),
            ("secret", listener.secret or ""),
            ("created", when(listener.created_at)),
        ]
    )


def _failure(at: int, reason: str) -> str:
    """Return when something failed last, and why; "" if nothing failed."""
    return f"{when(at)}: {reason}" if at and reason else when(at)
