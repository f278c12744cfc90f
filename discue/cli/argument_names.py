"""Names the arguments of a command in errors: a person has typed `--url`, not the member `/notify_url` of a body."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Final

_SENT_AS: Final[Mapping[str, tuple[str, ...]]] = {
    # Commands that make something with an alias take it in place of an option.
    "alias": ("listener", "named", "queue"),
    "created_after": ("since",),
    "created_before": ("until",),
    "data_base64": ("file",),
    "deliver_at": ("delay",),
    "expires_at": ("expires_in",),
    "from_at": ("since",),
    "headers": ("header",),
    "messages": ("message",),
    "mode": ("pull",),
    "notify_url": ("url",),
    "queue_id": ("queue",),
    "retention_seconds": ("retention",),
    "scopes": ("scope",),
    "until_at": ("until",),
}
"""Arguments by the members of requests that they are sent as, if the names differ. The first that exists counts."""


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
    for name in (member, *_SENT_AS.get(member, ())):
        shown = _shown(name, parser)
        # The place of an element says nothing about an argument that is repeated.
        if shown:
            return f"{shown} at {slash}{place}" if place and not place.isdecimal() else shown
    return ""


def _shown(name: str, parser: argparse.ArgumentParser) -> str:
    """Return an argument as the command line has it: an option, or what the usage calls a positional one."""
    option = f"--{name.replace('_', '-')}"
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        if option in action.option_strings:
            return option
        if not action.option_strings and action.dest == name:
            return str(action.metavar or action.dest)
    return ""
