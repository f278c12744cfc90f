"""The entry point: parses the command line, and runs the command. Imports only the module of that command."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn

from discue import __version__
from discue.cli.declarations import add_parser
from discue.cli.exit_codes import FAILED, WRONG_USAGE, say_error

_FLAGS_SHOWN: Final = 25
"""Commands with more arguments than this do not repeat them in each error about usage."""
_CHOICES_SHOWN: Final = 12
"""An error lists the choices only if there are no more than this."""
_SHORT_USAGE: Final = "usage: {0} [FLAG ...]; `{0} --help` lists the flags\n"


class _Entry(NamedTuple):
    """A command, and what `discue --help` says about it without importing its module."""

    name: str
    module: str
    summary: str
    declared: str = "command"
    """The function of the module that returns the declaration."""


_OPERATE: Final = (
    _Entry("dev", "dev", "run a development server, with an inbox that shows received messages"),
    _Entry("demo", "demo", "show the dashboard of a shop with a day of traffic and some problems"),
    _Entry("serve", "serve", "serve the API and deliver messages"),
    _Entry("health", "health", "ask a running server whether it is ready"),
    _Entry("systemd", "systemd", "print a systemd unit that runs the service"),
    _Entry("init", "serve", "create the operator's organization in an empty database and print its first key", "init"),
    _Entry("keys", "keys", "create, list, disable, enable and delete API keys"),
    _Entry("organizations", "organizations", "list, suspend, resume and limit organizations"),
    _Entry("users", "users", "create users of the dashboard, and make links to choose a password"),
    _Entry("unlock", "unlock", "end lockouts after failed authentication attempts"),
    _Entry("migrate", "migrate", "apply pending migrations to the database"),
    _Entry("backup", "backup", "back up a SQLite database while it is served"),
    _Entry("restore", "backup", "restore a SQLite database from a backup", "restore"),
    _Entry("copy", "copy", "copy a database into an empty one"),
    _Entry("rotate-key", "rotate_key", "encrypt all secrets with the first configured key"),
    _Entry("check", "check", "check settings, database, encryption, port, clock, TLS files and disk for problems"),
)
"""Commands that work on the settings and the database of an installation."""

_USE: Final = (
    _Entry("login", "login", "store the URL of a service and an API key"),
    _Entry("whoami", "login", "show which service and key commands use, and where these come from", "whoami"),
    _Entry("publish", "publish", "publish a message, and print its id"),
    _Entry("listen", "listen", "forward messages of a queue to a server on this machine, signed"),
    _Entry("tail", "tail", "show attempts to deliver the messages of a queue as they happen"),
    _Entry("relay", "relay", "publish the messages that an application stores in the outbox of its database"),
    _Entry("trigger", "trigger", "publish an example message, from the event type, the schema or the last message"),
    _Entry("messages", "messages", "list, get and delete messages, and list missed ones"),
    _Entry("queues", "resources", "list, get, set and delete queues", "queues"),
    _Entry("listeners", "listeners", "list, get, set, disable, test and delete listeners"),
    _Entry("topics", "resources", "list, get, set and delete topics", "topics"),
    _Entry("channels", "resources", "list, get, set and delete channels", "channels"),
    _Entry("event-types", "resources", "list, get, set and delete the event types of the catalogue", "event_types"),
    _Entry("sources", "resources", "list, get, set and delete the sources of webhooks from other services", "sources"),
    _Entry("schedules", "resources", "list, get, set and delete schedules", "schedules"),
    _Entry("missed", "messages", "list why listeners missed messages, with a response for each cause", "missed"),
    _Entry("erasures", "resources", "erase all messages with a key, and list erasures", "erasures"),
    _Entry("redeliver", "jobs", "send missed messages of a listener again", "redeliver"),
    _Entry("replay", "jobs", "send a part of a queue to a listener again", "replay"),
    _Entry("verify", "verify", "say whether a received webhook is genuine, and if not, why"),
    _Entry("doctor", "doctor", "say why messages do not reach the URL of a listener"),
    _Entry("api", "api", "send any request to the API, and print the response"),
    _Entry("apply", "apply", "make event types, queues, listeners, schedules, topics and channels as a file says"),
    _Entry("completion", "completion", "print a script that completes commands and flags in a shell"),
)
"""Commands that send requests to a service, with an API key."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: see `exit_codes`."""
    # Characters that the terminal cannot encode must not fail a command.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    name = next((each for each in given if not each.startswith("-")), "")
    try:
        parsed, unknown = command_parser(name).parse_known_args(given)
        if unknown:
            parsed.parser.error(parsed.parser.unknown_arguments(unknown))
        code: int = parsed.start(parsed)
    except ModuleNotFoundError as error:
        from discue.testing import CLIENT, CLIENT_REMEDY  # noqa: PLC0415 - only errors need it

        if error.name != CLIENT:
            raise
        return say_error(f"`discue {name}` {CLIENT_REMEDY}", FAILED)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors suggest names, and are redacted: they may repeat an argument with a password."""

    def error(self, message: str) -> NoReturn:
        from discue.observability.logs import redact  # noqa: PLC0415 - only errors need it

        if len(self._actions) > _FLAGS_SHOWN:
            # The usage of a command that takes all settings would hide the error.
            self.exit(WRONG_USAGE, f"{_SHORT_USAGE.format(self.prog)}{self.prog}: error: {redact(message)}\n")
        super().error(redact(message))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse like argparse, and also accept an optional positional argument that flags separate from the others.

        Python 3.13 does this by itself.
        """
        parsed, unknown = super().parse_known_args(args, namespace)
        late = [each for each in unknown if each == "-" or not each.startswith("-")]
        optional = [each for each in self._actions if each.nargs == argparse.OPTIONAL and not each.option_strings]
        for action in optional:
            if late and getattr(parsed, action.dest) == action.default:
                setattr(parsed, action.dest, self._get_value(action, late[0]))
                unknown.remove(late.pop(0))
        return parsed, unknown

    def unknown_arguments(self, unknown: Sequence[str]) -> str:
        """Return the error for arguments that this parser does not know, without the values of flags."""
        flags = [argument.partition("=")[0] for argument in unknown if argument.startswith("-")]
        known = self._option_string_actions
        return f"unrecognized arguments: {', '.join(flag + _suggestion(flag, known) for flag in flags or unknown)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            known = [str(each) for each in action.choices or ()]
            close = _suggestion(str(value), known)
            if close or len(known) > _CHOICES_SHOWN:
                error.message = f"invalid choice: {value!r}{close or f'; `{self.prog} --help` lists what there is'}"
            raise


