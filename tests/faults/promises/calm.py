"""When nothing that the nemesis did kept a worker from hearing of things."""

from collections.abc import Iterator

from tests.faults.history import Fault, History

_RECONNECTING_SECONDS = 2.0
_MARGIN_SECONDS = 0.5
"""A machine that runs all of the cluster and the test beside it is late at times."""


def could_know(history: History, worker: int, since: float, until: float) -> bool:
    """Whether between two instants a worker had the time to hear of what another one changed."""
    needed = history.bounds.notice_seconds + _MARGIN_SECONDS
    return any(end - start > needed for start, end in _calm(history.faults, worker, since, until))


def _calm(faults: list[Fault], worker: int, since: float, until: float) -> Iterator[tuple[float, float]]:
    """The stretches in which no fault touches it."""
    at = since
    for fault in sorted(faults, key=lambda fault: fault.began_at):
        if worker in fault.workers and fault.began_at < until:
            yield at, min(fault.began_at, until)
            at = max(at, _over_at(fault))
    yield at, until


def _over_at(fault: Fault) -> float:
    return fault.ended_at + _RECONNECTING_SECONDS if fault.ended else float("inf")
