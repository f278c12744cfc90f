"""`discue login`: stores the URL of a service and an API key."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable

from discue.cli.declarations import Command, option, switch
from discue.cli.exit_codes import UsageInvalid, say_error
from discue.cli.output import say
from discue.cli.user.command import exit_code, user_command
from discue.cli.user.whoami import limits_of


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
