"""Expiry: an expired message is not sent and counts as missed."""

from collections.abc import Iterator

from tests.faults.history import History, Receipt
from tests.faults.promises.calm import LONGEST_LIFE_SECONDS, clock_was_wrong, was_disturbed
from tests.faults.promises.counts import due_in
from tests.faults.promises.filters import Wanted
from tests.faults.promises.options import expiries


def expired(history: History) -> Iterator[str]:
    """No attempt of a message begins after it has expired."""
    expire_at = expiries(history)
    for receipt in history.receipts:
        if receipt.message in expire_at:
            expired_at = expire_at[receipt.message] - history.epoch
            if _is_late(history, receipt, expired_at):
                after = receipt.came_at - expired_at
                yield f"{receipt.name} got {receipt.message} {after:.2f} s after it had expired"


def _is_late(history: History, receipt: Receipt, expired_at: float) -> bool:
    if receipt.came_at <= expired_at + history.bounds.lateness_seconds:
        return False
    # A worker that is kept from running sends what it had begun when it goes on.
    disturbed = was_disturbed(history, receipt.worker, expired_at, receipt.came_at)
    return not disturbed and not clock_was_wrong(history, expired_at - LONGEST_LIFE_SECONDS, receipt.came_at)


def missed(history: History) -> Iterator[str]:
    """Check that messages that expired before they were acknowledged are listed as missed."""
    expiring, wanted = set(expiries(history)), Wanted(history)
    seen = history.acknowledged()
    for name, counts in history.counts.items():
        due = due_in(history.logs[history.listeners[name].queue], counts.start_seq)
        lost = set(wanted.of(name, due & expiring)) - seen[name]
        if counts.missed < len(lost):
            yield f"{name} did not get {len(lost)} messages that expired, and has missed {counts.missed}"
