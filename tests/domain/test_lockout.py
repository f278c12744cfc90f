from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.lockout import (
    FAILURES,
    FIRST_LOCK_MS,
    HISTORY_MS,
    MAX_LOCK_MS,
    NO_HISTORY,
    QUIET_MS,
    WINDOW_MS,
    FailureHistory,
    LockoutSubject,
    LockoutTable,
    after_failure,
    code_refusal_ms,
    remaining_ms,
)
from tests.support.clocks import NOON

MINUTE = 60_000

pauses = st.lists(st.integers(0, WINDOW_MS * 2) | st.integers(0, QUIET_MS * 2), min_size=1, max_size=60)


def failing(times: Sequence[int]) -> FailureHistory:
    state = NO_HISTORY
    for at in times:
        state = after_failure(state, at)
    return state


def times_of(pauses: Sequence[int]) -> list[int]:
    at, times = NOON, []
    for pause in pauses:
        at += pause
        times.append(at)
    return times


def test_fifth_failure_within_a_minute_locks_for_a_minute() -> None:
    times = [NOON + 1_000 * number for number in range(FAILURES)]
    assert failing(times[:-1]).locked_until == 0
    assert failing(times).locked_until == times[-1] + MINUTE


def test_five_failures_over_a_minute_do_not_lock() -> None:
    quarter = WINDOW_MS // (FAILURES - 1)
    assert failing([NOON + quarter * number for number in range(100)]).locked_until == 0
    assert failing([NOON + (quarter - 1) * number for number in range(FAILURES)]).locked_until > 0


