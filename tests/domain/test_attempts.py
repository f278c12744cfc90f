"""Details of attempts: without secrets, and bounded in size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.attempts import (
    HIDDEN,
    MAX_HEAD_CHARACTERS,
    MAX_HEADERS,
    MAX_VALUE_CHARACTERS,
    FailureKind,
    Timings,
    Trace,
    decode_detail,
    describe_failure,
    encode_detail,
    visible_request_headers,
    visible_response_headers,
)

HEAD = (
    b"POST /in?token=abc HTTP/1.1\r\nhost: shop.example.com\r\nuser-agent: discue/0.1.0\r\naccept: */*\r\n"
    b"content-type: application/json\r\nwebhook-signature: v1,AAAA\r\ndiscue-attempt: 2\r\n"
    b"Authorization: Bearer s3cr3t\r\nX-Shop: s3cr3t\r\n\r\n"
)
STAGE = st.none() | st.integers(0, 2**40)
TIMINGS = st.builds(Timings, STAGE, STAGE, STAGE, STAGE, st.integers(0, 2**40))
NAMES = st.from_regex(rb"[a-z0-9-]{1,40}", fullmatch=True)
RESPONSE_HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=3_000)), max_size=100).map(tuple)
TRACES = st.builds(
    Trace,
    st.just(HEAD),
    RESPONSE_HEADERS,
    st.binary(max_size=16_384),
    st.integers(0, 2**40),
    st.text(),
    st.booleans(),
    TIMINGS,
)


@given(TRACES, st.integers(0, 2**50))
def test_encoded_detail_is_decoded_unchanged(trace: Trace, next_attempt_at: int) -> None:
    detail = decode_detail(encode_detail(trace, next_attempt_at))
    assert (detail.body, detail.body_bytes, detail.address) == (trace.excerpt, trace.body_bytes, trace.address)
    assert (detail.is_reused, detail.timings, detail.next_attempt_at) == (
        trace.is_reused,
        trace.timings,
        next_attempt_at,
    )
    assert detail.request_headers == visible_request_headers(trace.request_head)
    assert detail.response_headers == visible_response_headers(trace.response_headers)


@given(RESPONSE_HEADERS)
def test_stored_headers_are_bounded(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    kept = visible_response_headers(headers)
    assert len(kept) <= MAX_HEADERS
    assert sum(len(name) + len(value) for name, value in kept) <= MAX_HEAD_CHARACTERS
    assert [name.encode() for name, _ in kept] == [name for name, _ in headers[: len(kept)]]
    for (_, value), (_, whole) in zip(kept, headers, strict=False):
        assert value == HIDDEN or whole.decode("latin-1").startswith(value[:MAX_VALUE_CHARACTERS])


@given(TRACES)
def test_stored_detail_is_small_for_any_response(trace: Trace) -> None:
    assert len(encode_detail(trace, 0)) < 36_000


def test_values_of_custom_request_headers_are_hidden() -> None:
    assert visible_request_headers(HEAD) == (
        ("host", "shop.example.com"),
        ("user-agent", "discue/0.1.0"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("webhook-signature", HIDDEN),
        ("discue-attempt", "2"),
        ("Authorization", HIDDEN),
        ("X-Shop", HIDDEN),
    )


@given(st.from_regex(r"[A-Za-z0-9-]{1,40}", fullmatch=True))
def test_custom_request_header_is_hidden_under_any_name(name: str) -> None:
    [(kept, value)] = visible_request_headers(f"POST / HTTP/1.1\r\nX-{name}: s3cr3t\r\n\r\n".encode())
    assert (kept, value) == (f"X-{name}", HIDDEN)


@pytest.mark.parametrize(
    "name", [b"set-cookie", b"authorization", b"x-api-key", b"x-amz-security-token", b"x-secret", b"session-id"]
)
def test_response_header_with_a_secret_name_is_hidden(name: bytes) -> None:
    assert visible_response_headers([(name, b"s3cr3t")]) == ((name.decode(), HIDDEN),)


@pytest.mark.parametrize("name", [b"content-type", b"retry-after", b"server", b"location", b"x-request-id", b"cf-ray"])
def test_other_response_headers_are_visible(name: bytes) -> None:
    assert visible_response_headers([(name, b"value")]) == ((name.decode(), "value"),)


def test_repr_of_trace_and_detail_has_no_content() -> None:
    trace = Trace(HEAD, ((b"x", b"s3cr3t"),), b"s3cr3t", 6, "203.0.113.7:443", False, Timings(1, 2, 3, 4, 10))
    assert "203.0.113.7" in repr(trace)
    assert "s3cr3t" not in repr(trace) + repr(decode_detail(encode_detail(trace, 0)))


def test_unknown_format_of_stored_detail_is_rejected() -> None:
    with pytest.raises(ValueError, match="unknown format"):
        decode_detail(b"\x02...")


@pytest.mark.parametrize(
    ("failure", "description"),
    [
        ("resolve", "name not found"),
        ("connect", "no connection"),
        ("internal", "no connection"),
        ("reset", "no response"),
    ],
)
def test_description_contains_only_the_kind_of_failure(failure: FailureKind, description: str) -> None:
    assert describe_failure(failure) == description
