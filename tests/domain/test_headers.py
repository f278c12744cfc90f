"""Custom headers of listeners and messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.errors import Unprocessable
from discue.domain.headers import (
    MAX_CHARACTERS,
    MAX_HEADERS,
    check_headers,
    is_header_allowed,
    merge_headers,
    without_trace_headers,
)

names = st.from_regex(r"x-[a-z]{1,8}", fullmatch=True)
values = st.text("abc .,;=", max_size=12).map(str.strip)


@given(sent=st.dictionaries(names, values, max_size=5))
def test_allowed_headers_are_unchanged(sent: dict[str, str]) -> None:
    assert dict(check_headers(sent, "/headers")) == sent
    assert all(is_header_allowed(name, value) for name, value in sent.items())


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [
        ({"Host": "x"}, "/headers/Host"),
        ({"discue-queue": "x"}, "/headers/discue-queue"),
        ({"Webhook-Signature": "x"}, "/headers/Webhook-Signature"),
        ({"content-type": "x"}, "/headers/content-type"),
        ({"a b": "x"}, "/headers/a b"),
        ({"a/b": "x"}, "/headers/a~1b"),
        ({"x": "a\r\nb: c"}, "/headers/x"),
        ({"x": " a"}, "/headers/x"),
        ({"x": "\u20ac"}, "/headers/x"),
        ({"": "x"}, "/headers/"),
        ({"X-A": "1", "x-a": "2"}, "/headers"),
        ({f"x-{number}": "" for number in range(MAX_HEADERS + 1)}, "/headers"),
        ({"x": "v" * MAX_CHARACTERS}, "/headers"),
    ],
)
def test_invalid_headers_are_rejected_with_pointers(sent: dict[str, str], pointer: str) -> None:
    with pytest.raises(Unprocessable) as refusal:
        check_headers(sent, "/headers")
    assert [fault.pointer for fault in refusal.value.faults] == [pointer]


def test_headers_that_are_too_many_are_one_fault() -> None:
    with pytest.raises(Unprocessable) as refusal:
        check_headers({f"host {number}": "\n" for number in range(20_000)}, "/headers")
    assert [fault.pointer for fault in refusal.value.faults] == ["/headers"]


@pytest.mark.parametrize(
    "name",
    ["Connection", "Expect", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "content-length",
     "Accept-Encoding", "User-Agent", "Proxy-Authorization", "webhook-anything", "a:b", "café", "a\r\nb"],
)  # fmt: skip
def test_reserved_framing_or_invalid_name_is_not_allowed(name: str) -> None:
    assert not is_header_allowed(name, "x")


@given(
    listener=st.dictionaries(names, values, max_size=4),
    message=st.dictionaries(names.map(str.upper), values, max_size=4),
)
def test_listener_header_overrides_message_header(listener: dict[str, str], message: dict[str, str]) -> None:
    sent = merge_headers(tuple(listener.items()), tuple(message.items()))
    assert sent[: len(listener)] == tuple(listener.items())
    assert {name.lower() for name, _ in sent} == {name.lower() for name in (*listener, *message)}
    assert len({name.lower() for name, _ in sent}) == len(sent)


def test_trace_context_of_clients_is_not_merged() -> None:
    sent = (("Tracestate", "a=b"), ("baggage", "user=9"), ("traceparent", "x"), ("ce-tracestate", "a=b"), ("x-a", "1"))
    assert without_trace_headers(sent) == merge_headers((), sent) == (("x-a", "1"),)
