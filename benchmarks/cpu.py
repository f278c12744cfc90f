"""What a process has used, as the kernel counts it: all of its threads together."""

import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.support.postgres.processes import children_of

_TICKS = os.sysconf("SC_CLK_TCK")
_OF_ENDED_CHILDREN = slice(13, 15)
_OF_ALL_THREADS = 2
_IDLE = slice(3, 5)
_KIB = 1_024


class Memory(msgspec.Struct, frozen=True):
    """Bytes that are resident now, and at most so far."""

    resident: int
    peak: int


def cpu_seconds(pid: int) -> float:
    """User and system time of the process since its start. Raises OSError when it has ended."""
    # The clock of another process, as clock_getcpuclockid(3) makes its name: exact, where /proc has hundredths.
    return time.clock_gettime((~pid << 3) | _OF_ALL_THREADS)


def family_seconds(pid: int) -> float:
    """The same of a process and all that it started: the living, and those that have ended and were waited for."""
    children = sum(map(_seconds_if_it_lives, children_of(pid)))
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = sum(int(ticks) for ticks in after_name[_OF_ENDED_CHILDREN]) / _TICKS
    return children + ended + cpu_seconds(pid)


def memory(pid: int) -> Memory:
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sizes = {words[0]: words[1] for words in lines if len(words) > 1}
    return Memory(int(sizes["VmRSS:"]) * _KIB, int(sizes["VmHWM:"]) * _KIB)


def forget_peak(pid: int) -> None:
    """Let the peak of `memory` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def own_seconds() -> float:
    """CPU of this process and of all its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def busy_seconds(cores: Sequence[int]) -> float:
    """How long these cores have worked for anybody; time that a host took away from them is work, too."""
    fields = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    ticks = {line[0]: [int(tick) for tick in line[1:9]] for line in fields if line[0].startswith("cpu")}
    return sum(sum(ticks[f"cpu{core}"]) - sum(ticks[f"cpu{core}"][_IDLE]) for core in cores) / _TICKS


def _seconds_if_it_lives(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except OSError:
        return 0.0
