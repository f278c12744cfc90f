"""Logs: workers log errors only when a fault touches one of them: the others may wait for its locks."""

import json
from collections.abc import Iterator
from datetime import datetime

from tests.faults.history import History
from tests.faults.promises.calm import was_disturbed

_LINE_CHARACTERS = 600
_AFTER_SECONDS = 13.0
"""A worker waits 7 seconds for locks, which stay for up to 5 when the worker that has them is cut off."""


def explained(history: History) -> Iterator[str]:
    """Check the errors in what each worker said last. A wrong clock puts wrong times on them, and is a fault, too."""
    workers = {worker for fault in history.faults for worker in fault.workers}
    for worker, lines in history.said.items():
        for line in lines:
            entry = json.loads(line) if '"error"' in line else {}
            if entry.get("level") != "error":
                continue
            at = datetime.fromisoformat(entry["time"]).timestamp() - history.epoch
            if not any(was_disturbed(history, each, at - _AFTER_SECONDS, at) for each in workers):
                yield f"worker {worker} logged an error that no fault explains: {line[:_LINE_CHARACTERS]}"
