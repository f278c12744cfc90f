"""`discue trigger`: publishes an example message, or sends it to a source, signed as the provider signs."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from uuid import uuid4

from discue.cli.declarations import Command, argument, option, repeated, switch
from discue.cli.exit_codes import CommandFailed, UsageInvalid
from discue.cli.output import note, say_data, say_result
from discue.cli.user.arguments import DELAY, TYPE, content_of, name
from discue.cli.user.command import connect, readable, user_command
from discue.cli.user.publish import TOPIC, publish
from discue.cli.user.resources import SECRETS
from discue.dashboard.json_example import NoExample, example_of
from discue.domain.providers import DISPLAY_NAMES, HmacOptions, provider_of, signed_headers
from discue.domain.schema_rules import rules_to_json_schema

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client.models import Source


_WORD = "example"
"""The word that replaces a wildcard of a pattern."""


def command() -> Command:
    return user_command(
        run,
        argument("queue", "alias or id of the queue, of the topic with --topic, or of the source with --source", name),
        repeated(
            "--set PATH=VALUE",
            "change a value of the data, such as order.total=5; can be repeated",
            _change,
            dest="changes",
        ),
        TOPIC,
        switch("--source", "send a request to a source, signed with --secret as its provider signs"),
        SECRETS,
        TYPE,
        switch("--last", "use the last message, even if there is a schema"),
        option("--key KEY", "key of the message; default: that of the last message, if used"),
        DELAY,
        switch("--dry-run", "print the data, and publish nothing"),
        description="Prints the id of the message.",
    )


def _change(text: str) -> tuple[list[str], Any]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not a change such as order.total=5")
    try:
        return path.split("."), json.loads(value)
    except ValueError:
        # A word is a string: order.state=paid.
        return path.split("."), value


def run(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        source = client.sources.get(arguments.queue) if arguments.source else None
        queue = _queue_of_topic(client, arguments) if arguments.topic else arguments.queue
        data, fields = _example(client, arguments, queue if source is None else source.queue_id)
        for path, value in arguments.changes:
            _set(data, path, value)
        if arguments.dry_run:
            say_data(data)
            return
        if source is not None:
            _send(source, arguments, data)
            return
        if arguments.type is not None:
            fields["type"] = arguments.type
        if arguments.key is not None:
            fields["key"] = arguments.key
        if arguments.delay is not None:
            fields["delay"] = arguments.delay
        message = publish(client, arguments, data, fields, idempotency_key=None)
    say_result({"message": message}, message.id, as_json=arguments.json)


def _send(source: Source, arguments: argparse.Namespace, data: Any) -> None:
    """Send a signed request to a source, and print the id of its message."""
    if len(arguments.secrets) != 1:
        raise UsageInvalid("--source needs --secret once: a source does not show its secrets.")
    is_hmac = source.provider == "hmac"
    options = {each: getattr(source, each) for each in HmacOptions.__struct_fields__ if getattr(source, each)}
    provider = provider_of(source.provider, HmacOptions(**options) if is_hmac else None)
    event_id, event_type = f"evt_{uuid4().hex}", arguments.type or _WORD
    if isinstance(data, dict):
        data |= {"id": event_id} if provider.has_id_member else {}
        data |= {} if provider.type_header else {"type": event_type}
    body, secret = json.dumps(data).encode(), content_of(arguments.secrets[0]).decode().strip()
    try:
        headers = signed_headers(
            provider, secret, body, event_id=event_id, event_type=event_type, timestamp=int(time.time())
        )
    except ValueError:
        shown = DISPLAY_NAMES[source.provider]
        raise UsageInvalid(f"--secret is not a valid secret for {shown}: copy it from the provider.") from None
    try:
        # The URL is that of the service that the key belongs to.
        with urlopen(Request(source.url, body, {**headers, "content-type": "application/json"})) as response:  # noqa: S310
            answer = json.load(response)
    except HTTPError as error:
        raise CommandFailed(f"The source refused the request: {json.load(error)['detail']}") from None
    except URLError as error:
        raise CommandFailed(f"{source.url} cannot be reached: {error.reason}") from None
    say_result(answer, answer["message"]["id"], as_json=arguments.json)


def _queue_of_topic(client: Discue, arguments: argparse.Namespace) -> str:
    """Return the queue of the topic's first channel. Without a given type, set one that matches its pattern."""
    channels = list(client.channels.list(arguments.queue))
    if not channels:
        raise CommandFailed(
            f"Topic {arguments.queue} has no channel. Create one with `discue channels set {arguments.queue} NAME "
            "--queue QUEUE`."
        )
    channel = channels[-1]
    if arguments.type is None and channel.pattern is not None:
        arguments.type = channel.pattern.replace("*", _WORD).replace(">", _WORD)
    return channel.queue_id


def _example(client: Discue, arguments: argparse.Namespace, queue_name: str) -> tuple[Any, dict[str, Any]]:
    """Return the data, and the fields of the message that belong to it."""
    known = None if arguments.type is None else readable(lambda: client.event_types.get(arguments.type))
    if known is not None and known.example is not None and not arguments.last:
        return known.example, {}
    queue = client.queues.get(queue_name)
    schema = queue.json_schema if queue.schema is None else rules_to_json_schema(queue.schema)
    if known is not None and known.json_schema is not None:
        schema = known.json_schema
    if schema is not None and not arguments.last:
        try:
            return example_of(schema), {}
        except NoExample as error:
            note(f"The schema gives no example ({error}). The last message is used.")
    last = client.messages.list(queue_name, data="true", limit=1).first()
    if last is None:
        name_it = "" if arguments.type else ", and name it with --type TYPE"
        or_publish = "" if arguments.source else f", or publish a message with `discue publish {queue.alias} DATA`"
        raise CommandFailed(
            f"Queue {queue.alias} has neither a schema nor a message to take an example from. Add an example with "
            f"`discue event-types set {arguments.type or 'TYPE'} --example JSON`{name_it}{or_publish}."
        )
    if last.data_base64 is not None:
        raise CommandFailed("The last message is not JSON. Publish bytes with `discue publish --file`.")
    return last.data, {name: value for name in ("type", "key", "headers") if (value := getattr(last, name))}


def _set(data: Any, path: list[str], value: Any) -> None:
    """Change a value. Raises UsageInvalid if the data has no such place."""
    *steps, last = path
    for step in steps:
        data = data.setdefault(step, {}) if isinstance(data, dict) else data[_index(data, step, path)]
    data[last if isinstance(data, dict) else _index(data, last, path)] = value


def _index(data: Any, step: str, path: list[str]) -> int:
    if isinstance(data, list) and step.isdecimal() and int(step) < len(data):
        return int(step)
    raise UsageInvalid(f"The data has no place {'.'.join(path)}: see it with --dry-run.")
