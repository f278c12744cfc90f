"""Commands in pages are commands that exist, with arguments that they take."""

import argparse
import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest

from discue.cli.main import command_parser
from discue.cli.user.wanted import read_wanted

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_in(page: str) -> list[list[str]]:
    lines = "".join(_BLOCK.findall(page)).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.replace("$(", "").replace(")", ""), comments=True) for line in lines]
    starts = [
        (each, index)
        for each in words
        for index, word in enumerate(each)
        # After -u, it is the name of the user.
        if (word.rpartition("=")[2] == "discue" or word.endswith("/bin/discue")) and each[index - 1] != "-u"
    ]
    # A redirection is for the shell.
    return [list(takewhile(lambda word: word != ">", each[index + 1 :])) for each, index in starts]


PAGES = {
    path.relative_to(DOCS).as_posix(): commands
    for path in DOCS.rglob("*.md")
    if (commands := commands_in(path.read_text()))
}


def test_pages_of_commands_have_some() -> None:
    assert PAGES.keys() >= {
        "apply.md",
        "commands.md",
        "deploy.md",
        "listen.md",
        "outbox.md",
        "testing.md",
        "webhooks.md",
    }


def test_commands_of_the_deployment_page_name_its_configuration() -> None:
    page = (DOCS / "deploy.md").read_text()
    commands = re.findall(r"discue (?:check|copy|health|rotate-key|systemd|unlock|users)\b[^`\n]* --?\w[^`\n]*", page)
    assert len(commands) >= 10
    assert [each for each in commands if "--config /etc/discue/discue.toml" not in each] == []


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    return command_parser()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_commands_of_a_page_take_its_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    for arguments in PAGES[name]:
        parser.parse_args(arguments)


def test_file_of_the_apply_page_can_be_read() -> None:
    (content,) = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "apply.md").read_text(), re.MULTILINE | re.DOTALL)

    assert [each.label for each in read_wanted(content.encode(), "discue.yaml").resources] == [
        "event_type invoice.paid",
        "queue invoices",
        "listener invoices/billing",
        "schedule invoices/nightly",
        "queue refunds",
        "queue customers/acme",
        "topic shop",
        "channel shop/refunds",
    ]
