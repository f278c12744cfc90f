"""Batch sizes and thresholds of delivery."""

import msgspec

from discue.dispatch.lane.breaker import FAILURES_IN_A_ROW, MOST_TRIALS, RETRYING_LIMIT
from discue.domain.window import SPAN


class Tuning(msgspec.Struct, frozen=True):
    """Numbers that are no settings. Tests make them tiny, so that rare paths become common."""

    page_rows: int = 128
    """Messages per read of the log."""
    due_rows: int = 32
    """Retries per read, in addition to those that are claimed."""
    notified_held: int = 256
    """Messages from notifications that a lane holds in memory."""
    waiting_held: int = 256
    """Messages of a lane that wait in memory for their keys."""
    missed_per_step: int = 500
    """Retries that the deadline job misses at once."""
    waiting_retries: int = 500
    """The next step of a redelivery waits while more deliveries with rows are not settled. So a redelivery of any size
    makes few rows at once."""
    detach_within: int = SPAN // 2
    """How far from the position requests in flight are detached when the span is full."""
    throttle_rows: int = RETRYING_LIMIT
    throttle_failures: int = FAILURES_IN_A_ROW
    most_trials: int = MOST_TRIALS
    report_grace_ms: int = 60_000
    """How long after its timeout an inherited request may stay unreported before it counts as lost. A live sender needs
    this time if the store is unavailable when the request ends."""
    ends_per_write: int = 64
    """Outcomes of handed-over requests per write."""
    probes_at_once: int = 256
    health_records_per_write: int = 128
    cursors_per_release: int = 1_000
    cursors_per_claim: int = 500
    lanes_per_read: int = 500
