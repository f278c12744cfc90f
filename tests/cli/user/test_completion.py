"""Completion scripts: what bash completes with one, and that each script knows every command and flag."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from discue.cli.main import command_parser
from docs.commands_page import commands_of
from tests.cli.commands import run


def completed(folder: Path, *words: str) -> set[str]:
    """Return what bash completes the last word to."""
    script = run(folder, "completion", "bash").stdout
    quoted = " ".join(f'"{word}"' for word in ("discue", *words))
    ask = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _discue; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    shown = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{ask}"], cwd=folder, check=True, capture_output=True, text=True
    )
    assert shown.stderr == ""
    return set(shown.stdout.split())


def test_bash_completes_commands_verbs_flags_values_and_files(tmp_path: Path) -> None:
    (tmp_path / "zebra.json").touch()

    assert completed(tmp_path, "li") == {"listen", "listeners"}
    assert {"listen", "serve", "queues"} <= completed(tmp_path, "")
    assert completed(tmp_path, "queues", "") == {"list", "get", "set", "delete", "--help"}
    assert completed(tmp_path, "queues", "list", "--l") == {"--limit"}
    assert completed(tmp_path, "--help", "listen", "8000", "--output", "") == {"lines", "json", "quiet"}
    assert completed(tmp_path, "completion", "b") == {"bash"}
    assert completed(tmp_path, "publish", "orders", "zeb") == {"zebra.json"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_knows_every_command_and_flag(tmp_path: Path, shell: str) -> None:
    script = run(tmp_path, "completion", shell).stdout

    for path, parser in commands_of(command_parser()):
        assert path.removeprefix("discue ") in script
        for flag in parser._option_string_actions:
            if flag.startswith("--"):
                assert re.search(rf"(--|-l ){flag.removeprefix('--')}\b", script), flag


@pytest.mark.parametrize(("shell", "check"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_script_is_valid_in_its_shell(tmp_path: Path, shell: str, check: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(run(tmp_path, "completion", shell).stdout)

    assert subprocess.run([shell, check, "script"], cwd=tmp_path, check=False).returncode == 0
