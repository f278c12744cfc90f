"""Topics: a message is in all queues that the channels chose for it, or in none, and has one id."""

from collections.abc import Iterator

from tests.faults.history import History
from tests.faults.promises.options import placed


def whole(history: History) -> Iterator[str]:
    """Find messages that only some of their queues have. Receipts show the ids of publishes with an unknown outcome.

    Another check finds messages in logs that no listener received. A message that is deleted in one queue stays in
    the others.
    """
    deleted = {public_id for published in history.publishes for public_id in published.deletions}
    ids = {queue: set(log.ids) for queue, log in history.logs.items()}
    for public_id, published, _ in placed(history):
        there = [queue for queue in published.routes if public_id in ids[queue]]
        if public_id not in deleted and there and len(there) < len(published.routes):
            yield f"{public_id} is in {there} only, and its topic leads to {list(published.routes)}"
