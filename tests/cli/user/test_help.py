"""The start of the program: help imports neither the service nor the client, and lists every command."""

import re
import subprocess
import sys

import pytest

from discue.cli.main import command_parser, main
from docs.commands_page import commands_of
from tests.cli.commands import environment

MOST_MODULES = 100
"""The service has 800. Imports are nearly all of the time that help takes."""
_LOADED = """
import sys

before = set(sys.modules)
from discue.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    print(len(set(sys.modules) - before))
    print(sorted({{"asyncio", "msgspec", "discue_client", "httpx2", "discue.config", "ssl"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["publish", "--help"], ["queues", "list", "--help"]], ids=" ".join)
def test_help_imports_few_modules_and_neither_the_service_nor_the_client(arguments: list[str]) -> None:
    script = _LOADED.format(arguments=arguments)
    shown = subprocess.run(
        [sys.executable, "-c", script], env=environment(), check=True, capture_output=True, text=True
    )

    *_, loaded, heavy = shown.stdout.splitlines()
    assert heavy == "[]"
    assert int(loaded) < MOST_MODULES


def test_every_command_that_needs_a_service_takes_a_profile() -> None:
    parsers = [parser for _, parser in commands_of(command_parser()) if parser.get_default("command") is None]

    assert len(parsers) > 10
    without = {each.prog for each in parsers if "--profile" not in each._option_string_actions}
    assert without == {"discue verify", "discue completion", "discue health"}


@pytest.mark.parametrize("group", ["keys", "organizations", "users", "messages", "queues", "listeners"])
def test_command_without_a_verb_lists_its_verbs(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group]) == 2
    shown = capsys.readouterr()

    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0] == f"usage: discue {group} [-h] VERB ..."
    assert re.search(r"^  list +list ", shown.err, re.MULTILINE)
    assert lines[-1] == f"discue {group}: error: a verb is missing"


def test_discue_without_a_command_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().err

    assert "  publish        publish a message, and print its id\n" in shown
    assert shown.endswith("\ndiscue: error: a command is missing\n")
