"""Liveness of listeners, and disabling after long failure."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain import listener_health
from discue.domain.attempts import FailureKind
from discue.domain.listener_health import (
    NO_FAILURES,
    FailureStreak,
    Liveness,
    acknowledged_since_probe,
    after_failure,
    after_probe,
    after_trials,
    breaker_state,
    probe_error,
    probe_interval_ms,
    should_disable,
    with_jitter,
    with_new_url,
)
from discue.domain.retry import DEFAULT_RETRY_POLICY
from tests.support.clocks import NOON

# Liveness

probes = st.lists(st.booleans(), max_size=40)


def _after_probes(*results: bool, before: Liveness | None = None) -> Liveness:
    found = before or Liveness()
    for number, succeeded in enumerate(results, 1):
        found = after_probe(found, "" if succeeded else "answered 500", 0 if succeeded else 500, NOON + number)
    return found


@pytest.mark.parametrize(
    ("results", "state", "breaker"),
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
def test_state_after_a_series_of_probes(results: str, state: str, breaker: str) -> None:
    found = _after_probes(*(each == "+" for each in results))
    assert (found.state, breaker_state(found)) == (state, breaker)


@given(probes)
def test_state_follows_the_contract_for_any_series(results: list[bool]) -> None:
    """Two successes make a listener stable; three failures make it inactive until then."""
    expected = "unknown"
    for number, succeeded in enumerate(results, 1):
        last = results[:number]
        if last[-2:] == [True, True]:
            expected = "stable"
        elif last[-3:] == [False] * 3:
            expected = "inactive"
        elif not succeeded and expected != "inactive":
            expected = "unstable"
    assert _after_probes(*results).state == expected


# + succeeded, - failed, / is no liveness endpoint; ! and | like - and /, after a message was acknowledged
_RESULTS: dict[str, tuple[int, bool]] = {"+": (200, False), "-": (503, False), "/": (404, False), "!": (503, True)}
_RESULTS |= {"|": (404, True)}


def _after_any(results: str, before: Liveness | None = None) -> Liveness:
    found = before or Liveness()
    for number, result in enumerate(results, 1):
        now = max(NOON, found.last_success_at, found.last_failure_at) + 10 * number
        status, acknowledges = _RESULTS[result]
        found = after_probe(found, probe_error("", status), status, now, acknowledges=acknowledges)
    return found


states = st.text("+-/!|", max_size=40).map(_after_any)


@pytest.mark.parametrize(
    ("results", "state", "breaker"),
    [
        ("/", "unknown", "closed"),
        ("////", "unknown", "closed"),
        ("++/", "unknown", "closed"),
        ("--/--", "unstable", "closed"),
        ("--/---", "inactive", "open"),
        ("!!!!!", "unstable", "closed"),
        ("--!--", "unstable", "closed"),
        ("--!---", "inactive", "open"),
        ("---/", "inactive", "half_open"),
        ("---/-", "inactive", "open"),
        ("---/+", "inactive", "half_open"),
        ("---/++", "stable", "closed"),
        ("---//////", "inactive", "half_open"),
        ("---/|", "unknown", "closed"),
        ("---|", "unknown", "closed"),
        ("---+!", "inactive", "half_open"),
        ("---!", "inactive", "half_open"),
        ("---!-", "inactive", "open"),
    ],
)
def test_state_after_probes_that_do_not_count(results: str, state: str, breaker: str) -> None:
    found = _after_any(results)
    assert (found.state, breaker_state(found)) == (state, breaker)


@given(st.text("+/!|", max_size=40))
def test_no_failure_counts_without_a_liveness_endpoint_or_while_messages_are_acknowledged(results: str) -> None:
    found = _after_any(results)
    assert found.state != "inactive"
    assert found.failure_count == len(results) - results.count("+")


@pytest.mark.parametrize("status", [404, 405, 501])
def test_url_that_is_no_liveness_endpoint_is_shown_and_does_not_count(status: int) -> None:
    found = Liveness()
    for number in range(1, 5):
        found = after_probe(found, probe_error("", status), status, NOON + number)
    assert found == Liveness(
        "unknown", 0, 4, 0, NOON + 4, status, f"answered {status}: not a liveness endpoint", in_a_row=0
    )


@pytest.mark.parametrize(
    ("results", "acknowledged_at", "expected"),
    [
        ("", 0, False),
        ("", NOON, True),
        ("-", NOON + 10, True),
        ("-", NOON + 9, False),
        ("+", NOON + 10, True),
        ("+", NOON + 9, False),
        ("---+", NOON + 100, True),
        ("---", NOON + 100, False),
    ],
)
def test_stored_times_say_whether_a_listener_acknowledges_unless_the_breaker_is_open(
    results: str, acknowledged_at: int, *, expected: bool
) -> None:
    assert acknowledged_since_probe(_after_any(results), acknowledged_at) is expected


@given(states)
def test_acknowledged_messages_end_the_inactivity(before: Liveness) -> None:
    found = after_trials(before, NOON)
    assert (found.state, breaker_state(found), found.changed_at) == ("unstable", "closed", NOON)
    assert _after_any("--", found).state == "unstable"
    assert _after_any("++", found).state == "stable"


@given(probes)
def test_counts_are_totals_and_times_are_the_latest(results: list[bool]) -> None:
    found = _after_probes(*results)
    assert (found.success_count, found.failure_count) == (results.count(True), results.count(False))
    successes = [number for number, succeeded in enumerate(results, 1) if succeeded]
    failures = [number for number, succeeded in enumerate(results, 1) if not succeeded]
    assert found.last_success_at == (NOON + successes[-1] if successes else 0)
    assert found.last_failure_at == (NOON + failures[-1] if failures else 0)
    assert (found.last_failure_status, found.last_failure_msg) == ((500, "answered 500") if failures else (0, ""))


@given(states)
def test_breaker_opens_only_for_an_inactive_listener(before: Liveness) -> None:
    assert (breaker_state(before) == "closed") == (before.state != "inactive")
    order = ["open", "half_open", "closed"]
    assert order.index(breaker_state(_after_probes(False, before=before))) <= order.index(breaker_state(before))
    assert order.index(breaker_state(_after_probes(True, before=before))) >= order.index(breaker_state(before))


@given(before=states, result=st.sampled_from("+-/!|"))
def test_change_is_dated_when_a_listener_becomes_inactive_or_stops_to_be(before: Liveness, result: str) -> None:
    after = _after_any(result, before)
    has_changed = (before.state == "inactive") != (after.state == "inactive")
    at = max(after.last_success_at, after.last_failure_at)
    assert after.changed_at == (at if has_changed else before.changed_at)


@given(states)
def test_new_url_resets_the_state_and_keeps_the_counts(before: Liveness) -> None:
    found = with_new_url(before)
    assert msgspec.structs.replace(found, state=before.state, in_a_row=before.in_a_row) == before
    assert _after_probes(True, before=found).state == "unknown"
    assert _after_probes(False, False, before=found).state == "unstable"


@given(before=states, succeeded=st.booleans())
def test_notification_follows_a_change_of_state(before: Liveness, *, succeeded: bool) -> None:
    after = _after_probes(succeeded, before=before)
    if breaker_state(after) != breaker_state(before) or after.state != before.state:
        assert listener_health.needs_notification(before, after)
    if succeeded and before.state == "stable":
        assert not listener_health.needs_notification(before, after)


@given(before=states, is_idle=st.booleans(), random=st.floats(0, 1, exclude_max=True))
def test_probe_interval_is_long_only_for_an_idle_stable_listener(
    before: Liveness, *, is_idle: bool, random: float
) -> None:
    interval = probe_interval_ms(before, is_idle=is_idle)
    assert interval in {5_000, 30_000, 300_000}
    if interval == 300_000:
        assert (is_idle, before.state) == (True, "stable")
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
        ("timeout", 0, "no response in time"),
    ],
)
def test_probe_succeeds_with_2xx_and_reports_only_the_status(failure: FailureKind, status: int, expected: str) -> None:
    assert probe_error(failure, status) == expected
    assert listener_health.is_conclusive(failure)


def test_internal_failure_is_not_conclusive() -> None:
    assert not listener_health.is_conclusive("internal")


# Disabling

HOUR, DAY = 3_600_000, 86_400_000
FIVE_DAYS = 5 * 86_400

waits = st.lists(st.integers(0, 3 * DAY), min_size=1, max_size=30)


def _after_failures(*instants: int) -> FailureStreak:
    streak = NO_FAILURES
    for instant in instants:
        streak = after_failure(streak, instant)
    return streak


def _instants(waits: list[int]) -> list[int]:
    instants = [NOON]
    for wait in waits:
        instants.append(instants[-1] + wait)
    return instants


def _disabled_at(instants: list[int], after_seconds: int = FIVE_DAYS) -> int | None:
    streak = NO_FAILURES
    for instant in instants:
        streak = after_failure(streak, instant)
        if should_disable(streak, instant, after_seconds):
            return instant
    return None


@given(waits)
def test_listener_is_not_disabled_within_five_days(waits: list[int]) -> None:
    disabled_at = _disabled_at(_instants(waits))
    assert disabled_at is None or disabled_at - NOON >= 5 * DAY


@given(waits)
def test_listener_is_not_disabled_without_failures_12_to_24_hours_apart(waits: list[int]) -> None:
    instants = _instants(waits)
    if not any(12 * HOUR <= later - sooner <= 24 * HOUR for sooner in instants for later in instants):
        assert _disabled_at(instants) is None


@given(waits)
def test_listener_that_fails_for_more_than_five_days_is_disabled(waits: list[int]) -> None:
    instants = _instants([wait % (6 * HOUR) for wait in waits])
    while instants[-1] - NOON < 6 * DAY + 6 * HOUR:
        instants.append(instants[-1] + 6 * HOUR)
    disabled_at = _disabled_at(instants)
    assert disabled_at is not None
    assert disabled_at - NOON <= 6 * DAY + 6 * HOUR


def test_bursts_a_week_apart_do_not_disable_a_listener() -> None:
    burst = [NOON + second * 1_000 for second in range(100)]
    assert _disabled_at([*burst, NOON + 7 * DAY, NOON + 14 * DAY]) is None


def test_time_starts_with_the_first_of_two_distant_failures() -> None:
    streak = _after_failures(NOON, NOON + 11 * HOUR, NOON + 12 * HOUR)
    assert streak == FailureStreak(NOON, NOON)
    assert not should_disable(streak, NOON + 5 * DAY - 1, FIVE_DAYS)
    assert should_disable(streak, NOON + 5 * DAY, FIVE_DAYS)


def test_attempts_of_one_message_start_the_time() -> None:
    instants = _instants([delay * 1_200 for delay in DEFAULT_RETRY_POLICY.delays_seconds])
    assert _after_failures(*instants).since == NOON


@given(waits)
def test_limit_of_zero_never_disables(waits: list[int]) -> None:
    assert _disabled_at(_instants(waits), 0) is None


@given(st.integers(1, 10 * DAY))
def test_streak_restarts_when_the_clock_is_set_back(back: int) -> None:
    assert after_failure(FailureStreak(NOON), NOON - back) == FailureStreak(NOON - back)