def _suggestion(word: str, known: Iterable[str]) -> str:
    from discue.domain.suggestions import suggestion  # noqa: PLC0415 - only errors need it

    return suggestion(word, known)


def command_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line: of all commands, or with the arguments of one only."""
    parser = _Parser(
        prog="discue",
        description="Asynchronous messaging over plain HTTP: publish a message, every listener receives it, signed.",
        epilog=_epilog(),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"discue {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", help="a command from the lists below")
    parser.set_defaults(start=partial(_show_commands, parser), parser=parser)
    for group, package in ((_OPERATE, "discue.cli"), (_USE, "discue.cli.user")):
        for command in group:
            if only in (None, command.name):
                module = import_module(f"{package}.{command.module}")
                add_parser(commands, command.name, command.summary, getattr(module, command.declared)())
            else:
                commands.add_parser(command.name)
    return parser


def _show_commands(parser: argparse.ArgumentParser, _: argparse.Namespace) -> int:
    parser.print_help(sys.stderr)
    sys.stderr.write("\ndiscue: error: a command is missing\n")
    return WRONG_USAGE


def _epilog() -> str:
    groups = (
        ("operate an installation, with its settings and its database", _OPERATE),
        ("use a service, over HTTP with an API key", _USE),
    )
    lists = [
        "\n".join([f"{title}:", *(f"  {each.name:<14} {each.summary}" for each in group)]) for title, group in groups
    ]
    closing = (
        "`discue COMMAND --help` shows the arguments of a command. Exit codes: 0 success, 1 failure, 2 wrong usage or\n"
        "invalid settings, 4 the API key is missing or not allowed, 5 the service does not respond."
    )
    return "\n\n".join([*lists, closing])
