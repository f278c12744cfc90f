"""`discue messages` lists, shows and deletes messages, and lists missed ones. `discue missed` lists their causes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from discue.cli.declarations import Command, CommandGroup, option
from discue.cli.output import excerpt, json_text, say, say_fields, say_json, say_table, when
from discue.cli.user.arguments import limit, moment, name
from discue.cli.user.command import connect, readable, user_command
from discue.cli.user.resources import Resource, deletion, listing, place_of

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client.models import Attempt, Message

_LIMIT = 20
_STATES = ("acknowledged", "pending", "retrying", "missed", "no_listeners")
_ATTEMPTS_SHOWN = 20
_DELIVERIES_SHOWN = 100
"""The largest number of deliveries in a response of the API."""
_NULL_BYTES = 4


_ONLY_QUEUE = option("--queue QUEUE", "only of this queue; default: all queues", name)


def command() -> CommandGroup:
    since = option("--since TIME", "only newer ones: a time, or 2h for two hours", moment, dest="created_after")
    resource = Resource(
        "messages",
        "queue",
        columns={
            "ID": lambda each: each.id,
            "TYPE": lambda each: each.type or "",
            "PUBLISHED": lambda each: when(each.created_at),
            "STATE": lambda each: each.state or "",
            "KEY": lambda each: each.key or "",
            "DATA": _data,
        },
        filters=(
            option("--state", "only messages whose deliveries are in this state", choices=_STATES),
            option("--key KEY", "only messages that were published with this key"),
            option("--alias ALIAS", "only messages with this alias"),
            since,
        ),
        query={"data": "true"},
        limit=_LIMIT,
        deletes="; deliveries that wait are dropped",
        names="id",
    )
    return CommandGroup(
        {
            "list": listing(resource),
            "get": user_command(
                _get, *resource.place(), summary="show a message, its deliveries and its last attempts"
            ),
            "delete": deletion(resource),
            "missed": user_command(
                _missed,
                _ONLY_QUEUE,
                option("--group ID", "only of this group, which `discue missed` lists", name),
                since,
                limit(_LIMIT),
                summary="list messages that listeners have missed",
            ),
        }
    )


def missed() -> Command:
    return user_command(
        _groups,
        _ONLY_QUEUE,
        limit(_LIMIT),
        description="Lists groups of missed messages, the largest first. A group contains the messages that one "
        "listener missed for the same reason, after similar responses. To try five messages before the others: "
        "discue redeliver QUEUE LISTENER --group ID --trial 5",
    )


def _groups(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        # This filter accepts only ids.
        queue = arguments.queue and client.queues.get(arguments.queue).id
        found = list(client.missed.groups(queue=queue, limit=arguments.limit))
    if arguments.json:
        say_json({"groups": found})
        return
    rows = [
        (
            f"{each.count:,}",
            each.id,
            each.queue.alias,
            each.listener.alias,
            each.reason,
            str(each.status or ""),
            when(each.first_at),
            when(each.last_at),
            each.text,
        )
        for each in found
    ]
    say_table(("COUNT", "GROUP", "QUEUE", "LISTENER", "REASON", "STATUS", "FIRST", "LAST", "RESPONSE"), rows)


def _get(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        message = client.messages.get(*place_of(arguments))
        attempts = list(client.messages.attempts(*place_of(arguments), limit=_ATTEMPTS_SHOWN))
        names = {} if arguments.json else _names(client, [arguments.within])
    if arguments.json:
        say_json({"message": message, "attempts": attempts})
        return
    say_fields(
        [
            ("id", message.id),
            ("alias", message.alias if message.alias != message.id else ""),
            ("published", when(message.created_at)),
            ("deliver at", when(message.deliver_at)),
            ("expires", when(message.expires_at)),
            ("type", message.type or ""),
            ("key", message.key or ""),
            ("state", _state(message)),
            ("data", _data(message)),
        ]
    )
    if message.deliveries:
        say("")
        rows = [
            (
                names.get(each.listener_id, each.listener_id),
                each.state,
                str(each.attempts),
                str(each.last_status or each.last_error or ""),
                each.waits_for or each.missed_reason or "",
            )
            for each in message.deliveries
        ]
        say_table(("LISTENER", "STATE", "ATTEMPTS", "STATUS", "WAITS FOR"), rows)
    if attempts:
        say("")
        attempt_rows = [
            (
                str(each.number),
                names.get(each.listener_id, each.listener_id),
                when(each.started_at),
                str(each.status or ""),
                str(each.took_ms),
                failure_of(each),
            )
            for each in attempts
        ]
        say_table(("ATTEMPT", "LISTENER", "AT", "STATUS", "MS", "ERROR"), attempt_rows)


def _state(message: Message) -> str:
    """Return the state of a message; `filtered`, which the API does not report, if filters exclude all deliveries."""
    deliveries = message.deliveries or ()
    # Beyond the largest number that is shown, there may be others.
    is_filtered = 0 < len(deliveries) < _DELIVERIES_SHOWN and all(each.state == "filtered" for each in deliveries)
    return "filtered" if is_filtered else message.state or ""


def _names(client: Discue, queues: Iterable[str]) -> dict[str, str]:
    """Return the aliases of queues and of their listeners by id: of those that the key may read."""
    names: dict[str, str] = {}
    for queue in queues:
        if (found := readable(partial(client.queues.get, queue))) is not None:
            names[found.id] = found.alias
            names |= {each.id: each.alias or each.id for each in found.listeners}
    return names


def failure_of(attempt: Attempt) -> str:
    """Return why an attempt failed; "" if it did not. The service withholds details of private addresses."""
    is_withheld = attempt.withheld and attempt.error
    return f"{attempt.error}: {attempt.detail}" if is_withheld else attempt.detail or attempt.error


def _missed(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        # This filter accepts only ids.
        queue = arguments.queue and client.queues.get(arguments.queue).id
        wanted = {"queue": queue, "group": arguments.group, "created_after": arguments.created_after}
        found = list(client.missed.list(**wanted, limit=arguments.limit))
        names = {} if arguments.json else _names(client, {each.queue_id for each in found})
    if arguments.json:
        say_json({"missed": found})
        return
    rows = [
        (
            each.id,
            each.type or "",
            names.get(each.queue_id, each.queue_id),
            names.get(each.listener_id, each.listener_id),
            when(each.missed_at),
            each.reason,
            str(each.attempts),
            each.last_failure_msg,
        )
        for each in found
    ]
    say_table(("ID", "TYPE", "QUEUE", "LISTENER", "MISSED", "REASON", "ATTEMPTS", "LAST FAILURE"), rows)


def _data(message: Message) -> str:
    if message.data_base64 is not None:
        return f"{message.content_type or 'bytes'}, {message.size or '?'} bytes"
    if message.data is None and message.size not in (None, _NULL_BYTES):
        # The data did not fit into the page, which shows 1 MiB: null would have four bytes.
        return f"not listed: {message.size:,} bytes"
    text = message.data if isinstance(message.data, str) else json_text(message.data)
    return excerpt(text)
