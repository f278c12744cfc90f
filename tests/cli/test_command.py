import argparse
import asyncio
import re
from pathlib import Path

import pytest

from discue import __version__
from discue.cli.command import Invocation, Progress
from discue.config.settings import Settings
from discue.observability.logs import Log
from tests.cli.commands import run
from tests.support.clocks import StandingClock


def test_progress_is_a_line_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        clock = StandingClock()
        progress = Progress(Invocation(argparse.Namespace(), Settings(), clock, Log()))
        progress.begin(5_000)
        for second in range(12):
            progress.show("copying log", 100 * second)
            clock.advance(1_000)

    asyncio.run(work())

    assert capsys.readouterr().err == (
        "copying log: 500 of 5,000 rows, 10%, 100 per second\ncopying log: 1,000 of 5,000 rows, 20%, 100 per second\n"
    )


@pytest.mark.usefixtures("every_engine")
@pytest.mark.parametrize(
    "command",
    [
        ("keys", "list"),
        ("organizations", "list"),
        ("organizations", "suspend", "com.example.tenant"),
        ("users", "create", "ada@example.com"),
        ("unlock", "--list"),
        ("unlock", "--all"),
        ("rotate-key",),
        ("rotate-key", "--new-key"),
    ],
    ids=" ".join,
)
def test_missing_database_is_named_and_not_created(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run(tmp_path, *command)

    assert result.returncode == 1
    assert "discue: There is no database at " in result.stderr
    assert ". Pass the `--config FILE` or `--database URL`" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_migrate_creates_no_file(tmp_path: Path, options: tuple[str, ...]) -> None:
    result = run(tmp_path, "migrate", *options)

    assert (result.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "discue: There is no database at " in result.stderr


def test_version_is_shown(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == f"discue {__version__}\n"


def test_help_of_a_command_shows_its_own_defaults(tmp_path: Path) -> None:
    dev, serve = (" ".join(run(tmp_path, command, "--help").stdout.split()) for command in ("dev", "serve"))

    assert "[sqlite:///.discue/discue.db]" in dev
    assert "[sqlite:///discue.db]" in serve


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("user",), "error: argument COMMAND: invalid choice: 'user'; did you mean users?"),
        (("frobnicate",), "invalid choice: 'frobnicate'; `discue --help` lists what there is"),
        (("keys", "creat"), "invalid choice: 'creat'; did you mean create?"),
        (("serve", "--prot", "3001"), "unrecognized arguments: --prot; did you mean --port?"),
        (("keys", "list", "--jsn"), "unrecognized arguments: --jsn; did you mean --json?"),
        (
            ("serve", "--encrypton-key=hunter2"),
            "--encrypton-key; did you mean --encryption-key?",
        ),
        (("serve", "nonsense"), "unrecognized arguments: nonsense"),
    ],
    ids=lambda given: given[-1] if isinstance(given, tuple) else "",
)
def test_wrong_usage_names_the_nearest_command_or_flag(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run(tmp_path, *arguments)

    assert result.returncode == 2
    assert result.stderr.rstrip().endswith(message)
    assert "hunter2" not in result.stderr


def test_help_groups_settings_and_shows_choices(tmp_path: Path) -> None:
    shown = run(tmp_path, "serve", "--help").stdout
    titles = re.findall(r"^settings: (.+):$", shown, re.MULTILINE)
    log = shown.partition("settings: metrics and log:")[2].partition("settings:")[0]

    assert titles[0] == "database"
    assert len(titles) == len(set(titles)) == 9
    assert "--log-level {debug,info,warning,error}" in log
    assert "--port" not in log
