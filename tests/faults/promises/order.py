"""In an ordered queue a key's messages come one after the other: each when the one before it is done with."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tests.faults.history import History, Receipt
from tests.faults.promises.calm import LONGEST_LIFE_SECONDS, clock_was_wrong
from tests.faults.promises.options import due_times, options_by_id, placed


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
    delayed = due_times(history)
    for queue, log in history.logs.items():
        first_answer, first_id = float("inf"), ""
        for public_id in reversed(log.ids):
            sent, answered = sent_and_answered.get(public_id, (0, 0))
            if public_id in delayed:
                continue
            if first_answer < sent:
                yield f"the log of {queue} has {public_id} before {first_id}, which was answered before it was sent"
            if 0 < answered < first_answer:
                first_answer, first_id = answered, public_id


def kept(history: History) -> Iterator[str]:
    """Check the order by key for listeners that exist at the end; what others should have received is unknown."""
    arrivals = arrivals_of(history.live)
    passes = _first_passes(history)
    options = options_by_id(history)
    keys = {public_id: each.key for public_id, each in options.items()}
    expiries = {public_id: each.expires_at for public_id, each in options.items()}
    for name, counts in history.counts.items():
        listener = history.listeners[name]
        queue = listener.queue
        if queue not in history.ordered:
            continue
        for in_order in by_key(history.logs[queue].ids[counts.start_seq :], keys):
            if listener.attempts and queue not in history.blocking:
                yield from _passed(name, in_order, passes[name])
            else:
                yield from out_of_order(history, name, [(each, expiries[each]) for each in in_order], arrivals[name])


def arrivals_of(receipts: Iterable[Receipt]) -> "defaultdict[str, dict[str, Arrival]]":
    found: defaultdict[str, dict[str, Arrival]] = defaultdict(dict)
    for receipt in receipts:
        came_at, acknowledged_at = found[receipt.name].get(receipt.message, _NEVER)
        answered_at = receipt.at if receipt.status == 200 else float("inf")
        found[receipt.name][receipt.message] = Arrival(min(came_at, receipt.came_at), min(acknowledged_at, answered_at))
    return found


def _first_passes(history: History) -> "defaultdict[str, dict[str, Arrival]]":
    """When each message of listeners with few attempts first came, and when it was first acknowledged or missed.

    Attempts on record that never arrived count as the first ones: the network lost them.
    """
    unseen = Counter((each.name, each.message) for each in history.recorded or () if not each.replay)
    unseen.subtract((receipt.name, receipt.message) for receipt in history.live)
    found: defaultdict[str, defaultdict[str, list[Receipt]]] = defaultdict(lambda: defaultdict(list))
    for receipt in sorted(history.live, key=lambda receipt: receipt.came_at):
        attempts = found[receipt.name][receipt.message]
        most = history.listeners[receipt.name].attempts - max(0, unseen[receipt.name, receipt.message])
        if len(attempts) < most and not any(each.status == 200 for each in attempts):
            attempts.append(receipt)
    passes: defaultdict[str, dict[str, Arrival]] = defaultdict(dict)
    for name, messages in found.items():
        passes[name] = {each: Arrival(came[0].came_at, came[-1].at) for each, came in messages.items() if came}
    return passes


def _passed(name: str, in_order: list[str], passes: dict[str, Arrival]) -> Iterator[str]:
    """Check a listener whose missed messages let the next ones of their keys pass.

    Redeliveries come in any order, but a message first comes when the one before it had its attempts. After a crash
    an attempt may be repeated, and the message may be missed later than it seems here, but not earlier.
    """
    done_at, last = 0.0, ""
    for public_id in in_order:
        came_at, passed_at = passes.get(public_id, _NEVER)
        if came_at < done_at:
            yield f"{name} got {public_id} before {last} was missed or acknowledged, which comes before it in its key"
        if done_at < passed_at < float("inf"):
            done_at, last = passed_at, public_id


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
    return not clock_was_wrong(history, expired_at - LONGEST_LIFE_SECONDS, came_at)
