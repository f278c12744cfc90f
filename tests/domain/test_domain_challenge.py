"""Domain verification: challenges, checks, and retries."""

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain import domain_challenge
from discue.domain.domain_challenge import (
    CHALLENGE_MS,
    CHECK_LOST_MS,
    GRACE_MS,
    MIN_PAUSE_MS,
    RECHECK_MS,
    RETRY_DELAYS_MS,
    Challenge,
    Verification,
    after_change,
    after_check,
    before_check,
    can_be_met,
    check_error,
    may_check_now,
    new_challenge,
    target_of,
    unverified,
)
from discue.domain.egress import parse_target
from discue.domain.errors import Unprocessable
from discue.domain.ids import RandomText
from tests.support.clocks import NOON

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
TEXT = RandomText(os.urandom)
CHALLENGE = Challenge(".well-known/discue", "name", "content", NOON, NOON + CHALLENGE_MS)
VERIFIED = after_check(unverified(CHALLENGE), CHALLENGE, "", NOON + MINUTE)

instants = st.integers(NOON, NOON + 40 * DAY)
errors = st.sampled_from(["", "no connection", "answered 404", "content differs"])


@pytest.mark.parametrize(
    ("port", "url"), [(80, "http://a.example/"), (443, "https://a.example/"), (8_443, "https://a.example:8443/")]
)
def test_port_80_uses_http_and_other_ports_https(port: int, url: str) -> None:
    expected = parse_target(f"{url}.well-known/discue/name", "/url")
    assert target_of("a.example", port, CHALLENGE) == expected


@pytest.mark.parametrize("port", [-1, 0, 1, 79, 80, 81, 442, 443, 444, 1_023, 1_024, 65_535, 65_536, 1 << 40])
def test_port_is_80_443_or_not_privileged(port: int) -> None:
    if port in {80, 443, 1_024, 65_535}:
        domain_challenge.check_port(port)
    else:
        with pytest.raises(Unprocessable, match="/port"):
            domain_challenge.check_port(port)


def test_challenges_are_random() -> None:
    made = [new_challenge(TEXT, NOON) for _ in range(100)]
    assert len({each.file_name for each in made}) == len({each.file_content for each in made}) == 100
    assert {(len(each.file_name), len(each.file_content)) for each in made} == {(32, 43)}
    assert {(each.context_path, each.expires_at - each.created_at) for each in made} == {
        (".well-known/discue", 7 * DAY)
    }


BODIES = st.sampled_from([b"content", b"content\n", b" content", b"CONTENT", b"conten", b""])


@given(st.integers(100, 999) | st.just(200), st.binary(max_size=20) | BODIES)
def test_check_requires_200_and_the_exact_content(status: int, body: bytes) -> None:
    assert check_error("tls", status, body, CHALLENGE) == "TLS failed"
    error = check_error("", status, body, CHALLENGE)
    if status != 200:
        assert error == f"answered {status}"
    else:
        assert error == ("" if body == b"content" else "content differs")


def test_new_domain_is_checked_with_backoff_until_the_challenge_expires() -> None:
    stored, tries = unverified(CHALLENGE), []
    while (due_at := stored.due_at) is not None:
        tries.append(due_at)
        stored = after_check(before_check(stored, due_at), CHALLENGE, "no connection", due_at)
    waits = [later - earlier for earlier, later in zip([NOON, *tries], tries, strict=False)]
    assert waits[:8] == [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, HOUR, HOUR]
    assert CHALLENGE.expires_at - HOUR <= tries[-1] < CHALLENGE.expires_at
    assert (stored.verified, stored.verified_at, stored.last_error) == (False, 0, "no connection")
    assert not can_be_met(stored, CHALLENGE, CHALLENGE.expires_at)
    assert can_be_met(stored, CHALLENGE, CHALLENGE.expires_at - 1)


def test_successful_check_verifies_and_resets_failures() -> None:
    failed = after_check(unverified(CHALLENGE), CHALLENGE, "answered 404", NOON)
    stored = after_check(failed, CHALLENGE, "", NOON + 5)
    assert stored == Verification(
        verified=True, verified_at=NOON + 5, checked_at=NOON + 5, due_at=NOON + 5 + RECHECK_MS
    )


