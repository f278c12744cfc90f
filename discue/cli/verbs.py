"""Commands that have verbs, such as `discue queues list`."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TypeAlias

from discue.cli.exit_codes import WRONG_USAGE

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name


def add_verbs(parser: argparse.ArgumentParser) -> Commands:
    """Return what the verbs of a command are added to. Without a verb, the command lists them as an error."""
    verbs = parser.add_subparsers(metavar="VERB")
    parser.set_defaults(start=partial(_list_verbs, parser, verbs), parser=parser)
    return verbs


def _list_verbs(parser: argparse.ArgumentParser, verbs: Commands, _: argparse.Namespace) -> int:
    lines = [f"  {each.dest:<9} {each.help}" for each in verbs._choices_actions]  # noqa: SLF001 - help lists them, too
    text = "\n".join([parser.format_usage(), *lines, "", f"{parser.prog}: error: a verb is missing"])
    sys.stderr.write(f"{text}\n")
    return WRONG_USAGE
