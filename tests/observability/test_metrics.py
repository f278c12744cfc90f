"""The text of metrics, with the parsers of Prometheus' own client as the oracle."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from discue.observability.metrics import (
    Histogram,
    Metric,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    exposition,
)

COUNTER = Metric("discue_things_total", 'Things, "quoted",\nin lines.', {"kind": ()})
GAUGE = Metric("discue_room_bytes", "Room.")
HISTOGRAM = Metric("discue_wait_seconds", "Waits.", {"stage": ()}, is_histogram=True)
BOUNDS = (0.001, 0.5, 1.0)

FORMATS = pytest.mark.parametrize("text_format", ["text", "openmetrics"])


def parsed(text: bytes, *, openmetrics: bool) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each sample's value by its name and labels."""
    parse: Callable[[str], object] = parse_openmetrics if openmetrics else parse_text
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parse(text.decode()):  # type: ignore[attr-defined]
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


@FORMATS
def test_every_kind_of_metric_is_read_back(text_format: str) -> None:
    openmetrics, waits = text_format == "openmetrics", Histogram(BOUNDS)
    for seconds in (0.0, 0.001, 0.2, 7.5):
        waits.observe(seconds)
    snapshot: Snapshot = {
        COUNTER.name: [(('a"b\\c\nd',), 3)],
        GAUGE.name: [((), 1.5)],
        HISTOGRAM.name: [(("connect",), waits.observed())],
    }
    text = exposition((COUNTER, GAUGE, HISTOGRAM), {"1": snapshot}, openmetrics=openmetrics)
    found = parsed(text, openmetrics=openmetrics)
    assert found == {
        ("discue_things_total", labels(kind='a"b\\c\nd')): 3,
        ("discue_room_bytes", labels()): 1.5,
        ("discue_wait_seconds_bucket", labels(stage="connect", le="0.001")): 2,
        ("discue_wait_seconds_bucket", labels(stage="connect", le="0.5")): 3,
        ("discue_wait_seconds_bucket", labels(stage="connect", le="1.0")): 3,
        ("discue_wait_seconds_bucket", labels(stage="connect", le="+Inf")): 4,
        ("discue_wait_seconds_count", labels(stage="connect")): 4,
        ("discue_wait_seconds_sum", labels(stage="connect")): 7.701,
    }


@FORMATS
def test_samples_of_several_workers_have_the_label_worker(text_format: str) -> None:
    openmetrics = text_format == "openmetrics"
    snapshots: dict[str, Snapshot] = {"1": {GAUGE.name: [((), 1.0)]}, "2": {GAUGE.name: [((), 2.0)]}}
    found = parsed(exposition((GAUGE,), snapshots, openmetrics=openmetrics), openmetrics=openmetrics)
    assert found == {("discue_room_bytes", labels(worker=worker)): float(worker) for worker in "12"}


def test_openmetrics_names_units_and_has_an_end() -> None:
    text = exposition((COUNTER, GAUGE), {"1": {COUNTER.name: [(("a",), 1)], GAUGE.name: [((), 1)]}}, openmetrics=True)
    assert b"# TYPE discue_things counter\n" in text
    assert b"# UNIT discue_room_bytes bytes\n" in text
    assert text.endswith(b"# EOF\n")


def test_metric_without_samples_is_left_out() -> None:
    assert exposition((GAUGE,), {"1": {GAUGE.name: []}}, openmetrics=False) == b"\n"


@given(values=st.lists(st.floats(0, 1e9), max_size=50))
def test_bucket_counts_the_observations_up_to_its_bound(values: list[float]) -> None:
    waits = Histogram(BOUNDS)
    for value in values:
        waits.observe(value)
    counts, total = waits.observed().counts, waits.observed().total
    for index, bound in enumerate((*BOUNDS, math.inf)):
        assert sum(counts[: index + 1]) == sum(value <= bound for value in values)
    assert total == pytest.approx(sum(values))


def test_snapshot_of_another_worker_is_decoded_unchanged() -> None:
    waits = Histogram(BOUNDS)
    waits.observe(0.7)
    snapshot: Snapshot = {HISTOGRAM.name: [(("tls",), waits.observed())], GAUGE.name: [((), 7)]}
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
