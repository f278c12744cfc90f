"""Commands in pages are commands that exist, with arguments that they take."""

import re
import shlex
from pathlib import Path

import pytest

from discue.cli.main import command_parser
from discue.cli.user.wanted import read_wanted

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_in(page: str) -> list[list[str]]:
    lines = "".join(_BLOCK.findall(page)).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.replace("$(", "").replace(")", ""), comments=True) for line in lines]
    starts = [(each, index) for each in words for index, word in enumerate(each) if word.rpartition("=")[2] == "discue"]
    return [each[index + 1 :] for each, index in starts]


@pytest.mark.parametrize("name", ["apply.md", "commands.md", "listen.md", "webhooks.md"])
def test_commands_of_a_page_take_its_arguments(name: str) -> None:
    found = commands_in((DOCS / name).read_text())

    assert found
    for arguments in found:
        command_parser().parse_args(arguments)


def test_file_of_the_apply_page_can_be_read() -> None:
    (content,) = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "apply.md").read_text(), re.MULTILINE | re.DOTALL)

    assert [each.label for each in read_wanted(content.encode(), "discue.yaml").resources] == [
        "queue orders",
        "listener orders/billing",
        "schedule orders/nightly",
        "queue refunds",
        "topic shop",
        "channel shop/refunds",
    ]
