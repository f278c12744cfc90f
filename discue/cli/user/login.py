"""`discue login` stores the URL of a service and an API key; `discue whoami` shows them, and their sources."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from discue.cli.declarations import Command, option, switch
from discue.cli.exit_codes import UsageInvalid, say_error
from discue.cli.output import note, say, say_fields, say_json, when
from discue.cli.user.command import connect, exit_code, readable, user_command

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client.models import Limits

_PREFIX: Final = "dsk_"
_ID_LENGTH: Final = 21
_SHOWN: Final = 12
_UNLIMITED: Final = 2_147_483_647


def command() -> Command:
    return user_command(
        run,
        option("--url URL", "URL of the service, such as https://discue.example.com"),
        switch("--key-stdin", "read the key from the standard input"),
        switch("--remove", "remove the profile and its key instead"),
        description="Asks for what is not given, tries the key, and stores both for later commands: the key in the "
        "keyring if the Python package keyring is installed, else in a file that only you can read.",
        has_json=False,
    )


def run(arguments: argparse.Namespace) -> int | None:
    # `discue --help` does not wait for the client.
    from discue.cli.user import profiles  # noqa: PLC0415
    from discue_client import ConnectionFailed, Discue, TimedOut, Unauthorized, UnexpectedResponse  # noqa: PLC0415
    from discue_client.profiles import DEFAULT  # noqa: PLC0415

    name = arguments.profile or DEFAULT
    if arguments.remove:
        profiles.remove(name)
        say(f"Profile {name} is removed.")
        return None
    url = arguments.url or _asked("URL of the service, such as https://discue.example.com: ", "--url")
    if not url:
        raise UsageInvalid("The URL of the service is empty.")
    key = _key(arguments)
    if not key:
        raise UsageInvalid("The API key is empty.")
    try:
        with Discue(url, key, attempts=1) as client:
            limits_of(client)
    except (Unauthorized, ConnectionFailed, TimedOut, UnexpectedResponse) as error:
        # Other commands advise to log in.
        return say_error(f"{error} Nothing is stored: correct the URL or the key, and try again.", exit_code(error))
    place = profiles.store(name, url.rstrip("/"), key)
    say(f"{url} accepts the key. Profile {name} is stored; its key is in {place}.")
    return None


def _asked(question: str, flag: str) -> str:
    if not sys.stdin.isatty():
        raise UsageInvalid(f"{flag} is missing, and there is no terminal to ask.")
    return _entered(input, question, flag)


def _key(arguments: argparse.Namespace) -> str:
    if arguments.key_stdin:
        return sys.stdin.readline().strip()
    if not sys.stdin.isatty():
        raise UsageInvalid("--key-stdin is missing, and there is no terminal to ask for the API key.")
    # It is not shown, and no argument takes it: other users of the machine can read arguments.
    return _entered(getpass.getpass, "API key: ", "--key-stdin")


def _entered(ask: Callable[[str], str], question: str, flag: str) -> str:
    try:
        return ask(question).strip()
    except EOFError:
        raise UsageInvalid(f"Nothing was entered. Without a terminal, give {flag}.") from None


def whoami() -> Command:
    return user_command(
        _whoami,
        switch("--offline", "ask nothing of the service"),
        description="The alias and the scopes are shown if the key may read keys.",
    )


def _whoami(arguments: argparse.Namespace) -> None:
    from discue.cli.user.profiles import hidden_server, target_of  # noqa: PLC0415 - as in `run`

    target = target_of(arguments.profile)
    shown: dict[str, Any] = {
        "url": target.url,
        "url_source": target.url_source,
        "key": f"{target.api_key[:_SHOWN]}…",
        "key_source": target.key_source,
    }
    if not arguments.offline:
        with connect(arguments) as client:
            shown |= _told(client, target.api_key)
    if arguments.json:
        say_json(shown)
        return
    say_fields(
        [
            ("service", f"{target.url} (from {target.url_source})"),
            ("key", f"{shown['key']} (from {target.key_source})"),
            ("alias", str(shown.get("alias", ""))),
            ("scopes", ", ".join(f"{name}:{access}" for name, access in shown.get("scopes", {}).items())),
            ("expires", when(shown.get("expires_at"))),
            ("requests left", str(shown.get("requests_left", ""))),
        ]
    )
    if hidden := hidden_server(target):
        note(hidden)


def _told(client: Discue, api_key: str) -> dict[str, Any]:
    """Return what the service says about the key. Raises Unauthorized if it does not accept it."""
    limits = limits_of(client)
    is_limited = limits is not None and limits.rate_limit.limit < _UNLIMITED
    shown: dict[str, Any] = {"requests_left": limits.rate_limit.remaining} if limits and is_limited else {}
    found = readable(lambda: client.api_keys.get(api_key.removeprefix(_PREFIX)[:_ID_LENGTH]))
    if found is not None:
        scopes = {name: scope["access"] for name, scope in found.scopes.items()}
        shown |= {"alias": found.alias, "scopes": scopes, "expires_at": found.expires_at}
    return shown


def limits_of(client: Discue) -> Limits | None:
    """Return the limits; None if the key may not read them. Raises Unauthorized if the service refuses the key."""
    from discue_client import Forbidden  # noqa: PLC0415 - `discue --help` does not wait for it

    try:
        return client.stats.limits()
    except Forbidden as error:
        if error.code != "scope_missing":
            raise
        return None
