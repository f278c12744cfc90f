"""Delayed messages: none comes before it is due."""

from collections.abc import Iterator

from tests.faults.history import History
from tests.faults.promises.calm import LONGEST_LIFE_SECONDS, clock_was_wrong
from tests.faults.promises.options import due_times

_MARGIN_SECONDS = 0.01
"""The wall clock is known that exactly."""


def early(history: History) -> Iterator[str]:
    due = due_times(history)
    for receipt in history.receipts:
        due_at = due.get(receipt.message, 0.0) - history.epoch
        if receipt.came_at >= due_at - _MARGIN_SECONDS:
            continue
        # The delay was added to the clock's time at the publish.
        if not clock_was_wrong(history, due_at - LONGEST_LIFE_SECONDS, due_at):
            yield f"{receipt.name} got {receipt.message} {due_at - receipt.came_at:.2f} s before it was due"
