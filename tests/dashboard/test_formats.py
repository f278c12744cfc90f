"""How pages show numbers, times and data."""

import pytest

from discue.dashboard import formats
from discue.domain.attempts import WITHHELD, StoredAttempt

NOW = 1_795_536_285_123


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9_999, "9999"),
        (10_000, "10\u202f000"),
        (2**63 + 1, "9\u202f223\u202f372\u202f036\u202f854\u202f775\u202f809"),
    ],
)
def test_integers_are_exact(value: int, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-5, "0 ms"),
        (999, "999 ms"),
        (1_540, "1.5 s"),
        (9_990, "10.0 s"),
        (59_999, "59 s"),
        (61_000, "1 min 1 s"),
        (3_600_000, "1 h"),
        (90_061_000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units_and_are_never_negative(milliseconds: int, text: str) -> None:
    assert formats.duration(milliseconds).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("apart", "text"),
    [(0, "just now"), (5_400, "5 s ago"), (-61_000, "in 1 min"), (7_260_000, "2 h ago"), (-999, "just now")],
)
def test_relative_times_have_one_unit(apart: int, text: str) -> None:
    assert formats.ago(NOW - apart, NOW).replace("\u202f", " ") == text


def test_time_has_its_exact_moment_in_utc() -> None:
    shown = formats.time(NOW - 3_000, NOW)
    assert 'datetime="2026-11-24T16:04:42.123Z" title="24 Nov 2026, 16:04:42.123 UTC">3' in shown
    assert "never" in formats.time(0, NOW)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "–"), (0, 9, "0 %"), (9, 9, "100 %"), (1, 10**6, "0.1 %"), (10**6 - 1, 10**6, "99.9 %")],
)
def test_all_and_none_are_not_rounded(part: int, whole: int, text: str) -> None:
    assert formats.percent(part, whole) == text


@pytest.mark.parametrize(
    ("a_minute", "text"),
    [
        (0, "0 per minute"),
        (0.02, "under 0.1 per minute"),
        (0.1, "0.1 per minute"),
        (9.0, "9 per minute"),
        (9.94, "9.9 per minute"),
        (10.4, "10 per minute"),
        (12_345.6, "12\u202f346 per minute"),
    ],
)
def test_rate_is_0_only_if_nothing_happened(a_minute: float, text: str) -> None:
    assert formats.rate(a_minute) == text


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b'{"a":[1,2]}', ('{\n  "a": [\n    1,\n    2\n  ]\n}', False)),
        (b"[" * 2_000, ("[" * 2_000, False)),
        (b"{broken", ("{broken", False)),
        (b"\xff\x00", ("\\xff\x00", False)),
        (b"x" * 5_000, ("x" * 3_000, True)),
        (b"<" * 1_000, ("<" * 750, True)),
        ("é".encode() * 1_600, ("é" * 1_500, True)),
    ],
)
def test_data_is_text_whatever_it_is(content: bytes, shown: tuple[str, bool]) -> None:
    assert formats.readable(content, most=3_000) == shown


def nested(levels: int, length: int) -> bytes:
    """JSON with as many elements as fit, at the bottom of some levels."""
    elements = b",".join([b"0"] * ((length - 2 * levels) // 2))
    return b"[" * levels + elements + b"]" * levels


def test_json_is_indented_only_if_that_does_not_multiply_it() -> None:
    flat, deep, long = nested(32, 5_000), nested(33, 5_000), nested(1, 20_100)
    assert formats.readable(flat, most=200_000)[0].endswith("\n  ]\n]")
    for content in (deep, nested(850, 20_000), long):
        assert formats.readable(content, most=200_000) == (content.decode(), False)


def test_brackets_in_strings_are_not_levels() -> None:
    text = b'{"a":"' + rb"[\"" * 100 + b'"}'
    assert formats.readable(text, most=1_000)[0].startswith('{\n  "a": "[')
    unended = rb'{"a":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[' + rb"\"" * 10
    assert formats.readable(unended, most=1_000) == (unended.decode(), False)


@pytest.mark.parametrize(
    ("start", "size", "text"),
    [
        (b'{"order":17}', 12, '{"order":17}'),
        (b'{\r\n  "order":\t17\n}\n', 19, '{ "order": 17 }'),
        ("a\u2028\u202e\x07b".encode(), 8, "a b"),
        ("ää".encode(), 5, "ää…"),
        ("ää".encode()[:3], 4, "ä…"),
        (b"\x89PNG\r\n\x1a\n\x00", 900, ""),
        (b"", 0, ""),
        (b"'" * 120, 120, "'" * 80 + "…"),
    ],
)
def test_preview_is_one_bounded_line_of_text(start: bytes, size: int, text: str) -> None:
    assert formats.preview(start, size) == text


@pytest.mark.parametrize(
    ("status", "error", "detail", "took_ms", "text"),
    [
        (404, "status", "The listener answered 404.", 3, "404 Not Found"),
        (400, "status", "It is not shown.", WITHHELD, "4xx"),
        (0, "connect", "The connection was refused.", 3, "The connection was refused."),
        (0, "tls", "It is not shown.", WITHHELD, "TLS failed"),
    ],
)
def test_outcome_of_an_attempt_is_short(status: int, error: str, detail: str, took_ms: int, text: str) -> None:
    assert formats.outcome(StoredAttempt("id", NOW, "", "", 1, status, error, detail, took_ms)) == text
