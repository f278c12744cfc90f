"""Heads say what the contract says, and nothing can add a line to them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.crypto.signing import sign
from discue.domain.egress import Target
from discue.domain.headers import is_header_allowed
from discue.domain.message_data import TEXT
from discue.domain.messages import TYPE_HEADER
from discue.sending.request import ClientIdentity, attempt_head
from discue.sending.response import RequestFailed
from tests.support.attempts import KEY, LISTENER_ID, MESSAGE_ID, QUEUE_ID, request_to

URL = "https://example.com/hook?x=1"
TARGET = Target("https", "example.com", 443, "example.com", "/hook?x=1", None)
AT = 1_800_000_000

LINE_BREAKERS = ["\r", "\n", "\r\n", "\x00", "\x0b", "\x85", "\u2028", "\u010a", " "]


def head_of(**changes: object) -> bytes:
    return attempt_head(request_to(URL, **changes), AT)


def test_the_head_is_that_of_the_contract() -> None:
    lines = head_of(number=3).decode().split("\r\n")
    assert lines[0] == "POST /hook?x=1 HTTP/1.1"
    assert lines[-2:] == ["", ""]
    headers = dict(line.split(": ", 1) for line in lines[1:-2])
    assert len(headers) == len(lines) - 3
    assert headers.pop("user-agent").startswith("discue/")
    assert headers == {
        "host": "example.com",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "17",
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(AT),
        "webhook-signature": sign((KEY,), MESSAGE_ID, AT, b'{"hello":"world"}'),
        "discue-queue": QUEUE_ID,
        "discue-listener": LISTENER_ID,
        "discue-attempt": "3",
    }


def test_text_is_sent_as_text() -> None:
    assert b"\r\ncontent-type: text/plain; charset=utf-8\r\n" in head_of(codec=TEXT)


def test_sequence_is_sent_for_messages_of_a_queue_only() -> None:
    assert b"\r\ndiscue-sequence: 4711\r\n" in head_of(sequence=4_711)
    assert b"discue-sequence" not in head_of()


def test_own_headers_are_sent_unchanged() -> None:
    head = head_of(headers=(("X-Trace", "a\tb c"), ("Authorization", "Bearer caf\xe9")))
    assert b"\r\nX-Trace: a\tb c\r\nAuthorization: Bearer caf\xe9\r\n\r\n" in head


@pytest.mark.parametrize("breaker", LINE_BREAKERS)
@pytest.mark.parametrize("field", ["message_id", "queue_id", "listener_id"])
def test_an_id_that_could_end_the_line_is_refused(field: str, breaker: str) -> None:
    with pytest.raises(RequestFailed, match="cannot be sent"):
        head_of(**{field: f"a{breaker}b"})


@pytest.mark.parametrize("breaker", LINE_BREAKERS)
@pytest.mark.parametrize("field", ["path", "authority"])
def test_a_target_that_could_end_the_line_is_refused(field: str, breaker: str) -> None:
    values = {"path": TARGET.path, "authority": TARGET.authority, field: f"/a{breaker}b"}
    target = Target("http", "example.com", 80, values["authority"], values["path"], None)
    with pytest.raises(RequestFailed, match="cannot be sent"):
        head_of(target=target)


@pytest.mark.parametrize("name", ["Host", "discue-queue", "a:b", "a\r\nb"])
def test_reserved_or_invalid_header_name_is_refused(name: str) -> None:
    with pytest.raises(RequestFailed, match="cannot be sent"):
        head_of(headers=(("X-Fine", "x"), (name, "x")))


def test_type_is_sent_in_one_line_under_a_reserved_name() -> None:
    assert not is_header_allowed(TYPE_HEADER, "orders.paid")
    assert b"\r\ndiscue-type: orders.paid\r\n" in head_of(headers=((TYPE_HEADER, "orders.paid"),))
    with pytest.raises(RequestFailed, match="cannot be sent"):
        head_of(headers=((TYPE_HEADER, "orders\r\nx: y"),))


@given(st.text(max_size=10), st.text(max_size=10))
def test_an_allowed_header_is_exactly_one_line(name: str, value: str) -> None:
    if not is_header_allowed(name, value):
        return
    without, with_it = head_of(), head_of(headers=((name, value),))
    assert len(with_it.splitlines()) == len(without.splitlines()) + 1


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_", min_size=1, max_size=20))
def test_plain_names_and_values_are_allowed(text: str) -> None:
    assert is_header_allowed(f"X-{text}", text)


def test_head_and_origin_follow_from_the_destination() -> None:
    destination = request_to("http://other.example:8080/", queue_id="z" * 21).destination
    assert destination.origin == ("http", "other.example", 8080, "")
    assert b"host: other.example:8080" in destination.head
    assert b"z" * 21 in destination.head
    assert destination.head is destination.head


def test_new_client_certificate_changes_the_origin() -> None:
    ours = [ClientIdentity(name, "certificate", "key") for name in "ab"]
    origins = [request_to(URL, identity=identity).destination.origin for identity in (None, *ours, ours[0])]
    assert len(set(origins)) == 3
    assert origins[1] == origins[3]
