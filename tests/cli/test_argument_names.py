from argparse import ArgumentParser

import pytest

from discue.cli.exit_codes import argument_of, with_arguments
from discue.cli.main import command_parser


def _parser_of(*command: str) -> ArgumentParser:
    """Return the parser of a command, as its errors use it."""
    parser: ArgumentParser = command_parser(command[0]).parse_known_args([*command])[0].parser
    return parser


@pytest.mark.parametrize(
    ("command", "pointer", "named"),
    [
        (["users", "create", "x"], "/email", "EMAIL"),
        (["users", "create", "x"], "/role", "--role"),
        (["keys", "create"], "/scopes/queues/targets", "--scope at /queues/targets"),
        (["organizations", "set", "x"], "/retention_seconds", "--retention"),
        (["publish", "q", "1"], "/data/order/total", "data at /order/total"),
        (["publish", "q", "1"], "/content_type", "--content-type"),
        (["publish", "q", "1"], "/messages/3", ""),
        (["queues", "set", "q"], "/alias", "queue"),
        (["listeners", "set", "q", "l"], "/alias", "listener"),
        (["listeners", "set", "q", "l"], "/notify_url", "--url"),
        (["listeners", "set", "q", "l"], "/headers/x-api", "--header at /x-api"),
        (["redeliver", "q", "l"], "/messages/0", "--message"),
        (["replay", "q", "l"], "/until_at", "--until"),
        (["messages", "list", "q"], "?state", "--state"),
        (["messages", "list", "q"], "?created_after", "--since"),
        (["listeners", "set", "q", "l"], "/timeout", ""),
    ],
    ids=str,
)
def test_pointer_is_named_as_the_argument_that_was_typed(command: list[str], pointer: str, named: str) -> None:
    assert argument_of(pointer, _parser_of(*command)) == named


def test_error_names_arguments_where_the_command_has_them() -> None:
    text = "The value at /headers must be short. (/headers/a: is long; /other: is wrong)"
    assert with_arguments(text, ["/headers", "/headers/a", "/other"], _parser_of("listeners", "set", "q", "l")) == (
        "--header must be short. (--header at /a: is long; /other: is wrong)"
    )
