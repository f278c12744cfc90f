"""Rate limits: a listener gets requests no faster than its limit, from any number of workers."""

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.history import History, Receipt
from tests.faults.promises.calm import waited_to_connect, was_held_up


def kept(history: History) -> Iterator[str]:
    """In any stretch of time there are at most so many attempts as it brings, and a burst."""
    paced: defaultdict[str, list[Receipt]] = defaultdict(list)
    for receipt in history.receipts:
        if history.listeners[receipt.name].rate is not None:
            paced[receipt.name].append(receipt)
    for name, receipts in paced.items():
        yield from _too_fast(history, name, [each for each in receipts if not _began_earlier(history, each)])


def _began_earlier(history: History, receipt: Receipt) -> bool:
    """Whether it was held up, so that when it came says nothing about when it began."""
    touching = [fault for fault in history.faults if receipt.worker in fault.workers]
    return any(was_held_up(history, each, receipt) or waited_to_connect(history, each, receipt) for each in touching)


def _too_fast(history: History, name: str, receipts: list[Receipt]) -> Iterator[str]:
    rate = history.listeners[name].rate
    if rate is None:
        return
    apart_seconds = 1 / rate.per_second
    most_ahead = (rate.burst - 1) * apart_seconds + history.bounds.lateness_seconds
    full_at = 0.0
    for receipt in sorted(receipts, key=lambda receipt: receipt.came_at):
        if full_at - receipt.came_at > most_ahead:
            too_many = (full_at - receipt.came_at - most_ahead) * rate.per_second
            yield f"{name} got requests faster than its rate until {receipt.came_at:.1f} s: {too_many:.0f} too many"
        full_at = max(full_at, receipt.came_at) + apart_seconds
