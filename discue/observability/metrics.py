"""Metrics: histograms that cost little to update, and the text that a scrape returns.

The text follows OpenMetrics 1.0, or the text format 0.0.4 of Prometheus for clients that do not ask for OpenMetrics.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final, Literal, get_args

import msgspec

from discue.domain.attempts import FailureKind
from discue.domain.model import MISSED_REASONS, REFUSALS

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

OTHER: Final = "other"
"""The value of a label that stands for all that are not in its set."""


class Distribution(msgspec.Struct, frozen=True, array_like=True):
    """A copy of what a histogram has observed."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float


class Histogram:
    """Counts observations in buckets, each of which includes its upper bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Observations by bucket, not cumulative. The last bucket has no bound."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observed(self) -> Distribution:
        return Distribution(self.bounds, list(self.counts), self.total)


class Metric(msgspec.Struct, frozen=True):
    """The description of a metric: what is promised to those who build alerts and boards on it."""

    name: str
    """With `_total` at the end of a counter, and with its unit before that: `_seconds` or `_bytes`."""
    help: str
    labels: Mapping[str, tuple[str, ...]] = {}
    """The values of each label. A label has no others."""
    is_histogram: bool = False

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        if self.is_histogram:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"

    @property
    def family(self) -> str:
        """The name without the suffix that OpenMetrics adds to the samples of a counter."""
        return self.name.removesuffix("_total")

    @property
    def unit(self) -> str:
        """`seconds`, `bytes`, or ""."""
        last = self.family.rpartition("_")[2]
        return last if last in {"seconds", "bytes"} else ""


Value = float | Distribution
Samples = list[tuple[tuple[str, ...], Value]]
"""Values by the values of the metric's labels, in the order of the labels."""

Snapshot = dict[str, Samples]
"""The samples of one worker at some time, by the names of the metrics."""

encode_snapshot: Final = msgspec.msgpack.Encoder().encode
decode_snapshot: Final = msgspec.msgpack.Decoder(Snapshot).decode


def exposition(metrics: Iterable[Metric], workers: Mapping[str, Snapshot], *, openmetrics: bool) -> bytes:
    """Return the text of what workers measure.

    If there are several, each sample has the label `worker`, so that samples of one metric do not repeat each other.
    """
    lines: list[str] = []
    several = len(workers) > 1
    for metric in metrics:
        samples = [
            ((*values, worker) if several else values, value)
            for worker, snapshot in workers.items()
            for values, value in snapshot.get(metric.name, ())
        ]
        if not samples:
            continue
        family = metric.family if openmetrics else metric.name
        lines.append(f"# HELP {family} {_escaped(metric.help)}")
        lines.append(f"# TYPE {family} {metric.kind}")
        if openmetrics and metric.unit:
            lines.append(f"# UNIT {family} {metric.unit}")
        names = (*metric.labels, "worker") if several else tuple(metric.labels)
        for values, value in samples:
            pairs = [f'{name}="{_escaped(each, quoted=True)}"' for name, each in zip(names, values, strict=True)]
            if isinstance(value, Distribution):
                lines += _buckets(metric.name, pairs, value)
            else:
                lines.append(f"{metric.name}{_labels(pairs)} {value!r}")
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _buckets(name: str, pairs: list[str], value: Distribution) -> Iterable[str]:
    cumulative = list(accumulate(value.counts))
    for bound, count in zip((*map(float, value.bounds), "+Inf"), cumulative, strict=True):
        bucket = [*pairs, f'le="{bound}"']
        yield f"{name}_bucket{_labels(bucket)} {count}"
    yield f"{name}_count{_labels(pairs)} {cumulative[-1]}"
    yield f"{name}_sum{_labels(pairs)} {value.total!r}"


def _labels(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str, *, quoted: bool = False) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped


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
ATTEMPT_OUTCOMES: Final = (ACKNOWLEDGED, *(kind for kind in get_args(FailureKind) if kind not in {"", "egress_proxy"}))
STATUSES: Final = ("2xx", "3xx", "4xx", "429", "5xx", "503")


SOURCE_OUTCOMES: Final = ("stored", "repeated", *REFUSALS)


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
        self.commit_parts = Histogram(PARTS)
        """Publishes, settles and other writes per transaction."""
        self.attempts = zeros(ATTEMPT_OUTCOMES)
        self.stage_seconds: dict[Stage, Histogram] = {stage: Histogram(STAGE_SECONDS) for stage in get_args(Stage)}
        self.delivery_lag = Histogram(LAG_SECONDS)
        """From the time of storing a message to the start of its first attempt."""
        self.missed = zeros((*MISSED_REASONS, OTHER))
        self.breaker_transitions = zeros(("closed", "half_open", "open"))
        self.connections = {"false": 0, "true": 0}
        """Requests to listeners by whether their connection had served an earlier one."""
        self.proxy_failures = 0
        """Requests to listeners that the egress proxy failed to pass on."""
        self.source_requests = zeros(SOURCE_OUTCOMES)
        """Requests to sources by outcome."""
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
        for reason, count in by_reason.items():
            self.missed[reason if reason in self.missed else OTHER] += count
