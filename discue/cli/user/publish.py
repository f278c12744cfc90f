"""`discue publish`: publishes a message, or one for each line of the standard input."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from discue.cli.declarations import Command, argument, option, switch
from discue.cli.exit_codes import UsageInvalid
from discue.cli.output import note, say_result
from discue.cli.user.arguments import (
    DELAY,
    HEADERS,
    TYPE,
    content_of,
    duration,
    file_content,
    idempotency_key,
    json_of,
    name,
)
from discue.cli.user.command import connect, readable, user_command

if TYPE_CHECKING:
    from concurrent.futures import Future

    from discue_client import Discue
    from discue_client.models import Message, TopicMessage


def command() -> Command:
    return user_command(
        run,
        argument("queue", "alias or id of the queue, or of the topic with --topic", name),
        argument("data", "the data as JSON; @FILE reads it from a file, - from the standard input", nargs="?"),
        switch("--text", "the data is text, not JSON"),
        option("--file FILE", "publish the bytes of a file as they are; needs --content-type"),
        switch("--lines", "publish each line of the standard input as a message"),
        option("--content-type TYPE", "media type of the data, such as image/png"),
        TOPIC,
        TYPE,
        option("--key KEY", "in an ordered queue, messages with the same key keep their order"),
        DELAY,
        option("--expires-in TIME", "do not deliver it after this time", duration),
        HEADERS,
        option("--alias ALIAS", "name of the message, to find it again"),
        option(
            "--idempotency-key KEY",
            "a repeated command with the same key publishes nothing more for 24 hours",
            idempotency_key,
        ),
        description="When it ends with 0, the message is stored and will be delivered. It is published once, however "
        "often the request had to be sent.",
    )


TOPIC: Final = switch("--topic", "publish to a topic instead of a queue")


def publish(
    client: Discue, arguments: argparse.Namespace, data: Any, fields: dict[str, Any], *, idempotency_key: str | None
) -> Message | TopicMessage:
    """Publish a message to the queue or the topic that the arguments name."""
    from discue_client import NotFound  # noqa: PLC0415 - imported by now

    if arguments.topic:
        sent = client.topics.publish(arguments.queue, data, idempotency_key=idempotency_key, **fields)
        if not sent.queues:
            note(f"No channel of the topic {arguments.queue} accepts the message: it is not stored.")
        return sent
    try:
        return client.publish(arguments.queue, data, idempotency_key=idempotency_key, **fields)
    except NotFound as error:
        if readable(lambda: client.topics.get(arguments.queue)) is not None:
            error.add_note(f"There is a topic {arguments.queue}: add --topic to publish to it.")
        raise


def run(arguments: argparse.Namespace) -> None:
    fields = _fields(arguments)
    if arguments.lines:
        _publish_lines(arguments, fields)
        return
    data = _data(arguments)
    with connect(arguments) as client:
        message = publish(client, arguments, data, fields, idempotency_key=arguments.idempotency_key)
    say_result({"message": message}, message.id, as_json=arguments.json)


def _fields(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {
        "type": arguments.type,
        "key": arguments.key,
        "delay": arguments.delay,
        "expires_in": arguments.expires_in,
        "headers": dict(arguments.headers) or None,
        "alias": arguments.alias,
        "content_type": arguments.content_type,
    }
    return {each: value for each, value in given.items() if value is not None}


def _data(arguments: argparse.Namespace) -> Any:
    if (arguments.data is None) == (arguments.file is None):
        raise UsageInvalid("Give the data, or --file, or --lines.")
    if arguments.file is not None:
        if arguments.content_type is None:
            raise UsageInvalid("--file needs --content-type: receivers must know what the bytes are.")
        return file_content(arguments.file)
    return _parsed(arguments, content_of(arguments.data), "The data")


def _parsed(arguments: argparse.Namespace, content: bytes, what: str) -> Any:
    if not arguments.text:
        return json_of(content, f"{what} (use --text for text)")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageInvalid(f"{what} is not UTF-8. Publish bytes with --file and --content-type.") from None


def _publish_lines(arguments: argparse.Namespace, fields: dict[str, Any]) -> None:
    if arguments.data is not None or arguments.file is not None or arguments.idempotency_key is not None:
        raise UsageInvalid("--lines takes neither data nor --file nor --idempotency-key.")
    if arguments.topic:
        with connect(arguments) as client:
            for number, data in _lines(arguments):
                with _named(number):
                    sent = publish(client, arguments, data, fields, idempotency_key=None)
                say_result({"id": sent.id}, sent.id, as_json=arguments.json)
        return
    waiting: deque[tuple[int, Future[str]]] = deque()
    with connect(arguments) as client, client.publisher(arguments.queue) as publisher:
        for number, data in _lines(arguments):
            waiting.append((number, publisher.submit(data, **fields)))
            # Ids are printed in order as soon as they are known: nothing grows with the input.
            while waiting and waiting[0][1].done():
                _say_id(*waiting.popleft(), as_json=arguments.json)
        for each in waiting:
            _say_id(*each, as_json=arguments.json)


def _lines(arguments: argparse.Namespace) -> Iterator[tuple[int, Any]]:
    """Yield the data of each line of the standard input that is not empty, with its number."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        if content := line.rstrip(b"\r\n"):
            try:
                data = _parsed(arguments, content, f"Line {number}")
            except UsageInvalid as error:
                raise UsageInvalid(f"{error} The lines before it are published.") from None
            yield number, data


def _say_id(number: int, published: Future[str], *, as_json: bool) -> None:
    with _named(number):
        message_id = published.result()
    say_result({"id": message_id}, message_id, as_json=as_json)


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Name the line whose message was not confirmed."""
    from discue_client import DiscueError  # noqa: PLC0415 - imported with the client

    try:
        yield
    except (DiscueError, KeyboardInterrupt):
        note(f"Line {number} is not confirmed. The lines before it are published, and later ones may be.")
        raise
