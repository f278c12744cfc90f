"""The priority of a process that makes backups."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="Other systems have no such policy"),
]

BUSY = "while True: pass"
_PATIENCE_SECONDS = 20.0
_PAUSE_SECONDS = 0.05


@contextmanager
def on_one_processor(program: str) -> Iterator[subprocess.Popen[bytes]]:
    processor = min(os.sched_getaffinity(0))
    pinned = f"import os; os.sched_setaffinity(0, {{{processor}}})\n{program}"
    with subprocess.Popen([sys.executable, "-c", pinned]) as process:
        try:
            yield process
        finally:
            process.kill()


def until_policy(process: subprocess.Popen[bytes], policy: int) -> None:
    ends_at = time.monotonic() + _PATIENCE_SECONDS
    while os.sched_getscheduler(process.pid) != policy:
        assert time.monotonic() < ends_at, f"the policy is {os.sched_getscheduler(process.pid)}"
        time.sleep(_PAUSE_SECONDS)


def test_backup_uses_idle_processors_unless_there_are_none() -> None:
    program = f"from discue.backup.schedule import _yield_processors; _yield_processors()\n{BUSY}"
    with on_one_processor(program) as backup:
        until_policy(backup, os.SCHED_IDLE)
        with on_one_processor(BUSY):
            until_policy(backup, os.SCHED_OTHER)
        until_policy(backup, os.SCHED_IDLE)
