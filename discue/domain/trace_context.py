"""W3C Trace Context: the trace that a message belongs to, and the part of it that listeners receive."""

import re
from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple, get_args

TraceMode = Literal["propagate", "restart", "none"]
"""The `traceparent` that a listener receives: of the same trace, of a new one with every attempt, or none."""

TRACE_MODES: Final[tuple[TraceMode, ...]] = get_args(TraceMode)

TRACEPARENT: Final = "traceparent"
TRACEPARENT_CHARACTERS: Final = 55
TRACEPARENT_PATTERN: Final = "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]$"
"""The form of every context that leaves."""
_OF_EVENTS: Final = "ce-traceparent"
"""Attribute of the distributed tracing extension of CloudEvents."""

TRACE_HEADERS: Final = frozenset({TRACEPARENT, "tracestate", "baggage", _OF_EVENTS, "ce-tracestate"})
"""Headers that carry trace context. Of these, listeners get `traceparent` only, and only from the service itself."""

_IDS: Final = r"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}"
_KNOWN: Final = re.compile(f"00-{_IDS}-0[0-3]")
_UNKNOWN_FLAGS: Final = re.compile(f"00-{_IDS}-[0-9a-f]{{2}}")
_LATER: Final = re.compile(f"(?!00|ff)[0-9a-f]{{2}}-{_IDS}-[0-9a-f]{{2}}(?:-.*)?")
_KNOWN_FLAGS: Final = 0b11
"""Sampled, and random: the trace id has enough random bits."""
_SAMPLED: Final = "13579bdf"
_SPAN_DIGITS: Final = 16
_LOWEST_ID: Final = f"{1:0{_SPAN_DIGITS}x}"
_BYTES_AT_ONCE: Final = 512


def parse_traceparent(text: str) -> str | None:
    """Return a `traceparent` in version 00 with known flags only; None if it is malformed, or an id is all zero."""
    if _KNOWN.fullmatch(text) is not None:
        return text
    # Later versions begin with the same four fields.
    if _UNKNOWN_FLAGS.fullmatch(text) is None and _LATER.fullmatch(text) is None:
        return None
    return f"00{text[2:53]}{int(text[53:TRACEPARENT_CHARACTERS], 16) & _KNOWN_FLAGS:02x}"


def traceparent_in(headers: Iterable[tuple[str, str]]) -> str | None:
    """Return the trace context that the headers of a message carry, or the attributes of an event; None without."""
    for name, value in headers:
        if name.lower() in {TRACEPARENT, _OF_EVENTS} and (found := parse_traceparent(value)) is not None:
            return found
    return None


def is_sampled(traceparent: str) -> bool:
    return traceparent[54] in _SAMPLED


def trace_id_of(traceparent: str) -> str:
    return traceparent[3:35]


def span_id_of(traceparent: str) -> str:
    return traceparent[36:52]


class AttemptTrace(NamedTuple):
    """The trace context of one attempt to deliver a message."""

    creation: str
    """The `traceparent` that the message was published with."""
    span_id: str
    """The id of the attempt's span; empty if the publisher's context is passed on."""
    sent: str
    """The `traceparent` of the request; empty if the listener gets none."""
    of_event: str
    """The `traceparent` attribute of a CloudEvent: the context that the event was created in, as far as the listener
    may know it. Empty if the listener gets none."""

    @property
    def trace_id(self) -> str:
        """The id of the publisher's trace, whatever the listener gets."""
        return trace_id_of(self.creation)

    @property
    def span(self) -> str:
        """The attempt's span in the publisher's trace, as a `traceparent`."""
        return _with_span(self.creation, self.span_id)

    @property
    def is_restarted(self) -> bool:
        return self.sent != "" and trace_id_of(self.sent) != self.trace_id


class TraceIds:
    """A source of trace and span ids. They are random, but no secrets."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._left: list[str] = []

    def span_id(self) -> str:
        if not self._left:
            # Many at once: each call asks the operating system, and this runs for each attempt in a trace.
            digits = self._random_bytes(_BYTES_AT_ONCE).hex()
            ids = [digits[start : start + _SPAN_DIGITS] for start in range(0, len(digits), _SPAN_DIGITS)]
            # An id of zeros only is no id.
            self._left = [each if each.strip("0") else _LOWEST_ID for each in ids]
        return self._left.pop()

    def trace_id(self) -> str:
        return self.span_id() + self.span_id()


def begin_attempt(creation: str, mode: TraceMode, ids: TraceIds) -> AttemptTrace:
    """Return the trace context of a new attempt to deliver a message that was published with `creation`.

    A trace that is not recorded has no span of the attempt: the context is passed on as it is.
    """
    if mode == "propagate" and not is_sampled(creation):
        return AttemptTrace(creation, "", creation, creation)
    span_id = ids.span_id()
    if mode == "propagate":
        return AttemptTrace(creation, span_id, _with_span(creation, span_id), creation)
    if mode == "none":
        return AttemptTrace(creation, span_id, "", "")
    restarted = f"00-{ids.trace_id()}-{span_id}-{'01' if is_sampled(creation) else '00'}"
    return AttemptTrace(creation, span_id, restarted, restarted)


def _with_span(traceparent: str, span_id: str) -> str:
    return f"{traceparent[:36]}{span_id}{traceparent[52:]}"
