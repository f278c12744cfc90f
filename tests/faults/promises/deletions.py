"""Deleted messages: they leave the log, are not sent any more, and count only where they were settled before."""

from collections.abc import Iterator

from tests.faults.history import Deletion, History
from tests.faults.promises.calm import could_know, taking_back


def logged(history: History) -> Iterator[str]:
    for queue in history.trimmed:
        log, deletions = history.logs[queue], _of(history, queue)
        kept, gone = set(log.ids), sum(1 for each in deletions.values() if each.answered)
        if not log.head - len(deletions) <= len(log.ids) <= log.head - gone:
            yield f"the log of {queue} has {len(log.ids)} messages, its head is {log.head}, and {gone} were deleted"
        for published in history.publishes:
            for message in published.ids if published.queue == queue else ():
                deletion = published.deletions.get(message)
                if deletion is None and message not in kept:
                    yield f"the log of {queue} lacks {message}, which nobody deleted"
                if deletion is not None and deletion.answered and message in kept:
                    yield f"the log of {queue} has {message}, whose deletion was answered"


def known(history: History) -> Iterator[str]:
    """Check that a message whose publish was answered can be deleted."""
    for queue in history.trimmed:
        for message, deletion in _of(history, queue).items():
            if deletion.was_unknown:
                yield f"{message} was confirmed, and not known when it was to be deleted"


def sent(history: History) -> Iterator[str]:
    """Check that no attempt began when the worker could know of the deletion."""
    deleted = {message: each for queue in history.trimmed for message, each in _of(history, queue).items()}
    for receipt in history.receipts:
        deletion = deleted.get(receipt.message)
        begun_at = receipt.came_at - history.bounds.timeout_seconds
        if deletion is None or not deletion.answered:
            continue
        if could_know(history, receipt.worker, deletion.answered_at, begun_at):
            after = receipt.came_at - deletion.answered_at
            yield f"{receipt.name} got {receipt.message} {after:.1f} s after that was deleted"


def counted(history: History) -> Iterator[str]:
    acknowledged = history.acknowledged()
    for name, counts in history.counts.items():
        queue = history.listeners[name].queue
        if queue not in history.trimmed:
            continue
        deletions, seen = _of(history, queue), acknowledged[name]
        if any(taking_back(history, 0.0, float("inf"))):
            # A message that nobody was told of may be delivered, and lost with the old primary.
            seen &= {*history.logs[queue].ids, *deletions}
        # The acknowledgement of a deleted message may be lost by a fault: then the message is skipped.
        skipped = {message for message, each in deletions.items() if each.answered} - seen
        size = history.logs[queue].head - counts.start_seq
        total = counts.acknowledged + counts.pending + counts.missed
        if not size - len(deletions) <= total <= size - (0 if counts.pending else len(skipped)):
            yield f"the counts of {name} are not those of {size} messages less those that were deleted: {counts}"
        unsure = counts.pending + len(seen & deletions.keys())
        if counts.missed or not counts.acknowledged <= len(seen) <= counts.acknowledged + unsure:
            yield f"{name} acknowledged {len(seen)} messages, and was counted otherwise: {counts}"


def _of(history: History, queue: str) -> dict[str, Deletion]:
    return {
        message: deletion
        for published in history.publishes
        if published.queue == queue
        for message, deletion in published.deletions.items()
    }
