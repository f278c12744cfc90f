"""Declarations of commands and their arguments, and the parsers that are made of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from discue.cli.exit_codes import WRONG_USAGE

Commands: TypeAlias = "argparse._SubParsersAction[Any]"  # noqa: SLF001 - it has no public name
Container: TypeAlias = "argparse._ActionsContainer"  # noqa: SLF001 - as above
Kind: TypeAlias = Callable[[str], Any]
"""Converts the text of an argument. Raises ArgumentTypeError, which says what is wrong with it."""


class Argument(NamedTuple):
    """An argument, in the words of argparse."""

    names: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def dest(self) -> str:
        """The name of the argument's value in Python."""
        return str(self.options.get("dest") or self.names[-1].lstrip("-").replace("-", "_"))

    def add_to(self, container: Container) -> None:
        container.add_argument(*self.names, **self.options)


class OneOf(NamedTuple):
    """Options that exclude each other."""

    arguments: tuple[Argument, ...]
    required: bool = False

    def add_to(self, container: Container) -> None:
        group = container.add_mutually_exclusive_group(required=self.required)
        for each in self.arguments:
            each.add_to(group)


def argument(name: str, usage: str, kind: Kind | None = None, **options: Any) -> Argument:
    """Return a positional argument."""
    return Argument((name,), {"help": usage, "type": kind, **options})


def option(form: str, usage: str, kind: Kind | None = None, **more: Any) -> Argument:
    """Return an option with a value, in the form `--limit N`, or only its name if it has a few choices."""
    name, _, metavar = form.partition(" ")
    return Argument((name,), {"metavar": metavar or None, "help": usage, "type": kind, **more})


def repeated(form: str, usage: str, kind: Kind | None = None, **more: Any) -> Argument:
    """Return an option that can be given several times, whose value is a list."""
    return option(form, usage, kind, action="append", default=[], **more)


def switch(name: str, usage: str, **more: Any) -> Argument:
    """Return an option without a value."""
    return Argument((name,), {"help": usage, "action": "store_true", **more})


JSON: Final = switch("--json", "print JSON instead of text")


class Command(NamedTuple):
    """A command, or a verb of one."""

    start: Callable[[argparse.Namespace], int]
    """Runs the command and returns its exit code."""
    arguments: tuple[Argument | OneOf, ...] = ()
    summary: str = ""
    """For verbs. The summaries of commands are in the table of `main`."""
    description: str = ""
    """Sentences that help shows after the summary."""
    defaults: Mapping[str, Any] = {}
    """Additional values of the parsed arguments."""
    add_settings: Callable[[argparse.ArgumentParser], None] = lambda _: None


class CommandGroup(NamedTuple):
    """A command that has verbs, such as `discue queues list`."""

    verbs: Mapping[str, Command]
    description: str = ""


def add_parser(commands: Commands, name: str, summary: str, declared: Command | CommandGroup) -> None:
    """Add the parser of a command, and those of its verbs. The parsed arguments have its `start` and its `parser`."""
    description = f"{summary[:1].upper()}{summary[1:]}. {declared.description}".rstrip()
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, allow_abbrev=False
    )
    parser.set_defaults(parser=parser)
    if isinstance(declared, CommandGroup):
        verbs = parser.add_subparsers(metavar="VERB")
        parser.set_defaults(start=partial(_list_verbs, declared))
        for verb, each in declared.verbs.items():
            add_parser(verbs, verb, each.summary, each)
        return
    for given in declared.arguments:
        given.add_to(parser)
    declared.add_settings(parser)
    parser.set_defaults(start=declared.start, **declared.defaults)


def _list_verbs(group: CommandGroup, parsed: argparse.Namespace) -> int:
    lines = [f"  {name:<9} {each.summary}" for name, each in group.verbs.items()]
    text = "\n".join([parsed.parser.format_usage(), *lines, "", f"{parsed.parser.prog}: error: a verb is missing"])
    sys.stderr.write(f"{text}\n")
    return WRONG_USAGE
