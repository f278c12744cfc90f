"""When nothing that the nemesis did kept a worker from hearing of things."""

from collections.abc import Iterator

from tests.faults.history import Fault, History, Receipt

LONGEST_LIFE_SECONDS = 5.0
"""From the publishing of a message to its expiry, or until it is due."""
_RECONNECTING_SECONDS = 2.0
_LOCKED_SECONDS = 5.0
"""Time for which the locks of a worker that is cut off stay, at most, after its connections are gone or back."""
_TAKING_BACK = ("failover after cancelling", "failover after restart")
"""Faults that take back what clients may have seen: it was on no standby."""
_CUT_OFF = "cut off"
"""The fault that keeps a worker from reaching anybody."""
_MARGIN_SECONDS = 0.5
"""Tolerance for a machine that runs the whole cluster and the test."""


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


def was_stored(history: History, answered_at: float, at: float) -> bool:
    """Whether the outcome of a request was stored at an instant. It may have to wait for a worker that is cut off."""
    waited = sum(
        max(0.0, min(fault.ended_at + _LOCKED_SECONDS if fault.ended else at, at) - max(fault.began_at, answered_at))
        for fault in history.faults
        if fault.kind.startswith("cut off")
    )
    return answered_at < at - history.bounds.recording_seconds - waited


def clock_was_wrong(history: History, since: float, until: float) -> bool:
    """Return whether the database's clock, which decides about all times, was wrong between two instants.

    With SQLite, it is the clock of the machine, so a wrong clock affects the workers. With PostgreSQL, a worker's clock
    affects nothing.
    """
    return any("clock" in fault.kind and fault.workers for fault in _faults_between(history, since, until))


def _faults_between(history: History, since: float, until: float) -> Iterator[Fault]:
    return (fault for fault in history.faults if fault.began_at <= until and _over_at(fault) >= since)


def taking_back(history: History, since: float, until: float) -> Iterator[Fault]:
    """Yield the faults that may have taken back what was seen between two instants."""
    for fault in history.faults:
        if fault.kind in _TAKING_BACK and fault.began_at <= until and (not fault.ended or since <= fault.ended_at):
            yield fault


def was_disturbed(history: History, worker: int, since: float, until: float) -> bool:
    """Whether something touched a worker between two instants."""
    return any(
        worker in fault.workers and fault.began_at <= until and (not fault.ended or fault.ended_at >= since)
        for fault in history.faults
    )


def was_held_up(history: History, fault: Fault, receipt: Receipt) -> bool:
    """It had been signed, and was on its way, before the worker stood still, and came when that went on."""
    signed_before = receipt.timestamp <= fault.began_at + history.epoch
    came_within = fault.began_at <= receipt.came_at <= fault.ended_at + history.bounds.recording_seconds
    return signed_before and came_within


def waited_to_connect(history: History, fault: Fault, receipt: Receipt) -> bool:
    """Return whether a request was signed while its worker was cut off from everything, and connected afterwards."""
    signed_before = receipt.timestamp <= fault.ended_at + history.epoch
    came_within = fault.began_at <= receipt.came_at <= fault.ended_at + history.bounds.recording_seconds
    return fault.kind == _CUT_OFF and signed_before and came_within