def test_verified_domain_is_checked_daily() -> None:
    later = after_check(VERIFIED, CHALLENGE, "", NOON + 20 * DAY)
    assert (later.verified, later.verified_at, later.due_at) == (True, NOON + MINUTE, NOON + 21 * DAY)
    assert can_be_met(later, CHALLENGE, NOON + 21 * DAY)


def test_verification_survives_failures_for_three_days() -> None:
    stored, now = VERIFIED, NOON + DAY
    first_failure = now
    while stored.verified:
        assert now - first_failure < GRACE_MS + HOUR
        stored = after_check(before_check(stored, now), CHALLENGE, "no connection", now)
        now = stored.due_at or now
    assert now - first_failure >= GRACE_MS
    assert stored.failures > len(RETRY_DELAYS_MS)
    assert (stored.verified_at, stored.last_error) == (0, "no connection")


def test_success_restarts_the_three_days() -> None:
    failing = after_check(VERIFIED, CHALLENGE, "no connection", NOON + DAY)
    mended = after_check(failing, CHALLENGE, "", NOON + 3 * DAY)
    again = after_check(mended, CHALLENGE, "no connection", NOON + 5 * DAY)
    assert again.verified
    assert again.failed_since == NOON + 5 * DAY


@given(st.lists(st.tuples(errors, st.integers(1, 5 * DAY)), max_size=30))
def test_verification_state_is_consistent(checks: list[tuple[str, int]]) -> None:
    stored, now = unverified(CHALLENGE), NOON
    for error, pause in checks:
        now += pause
        stored = after_check(before_check(stored, now), CHALLENGE, error, now)
        assert stored.verified == (stored.verified_at > 0)
        assert (stored.failures == 0) == (stored.failed_since == 0) == (stored.last_error == "") == (not error)
        assert stored.checked_at == stored.tried_at == now
        assert stored.verified or error
        assert stored.due_at is None or now < stored.due_at <= now + RECHECK_MS
        assert stored.due_at is not None or not stored.verified


def test_challenge_is_renewed_only_after_it_expires() -> None:
    early, late = new_challenge(TEXT, CHALLENGE.expires_at - 1), new_challenge(TEXT, CHALLENGE.expires_at)
    for verified in (True, False):
        assert after_change(CHALLENGE, early, verified=verified) == CHALLENGE
    assert after_change(CHALLENGE, late, verified=False) == late


def test_verified_domain_keeps_its_file() -> None:
    late = new_challenge(TEXT, CHALLENGE.expires_at + 5)
    expected = msgspec.structs.replace(CHALLENGE, created_at=late.created_at, expires_at=late.expires_at)
    assert after_change(CHALLENGE, late, verified=True) == expected


def test_check_on_demand_waits_for_a_check_in_flight() -> None:
    begun_check = before_check(unverified(CHALLENGE), NOON)
    assert may_check_now(unverified(CHALLENGE), NOON)
    assert not may_check_now(begun_check, NOON + CHECK_LOST_MS - 1)
    assert may_check_now(begun_check, NOON + CHECK_LOST_MS)
    ended = after_check(begun_check, CHALLENGE, "no connection", NOON + 1_000)
    assert not may_check_now(ended, NOON + 1_000 + MIN_PAUSE_MS - 1)
    assert may_check_now(ended, NOON + 1_000 + MIN_PAUSE_MS)


def test_domain_is_not_due_while_it_is_checked() -> None:
    stored = before_check(unverified(CHALLENGE), NOON + 5 * MINUTE)
    assert stored.due_at == NOON + 5 * MINUTE + CHECK_LOST_MS
    assert CHECK_LOST_MS > 2 * domain_challenge.CHECK_TIMEOUT_SECONDS * 1_000
    assert before_check(VERIFIED, NOON + MINUTE).due_at == VERIFIED.due_at
    assert before_check(msgspec.structs.replace(stored, due_at=None), NOON).due_at is None
