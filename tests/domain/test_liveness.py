"""The rules of liveness."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain import listener_health
from discue.domain.attempts import FailureKind
from discue.domain.listener_health import (
    Liveness,
    after_probe,
    breaker_state,
    probe_error,
    probe_interval_ms,
    with_jitter,
    with_new_url,
)
from tests.support.clocks import NOON

probes = st.lists(st.booleans(), max_size=40)
known = probes.map(lambda results: _after(*results))


def _after(*results: bool, before: Liveness | None = None) -> Liveness:
    found = before or Liveness()
    for number, is_well in enumerate(results, 1):
        found = after_probe(found, "" if is_well else "answered 500", 0 if is_well else 500, NOON + number)
    return found


@pytest.mark.parametrize(
    ("results", "state", "passes"),
    [
        ("", "unknown", "closed"),
        ("+", "unknown", "closed"),
        ("++", "stable", "closed"),
        ("-", "unstable", "closed"),
        ("--", "unstable", "closed"),
        ("---", "inactive", "open"),
        ("++-", "unstable", "closed"),
        ("++---", "inactive", "open"),
        ("-+", "unstable", "closed"),
        ("-++", "stable", "closed"),
        ("--+--", "unstable", "closed"),
        ("---+", "inactive", "half_open"),
        ("---+-", "inactive", "open"),
        ("---+-+", "inactive", "half_open"),
        ("---++", "stable", "closed"),
        ("---++-", "unstable", "closed"),
        ("+-+-+-+-", "unstable", "closed"),
    ],
)
def test_series_of_probes_determines_the_state(results: str, state: str, passes: str) -> None:
    found = _after(*(each == "+" for each in results))
    assert (found.state, breaker_state(found)) == (state, passes)


@given(probes)
def test_the_state_is_what_the_contract_says(results: list[bool]) -> None:
    """Said once more, over the whole row: two successes are stable, three failures inactive until then."""
    expected = "unknown"
    for number, is_well in enumerate(results, 1):
        last = results[:number]
        if last[-2:] == [True, True]:
            expected = "stable"
        elif last[-3:] == [False] * 3:
            expected = "inactive"
        elif not is_well and expected != "inactive":
            expected = "unstable"
    assert _after(*results).state == expected


@given(probes)
def test_counts_are_totals_and_instants_those_of_the_last(results: list[bool]) -> None:
    found = _after(*results)
    assert (found.success_count, found.failure_count) == (results.count(True), results.count(False))
    well = [number for number, is_well in enumerate(results, 1) if is_well]
    badly = [number for number, is_well in enumerate(results, 1) if not is_well]
    assert found.last_success_at == (NOON + well[-1] if well else 0)
    assert found.last_failure_at == (NOON + badly[-1] if badly else 0)
    assert (found.last_failure_status, found.last_failure_msg) == ((500, "answered 500") if badly else (0, ""))


@given(known)
def test_breaker_is_closed_unless_inactive_and_failures_never_close_it(before: Liveness) -> None:
    assert (breaker_state(before) == "closed") == (before.state != "inactive")
    order = ["open", "half_open", "closed"]
    assert order.index(breaker_state(_after(False, before=before))) <= order.index(breaker_state(before))
    assert order.index(breaker_state(_after(True, before=before))) >= order.index(breaker_state(before))


@given(known)
def test_two_successes_always_open_and_three_failures_always_close(before: Liveness) -> None:
    assert _after(True, True, before=before).state == "stable"
    assert breaker_state(_after(False, False, False, before=before)) == "open"


@given(known)
def test_new_liveness_url_resets_the_state_and_keeps_the_counts(before: Liveness) -> None:
    found = with_new_url(before)
    assert msgspec.structs.replace(found, state=before.state, in_a_row=before.in_a_row) == before
    assert _after(True, before=found).state == "unknown"
    assert _after(False, False, before=found).state == "unstable"


@given(before=known, is_well=st.booleans())
def test_changes_of_the_breaker_are_reported_and_repeated_successes_are_not(before: Liveness, *, is_well: bool) -> None:
    after = _after(is_well, before=before)
    if breaker_state(after) != breaker_state(before) or after.state != before.state:
        assert listener_health.needs_notification(before, after)
    if is_well and before.state == "stable":
        assert not listener_health.needs_notification(before, after)


@given(before=known, is_quiet=st.booleans(), random=st.floats(0, 1, exclude_max=True))
def test_probe_interval_is_five_minutes_at_most_and_thirty_seconds_if_not_quiet(
    before: Liveness, *, is_quiet: bool, random: float
) -> None:
    interval = probe_interval_ms(before, is_idle=is_quiet)
    assert interval in {5_000, 30_000, 300_000}
    if interval == 300_000:
        assert (is_quiet, before.state) == (True, "stable")
    assert 0.9 * interval - 1 <= with_jitter(interval, random) <= 1.1 * interval


@pytest.mark.parametrize(
    ("failure", "status", "expected"),
    [
        ("", 200, ""),
        ("", 204, ""),
        ("", 299, ""),
        ("", 302, "answered 302"),
        ("", 500, "answered 500"),
        ("", 199, "answered 199"),
        ("refused_address", 0, "address not allowed"),
        ("resolve", 0, "name not found"),
        ("timeout", 0, "no response in time"),
        ("connect", 0, "no connection"),
        ("connect_timeout", 0, "no connection"),
        ("tls", 0, "TLS failed"),
        ("reset", 0, "no response"),
        ("protocol", 0, "no response"),
        ("response_too_large", 0, "no response"),
    ],
)
def test_any_2xx_is_well_and_of_anything_else_no_more_than_the_status_is_told(
    failure: FailureKind, status: int, expected: str
) -> None:
    assert probe_error(failure, status) == expected
    assert listener_health.is_conclusive(failure)


def test_probe_that_could_not_be_sent_changes_nothing() -> None:
    assert not listener_health.is_conclusive("internal")
