"""`discue login`: stores the URL of a service and an API key."""

from __future__ import annotations

import argparse
import getpass
import sys

from discue.cli.output import say
from discue.cli.user.command import UsageInvalid, add_command
from discue.cli.user.whoami import limits_of
from discue.cli.verbs import Commands


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "login",
        run,
        summary="store the URL of a service and an API key",
        description="Asks for what is not given, tries the key, and stores both for later commands: the key in the "
        "keyring if the Python package keyring is installed, else in a file that only you can read.",
        has_json=False,
    )
    parser.add_argument("--url", metavar="URL", help="URL of the service, such as https://discue.example.com")
    parser.add_argument("--key-stdin", action="store_true", help="read the key from the standard input")
    parser.add_argument("--remove", action="store_true", help="remove the profile and its key instead")


def run(arguments: argparse.Namespace) -> None:
    # `discue --help` does not wait for the client.
    from discue.cli.user import profiles  # noqa: PLC0415
    from discue_client import Discue  # noqa: PLC0415
    from discue_client.profiles import DEFAULT  # noqa: PLC0415

    name = arguments.profile or DEFAULT
    if arguments.remove:
        profiles.remove(name)
        say(f"Profile {name} is removed.")
        return
    url = arguments.url or _asked("URL of the service: ", "--url")
    key = _key(arguments)
    with Discue(url, key, attempts=1) as client:
        limits_of(client)
    place = profiles.store(name, url.rstrip("/"), key)
    say(f"{url} accepts the key. Profile {name} is stored; its key is in {place}.")


def _asked(question: str, flag: str) -> str:
    if not sys.stdin.isatty():
        raise UsageInvalid(f"{flag} is missing, and there is no terminal to ask.")
    return input(question).strip()


def _key(arguments: argparse.Namespace) -> str:
    if arguments.key_stdin:
        return sys.stdin.readline().strip()
    if not sys.stdin.isatty():
        raise UsageInvalid("--key-stdin is missing, and there is no terminal to ask for the API key.")
    # It is not shown, and no argument takes it: other users of the machine can read arguments.
    return getpass.getpass("API key: ").strip()
