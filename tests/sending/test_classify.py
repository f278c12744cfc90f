"""Classification of responses and errors, by tables."""

import errno
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.sending.response import (
    Failure,
    classify_connect_error,
    classify_lost_connection,
    classify_response,
    retry_after_seconds,
)

NOW = 1_800_000_000_000
DAY = 86_400


@given(st.integers(min_value=1, max_value=999))
def test_exactly_the_2xx_acknowledge(status: int) -> None:
    outcome = classify_response(status, b"body", 5, now=NOW)
    assert outcome.acknowledged == (200 <= status <= 299)
    assert (outcome.detail == "") == outcome.acknowledged
    assert (outcome.status, outcome.excerpt, outcome.duration_ms) == (status, b"body", 5)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308, 400, 404, 410, 500, 101, 999])
def test_redirects_differ_from_other_statuses(status: int) -> None:
    outcome = classify_response(status, b"", 0, now=NOW)
    assert outcome.error == ("redirect" if status in {301, 302, 303, 307, 308} else "status")
    assert str(status) in outcome.detail


@pytest.mark.parametrize("status", [200, 301, 400, 404, 410, 500, 502, 504])
def test_retry_after_counts_for_429_and_503_only(status: int) -> None:
    assert classify_response(status, b"", 0, retry_after=b"30", now=NOW).retry_after_seconds is None
    for counting in (429, 503):
        assert classify_response(counting, b"", 0, retry_after=b"30", now=NOW).retry_after_seconds == 30


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0),
        (b"120", 120),
        (b" 120 ", 120),
        (b"86400", DAY),
        (b"86401", DAY),
        (b"9" * 5_000, DAY),
        (b"", None),
        (b"-5", None),
        (b"1.5", None),
        (b"soon", None),
        ("٣".encode(), None),
        (b"\xff\xfe", None),
        (b"Mon, 99 Foo 2020 99:99:99 GMT", None),
    ],
)
def test_retry_after_in_seconds(value: bytes, seconds: int | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


@given(st.integers(min_value=-10 * DAY, max_value=10 * DAY), st.integers(min_value=0, max_value=999))
def test_retry_after_as_a_date_never_ends_early(seconds: int, millisecond: int) -> None:
    then = datetime.fromtimestamp(NOW // 1_000, UTC) + timedelta(seconds=seconds)
    value = format_datetime(then, usegmt=True).encode()
    assert retry_after_seconds(value, NOW) == max(0, min(seconds, DAY))
    assert retry_after_seconds(value, NOW - millisecond) == max(0, min(seconds + (1 if millisecond else 0), DAY))


@given(st.binary(max_size=60))
def test_retry_after_never_raises(value: bytes) -> None:
    seconds = retry_after_seconds(value, NOW)
    assert seconds is None or 0 <= seconds <= DAY


@pytest.mark.parametrize(
    ("value", "expected"), [(b"true", True), (b" TRUE ", True), (b"1", False), (b"", False), (b"false", False)]
)
def test_only_the_value_true_means_no_retry(value: bytes, *, expected: bool) -> None:
    assert classify_response(500, b"", 0, no_retry=value, now=NOW).no_retry is expected
    assert classify_response(200, b"", 0, no_retry=value, now=NOW).no_retry is False


@pytest.mark.parametrize(
    ("error", "over_tls", "kind"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), False, "connect"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), True, "connect"),
        (OSError(errno.ENETUNREACH, "x"), False, "connect"),
        (OSError("no errno"), False, "connect"),
        (TimeoutError(), False, "connect_timeout"),
        (TimeoutError(errno.ETIMEDOUT, "x"), True, "connect_timeout"),
        (ConnectionResetError(errno.ECONNRESET, "x"), True, "tls"),
        (ConnectionResetError(errno.ECONNRESET, "x"), False, "connect"),
        (ssl.SSLError(1, "x"), True, "tls"),
        (OSError(errno.EMFILE, "x"), False, "internal"),
    ],
)
def test_connect_errors_are_classified(error: OSError, *, over_tls: bool, kind: str) -> None:
    failure = classify_connect_error(error, "a.example", over_tls=over_tls)
    assert failure.kind == kind
    assert failure.detail.endswith(".")


def test_lost_connection_says_how_and_when_it_was_lost() -> None:
    closed = classify_lost_connection(None, response_started=False)
    assert closed.detail == "The connection was closed before the response."
    reset = classify_lost_connection(ConnectionResetError(), response_started=True)
    assert reset == Failure("reset", "The connection was reset in the middle of the response.")
    assert classify_lost_connection(ssl.SSLError(1, "x"), response_started=False).kind == "tls"
