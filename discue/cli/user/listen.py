"""`discue listen`: forwards the messages of queues to a server on this machine."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import os
import re
import socket
from typing import Final

from discue.cli.declarations import Command, argument, option, repeated, switch
from discue.cli.exit_codes import UsageInvalid
from discue.cli.output import say
from discue.cli.user.arguments import content_of, duration, header, json_of, moment, name, positive
from discue.cli.user.command import user_command

_CONCURRENCY: Final = 50
_LEASE_SECONDS: Final = 30
_TIMEOUT_SECONDS: Final = 15.0
_STYLES: Final = ("lines", "json", "quiet")


def command() -> Command:
    return user_command(
        run,
        argument("url", "where to send the messages, such as http://localhost:8000/hook or 8000", nargs="?"),
        repeated("--queue QUEUE", "alias or id of a queue; can be repeated", name),
        switch("--all", "all queues that there are now, except system queues"),
        option("--filter JSON", "filter that messages must pass; @FILE reads it from a file"),
        option("--since TIME", "begin with messages of the past, such as 2h", moment),
        *_REQUEST,
        *_OUTPUT,
        option("--name ALIAS", "alias of the listener; default: by user and URL", name),
        switch("--keep", "leave the listener at the end, so that messages wait"),
        option(
            "--concurrency N",
            f"requests at the same time for each queue; default: {_CONCURRENCY}",
            positive,
            default=_CONCURRENCY,
        ),
        option(
            "--lease TIME",
            f"how soon messages of a killed run come again; default: {_LEASE_SECONDS}s",
            duration,
            default=_LEASE_SECONDS,
        ),
        description="Makes a temporary listener and removes it on Ctrl-C. A message is acknowledged when the local "
        "server accepts it, so that nothing is lost while either of them sleeps, restarts or is killed: the next "
        "run of the same command continues. With --count or --for, exits with 1 if a message was refused, if fewer "
        "than --count messages came, or if none came. Also exits with 1 when the local server responds with 410.",
        has_json=False,
    )


_REQUEST: Final = (
    option(
        "--secret SECRET",
        "sign with this secret (whsec_…); default: DISCUE_WEBHOOK_SECRET, or one of your own that stays the same",
    ),
    switch("--print-secret", "print the secret that requests are signed with, and end"),
    repeated("--header NAME:VALUE", "additional header of each request; can be repeated", header),
    option(
        "--timeout TIME",
        f"how long the local server may take to respond; default: {_TIMEOUT_SECONDS:.0f}s",
        duration,
        default=_TIMEOUT_SECONDS,
    ),
    switch("--insecure", "accept any certificate of the local server"),
    option("--cacert FILE", "certificates in PEM that the local server is verified with"),
    switch("--allow-remote", "allow a URL on another machine"),
)
_OUTPUT: Final = (
    option("--output", "a line or a JSON object per request, or refusals only", choices=_STYLES, default=_STYLES[0]),
    option("--count N", "end after N messages", positive),
    option("--for TIME", "end after this time", duration, dest="for_seconds"),
)


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
