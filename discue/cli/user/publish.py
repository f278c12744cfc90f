"""`discue publish`: publishes a message, or one for each line of the standard input."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from discue.cli.output import note, say, say_json
from discue.cli.user.arguments import content_of, duration, file_content, header, idempotency_key, json_of, name
from discue.cli.user.command import UsageInvalid, add_command, connect
from discue.cli.verbs import Commands

if TYPE_CHECKING:
    from concurrent.futures import Future


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "publish",
        run,
        summary="publish a message, and print its id",
        description="When it ends with 0, the message is stored and will be delivered. It is published once, however "
        "often the request had to be sent.",
    )
    parser.add_argument("queue", type=name, help="alias or id of the queue")
    parser.add_argument(
        "data", nargs="?", help="the data as JSON; @FILE reads it from a file, - from the standard input"
    )
    parser.add_argument("--text", action="store_true", help="the data is text, not JSON")
    parser.add_argument("--file", metavar="FILE", help="publish the bytes of a file as they are; needs --content-type")
    parser.add_argument("--lines", action="store_true", help="publish each line of the standard input as a message")
    parser.add_argument("--content-type", metavar="TYPE", help="media type of the data, such as image/png")
    parser.add_argument("--key", metavar="KEY", help="in an ordered queue, messages with the same key keep their order")
    parser.add_argument("--delay", type=duration, metavar="TIME", help="deliver it later, such as 10m or 2h")
    parser.add_argument("--expires-in", type=duration, metavar="TIME", help="do not deliver it after this time")
    parser.add_argument(
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="NAME:VALUE",
        help="header of each request to a listener; can be repeated",
    )
    parser.add_argument("--alias", metavar="ALIAS", help="name of the message, to find it again")
    parser.add_argument(
        "--idempotency-key",
        type=idempotency_key,
        metavar="KEY",
        help="a repeated command with the same key publishes nothing more for 24 hours",
    )


def run(arguments: argparse.Namespace) -> None:
    fields = _fields(arguments)
    if arguments.lines:
        _publish_lines(arguments, fields)
        return
    data = _data(arguments)
    with connect(arguments) as client:
        message = client.publish(arguments.queue, data, idempotency_key=arguments.idempotency_key, **fields)
    if arguments.json:
        say_json({"message": message})
    else:
        say(message.id)


def _fields(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {
        "key": arguments.key,
        "delay": arguments.delay,
        "expires_in": arguments.expires_in,
        "headers": dict(arguments.header) or None,
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
    content = content_of(arguments.data)
    return _text(content, "The data") if arguments.text else json_of(content, "The data (use --text for text)")


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageInvalid(f"{what} is not UTF-8. Publish bytes with --file and --content-type.") from None


def _publish_lines(arguments: argparse.Namespace, fields: dict[str, Any]) -> None:
    if arguments.data is not None or arguments.file is not None or arguments.idempotency_key is not None:
        raise UsageInvalid("--lines takes neither data nor --file nor --idempotency-key.")
    waiting: deque[tuple[int, Future[str]]] = deque()
    with connect(arguments) as client, client.publisher(arguments.queue) as publisher:
        for number, line in enumerate(sys.stdin.buffer, 1):
            content = line.rstrip(b"\r\n")
            if not content:
                continue
            waiting.append((number, publisher.submit(_line(number, content, arguments), **fields)))
            # Ids are printed in order as soon as they are known: nothing grows with the input.
            while waiting and waiting[0][1].done():
                _say_id(*waiting.popleft(), as_json=arguments.json)
        for each in waiting:
            _say_id(*each, as_json=arguments.json)


def _line(number: int, content: bytes, arguments: argparse.Namespace) -> Any:
    what = f"Line {number}"
    try:
        return _text(content, what) if arguments.text else json_of(content, f"{what} (use --text for text)")
    except UsageInvalid as error:
        raise UsageInvalid(f"{error} The lines before it are published.") from None


def _say_id(number: int, published: Future[str], *, as_json: bool) -> None:
    from discue_client import DiscueError  # noqa: PLC0415 - imported with the client

    try:
        message_id = published.result()
    except (DiscueError, KeyboardInterrupt):
        note(f"Line {number} is not confirmed. The lines before it are published, and later ones may be.")
        raise
    if as_json:
        say_json({"id": message_id})
    else:
        say(message_id)
