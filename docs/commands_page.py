"""The page of commands, from the parsers of the command line."""

import argparse
from collections.abc import Iterator

from discue.cli.main import command_parser
from discue.settings import SETTINGS
from discue.settings_sources import CONFIG_FLAG

_INTRODUCTION = f"""# Commands

<!-- Written by `make docs` from discue/cli/. -->

`discue --version` says which version this is, `discue COMMAND --help` what a command takes. Each command takes some of
the [settings](settings.md) as flags; those that it does not take can still come from the environment or from the file
that `{CONFIG_FLAG}` names.

| exit code | meaning |
| --- | --- |
| 0 | It did what it is for. A server that was asked to stop has drained. |
| 1 | It failed; the last line on the error output says why. `discue check` found a problem. A server was stopped twice. |
| 2 | Wrong usage, or settings that are not valid: all of them are listed, with the place each came from. |

What a command is asked for goes to the standard output, its log to the error output. All commands but `serve`, `dev`
and `copy` may be used while a server runs on the same database. A second server on an SQLite file says so, and ends; on
PostgreSQL any number of them may serve one database.
"""


def commands_page() -> str:
    """One section a command."""
    sections = [_section(path, parser) for path, parser in commands_of(command_parser())]
    return "\n".join([_INTRODUCTION, *sections])


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, also those below another one, with what is typed to call it."""
    for action in _actions(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no public way to ask
            for below in action.choices.values():
                yield from commands_of(below) if _has_commands(below) else [(below.prog, below)]


def own_arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What it takes beside settings and `--help`."""
    known = {setting.name for setting in SETTINGS} | {"config", "help"}
    return [action for action in _actions(parser) if action.dest not in known]


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001 - argparse has no public way to ask


def _has_commands(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(action, argparse._SubParsersAction) for action in _actions(parser))  # noqa: SLF001


def _section(path: str, parser: argparse.ArgumentParser) -> str:
    parts = [f"## {path}\n", f"{parser.description}\n"]
    own = own_arguments(parser)
    if own:
        rows = "".join(f"| {_spelling(action)} | {action.help} |\n" for action in own)
        parts.append(f"| argument | meaning |\n| --- | --- |\n{rows}")
    flags = [action.option_strings[0] for action in _actions(parser) if _is_setting(action)]
    parts.append(f"Settings: {', '.join(f'`{flag}`' for flag in flags)}.\n")
    base: dict[str, str] = parser.get_default("base")
    if base:
        changed = ", ".join(f"`{name}` is `{value}`" for name, value in base.items())
        parts.append(f"Defaults of its own: {changed}.\n")
    return "\n".join(parts)


def _is_setting(action: argparse.Action) -> bool:
    return action.dest in {setting.name for setting in SETTINGS}


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.dest.upper()}`"
    value = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
    return f"`{action.option_strings[0]}{value}`"
