"""`discue queues`: lists, shows, creates, changes and deletes queues."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from discue.cli.output import say, say_fields, say_json, say_table, when
from discue.cli.user.arguments import alias, content_of, duration, json_of, name, positive
from discue.cli.user.command import add_command, add_group, connect
from discue.cli.verbs import Commands

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client.models import Queue

_LIMIT = 100
_NAMED = 1_000


def add(commands: Commands) -> None:
    verbs = add_group(commands, "queues", summary="list, show, create, change and delete queues")
    listing = add_command(verbs, "list", _list, summary="list queues, newest first")
    listing.add_argument(
        "--limit", type=positive, default=_LIMIT, metavar="N", help=f"list at most N; default: {_LIMIT}"
    )
    listing.add_argument("--customer", metavar="NAME", help="list only the queues of this customer")
    detail = add_command(verbs, "get", _get, summary="show a queue and its listeners")
    detail.add_argument("queue", type=name, help="alias or id of the queue")
    setting = add_command(
        verbs,
        "set",
        _set,
        summary="create a queue, or change the one that has this alias",
        description="Only the given options change.",
    )
    setting.add_argument("queue", type=alias, help="alias of the queue; or its id, if it exists")
    setting.add_argument(
        "--ordered", action="store_true", help="messages with the same key are delivered one at a time; fixed"
    )
    setting.add_argument("--customer", metavar="NAME", help="customer whom the queue belongs to; fixed")
    setting.add_argument("--retention", type=duration, metavar="TIME", help="how long settled messages are kept")
    setting.add_argument(
        "--max-message-bytes", type=positive, metavar="N", help="largest message that can be published, in bytes"
    )
    setting.add_argument(
        "--json-schema", metavar="JSON", help="JSON Schema that messages must match; @FILE reads it from a file"
    )
    deleting = add_command(verbs, "delete", _delete, summary="delete a queue with its listeners and messages")
    deleting.add_argument("queue", type=name, help="alias or id of the queue")


def _list(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        found = list(client.queues.list(limit=arguments.limit, customer=arguments.customer))
    if arguments.json:
        say_json({"queues": found})
        return
    rows = [
        (each.alias, each.id, f"{each.messages.published_count:,}", when(each.messages.last_published_at) or "never")
        for each in found
    ]
    say_table(("ALIAS", "ID", "PUBLISHED", "LAST PUBLISHED"), rows)


def queue_names(client: Discue) -> dict[str, str]:
    """Return the aliases of the newest queues by id: those that the key may list."""
    from discue_client import Forbidden  # noqa: PLC0415 - imported by now

    try:
        return {each.id: each.alias for each in client.queues.list(limit=_NAMED)}
    except Forbidden:
        return {}


def _get(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        _show(client.queues.get(arguments.queue), as_json=arguments.json)


def _set(arguments: argparse.Namespace) -> None:
    fields: dict[str, Any] = {}
    if arguments.ordered:
        fields["ordered"] = True
    if arguments.customer is not None:
        fields["customer"] = arguments.customer
    if arguments.retention is not None:
        fields["retention"] = round(arguments.retention)
    if arguments.max_message_bytes is not None:
        fields["max_message_bytes"] = arguments.max_message_bytes
    if arguments.json_schema is not None:
        fields["json_schema"] = json_of(content_of(arguments.json_schema), "The schema")
    with connect(arguments) as client:
        _show(client.queues.update(arguments.queue, **fields), as_json=arguments.json)


def _delete(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        client.queues.delete(arguments.queue)
    if arguments.json:
        say_json({})
    else:
        say(f"Queue {arguments.queue} is deleted.")


def _show(queue: Queue, *, as_json: bool) -> None:
    if as_json:
        say_json({"queue": queue})
        return
    say_fields(
        [
            ("alias", queue.alias),
            ("id", queue.id),
            ("customer", queue.customer or ""),
            ("ordered", "yes" if queue.ordered else ""),
            ("published", f"{queue.messages.published_count:,}"),
            ("last published", when(queue.messages.last_published_at)),
            ("largest message", f"{queue.max_message_bytes:,} bytes" if queue.max_message_bytes else ""),
            ("schema", queue.schema_id or ""),
            ("created", when(queue.created_at)),
            ("listeners", ", ".join(each.alias or each.id for each in queue.listeners)),
        ]
    )
