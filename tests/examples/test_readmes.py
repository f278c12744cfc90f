"""The commands of the examples' READMEs, as pasted into three terminals. `make clients` runs them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.commands import PATIENCE_SECONDS, Output
from tests.docs.quickstart import blocks
from tests.support.ports import free_port

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
NAMES = sorted(readme.parent.name for readme in EXAMPLES.glob("*/README.md"))
_APP_PORT = "8000"
_CHANGING = re.compile(r"\b[0-9A-Za-z]{21}\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")
"""Ids and times."""
_LISTENER = re.compile(r"discue listeners set (\w+ \w+)")


class Terminals:
    """Terminals in a copy of the folder of an example, with the programs of this environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DISCUE_"))}
        self._environment = {
            **ours,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "NO_PROXY": "*",
            # No profiles of this machine.
            "XDG_CONFIG_HOME": str(folder / "none"),
            "DISCUE_PORT": "0",
        }
        self._ports = {_APP_PORT: str(free_port())}

    def run(self, commands: str, *, must_succeed: bool = True) -> str:
        """Run commands to their end, and return what they print."""
        done = subprocess.run(
            ["bash", "-ec", self._here(commands)],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0 or not must_succeed, done.stdout
        return done.stdout

    def run_until(self, expected: str, commands: str) -> None:
        """Repeat commands until they print a text, in which ids and times may differ."""
        began = time.monotonic()
        while True:
            shown = self.run(commands, must_succeed=False)
            if _CHANGING.sub("", expected).rstrip() in _CHANGING.sub("", shown):
                return
            # Several programs start meanwhile, and a message may be retried: after 10 s in one of the examples.
            assert time.monotonic() - began < 3 * PATIENCE_SECONDS, shown

    @contextmanager
    def start(self, name: str, commands: str) -> Iterator[None]:
        """Run servers while the block runs. They must end by the signal of Ctrl-C."""
        process = subprocess.Popen(
            ["bash", "-ec", self._here(commands)],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        output = Output(process.stdout)
        try:
            if name == "dev":
                output.wait_for("is ready at http://")
            elif "granian" in commands:
                output.wait_for("Started worker-1")
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                output.to_the_end()

    def _here(self, text: str) -> str:
        for port, used in self._ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{used}").replace(f"--port {port}", f"--port {used}")
        return text


@pytest.mark.parametrize("name", NAMES)
def test_readme_works_as_pasted(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", "*.db"))
    # As in a clone: the configuration of the repository must not apply to the example.
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    page = (folder / "README.md").read_text()
    played = {(block.kind, block.name): block.text for block in blocks(page) if block.kind == "start"}
    steps = [block for block in blocks(page) if block.kind != "start"]
    assert [block.kind for block in steps] == ["run", "run", "prints"]
    publish, look, expected = (block.text for block in steps)
    terminals = Terminals(folder)

    assert re.search(r"^\d+ passed", terminals.run("pytest -q -p no:cacheprovider"), re.MULTILINE)
    with terminals.start("dev", played["start", "dev"]), terminals.start("app", played["start", "app"]):
        listener = _LISTENER.search(played["start", "app"])
        assert listener is not None
        # It gets the messages that are published from now on.
        terminals.run_until("waiting", f"discue listeners get {listener[1]}")
        terminals.run(publish)
        terminals.run_until(expected, look)
