"""A process of the run, on given cores."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from benchmarks.failure import BenchmarkFailed

_END_SECONDS = 15.0
_SIGNALLED_SECONDS = 30.0


class Child:
    """Says one line of JSON for each thing it has to say, and ends when its input closes: it never outlives us."""

    def __init__(self, cores: Sequence[int], name: str, command: Sequence[str]) -> None:
        self._name = name
        self._process = subprocess.Popen(
            ["taskset", "--cpu-list", ",".join(map(str, cores)), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def hear(self) -> dict[str, Any]:
        """What it says next. Raises BenchmarkFailed when it ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkFailed(f"The {self._name} ended with status {self._process.wait(_END_SECONDS)}.")
        heard: dict[str, Any] = msgspec.json.decode(line)
        return heard

    def tell(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(what) + b"\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, and wait until it has ended of it."""
        self._process.send_signal(number)
        try:
            self._process.wait(_SIGNALLED_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BenchmarkFailed(f"The {self._name} does not end of a {number.name}.") from error

    def stop(self) -> None:
        """Close its input and wait for its end; when that takes too long, kill it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(_END_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait(_END_SECONDS)
        finally:
            self._process.stdout.close()


def python(module: str, *arguments: str, interpreter: str = sys.executable) -> list[str]:
    """The command that runs a module of ours."""
    return [interpreter, "-m", module, *arguments]
