"""Causes of missed messages: what is alike has one fingerprint, and a hostile text is harmless."""

import string
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.attempts import Outcome, Timings, Trace
from discue.domain.causes import MOST_CAUSES, TEXT_CHARACTERS, Cause, cause_of, fingerprint, plain, told_apart

TRACE = Trace(b"", (), b"", 0, "", False, Timings(None, None, None, None, 1))
WORDS = st.text(string.ascii_letters, min_size=1, max_size=12).filter(lambda word: set(word.lower()) - set("abcdef"))
NUMBERS = st.integers(0, 10**12).map(str)
TIMES = st.datetimes().map(lambda at: f"{at.isoformat()}Z")
ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.tuples(st.ip_addresses(v=4), st.integers(1, 65535)).map(lambda pair: f"{pair[0]}:{pair[1]}"),
)
IDS = st.tuples(WORDS, st.integers(0, 10**9)).map(lambda pair: f"{pair[0]}_{pair[1]}x")


def answered(body: bytes, status: int = 422, trace: Trace | None = TRACE) -> Outcome:
    return Outcome(status, "status", f"The listener responded with {status}.", 1, excerpt=body, trace=trace)


@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4), st.data())
def test_texts_that_differ_in_what_varies_have_one_fingerprint(
    before: list[str], after: list[str], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from([NUMBERS, st.uuids().map(str), ADDRESSES, IDS, TIMES]))
    one, two = (" ".join([*before, data.draw(kind), *after]) for _ in range(2))
    assert fingerprint(one) == fingerprint(two)


@given(st.lists(WORDS, min_size=1, max_size=8), st.integers(0, 7))
def test_texts_that_differ_in_a_word_have_two_fingerprints(words: list[str], place: int) -> None:
    other = [*words]
    other[place % len(words)] += "s"
    assert fingerprint(" ".join(words)) != fingerprint(" ".join(other))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("order 17 is unknown", "order 4,211 is unknown"),
        ("took 0.5 s", "took 12 s"),
        ('{"id":"550e8400-e29b-41d4-a716-446655440000"}', '{"id":"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}'),
        ("at 2026-12-03T10:00:00.123Z", "at 2026-12-03T10:00:01Z"),
        ("at 2026-12-03 10:00:00", "at 2025-01-30 23:59:59"),
        ("Thu, 03 Dec 2026 06:30:00 GMT", "Fri, 1 May 2026 16:30:00 GMT"),
        ("no route to 10.0.0.1:443", "no route to 192.168.17.4:80"),
        ("no route to fe80::abcd:1", "no route to 2001:db8::17"),
        ("ada@example.com is blocked", "grace.hopper@navy.example is blocked"),
        ("peer-2:fe80::8ff:443", "peer-2:57e4:2755:4974:8679:30f7:7020:aeea:285d:443"),
        ("at 03-Dec-2026", "at 1-May-2025"),
        ("+ada@example.com is blocked", "+grace.hopper@navy.example is blocked"),
        ("commit deadbeef", "commit 0123456789abcdef0123"),
        ("request req_8fZk2 failed", "request req_Ab9 failed"),
        (f"request 9 failed {'x' * 300}", f"request 1000 failed {'x' * 300}"),
        (f"{'x' * TEXT_CHARACTERS}one", f"{'x' * TEXT_CHARACTERS}another"),
    ],
)
def test_varying_part_is_replaced(one: str, two: str) -> None:
    assert fingerprint(one) == fingerprint(two)


@given(st.binary(max_size=2_000))
def test_text_of_any_response_is_short_printable_and_storable(body: bytes) -> None:
    text = cause_of("final_status", answered(body)).text
    assert len(text) <= TEXT_CHARACTERS
    assert text.isprintable()
    text.encode()


def test_cause_has_the_response_only_if_its_details_are_kept_and_shown() -> None:
    outcome = answered(b"card declined")
    kept = cause_of("final_status", outcome)
    assert (kept.reason, kept.status, kept.text) == ("final_status", 422, "card declined")
    assert cause_of("final_status", answered(b"card declined", trace=None)).text == outcome.detail
    withheld = cause_of("final_status", msgspec.structs.replace(outcome, withheld=True))
    assert withheld.status == 400
    assert withheld.text == "answered 4xx"


def test_reason_status_and_response_tell_causes_apart() -> None:
    one = cause_of("final_status", answered(b"no"))
    others = [
        cause_of("no_retry", answered(b"no")),
        cause_of("final_status", answered(b"no", 400)),
        cause_of("final_status", answered(b"yes")),
        plain("final_status"),
    ]
    assert len({one.id, *(other.id for other in others)}) == 5
    assert all(0 < each.id < 1 << 63 for each in [one, *others])


def test_causes_beyond_the_limit_are_plain() -> None:
    known = set(range(1_000, 1_000 + MOST_CAUSES))
    assert told_apart(Cause(99_999, "no_retry", 500, "new"), known) == plain("no_retry")
    assert told_apart(Cause(1_000, "no_retry", 500, "known"), known).text == "known"
    assert told_apart(plain("expired"), known) == plain("expired")


def test_uuid_is_replaced_whatever_its_digits() -> None:
    assert fingerprint(str(UUID(int=0))) == fingerprint(str(UUID(int=(1 << 128) - 1)))
