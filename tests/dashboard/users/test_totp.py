"""Codes of authenticator apps agree with RFC 6238, and are accepted once, at their time."""

import os

import pytest

from discue.dashboard.users import second_factor
from discue.dashboard.users.second_factor import STEP_MS, code_at, step_of

SECRET = b"12345678901234567890"
NEVER = -1


@pytest.mark.parametrize(
    ("seconds", "code"),
    # Appendix B of RFC 6238 has eight digits; apps show the last six.
    [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
def test_code_is_that_of_the_standard(seconds: int, code: str) -> None:
    assert code_at(SECRET, seconds // 30) == code
    assert step_of(SECRET, code, seconds * 1_000, NEVER) == seconds // 30


@pytest.mark.parametrize(("apart", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_code_is_accepted_up_to_one_step_away(apart: int, *, accepted: bool) -> None:
    step = 1_000
    found = step_of(SECRET, code_at(SECRET, step + apart), step * STEP_MS + 17, NEVER)
    assert found == (step + apart if accepted else None)


def test_code_of_an_accepted_or_earlier_step_is_refused() -> None:
    now = 1_000 * STEP_MS
    assert step_of(SECRET, code_at(SECRET, 1_000), now, 999) == 1_000
    for used in (1_000, 1_001):
        assert step_of(SECRET, code_at(SECRET, 1_000), now, used) is None
    assert step_of(SECRET, code_at(SECRET, 999), now, 999) is None


@pytest.mark.parametrize(
    "code", ["", "28708", "2870820", "28708x", "²87082", "٢٨٧٠٨٢", "-87082", "x" * 100_000, "\ud800"]
)
def test_text_that_is_no_code_is_refused(code: str) -> None:
    assert step_of(SECRET, code, 59_000, NEVER) is None


def test_spaces_in_a_code_are_ignored() -> None:
    assert step_of(SECRET, " 287 082 ", 59_000, NEVER) == 1


def test_uri_has_what_apps_read() -> None:
    uri = second_factor.uri_of(SECRET, "discue example.com", "ada+1@example.com")
    assert uri == (
        "otpauth://totp/discue%20example.com:ada%2B1%40example.com"
        "?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=discue%20example.com"
    )


def test_recovery_code_is_accepted_once_in_any_spelling() -> None:
    codes = second_factor.new_recovery_codes(os.urandom)
    hashes = [second_factor.recovery_hash(code) for code in codes]
    assert len(set(hashes)) == second_factor.RECOVERY_CODES
    assert {len(code) for code in codes} == {19}
    left = second_factor.without_recovery_code(hashes, f" {codes[3].upper().replace('-', ' ')}")
    assert left == (*hashes[:3], *hashes[4:])
    assert second_factor.without_recovery_code(left, codes[3]) is None
    assert second_factor.without_recovery_code(left, "") is None


def test_secrets_are_random_and_160_bits_long() -> None:
    assert len({second_factor.new_secret(os.urandom) for _ in range(10)}) == 10
    assert len(second_factor.new_secret(os.urandom)) * 8 == 160
