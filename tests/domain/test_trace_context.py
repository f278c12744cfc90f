"""The trace context of messages and of attempts."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.messages import MessageOptions, decode_options, encode_options, encode_traceparent, lone_traceparent
from discue.domain.trace_context import (
    TRACE_MODES,
    TraceIds,
    TraceMode,
    begin_attempt,
    is_sampled,
    parse_traceparent,
    traceparent_in,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


def _ids(*numbers: int) -> TraceIds:
    """Ids of these bytes, over and over."""
    return TraceIds(lambda count: bytes(numbers) * (count // len(numbers)))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (SAMPLED, SAMPLED),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-03"),
        (f"00-{TRACE}-{SPAN}-fd", f"00-{TRACE}-{SPAN}-01"),
        (f"01-{TRACE}-{SPAN}-01", SAMPLED),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-holds", SAMPLED),
    ],
)
def test_valid_traceparent_is_read_as_version_00_with_known_flags(text: str, read: str) -> None:
    assert parse_traceparent(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f" {SAMPLED}",
        f"{SAMPLED}\n",
        f"{SAMPLED},{SAMPLED}",
    ],
)
def test_malformed_or_all_zero_traceparent_is_dropped(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.text(max_size=70) | st.text("0123456789abcdef-", min_size=50, max_size=60))
def test_parsed_traceparent_parses_to_itself(text: str) -> None:
    read = parse_traceparent(text)
    assert read is None or parse_traceparent(read) == read


def test_headers_and_event_attributes_carry_a_context() -> None:
    assert traceparent_in((("x", SAMPLED), ("Traceparent", SAMPLED))) == SAMPLED
    assert traceparent_in((("ce-traceparent", SAMPLED),)) == SAMPLED
    assert traceparent_in((("traceparent", "nonsense"), ("tracestate", "a=b"))) is None


def test_context_alone_is_stored_as_the_options_with_it() -> None:
    options = MessageOptions(traceparent=SAMPLED)
    assert encode_traceparent(SAMPLED) == encode_options(options)
    assert decode_options(encode_traceparent(SAMPLED)) == options
    assert lone_traceparent(encode_traceparent(SAMPLED)) == SAMPLED
    with_key = encode_options(MessageOptions(traceparent=SAMPLED, key="customer-9"))
    assert with_key is not None
    assert lone_traceparent(with_key) is lone_traceparent(b"") is None


def test_propagating_attempt_keeps_the_trace_and_has_a_span_of_its_own() -> None:
    trace = begin_attempt(SAMPLED, "propagate", _ids(0x12, 0xAB))
    assert trace.span_id == "12ab12ab12ab12ab"
    assert trace.sent == f"00-{TRACE}-12ab12ab12ab12ab-01"
    # The context in which an event was created is changed by nobody on its way.
    assert trace.of_event == SAMPLED


def test_context_of_a_trace_that_is_not_recorded_is_passed_on() -> None:
    unsampled = f"00-{TRACE}-{SPAN}-00"
    trace = begin_attempt(unsampled, "propagate", _ids(0x12, 0xAB))
    assert (trace.sent, trace.of_event, trace.span_id) == (unsampled, unsampled, "")


@pytest.mark.parametrize("flags", ["00", "01"])
def test_restarting_attempt_shows_nothing_of_the_trace_but_whether_it_is_recorded(flags: str) -> None:
    trace = begin_attempt(f"00-{TRACE}-{SPAN}-{flags}", "restart", _ids(0x12, 0xAB))
    assert parse_traceparent(trace.sent) == trace.sent == trace.of_event
    assert TRACE not in trace.sent
    assert SPAN not in trace.sent
    assert trace.sent[36:52] == trace.span_id
    assert is_sampled(trace.sent) is (flags == "01")
    assert trace.trace_id == TRACE


def test_listener_without_traces_gets_no_context() -> None:
    trace = begin_attempt(SAMPLED, "none", _ids(1, 2))
    assert (trace.sent, trace.of_event, trace.trace_id) == ("", "", TRACE)


@pytest.mark.parametrize("mode", TRACE_MODES)
def test_ids_of_attempts_are_never_all_zero(mode: TraceMode) -> None:
    trace = begin_attempt(SAMPLED, mode, _ids(0, 0))
    assert trace.span_id != "0" * 16
    assert not trace.sent or parse_traceparent(trace.sent) == trace.sent


def test_ids_differ_and_have_their_length() -> None:
    source = Random(7)  # noqa: S311 - repeatable
    ids = TraceIds(source.randbytes)
    spans, traces = [ids.span_id() for _ in range(200)], [ids.trace_id() for _ in range(200)]
    assert {len(each) for each in spans} == {16}
    assert {len(each) for each in traces} == {32}
    assert len({*spans, *traces}) == 400
