"""Access: every worker finds created resources and no deleted ones, and no tenant sees resources of another."""

from collections.abc import Iterator

from tests.faults.history import History, Resource, ResourceRequest
from tests.faults.promises.calm import could_know

_FOUND = 200
_NOT_FOUND = {401, 404}


def requested(history: History) -> Iterator[str]:
    for request in history.resource_requests:
        if request.status:
            resource = history.resources[request.resource]
            yield from _judged(history, request, resource)


def published_to_deleted(history: History) -> Iterator[str]:
    """No worker stores a message in a queue whose deletion was answered."""
    for published in history.publishes:
        queue = history.resources.get(f"/queues/{published.queue}")
        if queue is not None and published.answered and 0 < queue.deleted < published.sent:
            yield f"{published.queue} took a message that was sent after its deletion was answered"


def _judged(history: History, request: ResourceRequest, resource: Resource) -> Iterator[str]:
    if request.stranger:
        if request.status == _FOUND:
            yield f"{request.resource} of {resource.organization} was shown to a stranger by worker {request.worker}"
        return
    there = 0 < resource.answered < request.sent and not 0 < resource.delete_sent < request.answered
    if there and request.status in _NOT_FOUND:
        yield f"worker {request.worker} answered {request.status} for {request.resource}, which was there"
    if request.status == _FOUND and 0 < resource.deleted < request.sent and _must_know(history, request, resource):
        after = request.sent_at - resource.deleted_at
        yield f"worker {request.worker} still took {request.resource} {after:.2f} s after its deletion was answered"


def _must_know(history: History, request: ResourceRequest, resource: Resource) -> bool:
    """Return whether the worker must know of the deletion. Keys may be cached for a second; other resources are not."""
    if not request.resource.startswith("/api_keys/"):
        return True
    return could_know(history, request.worker, resource.deleted_at, request.sent_at)
