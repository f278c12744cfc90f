"""Metrics: histograms that cost little to update, and the text that a scrape returns.

The text follows OpenMetrics 1.0, or the text format 0.0.4 of Prometheus for clients that do not ask for OpenMetrics.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final, Literal

import msgspec

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
        """The sum of all observations."""

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observed(self) -> Distribution:
        return Distribution(self.bounds, list(self.counts), self.total)


class SizeHistogram:
    """Counts observed sizes, which are small integers, each by itself. It takes half the time of a `Histogram`."""

    __slots__ = ("bounds", "counts")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self.counts: list[int] = []
        """Observations by size, up to the largest that was observed."""

    def observe(self, size: int) -> None:
        try:
            self.counts[size] += 1
        except IndexError:
            self.counts += [0] * (size + 1 - len(self.counts))
            self.counts[size] = 1

    def observed(self) -> Distribution:
        counts, total = [0] * (len(self.bounds) + 1), 0
        for size, count in enumerate(self.counts):
            counts[bisect_left(self.bounds, size)] += count
            total += size * count
        return Distribution(self.bounds, counts, total)


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
