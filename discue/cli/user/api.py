"""`discue api`: sends any request to the API and prints the response."""

from __future__ import annotations

import argparse
import sys

from discue.cli.declarations import Command, argument, option, repeated
from discue.cli.exit_codes import UsageInvalid
from discue.cli.output import format_json, say
from discue.cli.user.arguments import content_of, header, idempotency_key, json_of
from discue.cli.user.command import connect, user_command

_METHODS = ("GET", "POST", "PUT", "DELETE")


def command() -> Command:
    return user_command(
        run,
        argument("method", "method of the request, such as GET or POST", str.upper, choices=_METHODS),
        argument("path", "path, such as /queues?per_page=100 or /queues/orders/messages"),
        option("--data JSON", "body of the request; @FILE reads it from a file, - from input"),
        repeated("--header NAME:VALUE", "header of the request; can be repeated", header),
        option("--idempotency-key KEY", "key of a POST; default: random", idempotency_key),
        description="Requests that fail are sent again; a POST takes effect once. Output to a terminal is indented.",
        has_json=False,
        writes_body=True,
    )


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
