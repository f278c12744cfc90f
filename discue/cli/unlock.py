"""`discue unlock`: lists and ends lockouts after failed authentication attempts."""

import argparse

from discue.auth.authenticator import sign_in_subject
from discue.auth.client_ip import UNKNOWN, canonical, subject_of
from discue.cli.command import Invocation, existing_installation, operator_command, utc
from discue.cli.declarations import JSON, Command, OneOf, option, switch
from discue.cli.output import say, say_data
from discue.dashboard.users import command_line
from discue.domain.ids import is_public_id

_SHOWN = 1_000


def command() -> Command:
    targets = (
        option("--key ID", "unlock a key by its id, at all addresses", _key),
        option(
            "--address ADDRESS",
            "unlock keys, unknown keys and sign-in at a client address; for IPv6, in its /64 and /48 networks",
            _address,
        ),
        option("--user EMAIL", "unlock the sign-in of a user"),
        switch("--all", "unlock all keys, addresses and users, and accept codes of second factors again"),
        switch("--list", "list lockouts without changing anything"),
    )
    return operator_command(
        "unlock",
        _unlock,
        OneOf(targets, required=True),
        JSON,
        description="Resets the count of failed attempts, and of wrong codes of second factors. Safe while servers "
        "run; they apply the change within a second.",
    )


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
            found = await command_line.active_lockouts(control, _SHOWN)
        elif arguments.all:
            found = await command_line.unlock_all(control)
        elif arguments.key:
            found = await command_line.unlock_key(control, arguments.key)
        elif arguments.address:
            networks = {subject_of(arguments.address), sign_in_subject(arguments.address).address}
            found = [lock for network in networks for lock in await command_line.unlock_address(control, network)]
        else:
            found = await command_line.unlock_user(control, arguments.user)
    if arguments.json:
        shown = [{**lock.subject._asdict(), "locked_until": lock.until} for lock in found]
        say_data({"locked" if arguments.list else "unlocked": shown})
    elif not found:
        say("No lockouts." if arguments.list else "No lockout was in effect. The count of failed attempts is reset.")
    for lock in [] if arguments.json else found:
        until = f"locked out until {utc(lock.until):%Y-%m-%d %H:%M:%S} UTC" if arguments.list else "unlocked"
        label = lock.subject.label
        say(f"{label[0].upper()}{label[1:]}: {until}.")
