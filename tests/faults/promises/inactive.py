"""Inactive listeners: they get nothing from when the service shows them as inactive until a probe succeeds."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby

from tests.faults.history import History, Probe, Receipt, SeenInactive
from tests.faults.promises.calm import taking_back, was_held_up

_FAILURES = 3
"""Probes in a row that make a listener inactive."""


def spared(history: History) -> Iterator[str]:
    probes: defaultdict[str, list[Probe]] = defaultdict(list)
    for probe in history.probes:
        probes[probe.name].append(probe)
    receipts: defaultdict[str, list[Receipt]] = defaultdict(list)
    for receipt in history.receipts:
        receipts[receipt.name].append(receipt)
    for name, of_one in groupby(history.inactive, key=lambda seen: seen.name):
        for seen in of_one:
            yield from _sent_to(history, seen, probes[name], receipts[name])


def _sent_to(history: History, seen: SeenInactive, probes: list[Probe], receipts: list[Receipt]) -> Iterator[str]:
    before = [probe for probe in probes if probe.at < seen.sent_at][-_FAILURES:]
    if len(before) < _FAILURES or any(probe.is_alive for probe in before):
        # It may just have answered one, and be tried.
        return
    until = min((probe.at for probe in probes if probe.is_alive and probe.at > seen.sent_at), default=float("inf"))
    # The worker that sends has to hear of it, too.
    known_at = seen.answered_at + history.bounds.notice_seconds + history.bounds.lateness_seconds
    for receipt in receipts:
        is_spared = known_at < receipt.came_at < until
        if is_spared and not _is_explained(history, seen, receipt):
            after = receipt.came_at - seen.answered_at
            yield f"{seen.name} got {receipt.message} {after:.2f} s after it was shown as inactive"


def _is_explained(history: History, seen: SeenInactive, receipt: Receipt) -> bool:
    return any(taking_back(history, seen.sent_at, receipt.came_at)) or any(
        receipt.worker in fault.workers and was_held_up(history, fault, receipt) for fault in history.faults
    )
