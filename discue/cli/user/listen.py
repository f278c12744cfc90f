"""`discue listen`: forwards the messages of queues to a server on this machine."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import os
import re
import socket
from typing import Final

from discue.cli.output import say
from discue.cli.user.arguments import content_of, duration, header, json_of, moment, name, positive
from discue.cli.user.command import UsageInvalid, add_command
from discue.cli.verbs import Commands

_CONCURRENCY: Final = 50
_LEASE_SECONDS: Final = 30
_TIMEOUT_SECONDS: Final = 15.0
_STYLES: Final = ("lines", "json", "quiet")


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "listen",
        run,
        summary="forward messages of a queue to a server on this machine, signed",
        description="Makes a temporary listener and removes it on Ctrl-C. A message is acknowledged when the local "
        "server accepts it, so that nothing is lost while either of them sleeps, restarts or is killed: the next "
        "run of the same command continues. With --count or --for, exits with 1 if a message was refused, if fewer "
        "than --count messages came, or if none came. Also exits with 1 when the local server responds with 410.",
        has_json=False,
    )
    parser.add_argument("url", nargs="?", help="where to send the messages, such as http://localhost:8000/hook or 8000")
    parser.add_argument(
        "--queue",
        action="append",
        type=name,
        default=[],
        metavar="QUEUE",
        help="alias or id of a queue; can be repeated",
    )
    parser.add_argument("--all", action="store_true", help="all queues that there are now, except system queues")
    parser.add_argument("--filter", metavar="JSON", help="filter that messages must pass; @FILE reads it from a file")
    parser.add_argument("--since", type=moment, metavar="TIME", help="begin with messages of the past, such as 2h")
    _add_request(parser)
    _add_output(parser)
    parser.add_argument("--name", type=name, metavar="ALIAS", help="alias of the listener; default: by user and URL")
    parser.add_argument("--keep", action="store_true", help="leave the listener at the end, so that messages wait")
    parser.add_argument(
        "--concurrency",
        type=positive,
        default=_CONCURRENCY,
        metavar="N",
        help=f"requests at the same time for each queue; default: {_CONCURRENCY}",
    )
    parser.add_argument(
        "--lease",
        type=duration,
        default=_LEASE_SECONDS,
        metavar="TIME",
        help=f"how soon messages of a killed run come again; default: {_LEASE_SECONDS}s",
    )


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret",
        metavar="SECRET",
        help="sign with this secret (whsec_…); default: DISCUE_WEBHOOK_SECRET, or one of your own that stays the same",
    )
    parser.add_argument(
        "--print-secret", action="store_true", help="print the secret that requests are signed with, and end"
    )
    parser.add_argument(
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="NAME:VALUE",
        help="additional header of each request; can be repeated",
    )
    parser.add_argument(
        "--timeout",
        type=duration,
        default=_TIMEOUT_SECONDS,
        metavar="TIME",
        help=f"how long the local server may take to respond; default: {_TIMEOUT_SECONDS:.0f}s",
    )
    parser.add_argument("--insecure", action="store_true", help="accept any certificate of the local server")
    parser.add_argument("--cacert", metavar="FILE", help="certificates in PEM that the local server is verified with")
    parser.add_argument("--allow-remote", action="store_true", help="allow a URL on another machine")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", choices=_STYLES, default=_STYLES[0], help="a line or a JSON object per request, or refusals only"
    )
    parser.add_argument("--count", type=positive, metavar="N", help="end after N messages")
    parser.add_argument("--for", dest="for_seconds", type=duration, metavar="TIME", help="end after this time")


def run(arguments: argparse.Namespace) -> int | None:
    # A tenth of a second that `discue listen --help` does not take.
    from discue.cli.user.listening.run import listen  # noqa: PLC0415
    from discue.cli.user.listening.target import signing_of  # noqa: PLC0415

    if arguments.print_secret:
        say(signing_of(arguments.secret).text)
        return None
    if arguments.url is None:
        raise UsageInvalid("The URL of the local server is missing, such as http://localhost:8000/hook.")
    if arguments.queue and arguments.all:
        raise UsageInvalid("Give either --queue or --all, not both.")
    if not (arguments.queue or arguments.all):
        raise UsageInvalid("Name the queues with --queue, or take all of them with --all.")
    if arguments.filter is not None:
        arguments.filter = json_of(content_of(arguments.filter), "The filter")
    arguments.name = arguments.name or listener_name(arguments.url)
    return listen(arguments)


def listener_name(url: str) -> str:
    """Return the alias of this user's listener for a URL: the same in each run, and another one for another URL."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # Containers often run under a number that has no name.
        user = str(os.getuid())
    person = re.sub(r"[^A-Za-z0-9._-]", "-", f"{user}-{socket.gethostname()}")[:40]
    return f"listen/{person}/{hashlib.sha256(url.encode()).hexdigest()[:8]}"
