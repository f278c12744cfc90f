"""The measures of a worker: numbers that are updated in place while it works, and read at each scrape."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, Literal, get_args

from discue.domain.attempts import FailureKind
from discue.domain.model import MISSED_REASONS
from discue.observability.metrics import OTHER, Histogram, SizeHistogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STAGE_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0)
COMMIT_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
LAG_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0)
LOOP_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
PARTS: Final = (1, 4, 16, 64, 256, 1_024)

CommitKind = Literal["all", "publish", "settle", "work"]
Stage = Literal["resolve", "connect", "tls", "first_byte", "total"]
Operation = Literal["publish", "pull", "read", "change", "other"]

TIMED_OPERATIONS: Final[tuple[Operation, ...]] = ("publish", "read", "change")
"""Operations whose duration is measured. Pulls are left out, as they wait for messages."""

ACKNOWLEDGED: Final = "acknowledged"
ATTEMPT_OUTCOMES: Final = (ACKNOWLEDGED, *(kind for kind in get_args(FailureKind) if kind))
STATUSES: Final = ("2xx", "3xx", "4xx", "429", "5xx", "503")


def zeros(values: Iterable[str]) -> dict[str, int]:
    """Return a count for each value of a label."""
    return dict.fromkeys(values, 0)


class Measures:
    """The measures of one worker, or of a command. Only the event loop's thread changes them."""

    def __init__(self) -> None:
        self.published_messages = 0
        """Messages that were stored. A topic's message counts once for each of its queues."""
        self.published_bytes = 0
        self.publish_seconds = Histogram(SECONDS)
        """From the end of all checks until the messages of a request were durable."""
        self.commit_seconds: dict[CommitKind, Histogram] = {}
        """Transactions by what they contain: kinds are added by the store that has them."""
        self.commit_parts = SizeHistogram(PARTS)
        """Publishes, settles and other writes per transaction."""
        self.attempts = zeros(ATTEMPT_OUTCOMES)
        self.stage_seconds: dict[Stage, Histogram] = {stage: Histogram(STAGE_SECONDS) for stage in get_args(Stage)}
        self.delivery_lag = Histogram(LAG_SECONDS)
        """From the time of storing a message to the start of its first attempt."""
        self.missed = zeros((*MISSED_REASONS, OTHER))
        self.breaker_transitions = zeros(("closed", "half_open", "open"))
        self.connections = {"false": 0, "true": 0}
        """Requests to listeners by whether their connection had served an earlier one."""
        self.leases_lost = 0
        self.takeovers = 0
        """Other workers that this one has taken over from, because their lease had expired."""
        self.requests: dict[Operation, dict[int, int]] = {operation: {} for operation in get_args(Operation)}
        """Requests of clients by what they do, and by the status of the response."""
        self.request_seconds: dict[Operation, Histogram] = {
            operation: Histogram(STAGE_SECONDS) for operation in TIMED_OPERATIONS
        }
        self.loop_lag = Histogram(LOOP_SECONDS)
        """How late the event loop runs a callback that is due."""
        self.gc_seconds = 0.0

    def count_published(self, messages: int, size: int, seconds: float) -> None:
        """Count the messages of a request that were stored."""
        self.published_messages += messages
        self.published_bytes += size
        # As `Histogram.observe` does it, without a call for each request.
        timed = self.publish_seconds
        timed.counts[bisect_left(timed.bounds, seconds)] += 1
        timed.total += seconds

    def requests_by_class(self) -> dict[tuple[Operation, str], int]:
        """Return the requests by what they do, and by the class of the status or a status that means overload."""
        found = {(operation, name): 0 for operation in self.requests for name in STATUSES}
        for operation, counts in self.requests.items():
            for status, count in counts.items():
                name = str(status)
                found[operation, name if name in STATUSES else f"{name[0]}xx"] += count
        return found

    def count_missed(self, by_reason: dict[str, int]) -> None:
        """Count missed deliveries that were stored."""
        for reason, count in by_reason.items():
            self.missed[reason if reason in self.missed else OTHER] += count
