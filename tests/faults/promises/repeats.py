"""Duplicates: an acknowledged message repeats only if a fault explains it, at most once per request in flight."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from tests.faults.history import Fault, History, Receipt
from tests.faults.promises.calm import waited_to_connect, was_held_up, was_stored

_TURN_SECONDS = 1.0


class Repeat(NamedTuple):
    """A receipt that was answered 200, and the next one of the same message by the same listener and replay."""

    first: Receipt
    again: Receipt


Place = tuple[int, str, int]
"""A fault, by its number, and the listener and the worker whose requests in flight it hit."""


class Repeats(msgspec.Struct):
    """How many there were, how many could have been, and which are one too many."""

    count: int
    allowed: int
    by_kind: Counter[str]
    unexplained: list[Repeat]


def repeats(history: History) -> Repeats:
    """Hand each repeat to a fault that explains it, so that as many as can be are explained."""
    found = sorted(_all(history), key=lambda repeat: repeat.first.at)
    faults = sorted(history.faults, key=lambda fault: fault.ended_at)
    assigned = Assigned([list(_explaining(history, faults, repeat)) for repeat in found])
    most = history.bounds.most_unrecorded
    unexplained = [
        repeat
        for number, repeat in enumerate(found)
        if not assigned.place(number, lambda place: most * faults[place[0]].blows, set())
    ]
    by_kind = Counter({faults[place[0]].kind: 0 for place in assigned.taken})
    for place, numbers in assigned.taken.items():
        by_kind[faults[place[0]].kind] += len(numbers)
    return Repeats(len(found), _allowed(history), by_kind, unexplained)


def repeated(history: History) -> Iterator[str]:
    for first, again in repeats(history).unexplained:
        yield (
            f"{first.name} acknowledged {first.message} to worker {first.worker} and got it again "
            f"{again.came_at - first.at:.2f} s later from worker {again.worker}: no fault explains so many duplicates"
        )


def contested(history: History) -> Iterator[str]:
    """Find listeners that two workers deliver to in turns: each assumes that it owns the cursor.

    A request that was on its way while its worker was cut off may arrive when another worker owns the cursor. A worker
    that restarts hands its cursors over, and may get them back as soon as it has started.
    """
    restarts = [fault.began_at for fault in history.faults if fault.kind == "restart"]
    by_listener: defaultdict[str, list[Receipt]] = defaultdict(list)
    for receipt in sorted(history.receipts, key=lambda receipt: receipt.came_at):
        touching = [fault for fault in history.faults if receipt.worker in fault.workers]
        is_late = any(was_held_up(history, fault, receipt) for fault in touching)
        if not is_late and not any(waited_to_connect(history, fault, receipt) for fault in touching):
            by_listener[receipt.name].append(receipt)
    for name, receipts in by_listener.items():
        changes = [(before.worker, after) for before, after in pairwise(receipts) if before.worker != after.worker]
        for (_, theirs), (_, mine), (_, again) in zip(changes, changes[1:], changes[2:], strict=False):
            belated = mine.came_at - theirs.came_at > history.bounds.old_owner_seconds
            hands_over = any(theirs.came_at <= at <= again.came_at for at in restarts)
            if belated and not hands_over and again.came_at - theirs.came_at < _TURN_SECONDS:
                pair = f"workers {theirs.worker} and {mine.worker}"
                yield f"{name} got messages from {pair} by turns at {mine.came_at:.1f} s"


class Assigned:
    """The assignment of what needs an explanation to faults, when each has several possible ones."""

    def __init__(self, choices: Sequence[Sequence[Place]]) -> None:
        self._choices = choices
        self.taken: defaultdict[Place, list[int]] = defaultdict(list)

    def place(self, number: int, room: Callable[[Place], int], seen: set[Place]) -> bool:
        """Whether there is a place for one more, those before it moving on where they can."""
        for place in self._choices[number]:
            if place in seen:
                continue
            seen.add(place)
            here = self.taken[place]
            if len(here) < room(place):
                here.append(number)
                return True
            for index, other in enumerate(here):
                if self.place(other, room, seen):
                    here[index] = number
                    return True
        return False


def _all(history: History) -> Iterator[Repeat]:
    acknowledged: dict[tuple[str, str, str], Receipt] = {}
    for receipt in history.receipts:
        key = (receipt.name, receipt.message, receipt.replay)
        # Receipts after a repeat that was not acknowledged are its retries: one lost acknowledgement causes them all.
        if (first := acknowledged.pop(key, None)) is not None:
            yield Repeat(first, receipt)
        if receipt.status == 200:
            acknowledged[key] = receipt


def _explaining(history: History, faults: list[Fault], repeat: Repeat) -> Iterator[Place]:
    """Yield the possible explanations of a repeat."""
    first, again = repeat
    for index, fault in enumerate(faults):
        if first.worker in fault.workers and _went_unrecorded(history, fault, repeat):
            yield index, first.name, first.worker
        is_late = was_held_up(history, fault, again) or waited_to_connect(history, fault, again)
        if again.worker in fault.workers and is_late:
            yield index, first.name, again.worker


def _went_unrecorded(history: History, fault: Fault, repeat: Repeat) -> bool:
    """Return whether the acknowledgement was not stored before or during the fault, so that others sent it again."""
    over = fault.ended and repeat.first.at > fault.ended_at + history.bounds.recovery_seconds
    if over or fault.began_at > repeat.again.came_at:
        return False
    return not was_stored(history, repeat.first.at, fault.began_at)


def _allowed(history: History) -> int:
    """Return how many requests could be in flight at the faults."""
    return sum(
        history.bounds.most_unrecorded * fault.blows
        for fault in history.faults
        if fault.workers
        for listener in history.listeners.values()
        if listener.sent < fault.began and not (listener.deleted_at and listener.delete_sent < fault.began)
    )
