"""Attempts: a request is one attempt on record. None is written twice within an attempt."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.faults.history import Fault, History, Receipt, Recorded
from tests.faults.promises.calm import was_held_up, was_stored
from tests.faults.promises.repeats import Assigned, Place


def recorded(history: History) -> Iterator[str]:
    """Check that each request belongs to an attempt on record, unless a fault kept its outcome from being stored."""
    if history.recorded is None:
        return
    on_record = Counter(history.recorded)
    received: defaultdict[Recorded, list[Receipt]] = defaultdict(list)
    for receipt in history.receipts:
        # The attempts of others, and of messages that are gone, are not found.
        if history.listeners[receipt.name].queue in history.incomplete:
            continue
        if receipt.name in history.counts and (not receipt.replay or receipt.replay in history.replay_counts):
            received[Recorded(receipt.name, receipt.message, receipt.number, receipt.replay)].append(receipt)
    faults = sorted(history.faults, key=lambda fault: fault.ended_at)
    unrecorded = [attempt for attempt, receipts in received.items() for _ in range(len(receipts) - on_record[attempt])]
    assigned = Assigned([list(_explaining(history, faults, received[attempt])) for attempt in unrecorded])
    for number, attempt in enumerate(unrecorded):
        if not assigned.place(number, lambda place: history.bounds.most_unrecorded * faults[place[0]].blows, set()):
            count = len(received[attempt])
            yield (
                f"{attempt.name} got {attempt.message} in {count} requests of attempt {attempt.number}, of which "
                f"{on_record[attempt]} are on record: no fault explains it"
            )


def _explaining(history: History, faults: list[Fault], receipts: list[Receipt]) -> Iterator[Place]:
    for index, fault in enumerate(faults):
        for receipt in receipts:
            if receipt.worker in fault.workers and _may_have_lost(history, fault, receipt):
                yield index, receipt.name, receipt.worker


def _may_have_lost(history: History, fault: Fault, receipt: Receipt) -> bool:
    """Return whether a fault may have kept the outcome of a request from being stored."""
    bounds = history.bounds
    is_over = bool(fault.ended) and receipt.at > fault.ended_at + bounds.recovery_seconds
    return not (is_over or was_stored(history, receipt.at, fault.began_at)) or was_held_up(history, fault, receipt)
