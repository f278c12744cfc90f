"""`discue unlock`: lists and ends lockouts after failed authentication attempts."""

import argparse
import json

from discue.auth.authenticator import sign_in_subject
from discue.auth.client_ip import UNKNOWN, canonical, subject_of
from discue.cli.command import Invocation, add_command, existing_installation, utc
from discue.cli.output import say
from discue.cli.verbs import Commands
from discue.dashboard.users import lockouts
from discue.domain.ids import is_public_id

_SHOWN = 1_000


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "unlock",
        _unlock,
        summary="end lockouts after failed authentication attempts",
        description="Resets the count of failed attempts, and of wrong codes of second factors. Safe while servers "
        "run; they apply the change within a second.",
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--key", type=_key, metavar="ID", help="unlock a key by its id, at all addresses")
    target.add_argument(
        "--address",
        type=_address,
        metavar="ADDRESS",
        help="unlock keys, unknown keys and sign-in at a client address; for IPv6, in its /64 and /48 networks",
    )
    target.add_argument("--user", metavar="EMAIL", help="unlock the sign-in of a user")
    target.add_argument(
        "--all",
        action="store_true",
        help="unlock all keys, addresses and users, and accept codes of second factors again",
    )
    target.add_argument("--list", action="store_true", help="list lockouts without changing anything")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _key(text: str) -> str:
    if not is_public_id(text):
        raise argparse.ArgumentTypeError("an id has 21 letters and digits; pass the id, not the whole key")
    return text


def _address(text: str) -> str:
    address = canonical(text.removesuffix("/64").removesuffix("/48"))
    if address == UNKNOWN:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address")
    return address


async def _unlock(call: Invocation) -> None:
    arguments = call.arguments
    async with existing_installation(call) as control:
        if arguments.list:
            found = await lockouts.active_lockouts(control, _SHOWN)
        elif arguments.all:
            found = await lockouts.unlock_all(control)
        elif arguments.key:
            found = await lockouts.unlock_key(control, arguments.key)
        elif arguments.address:
            networks = {subject_of(arguments.address), sign_in_subject(arguments.address).address}
            found = [lock for network in networks for lock in await lockouts.unlock_address(control, network)]
        else:
            found = await lockouts.unlock_user(control, arguments.user)
    if arguments.json:
        shown = [{**lock.subject._asdict(), "locked_until": lock.until} for lock in found]
        say(json.dumps({"locked" if arguments.list else "unlocked": shown}))
    elif not found:
        say("No lockouts." if arguments.list else "No lockout was in effect. The count of failed attempts is reset.")
    for lock in [] if arguments.json else found:
        until = f"locked out until {utc(lock.until):%Y-%m-%d %H:%M:%S} UTC" if arguments.list else "unlocked"
        label = lock.subject.label
        say(f"{label[0].upper()}{label[1:]}: {until}.")
