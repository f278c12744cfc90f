"""Runs the marked blocks of a page and returns what they print."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.cli.commands import PATIENCE_SECONDS, Output, Running, environment

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"

_BLOCK = re.compile(r"^<!-- (\w+)(?: (\S+))? -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "\x04the end"
_CHANGING = (
    (r"dsk_\w{53,}", "KEY"),
    (r"whsec_[A-Za-z0-9+/=]+", "SECRET"),
    (r"v1,[A-Za-z0-9+/=]{44}", "SIGNATURE"),
    (r"127\.0\.0\.1:\d+", "PLACE"),
    (r"\b[0-9A-Za-z]{21}\b", "ID"),
    (r"\b[0-9A-Za-z]{32}\b", "FILE"),
    (r"\b[0-9A-Za-z]{43}\b", "CONTENT"),
    (r"\b1\d{12}\b", "MILLISECONDS"),
    (r"\b1\d{9}\b", "SECONDS"),
    (r"\b\d\d:\d\d:\d\d\b", "CLOCK"),
    (r"discue([ /])\d+\.\d+\.\d+", r"discue\1VERSION"),
)


class Block(NamedTuple):
    """A marked block of a page: the kind of its mark, a file name or option, and its text."""

    kind: str
    name: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(kind, name or "", text) for kind, name, text in _BLOCK.findall(page)]


def without_what_changes(text: str) -> str:
    """Return the text with ids, times and keys replaced by placeholders."""
    for pattern, word in _CHANGING:
        text = re.sub(pattern, word, text)
    return text.strip()


class Session:
    """A shell, and a terminal for the listener, in the directory where `discue dev` runs."""

    def __init__(self, folder: Path, dev: Running, listener_port: int, *, has_fixed_url: bool = False) -> None:
        """With `has_fixed_url`, the blocks name the server by its usual URL instead of reading `.discue/url`."""
        self._port = dev.out.wait_for(r"is ready at http://127\.0\.0\.1:(\d+)")[1] if has_fixed_url else "3000"
        self._folder = folder
        self._dev = dev
        self._listener_port = listener_port
        self._command = self._printed = ""
        self._listener: Output | None = None
        self._processes: list[subprocess.Popen[str]] = []
        self._shell, self._shell_output = self._spawn("bash")

    def play(self, block: Block) -> str:
        """Run the block; return the output to compare with it."""
        # Without a fixed URL, commands find the server by `.discue/url`: port 3000 is not the one.
        text = block.text.replace("127.0.0.1:3000", f"127.0.0.1:{self._port}")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{self._listener_port}")
        text = text.replace('"127.0.0.1", 8000', f'"127.0.0.1", {self._listener_port}')
        match block.kind:
            case "file":
                (self._folder / block.name).write_text(text)
            case "run":
                self._command, self._printed = text, self._run(text)
            case "prints":
                if block.name == "eventually":
                    self._repeat_until(block.text)
                return self._printed
            case "dev":
                return self._shown_by(self._dev.out, block.text)
            case "start":
                command = self._run(f'echo "{text.strip()}"').strip()
                _, self._listener = self._spawn(*command.replace("python3", sys.executable, 1).split())
            case "listener":
                assert self._listener is not None
                return self._shown_by(self._listener, block.text)
            case unknown:
                raise AssertionError(f"the marker {unknown} is not known")
        return block.text

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        for output in (self._shell_output, self._listener):
            if output is not None:
                output.to_the_end()

    def _repeat_until(self, expected: str) -> None:
        """Repeat the last command until it prints `expected`, up to PATIENCE_SECONDS."""
        began = time.monotonic()
        while without_what_changes(self._printed) != without_what_changes(expected):
            assert time.monotonic() - began < PATIENCE_SECONDS, self._printed
            self._printed = self._run(self._command)

    def _run(self, commands: str) -> str:
        assert self._shell.stdin is not None
        already = len(self._shell_output.text)
        self._shell.stdin.write(f"{commands}\necho '{_END}'\n")
        self._shell.stdin.flush()
        self._shell_output.wait_for_count(_END, self._shell_output.text.count(_END) + 1)
        return self._shell_output.text[already:].partition(_END)[0]

    def _shown_by(self, output: Output, expected: str) -> str:
        """Wait until the output contains the lines of the block, and return them."""
        pattern = r"\n".join(_looks_like(line) for line in expected.strip().split("\n"))
        return output.wait_for(pattern)[0]

    def _spawn(self, *command: str) -> tuple[subprocess.Popen[str], Output]:
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        return process, Output(process.stdout)


def _looks_like(line: str) -> str:
    """Return a pattern for the line in which ids, times and keys may differ."""
    pattern = re.escape(without_what_changes(f"|{line}|")[1:-1])
    for word in ("KEY", "SECRET", "SIGNATURE", "PLACE", "ID", "MILLISECONDS", "SECONDS", "CLOCK", "VERSION"):
        pattern = re.sub(rf"\b{word}\b", r"[^\\n]+?", pattern)
    return pattern
