"""How long messages waited for their first attempt, by what was going on."""

from collections.abc import Iterator

from tests.faults.history import History
from tests.faults.promises.calm import clock_was_wrong
from tests.faults.promises.deliveries import owed_to
from tests.faults.promises.options import due_times

QUIET = "nothing"
_BEFORE_SECONDS = 0.5
_AFTER_SECONDS = 3.0
_MARGIN_SECONDS = 0.5
"""Tolerance for a machine that runs the whole cluster and the test."""
_MARGIN_SHARE = 0.5
"""Tolerance as a share of the usual delay: on a machine that is too slow for the load, the longest delays vary."""


def longest_delays(history: History, may_wait_seconds: float) -> dict[str, float]:
    """Return the longest time to a first receipt, by the kind of fault nearby.

    It is counted from the publish's response, or from when the message was due if that is later. A fault that begins
    within `may_wait_seconds` of that explains it.
    """
    longest: dict[str, float] = {}
    for answered_at, delay in _delays(history):
        for kind in _near(history, answered_at, min(delay, may_wait_seconds)) or {QUIET}:
            longest[kind] = max(longest.get(kind, 0.0), delay)
    return longest


def waited(history: History) -> Iterator[str]:
    """Check that faults that touch no worker, such as a graceful restart or a wrong clock, delay no message."""
    lateness_seconds = history.bounds.lateness_seconds
    usual = longest_delays(history, lateness_seconds).get(QUIET, 0.0)
    allowed = usual + lateness_seconds + max(_MARGIN_SECONDS, usual * _MARGIN_SHARE)
    # On a slow machine a message may wait longer than the lateness, and meet a crash only then.
    longest = longest_delays(history, allowed)
    untouched = {fault.kind for fault in history.faults if not fault.workers}
    for kind in sorted(untouched):
        if longest.get(kind, 0.0) > allowed:
            yield f"a message waited {longest[kind]:.2f} s for its first attempt at a {kind}; usually {usual:.2f} s"


def _delays(history: History) -> Iterator[tuple[float, float]]:
    first: dict[tuple[str, str], float] = {}
    due, interrupted = due_times(history), {probe.name for probe in history.probes}
    for receipt in history.live:
        key = (receipt.name, receipt.message)
        first[key] = min(receipt.came_at, first.get(key, receipt.came_at))
    for name, owed in owed_to(history):
        listener = history.listeners[name]
        if listener.rate is not None or listener.queue in history.ordered or name in interrupted:
            # There messages wait by design.
            continue
        for published in owed:
            for public_id in published.ids:
                received_at = first.get((name, public_id))
                # A leader may hear of a delayed message that another worker took as late as of a change.
                due_at = due.get(public_id, 0.0) - history.epoch + history.bounds.notice_seconds
                # A delay counts from when a worker reads the request.
                due_at = max(published.answered_at, due_at + published.answered_at - published.sent_at)
                if received_at is None:
                    continue
                # The delay was added to the clock's time at the publish.
                if public_id in due and clock_was_wrong(history, published.answered_at, received_at):
                    continue
                yield due_at, max(0.0, received_at - due_at)


def _near(history: History, at: float, waited_seconds: float) -> set[str]:
    """Return the kinds of fault that may explain a delay: those near the wait that is counted.

    A fault that touches a worker takes precedence over one that touches none.
    """
    until = at + max(_BEFORE_SECONDS, waited_seconds)
    near = [fault for fault in history.faults if fault.began_at <= until and at <= fault.ended_at + _AFTER_SECONDS]
    return {fault.kind for fault in near if fault.workers} or {fault.kind for fault in near}
