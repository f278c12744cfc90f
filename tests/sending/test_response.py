"""Answers are read the same in whatever pieces they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.sending.response import RequestFailed, ResponseReader, SenderLimits

LIMITS = SenderLimits(head_bytes=1_000, response_bytes=3_000, excerpt_bytes=20)

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nRetry-After: 7\r\nWebhook-No-Retry: true\r\n\r\nbody"
CHUNKED = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\nRetry-After: 9\r\n\r\n"
AFTER_INTERIM = b"HTTP/1.1 103 Early\r\nRetry-After: 9\r\nContent-Length: 9\r\n\r\n" + SIZED
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nbody"


def read(*pieces: bytes) -> ResponseReader:
    reader = ResponseReader(LIMITS)
    for piece in pieces:
        reader.feed(piece)
    return reader


def seen(reader: ResponseReader) -> tuple[object, ...]:
    return (
        reader.status,
        reader.whole,
        reader.take_excerpt(),
        reader.retry_after,
        reader.no_retry,
        reader.keep_alive,
        reader.surplus,
    )


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, AFTER_INTERIM, NO_CONTENT, UNTIL_CLOSE])
def test_a_response_split_anywhere_is_the_same_response(answer: bytes) -> None:
    expected = seen(read(answer))
    for at in range(1, len(answer)):
        assert seen(read(answer[:at], answer[at:])) == expected
    assert seen(read(*[bytes([byte]) for byte in answer])) == expected


def test_a_response_is_decided_with_its_last_byte_and_not_before() -> None:
    for answer in (SIZED, CHUNKED, AFTER_INTERIM, NO_CONTENT):
        reader = ResponseReader(LIMITS)
        assert [reader.feed(bytes([byte])) for byte in answer] == [False] * (len(answer) - 1) + [True]


def test_headers_of_interim_responses_and_trailers_do_not_count() -> None:
    assert seen(read(AFTER_INTERIM)) == (200, True, b"body", b"7", b"true", True, False)
    assert seen(read(CHUNKED)) == (503, True, b"body", b"", b"", True, False)


def test_a_length_in_an_interim_response_does_not_frame_the_final_one() -> None:
    reader = read(b"HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\n" + UNTIL_CLOSE)
    assert not reader.whole
    assert reader.end()


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, AFTER_INTERIM])
def test_a_framed_response_is_not_complete_when_the_connection_ends_early(answer: bytes) -> None:
    for at in range(len(answer)):
        assert not read(answer[:at]).end()


def test_a_response_without_a_length_ends_with_the_connection() -> None:
    reader = read(UNTIL_CLOSE)
    assert not reader.whole
    assert reader.end()
    assert (reader.status, reader.take_excerpt(), reader.keep_alive) == (200, b"body", False)


def test_reader_reads_one_response_after_another() -> None:
    reader = ResponseReader(LIMITS)
    for answer in (SIZED, NO_CONTENT, CHUNKED, AFTER_INTERIM, SIZED):
        reader.begin()
        reader.feed(answer)
        assert seen(reader) == seen(read(answer))


@pytest.mark.parametrize("surplus", [b"H", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"\x00", b"body"])
def test_bytes_after_a_response_are_noticed_and_change_nothing(surplus: bytes) -> None:
    reader = read(SIZED + surplus)
    assert seen(reader) == (*seen(read(SIZED))[:-1], True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_peer_may_close_the_connection_with_the_response(answer: bytes) -> None:
    assert not read(answer).keep_alive


def test_the_head_may_be_as_long_as_its_limit_and_not_longer_in_whatever_pieces() -> None:
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nX: ", b"\r\n\r\n"
    fitting = start + b"x" * (LIMITS.head_bytes - len(start) - len(end)) + end
    longer = start + b"x" * (LIMITS.head_bytes - len(start) - len(end) + 1) + end
    body = b"y" * 2_000
    assert read(fitting + body).whole
    assert read(fitting, body).whole
    for pieces in ((longer + body,), (longer[:10], longer[10:] + body), (longer[:-1], longer[-1:])):
        with pytest.raises(RequestFailed, match="too large"):
            read(*pieces)


def test_interim_responses_without_end_are_too_large() -> None:
    with pytest.raises(RequestFailed, match="too large"):
        read(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 1_000)


def test_a_body_is_read_up_to_its_limit_and_its_first_bytes_are_kept() -> None:
    reader = ResponseReader(LIMITS)
    assert not reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    assert not reader.feed(b"0123456789" * 10)
    assert reader.feed(b"x" * LIMITS.response_bytes)
    assert not reader.whole
    assert reader.take_excerpt() == b"01234567890123456789"
    assert reader.take_excerpt() == b""


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=20))
def test_reader_fails_only_in_documented_ways(pieces: list[bytes]) -> None:
    reader = ResponseReader(LIMITS)
    try:
        for piece in (b"HTTP/1.1 200 OK\r\n", *pieces):
            reader.feed(piece)
    except RequestFailed:
        assert not reader.whole
    assert len(reader.take_excerpt()) <= LIMITS.excerpt_bytes
