"""The logs hold what was confirmed, without a hole, and the counts of each listener are those of the log."""

from collections.abc import Iterator
from itertools import pairwise

from tests.faults.history import History, Log, Published
from tests.faults.promises.filters import Wanted
from tests.faults.promises.options import expiries


def logged(history: History) -> Iterator[str]:
    """Check the log: every seq up to the head exists, in the order of the responses, as nothing was deleted."""
    places = {
        queue: {public_id: place for place, public_id in enumerate(log.ids)} for queue, log in history.logs.items()
    }
    for queue in history.incomplete:
        places.pop(queue, None)
    for queue, known in places.items():
        log = history.logs[queue]
        if len(log.ids) != log.head - log.moved:
            yield f"the log of {queue} has {len(log.ids)} messages, {log.moved} moved, and its head is {log.head}"
        if len(known) != len(log.ids):
            yield f"the log of {queue} has an id twice"
    for published in history.publishes:
        if published.answered and published.queue in places:
            yield from _stored(published, places[published.queue])


def _stored(published: Published, places: dict[str, int]) -> Iterator[str]:
    found = [places.get(public_id) for public_id in published.ids]
    kept = [place for place in found if place is not None]
    if len(kept) < len(found):
        yield f"the log of {published.queue} lacks {published.ids[found.index(None)]}, answered at {published.answered}"
    elif not _delays(published) and any(after != before + 1 for before, after in pairwise(kept)):
        yield f"a batch answered at {published.answered} is not stored in its order"


def _delays(published: Published) -> bool:
    return any(each.due_at for each in published.options)


def counted(history: History) -> Iterator[str]:
    seen = history.acknowledged()
    expiring, wanted = set(expiries(history)), Wanted(history)
    for name, counts in history.counts.items():
        if history.listeners[name].queue in history.incomplete:
            continue
        log = history.logs[history.listeners[name].queue]
        due_at_most = due_in(log, counts.start_seq)
        passed_over, unknown = wanted.passed_over(name, due_at_most)
        size = log.head - log.moved - counts.start_seq - passed_over
        counted = counts.acknowledged + counts.pending + counts.missed
        if not size - unknown <= counted <= size:
            yield f"the counts of {name} do not add up to the log, which ends at {log.head}: {counts}"
        due = set(wanted.of(name, due_at_most))
        acknowledged = len(seen[name] & due)
        # A message whose acknowledgement could not be recorded may expire before it is sent again.
        unsure = counts.pending + min(counts.missed, len(seen[name] & due & expiring))
        if not counts.acknowledged <= acknowledged <= counts.acknowledged + unsure:
            yield f"{name} acknowledged {acknowledged} messages, and was counted otherwise: {counts}"
        if not counts.pending:
            for lost in due - seen[name] - expiring:
                yield f"{name} never got {lost}, which is in the log"


def due_in(log: Log, start_seq: int) -> set[str]:
    """Return what a listener created at `start_seq` must receive if it has no filter."""
    return set(log.ids[start_seq:]) if len(log.ids) == log.head else set(log.ids)
