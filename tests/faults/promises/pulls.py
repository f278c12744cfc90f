"""Pull: messages arrive at least once, at one consumer at a time, in order, and never after an acknowledgement."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.faults.history import NEVER, DeliveryOptions, HandedOut, History, Pulling
from tests.faults.promises.calm import clock_was_wrong
from tests.faults.promises.order import by_key

_MARGIN_SECONDS = 0.1
"""Workers know the database's clock, by which leases end, from the last poll."""
_DONE = frozenset({"acknowledged", "settled", ""})
"""Results of an acknowledgement that took effect. Empty: the client was gone before the response."""


def missing(history: History) -> Iterator[str]:
    """Check that messages confirmed after the listener's creation are acknowledged, unless they could expire."""
    for pulling in history.pulling:
        done = {each.message for each in _of(history, pulling) if each.said == "acknowledge" and each.state in _DONE}
        for published in history.publishes:
            if published.queue == pulling.queue and published.answered and pulling.answered < published.sent:
                for lost in set(published.lasting) - done:
                    yield f"the consumers of {pulling.id} never got {lost} to the end, answered at {published.answered}"


def unfounded(history: History) -> Iterator[str]:
    by_body = {body: published for published in history.publishes for body in published.bodies}
    for pulling in history.pulling:
        for each in _of(history, pulling):
            published = by_body.get(each.body)
            if published is None or published.queue != pulling.queue:
                yield f"a consumer of {pulling.id} got a message never published to its queue: {each.body[:80]}"
            elif NEVER < published.answered < pulling.sent:
                yield f"a consumer of {pulling.id} got {each.message}, which was answered before there was a listener"


def settled(history: History) -> Iterator[str]:
    """Check that a message is never leased again after its acknowledgement was confirmed, whatever is killed."""
    for pulling in history.pulling:
        done: dict[str, HandedOut] = {}
        for each in sorted(_of(history, pulling), key=lambda each: each.sent_at):
            before = done.get(each.message)
            if before is not None and each.sent_at > before.answered_at:
                after = each.sent_at - before.answered_at
                yield f"{each.message} was handed out again {after:.2f} s after it was acknowledged"
            if each.state == "acknowledged":
                done.setdefault(each.message, each)


def leased(history: History) -> Iterator[str]:
    """While a lease lasts nobody else is handed the message, nor in an ordered queue another one of its key."""
    options = _options(history)
    for pulling in history.pulling:
        by_place: defaultdict[str, list[HandedOut]] = defaultdict(list)
        is_ordered = pulling.queue in history.ordered
        for each in sorted(_of(history, pulling), key=lambda each: each.came_at):
            place = f"key {options[each.body].key!r}" if is_ordered and each.body in options else each.message
            for other in by_place[place]:
                if _is_held(history, other, each):
                    yield f"{each.message} was handed out while {other.message} was leased to somebody else ({place})"
            by_place[place].append(each)


def ordered(history: History) -> Iterator[str]:
    """Check that a message is first leased when all earlier ones of its key are acknowledged or may have expired."""
    options = _options(history)
    for pulling in history.pulling:
        if pulling.queue in history.ordered and pulling.queue in history.logs:
            handed_out = list(_of(history, pulling))
            given = [(each.message, options[each.body]) for each in handed_out if each.body in options]
            keys = {public_id: each.key for public_id, each in given if not each.expires_at}
            for in_order in by_key(history.logs[pulling.queue].ids, keys):
                yield from _out_of_order(in_order, handed_out)


def counted(history: History) -> Iterator[str]:
    """Each message was counted once, and nothing waits in the end."""
    for pulling in history.pulling:
        counts, log = pulling.counts, history.logs.get(pulling.queue)
        if counts is None or log is None:
            continue
        if counts.pending:
            yield f"{counts.pending} messages still wait for the consumers of {pulling.id}"
        stands = counts.acknowledged + counts.missed + counts.pending
        if stands != log.head - counts.start_seq:
            yield f"the counts of {pulling.id} do not add up to the log, which ends at {log.head}: {counts}"


def _out_of_order(in_order: list[str], handed_out: Iterable[HandedOut]) -> Iterator[str]:
    came: dict[str, float] = {}
    done: dict[str, float] = {}
    for each in handed_out:
        came[each.message] = min(each.came_at, came.get(each.message, each.came_at))
        if each.said == "acknowledge" and each.state in _DONE:
            done[each.message] = min(each.said_at, done.get(each.message, each.said_at))
    done_at, last = 0.0, ""
    for public_id in in_order:
        if came[public_id] < done_at:
            yield f"{public_id} was handed out before {last} was acknowledged, which comes before it in its key"
        at = done.get(public_id, float("inf"))
        if at > done_at:
            done_at, last = at, public_id


def _is_held(history: History, held: HandedOut, other: HandedOut) -> bool:
    """Whether all of a request for messages lies within a lease that nobody had begun to end."""
    until = held.leased_until - _MARGIN_SECONDS
    if held.said:
        # Even if it was to be extended: it may have been too late for that.
        until = min(until, held.said_at)
    if other.receipt == held.receipt or not held.came_at < other.sent_at <= other.came_at < until:
        return False
    return not clock_was_wrong(history, held.came_at, other.came_at)


def _of(history: History, pulling: Pulling) -> Iterator[HandedOut]:
    return (each for each in history.handed_out if each.listener == pulling.id)


def _options(history: History) -> dict[str, DeliveryOptions]:
    """Return the options each body was published with."""
    return {
        body: published.options[place] if published.options else DeliveryOptions()
        for published in history.publishes
        for place, body in enumerate(published.bodies)
    }
