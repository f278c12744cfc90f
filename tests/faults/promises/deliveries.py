"""Deliveries: every confirmed message reaches each of its listeners, and no other message does."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from standardwebhooks import Webhook

from tests.faults.history import History, Published, Receipt, Registered
from tests.faults.promises.calm import could_know


def is_owed(published: Published, listener: Registered) -> bool:
    """Whether the listener must receive what was published: it was there before, and it stays."""
    if published.queue != listener.queue or not published.answered:
        return False
    return 0 < listener.answered < published.sent and not listener.delete_sent


def owed_to(history: History) -> Iterator[tuple[str, list[Published]]]:
    """The listeners that stayed, and what each of them must receive."""
    by_queue: defaultdict[str, list[Published]] = defaultdict(list)
    for published in history.publishes:
        by_queue[published.queue].append(published)
    for name, listener in history.listeners.items():
        if listener.answered and not listener.delete_sent:
            all_there = by_queue[listener.queue]
            first = bisect_right(all_there, listener.answered, key=lambda published: published.sent)
            yield name, [published for published in all_there[first:] if published.answered]


def missing(history: History) -> Iterator[str]:
    acknowledged = history.acknowledged()
    for name, owed in owed_to(history):
        for published in owed:
            for lost in published.lasting_for(history.listeners[name]) - acknowledged[name]:
                yield f"{name} never got {lost}, answered at {published.answered}"


def unfounded(history: History) -> Iterator[str]:
    """Receipts that nothing was published for, or not for this listener, or not like this."""
    by_body = {body: published for published in history.publishes for body in published.bodies}
    routed = {(published.queue, body): published for published in history.publishes for body in published.bodies}
    scheduled = {(schedule.queue, schedule.body) for schedule in history.schedules}
    ids: dict[str, str] = {}
    for receipt in history.receipts:
        listener = history.listeners[receipt.name]
        if (listener.queue, receipt.body) in scheduled:
            continue
        published = routed.get((listener.queue, receipt.body))
        if published is None:
            yield _stray(history, receipt, by_body.get(receipt.body))
            continue
        if ids.setdefault(receipt.body, receipt.message) != receipt.message:
            yield f"{receipt.name} got one message under two ids: {ids[receipt.body]} and {receipt.message}"
        if published.answered and published.ids[published.bodies.index(receipt.body)] != receipt.message:
            yield f"{receipt.name} got {receipt.message} with the body of another message"
        if 0 < published.answered < listener.sent and not receipt.replay:
            yield f"{receipt.name} got {receipt.message}, which was answered before it was created"


def _stray(history: History, receipt: Receipt, published: Published | None) -> str:
    if published is not None:
        owner, other = (_organization(history, q) for q in (history.listeners[receipt.name].queue, published.queue))
        if owner != other:
            return f"{receipt.name} got {receipt.message} of another organization"
    return f"{receipt.name} got a body that was never published to its queue: {receipt.body[:80]}"


def _organization(history: History, queue: str) -> str:
    resource = history.resources.get(f"/queues/{queue}")
    return resource.organization if resource is not None else ""


def late(history: History) -> Iterator[str]:
    """Receipts after a deletion: those begun when the worker could know of it."""
    for receipt in history.receipts:
        deleted_at = history.listeners[receipt.name].deleted_at
        begun_at = receipt.came_at - history.bounds.timeout_seconds
        if deleted_at and could_know(history, receipt.worker, deleted_at, begun_at):
            after = receipt.came_at - deleted_at
            yield f"{receipt.name} got {receipt.message} {after:.1f} s after its deletion was answered"


def forged(history: History) -> Iterator[str]:
    signers = {name: Webhook(listener.secret) for name, listener in history.listeners.items() if listener.secret}
    for receipt in history.receipts:
        signer = signers.get(receipt.name)
        if signer is not None:
            signed_at = datetime.fromtimestamp(receipt.timestamp, UTC)
            if signer.sign(receipt.message, signed_at, receipt.body) != receipt.signature:
                yield f"{receipt.name} got {receipt.message} with a wrong signature"
