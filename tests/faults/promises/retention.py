"""Retention: a message is kept for as long as its queue says, and until all have settled it; then it is gone."""

from collections.abc import Iterator

from tests.faults.history import History
from tests.faults.promises.calm import clock_was_wrong, taking_back


def early(history: History) -> Iterator[str]:
    """Check that no message is deleted too early."""
    for each in history.message_requests:
        kept_seconds = each.at - each.published.sent_at
        if each.is_there or kept_seconds >= each.kept_seconds:
            continue
        if not clock_was_wrong(history, each.published.sent_at, each.at):
            yield f"{each.message} was gone after {kept_seconds:.1f} s, and must be kept for {each.kept_seconds} s"


def gone(history: History) -> Iterator[str]:
    """Check that nothing is left at the end, when all messages are settled and old."""
    for queue in history.short_retention:
        if ids := history.logs[queue].ids:
            yield f"the log of {queue} still has {len(ids)} messages, of which {ids[0]} is the oldest"


def counted(history: History) -> Iterator[str]:
    """Check that each listener counts all messages, also those that are gone, and acknowledged them."""
    acknowledged = history.acknowledged()
    for name, counts in history.counts.items():
        queue = history.listeners[name].queue
        if queue not in history.short_retention:
            continue
        size = history.logs[queue].head - counts.start_seq
        if counts.acknowledged != size:
            yield f"the counts of {name} are not those of {size} acknowledged messages: {counts}"
        if len(acknowledged[name]) < size or (
            len(acknowledged[name]) > size and not any(taking_back(history, 0.0, float("inf")))
        ):
            yield f"{name} acknowledged {len(acknowledged[name])} of {size} messages"