def test_lock_duration_doubles_up_to_fifteen_minutes() -> None:
    state, now, lasted = NO_HISTORY, NOON, []
    for _ in range(7):
        for _ in range(FAILURES):
            state = after_failure(state, now)
        lasted.append((state.locked_until - now) // MINUTE)
        now = state.locked_until
    assert lasted == [1, 2, 4, 8, 15, 15, 15]


def test_every_tenth_wrong_code_refuses_codes_for_longer_up_to_a_day() -> None:
    refused = {wrong: code_refusal_ms(wrong) // 60_000 for wrong in range(101) if code_refusal_ms(wrong)}
    minutes = (15, 30, 60, 120, 240, 480, 960, 1_440, 1_440, 1_440)
    assert refused == dict(zip(range(10, 101, 10), minutes, strict=True))
    assert code_refusal_ms(10**9) == 86_400_000


def test_lock_duration_resets_after_a_quiet_period() -> None:
    locked = failing([NOON] * FAILURES)
    soon, late = locked.locked_until + QUIET_MS - 1, locked.locked_until + QUIET_MS
    for again, lasts in ((soon, 2 * FIRST_LOCK_MS), (late, FIRST_LOCK_MS)):
        state = locked
        for _ in range(FAILURES):
            state = after_failure(state, again)
        assert state.locked_until == again + lasts


def test_slow_failures_do_not_reset_the_lock_duration() -> None:
    state = failing([NOON] * FAILURES)
    now = state.locked_until
    for _ in range(10):
        now += QUIET_MS - 1
        state = after_failure(state, now)
    for _ in range(FAILURES - 1):
        state = after_failure(state, now)
    assert state.locked_until == now + 2 * FIRST_LOCK_MS


@given(pauses)
def test_lock_requires_five_failures_within_a_minute(pauses: list[int]) -> None:
    state, looked_at = NO_HISTORY, list[int]()
    for now in times_of(pauses):
        before, state = state, after_failure(state, now)
        if state is before:
            assert remaining_ms(before.locked_until, now)
            continue
        looked_at.append(now)
        begins = state.locked_until != before.locked_until
        since_the_last_lock = [at for at in looked_at if at >= before.locked_until and now - at < WINDOW_MS]
        assert begins == (len(since_the_last_lock) >= FAILURES)


@given(pauses)
def test_attempt_during_a_lock_does_not_extend_it(pauses: list[int]) -> None:
    state = NO_HISTORY
    for now in times_of(pauses):
        before, state = state, after_failure(state, now)
        if remaining_ms(before.locked_until, now):
            assert state is before
        assert 0 <= remaining_ms(state.locked_until, now) <= MAX_LOCK_MS
        assert remaining_ms(state.locked_until, now + MAX_LOCK_MS) == 0
        assert len(state.failed_at) < FAILURES


@given(pauses)
def test_history_is_irrelevant_once_it_may_be_deleted(pauses: list[int]) -> None:
    times = times_of(pauses)
    state = failing(times)
    later = [times[-1] + HISTORY_MS + number for number in range(FAILURES)]
    for now in later:
        state = after_failure(state, now)
    assert state == failing(later)


@given(st.lists(st.integers(-(10**13), 10**13), max_size=40))
def test_clock_jump_never_locks_longer_than_the_maximum(jumps: list[int]) -> None:
    state = NO_HISTORY
    for now in jumps:
        state = after_failure(state, now)
        assert remaining_ms(state.locked_until, now) <= MAX_LOCK_MS
        assert len(state.failed_at) < FAILURES


def test_subject_number_is_stable_and_differs_between_subjects() -> None:
    subjects = [
        LockoutSubject.unknown_key("192.0.2.1"),
        LockoutSubject.unknown_key("192.0.2.2"),
        LockoutSubject.sign_in("192.0.2.1"),
        LockoutSubject.user("192.0.2.1"),
        LockoutSubject.api_key("a", "192.0.2.1"),
        LockoutSubject.api_key("a", "192.0.2.2"),
        LockoutSubject.api_key("b", "192.0.2.1"),
    ]
    assert subjects[0].number == LockoutSubject.unknown_key("192.0.2.1").number
    assert len({each.number for each in subjects}) == len(subjects)
    assert all(0 <= each.number < 2**63 for each in subjects)


def test_label_names_the_key_or_user_and_the_address_or_browser() -> None:
    subjects = (
        LockoutSubject.api_key("0Vbva7tz00pxB3r1moiNB", "192.0.2.1"),
        LockoutSubject.unknown_key("2001:db8::/64"),
        LockoutSubject.user("Ada@example.com"),
        LockoutSubject.sign_in("192.0.2.1"),
        LockoutSubject.device("x", "Ada@example.com"),
    )
    assert [each.label for each in subjects] == [
        "key 0Vbva7tz00pxB3r1moiNB from 192.0.2.1",
        "unknown keys from 2001:db8::/64",
        "user ada@example.com",
        "sign-in from 192.0.2.1",
        "browser x of ada@example.com",
    ]


def test_devices_and_the_email_of_a_user_are_subjects_of_their_own() -> None:
    devices = [LockoutSubject.device(device, "Ada@example.com") for device in ("x", "y")]
    assert len({each.number for each in (LockoutSubject.user("ada@EXAMPLE.com"), *devices)}) == 3
    assert devices[0] == LockoutSubject.device("x", "ADA@example.com")


def test_lockout_holds_until_its_end() -> None:
    locks = LockoutTable(10)
    locks.set(LockoutSubject.unknown_key("192.0.2.1"), NOON + 500, NOON)
    assert locks.until
    assert locks.remaining_ms(LockoutSubject.unknown_key("192.0.2.1"), NOON) == 500
    assert locks.remaining_ms(LockoutSubject.unknown_key("192.0.2.2"), NOON) == 0
    assert locks.remaining_ms(LockoutSubject.unknown_key("192.0.2.1"), NOON + 500) == 0
    assert not locks.until


def test_ended_lockout_is_removed() -> None:
    locks = LockoutTable(10)
    locks.set(LockoutSubject.unknown_key("192.0.2.1"), NOON + 500, NOON)
    locks.set(LockoutSubject.unknown_key("192.0.2.1"), 0, NOON)
    assert not locks.until


def test_lockout_table_evicts_the_oldest_when_full() -> None:
    locks = LockoutTable(3)
    subjects = [LockoutSubject.api_key("a", f"192.0.2.{number}") for number in range(5)]
    for subject in subjects:
        locks.set(subject, NOON + 500, NOON)
    assert len(locks.until) == 3
    assert [locks.remaining_ms(each, NOON) for each in subjects] == [0, 0, 500, 500, 500]
    locks.set(subjects[4], NOON + 900, NOON)
    assert len(locks.until) == 3
