"""Completion scripts: what each shell completes with one, and that each script knows every command and flag."""

import os
import pty
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from discue.cli.main import command_parser
from docs.commands_page import commands_of
from tests.cli.commands import run

SHELLS = ("bash", "zsh", "fish")


def completed(shell: str, folder: Path, *words: str) -> set[str]:
    """Return what a shell completes the last word to."""
    if shutil.which(shell) is None and not os.environ.get("CI"):
        pytest.skip(f"{shell} is not installed")
    (folder / "_discue").write_text(run(folder, "completion", shell).stdout)
    ask = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return ask[shell](folder, words)


def _bash(folder: Path, words: tuple[str, ...]) -> set[str]:
    quoted = " ".join(f'"{word}"' for word in ("discue", *words))
    ask = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _discue; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    return set(_output(folder, "bash", "--norc", "-c", f"source ./_discue\n{ask}").split())


def _fish(folder: Path, words: tuple[str, ...]) -> set[str]:
    ask = f"source ./_discue; complete --do-complete 'discue {' '.join(words)}'"
    # Each line is a candidate and, after a tab, its description.
    return {line.partition("\t")[0] for line in _output(folder, "fish", "--no-config", "-c", ask).splitlines()}


def _output(folder: Path, *command: str) -> str:
    shown = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    assert shown.stderr == ""
    return shown.stdout


_ZSH = """
fpath=($PWD $fpath)
autoload -Uz compinit
compinit -C -d ./dump
compadd() {
  local -a matches
  # Calls with these options only fill arrays.
  if [[ " $* " != *' -'[OAD]' '* ]]; then
    builtin compadd -O matches "$@"
    print -rl -- $matches >>| matches
  fi
  builtin compadd "$@"
}
leave() { exit }
zle -N leave
bindkey '^G' leave
"""
"""Lets zsh write down what it completes. It completes only for somebody who types at a terminal."""


def _zsh(folder: Path, words: tuple[str, ...]) -> set[str]:
    (folder / "settings").write_text(_ZSH)
    (folder / "matches").write_text("")
    terminal, other_end = pty.openpty()
    variables = {**os.environ, "TERM": "dumb"}
    with subprocess.Popen(
        ["zsh", "-f", "-i"], cwd=folder, env=variables, stdin=other_end, stdout=other_end, stderr=other_end
    ):
        os.close(other_end)
        os.write(terminal, f"source ./settings\ndiscue {' '.join(words)}\t\a".encode())
        # Reading fails when the shell has ended.
        with suppress(OSError):
            while os.read(terminal, 4096):
                pass
    os.close(terminal)
    return set((folder / "matches").read_text().split())


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_completes_commands_verbs_flags_values_and_files(tmp_path: Path, shell: str) -> None:
    (tmp_path / "zebra.json").touch()

    assert completed(shell, tmp_path, "li") == {"listen", "listeners"}
    assert {"listen", "serve", "queues"} <= completed(shell, tmp_path, "")
    assert completed(shell, tmp_path, "queues", "") - {"--help"} == {"list", "get", "set", "delete"}
    assert completed(shell, tmp_path, "queues", "list", "--json", "--l") == {"--limit"}
    assert completed(shell, tmp_path, "--help", "listen", "8000", "--output", "") == {"lines", "json", "quiet"}
    assert completed(shell, tmp_path, "completion", "b") == {"bash"}
    assert completed(shell, tmp_path, "publish", "orders", "zeb") == {"zebra.json"}


@pytest.mark.parametrize("shell", SHELLS)
def test_script_knows_every_command_and_flag(tmp_path: Path, shell: str) -> None:
    script = run(tmp_path, "completion", shell).stdout

    for path, parser in commands_of(command_parser()):
        assert path.removeprefix("discue ") in script
        for flag in parser._option_string_actions:
            if flag.startswith("--"):
                assert re.search(rf"(--|-l ){flag.removeprefix('--')}\b", script), flag
