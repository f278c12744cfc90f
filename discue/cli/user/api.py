"""`discue api`: sends any request to the API and prints the response."""

from __future__ import annotations

import argparse
import sys

from discue.cli.output import format_json, say
from discue.cli.user.arguments import content_of, header, idempotency_key, json_of
from discue.cli.user.command import WRITES_BODY, UsageInvalid, add_command, connect
from discue.cli.verbs import Commands

_METHODS = ("GET", "POST", "PUT", "DELETE")


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "api",
        run,
        summary="send any request to the API, and print the response",
        description="Requests that fail are sent again; a POST takes effect once. Output to a terminal is indented.",
        has_json=False,
    )
    parser.set_defaults(**{WRITES_BODY: True})
    parser.add_argument("method", type=str.upper, choices=_METHODS, help="method of the request, such as GET or POST")
    parser.add_argument("path", help="path, such as /queues?per_page=100 or /queues/orders/messages")
    parser.add_argument("--data", metavar="JSON", help="body of the request; @FILE reads it from a file, - from input")
    parser.add_argument(
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="NAME:VALUE",
        help="header of the request; can be repeated",
    )
    parser.add_argument("--idempotency-key", type=idempotency_key, metavar="KEY", help="key of a POST; default: random")


def run(arguments: argparse.Namespace) -> None:
    path = arguments.path if arguments.path.startswith("/") else f"/{arguments.path}"
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UsageInvalid("The path must be encoded: a space is %20.")
    body = {} if arguments.data is None else {"body": json_of(content_of(arguments.data), "The body")}
    with connect(arguments) as client:
        content = client.request(
            arguments.method,
            path,
            headers=dict(arguments.header),
            idempotency_key=arguments.idempotency_key,
            **body,
        )
    text = content.decode(errors="replace")
    say(format_json(content) if sys.stdout.isatty() and text.startswith(("{", "[")) else text)
