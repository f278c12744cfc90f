"""The priority of a process that makes backups: that of a server comes first."""

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Final

_NICENESS: Final = 10
_WATCH_SECONDS: Final = 2.0
_ENOUGH: Final = 0.25
"""The share of a processor with which the process goes on using idle ones only."""


def yield_processors() -> None:
    """Give this process a low priority. On Linux, its main thread uses only idle processors while there are enough.

    A program that wakes up takes its processor from such a thread at once. From one with a low priority, it may get it
    at the end of a time slice of some milliseconds, and a publish takes that much longer.
    """
    # Where a sandbox forbids it, the process has the priority of the server.
    with suppress(PermissionError):
        os.nice(_NICENESS)
    if sys.platform == "linux":
        threading.Thread(target=_watch_share, daemon=True).start()


def _watch_share() -> None:
    # If no processor is ever idle, the process would never end, and its read transaction would let the log grow.
    main_thread, used, has_enough = threading.main_thread().native_id or 0, time.process_time(), True
    while True:
        with suppress(PermissionError):
            os.sched_setscheduler(main_thread, os.SCHED_IDLE if has_enough else os.SCHED_OTHER, os.sched_param(0))
        time.sleep(_WATCH_SECONDS)
        used, before = time.process_time(), used
        has_enough = used - before >= _ENOUGH * _WATCH_SECONDS
