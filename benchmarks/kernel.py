"""The system calls and context switches of a process, counted by `perf`."""

import signal
import subprocess
from types import TracebackType
from typing import Self

from benchmarks.failure import BenchmarkFailed

_EVENTS = ("raw_syscalls:sys_enter", "context-switches")
_START_SECONDS = 10.0


class KernelCalls:
    """Counts the calls of all threads of a process while the block runs. Needs `perf`, root and a mounted tracefs."""

    def __init__(self, pid: int) -> None:
        self._command = ["perf", "stat", "-x", ";", "-e", ",".join(_EVENTS), "-p", str(pid)]
        self.system_calls = 0
        self.context_switches = 0

    def __enter__(self) -> Self:
        try:
            self._perf = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise BenchmarkFailed("Cannot count system calls: install `perf` (Debian: linux-perf).") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._perf.send_signal(signal.SIGINT)
        _, text = self._perf.communicate(timeout=_START_SECONDS)
        counts = [line.split(";")[0] for line in text.splitlines() if line.count(";") > 2]
        if len(counts) != len(_EVENTS) or not all(count.isdecimal() for count in counts):
            raise BenchmarkFailed(f"Cannot count system calls: {text.strip()}")
        self.system_calls, self.context_switches = map(int, counts)
