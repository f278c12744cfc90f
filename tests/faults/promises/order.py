"""In an ordered queue a key's messages come one after the other: each when the one before it is done with."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tests.faults.history import History, Receipt
from tests.faults.promises.calm import clock_was_wrong
from tests.faults.promises.wishes import placed, wishes


class Arrival(NamedTuple):
    """When a message first came to a listener, and when it was first acknowledged, if ever."""

    came_at: float
    acknowledged_at: float


_NEVER = Arrival(float("inf"), float("inf"))
_MARGIN_SECONDS = 0.05
"""The wall clock is known that exactly."""


def published(history: History) -> Iterator[str]:
    """Check that the log is in publishing order: a confirmed message precedes those sent after its response."""
    sent_and_answered = {public_id: (each.sent, each.answered) for public_id, each, _ in placed(history)}
    for queue, log in history.logs.items():
        first_answer, first_id = float("inf"), ""
        for public_id in reversed(log.ids):
            sent, answered = sent_and_answered.get(public_id, (0, 0))
            if first_answer < sent:
                yield f"the log of {queue} has {public_id} before {first_id}, which was answered before it was sent"
            if 0 < answered < first_answer:
                first_answer, first_id = answered, public_id


def kept(history: History) -> Iterator[str]:
    """Check the order by key for listeners that exist at the end; what others should have received is unknown."""
    arrivals = arrivals_of(history.live)
    wished = wishes(history)
    keys = {public_id: wish.key for public_id, wish in wished.items()}
    expiries = {public_id: wish.expires_at for public_id, wish in wished.items()}
    for name, counts in history.counts.items():
        queue = history.listeners[name].queue
        if queue in history.ordered:
            for in_order in by_key(history.logs[queue].ids[counts.start_seq :], keys):
                yield from out_of_order(history, name, [(each, expiries[each]) for each in in_order], arrivals[name])


def arrivals_of(receipts: Iterable[Receipt]) -> "defaultdict[str, dict[str, Arrival]]":
    found: defaultdict[str, dict[str, Arrival]] = defaultdict(dict)
    for receipt in receipts:
        came_at, acknowledged_at = found[receipt.name].get(receipt.message, _NEVER)
        answered_at = receipt.at if receipt.status == 200 else float("inf")
        found[receipt.name][receipt.message] = Arrival(min(came_at, receipt.came_at), min(acknowledged_at, answered_at))
    return found


def by_key(ids: Sequence[str], keys: dict[str, str]) -> Iterable[list[str]]:
    """Ids that nobody heard of say nothing: neither was their publish answered, nor did they come."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for public_id in ids:
        if public_id in keys:
            found[keys[public_id]].append(public_id)
    return found.values()


def out_of_order(
    history: History, name: str, in_order: list[tuple[str, float]], arrivals: dict[str, Arrival]
) -> Iterator[str]:
    done_at, last = 0.0, ""
    expiring: list[tuple[str, float]] = []
    for public_id, expires_at in in_order:
        arrival = arrivals.get(public_id, _NEVER)
        if arrival is not _NEVER:
            if arrival.came_at < done_at:
                yield f"{name} got {public_id} before it had acknowledged {last}, which comes before it in its key"
            for other, until in expiring:
                if _is_passed(history, arrivals.get(other, _NEVER), until, arrival.came_at):
                    yield f"{name} got {public_id} before {other} was done with, which comes before it in its key"
            # Whatever follows is held against this one.
            expiring.clear()
        if expires_at:
            expiring.append((public_id, expires_at))
        elif arrival.acknowledged_at > done_at:
            done_at, last = arrival.acknowledged_at, public_id


def _is_passed(history: History, passed: Arrival, expires_at: float, came_at: float) -> bool:
    """Whether something came before a message that was neither acknowledged then nor missed for good."""
    expired_at = expires_at - history.epoch
    is_missed = expired_at <= came_at + _MARGIN_SECONDS and not came_at < passed.came_at < float("inf")
    if passed.acknowledged_at <= came_at or is_missed:
        return False
    return not clock_was_wrong(history, expired_at, came_at)
