"""Access: every worker finds created resources and no deleted ones, and no tenant sees another's."""

from collections.abc import Iterator

from tests.faults.history import History, Look, Resource
from tests.faults.promises.calm import could_know

_FOUND = 200
_NOT_FOUND = {401, 404}


def looked_up(history: History) -> Iterator[str]:
    for look in history.looks:
        if look.status:
            resource = history.resources[look.resource]
            yield from _judged(history, look, resource)


def published_to_deleted(history: History) -> Iterator[str]:
    """No worker stores a message in a queue whose deletion was answered."""
    for published in history.publishes:
        queue = history.resources.get(f"/queues/{published.queue}")
        if queue is not None and published.answered and 0 < queue.deleted < published.sent:
            yield f"{published.queue} took a message that was sent after its deletion was answered"


def _judged(history: History, look: Look, resource: Resource) -> Iterator[str]:
    if look.stranger:
        if look.status == _FOUND:
            yield f"{look.resource} of {resource.organization} was shown to a stranger by worker {look.worker}"
        return
    there = 0 < resource.answered < look.sent and not 0 < resource.delete_sent < look.answered
    if there and look.status in _NOT_FOUND:
        yield f"worker {look.worker} answered {look.status} for {look.resource}, which was there"
    if look.status == _FOUND and 0 < resource.deleted < look.sent and _must_know(history, look, resource):
        after = look.sent_at - resource.deleted_at
        yield f"worker {look.worker} still took {look.resource} {after:.2f} s after its deletion was answered"


def _must_know(history: History, look: Look, resource: Resource) -> bool:
    """Return whether the worker must know the change. A key may be cached for a second; the rest is read."""
    if not look.resource.startswith("/api_keys/"):
        return True
    return could_know(history, look.worker, resource.deleted_at, look.sent_at)
