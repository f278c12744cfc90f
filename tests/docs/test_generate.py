import argparse
import re
from typing import get_args

import pytest

from discue.cli.main import command_parser
from discue.config.settings import SETTINGS, Setting
from discue.domain.attempts import FailureKind
from discue.domain.errors import REASONS
from docs import generate
from docs.commands_page import commands_of, commands_page, own_arguments
from docs.reference_pages import FAILURES, reference_pages


def test_generated_pages_match_the_code() -> None:
    assert generate.stale() == [], "run `make docs`"


@pytest.fixture(scope="module")
def rows_of_settings() -> list[str]:
    return generate.settings_page().splitlines()


@pytest.fixture(scope="module")
def sections_of_commands() -> list[str]:
    return re.split(r"^## ", commands_page(), flags=re.MULTILINE)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_listed_with_its_flag_and_variable(rows_of_settings: list[str], setting: Setting) -> None:
    row = next(line for line in rows_of_settings if f"`{setting.flag}`" in line)

    assert f"`{setting.name}`" in row
    assert f"`{setting.variable}`" in row
    assert setting.help in row
    assert "|" not in setting.help + setting.type.expected


@pytest.mark.parametrize(
    ("path", "parser"), list(commands_of(command_parser())), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_is_listed_with_its_arguments(
    sections_of_commands: list[str], path: str, parser: argparse.ArgumentParser
) -> None:
    (own,) = [text for text in sections_of_commands if text.startswith(f"{path}\n")]

    assert str(parser.description) in own
    assert "Settings: ." not in own
    for action in own_arguments(parser):
        assert len(str(action.help)) > 15
        assert f"| {action.help} |" in own
        # Errors and `--help` name it so.
        assert action.option_strings or f"| `{str(action.metavar or action.dest).upper()}` |" in own


def test_every_error_code_is_in_the_reference_with_its_remedy() -> None:
    page = reference_pages()["reference/errors.md"]()
    assert all(f"| `{code}` | {reason.status} | " in page for code, reason in REASONS.items())
    assert all(reason.remedy in page for reason in REASONS.values())


def test_every_reason_of_a_failed_attempt_is_in_the_reference() -> None:
    assert set(get_args(FailureKind)) - {""} == FAILURES.keys()
    page = reference_pages()["reference/attempts.md"]()
    assert all(f"| `{kind}` | " in page for kind in FAILURES)
