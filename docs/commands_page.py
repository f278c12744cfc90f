"""The page of commands, written from the argument parsers."""

import argparse
from collections.abc import Iterator

from discue.cli.main import command_parser
from discue.config.settings import SETTINGS
from discue.config.sources import CONFIG_FLAG

_INTRODUCTION = f"""# Commands

<!-- Written by `make docs` from discue/cli/. -->

For everyone. `discue COMMAND --help` shows a command's arguments, `discue --version` the version. After `make run`, the command is
`.venv/bin/discue`.

```sh
discue login                          # asks for the URL of the service and an API key
discue publish orders '{{"order": 17}}'
discue messages list orders
```

From [login](#discue-login) on, commands use a service over HTTP, with an API key. The first of these that exists names the service:

1. the profile that `--profile` names,
2. `DISCUE_URL` and `DISCUE_API_KEY`,
3. the profile `default`, which `discue login` stores,
4. the server of `discue dev` that was started in the same directory.

Profiles are in `~/.config/discue` (or `$XDG_CONFIG_HOME/discue`), in a file that only you can read. A stored key is never sent to
another URL. While the service does not respond, commands try for up to 10 seconds, and say so after one.
With `--json`, a command prints what the API returns. `NO_COLOR` turns colours off; only terminals get them.

The commands before that are for operators and work on the database of an installation, so `discue keys`, `discue users` and
`discue organizations` need no API key: `keys` and `users` make the first key and the first user. Over HTTP,
`discue api GET /api_keys` lists keys, too. They take some of the [settings](settings.md) as flags; set the others in the
environment or in the file that `{CONFIG_FLAG}` names. In a directory with the data of `discue dev` and no `discue.db`, `keys`,
`organizations`, `users`, `unlock` and `rotate-key` use the database of `discue dev`.

| exit code | meaning |
| --- | --- |
| 0 | Success. A server that received SIGTERM has drained. |
| 1 | Failure: the last line of the error output says why. `discue check` found a problem. A server was stopped by a second signal, more than a second after the first. |
| 2 | Wrong usage or invalid settings: all of them are listed, each with its source. |
| 4 | The API key is missing, is not accepted, or lacks a scope. |
| 5 | The service does not respond, or something other than discue does. |

Commands write their result to the standard output, and their log and errors to the error output. All commands of operators except
`serve`, `dev` and `copy` can be used while a server runs on the same database. A second server on an SQLite file reports that and exits; on PostgreSQL, any number of
servers share a database.
"""


def commands_page() -> str:
    """Return the page with one section per command."""
    sections = [_section(path, parser) for path, parser in commands_of(command_parser())]
    return "\n".join([_INTRODUCTION, *sections])


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command and subcommand, with the words that call it."""
    for action in _actions(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no public way to ask
            for below in action.choices.values():
                yield from commands_of(below) if _has_commands(below) else [(below.prog, below)]


def own_arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return its arguments that are neither settings nor `--help`. Commands of users have no settings."""
    settings = {"config", *(setting.name for setting in SETTINGS)} if parser.get_default("command") else set()
    known = settings | {"help"}
    return [action for action in _actions(parser) if action.dest not in known and action.help != argparse.SUPPRESS]


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
    if parser.get_default("command") is None:
        # A command of users has no settings.
        return "\n".join(parts)
    if settings := _settings_of(parser):
        parts.append(f"Settings: {settings}.\n")
    base: dict[str, str] = parser.get_default("base")
    if base:
        changed = ", ".join(f"`{name}` is `{value}`" for name, value in base.items())
        parts.append(f"Different defaults: {changed}.\n")
    return "\n".join(parts)


def _settings_of(parser: argparse.ArgumentParser) -> str:
    """Return the settings that the command takes as flags, or those that it does not if these are fewer."""
    names = {action.dest for action in _actions(parser)}
    taken = [f"`{setting.flag}`" for setting in SETTINGS if setting.name in names]
    left_out = [f"`{setting.flag}`" for setting in SETTINGS if setting.name not in names]
    if len(taken) <= len(left_out):
        return ", ".join(taken)
    return f"all except {', '.join(left_out)}" if left_out else "all"


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{str(action.metavar or action.dest).upper()}`"
    value = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
    return f"`{action.option_strings[0]}{value}`"
