"""Names the arguments of a command in errors: a person has typed `--url`, not the member `/notify_url` of a body."""

import argparse
from collections.abc import Iterable
from typing import Final

_SENT_AS: Final = {
    "alias": "named",
    "data_base64": "file",
    "deliver_at": "delay",
    "expires_at": "expires_in",
    "retention_seconds": "retention",
}
"""Arguments by the members of requests that they are sent as, if the names differ."""


def with_arguments(text: str, pointers: Iterable[str], parser: argparse.ArgumentParser) -> str:
    """Return an error with the arguments of the command in place of these JSON pointers, as far as it has them."""
    # The longest first: one pointer may be the beginning of another one.
    for pointer in sorted(set(pointers), key=len, reverse=True):
        name = argument_of(pointer, parser)
        if name:
            for subject in (f"The value at {pointer} ", f"The query parameter {pointer.removeprefix('?')} "):
                text = text.replace(subject, f"{name} ")
            text = text.replace(f"{pointer}: ", f"{name}: ")
    return text


def argument_of(pointer: str, parser: argparse.ArgumentParser) -> str:
    """Return the argument that a JSON pointer or a query parameter is about, and the place within it; "" if none is."""
    member, slash, place = pointer.removeprefix("?").removeprefix("/").partition("/")
    shown = _shown(member, parser) or _shown(_SENT_AS.get(member, ""), parser)
    # The place of an element says nothing about an argument that is repeated.
    return f"{shown} at {slash}{place}" if shown and place and not place.isdecimal() else shown


def _shown(name: str, parser: argparse.ArgumentParser) -> str:
    """Return an argument as the command line has it: an option, or the usage's name of a positional one."""
    option = f"--{name.replace('_', '-')}"
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        if action.dest == name or option in action.option_strings:
            return action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
    return ""
