"""`discue listen`: forwards the messages of queues to a server on this machine, signed."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import os
import re
import secrets
import socket
from typing import Final, NamedTuple

from discue.cli.declarations import Command, argument, option, repeated, switch
from discue.cli.exit_codes import UsageInvalid
from discue.cli.output import say
from discue.cli.user.arguments import content_of, duration, header, json_of, moment, name, positive
from discue.cli.user.command import user_command
from discue.crypto.signing import SigningKey, decode_private_key, decode_secret, new_secret
from discue.domain.egress import Target, parse_target
from discue.domain.errors import DiscueError
from discue.domain.representation import shows

_CONCURRENCY: Final = 50
_LEASE_SECONDS: Final = 30
_TIMEOUT_SECONDS: Final = 15.0
_STYLES: Final = ("lines", "json", "quiet")
_SECRET_VARIABLE: Final = "DISCUE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
_PRIVATE_KEY: Final = "whsk_"
_LOCAL_NAMES: Final = (".localhost", ".local", ".test", ".internal", ".home.arpa")


def command() -> Command:
    return user_command(
        run,
        argument("url", "where to send the messages, such as http://localhost:8000/hook or 8000", nargs="?"),
        repeated("--queue QUEUE", "alias or id of a queue; can be repeated", name),
        switch("--all", "all queues that there are now, except system queues"),
        option("--types TYPES", "types or patterns of messages, such as 'order.* invoice.paid'", str.split),
        option("--filter JSON", "filter that messages must pass; @FILE reads it from a file"),
        option("--since TIME", "begin with messages of the past, such as 2h", moment),
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
        option("--output", "a line or a JSON object per request, or refusals only", choices=_STYLES, default="lines"),
        option("--count N", "end after N messages", positive),
        option("--for TIME", "end after this time", duration, dest="for_seconds"),
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


def run(arguments: argparse.Namespace) -> int | None:
    from discue.cli.user.listen_session import listen  # noqa: PLC0415 - it needs the client

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


def local_target(text: str, *, allow_remote: bool) -> Target:
    """Parse the URL to forward to. Raises UsageInvalid.

    Messages are forwarded to another machine only with `allow_remote`.
    """
    target = target_at(text)
    if not (allow_remote or _is_local(target)):
        raise UsageInvalid(
            f"{target.host} is another machine. Add --allow-remote if it may receive the messages of the queue."
        )
    return target


def target_at(text: str) -> Target:
    """Parse a URL or its short form: `8000/hook` and `localhost:8000/hook` mean HTTP on this machine.

    Raises UsageInvalid.
    """
    if text.partition("/")[0].isdecimal():
        text = f"localhost:{text}"
    url = text if "://" in text else f"http://{text}"
    try:
        return parse_target(url, "")
    except DiscueError as error:
        rule = error.faults[0].detail if error.faults else error.detail
        raise UsageInvalid(f"The URL {url} {rule}.") from None


def _is_local(target: Target) -> bool:
    if target.literal is not None:
        return not target.literal.is_global
    return "." not in target.host or target.host.endswith(_LOCAL_NAMES)


@shows("source")
class Signing(NamedTuple):
    """The keys that requests are signed with."""

    keys: tuple[SigningKey, ...]
    text: str
    """The secrets, separated by spaces: the value of `DISCUE_WEBHOOK_SECRET`."""
    source: str
    is_new: bool = False


def signing_of(given: str | None) -> Signing:
    """Return the secret that was given, that of the environment, or one of this user's own, which stays the same.

    The receiver is configured once: another run of the command signs with the same secret. Raises UsageInvalid.
    """
    if given:
        return Signing(keys_of(given, "--secret"), given, "--secret")
    if exported := os.environ.get(_SECRET_VARIABLE, ""):
        return Signing(keys_of(exported, _SECRET_VARIABLE), exported, _SECRET_VARIABLE)
    from discue.cli.user.profiles import folder, write_private  # noqa: PLC0415 - only this needs the client

    path = folder() / "listen-secret"
    kept = path.read_text("ascii").strip() if path.exists() else ""
    text = kept or new_secret(secrets.token_bytes)
    if not kept:
        write_private(path, text + "\n")
    return Signing(keys_of(text, str(path)), text, str(path), is_new=not kept)


def keys_of(text: str, source: str) -> tuple[SigningKey, ...]:
    try:
        return tuple(
            decode_private_key(each) if each.startswith(_PRIVATE_KEY) else decode_secret(each) for each in text.split()
        )
    except ValueError as error:
        # Without the text, which is a secret.
        raise UsageInvalid(f"{source} cannot sign: {error}. A public key (whpk_…) only verifies.") from None
