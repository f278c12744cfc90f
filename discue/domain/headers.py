"""Custom headers: those that a listener or a message may add to requests."""

import re
from collections.abc import Mapping

from discue.domain.errors import Fault, Unprocessable, below, invalid
from discue.domain.trace_context import TRACE_HEADERS

MAX_HEADERS = 32
"""Maximum headers of one listener or message."""

MAX_CHARACTERS = 4_096
"""Maximum of all names and values of one listener or message together."""

SCHEDULE_HEADER = "discue-schedule"
SCHEDULED_AT_HEADER = "discue-scheduled-at"
SCHEDULE_HEADERS = frozenset({SCHEDULE_HEADER, SCHEDULED_AT_HEADER})
"""Headers of messages that a schedule published. Clients cannot set them."""

INBOX_HEADER = "discue-inbox"
"""Header of each response of the inbox of `discue dev`."""

NAME_PATTERN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"
VALUE_PATTERN = r"^(?:[!-~\u00a0-\u00ff](?:[\t -~\u00a0-\u00ff]*[!-~\u00a0-\u00ff])?)?$"

_NAME = re.compile(NAME_PATTERN)
_VALUE = re.compile(VALUE_PATTERN)
_RESERVED = re.compile(r"discue-.*|webhook-.*|proxy-.*|content-(?:type|length|encoding)|accept-encoding|user-agent")
_FRAMING = frozenset({"connection", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})

Headers = tuple[tuple[str, str], ...]


def is_header_allowed(name: str, value: str) -> bool:
    return is_name_allowed(name) and is_value_allowed(value)


def is_name_allowed(name: str) -> bool:
    """Return whether the name is a token (RFC 9110, 5.6.2), not reserved, and does not affect message framing."""
    lowered = name.lower()
    return _NAME.fullmatch(name) is not None and lowered not in _FRAMING and _RESERVED.fullmatch(lowered) is None


def is_value_allowed(value: str) -> bool:
    """Return whether the value consists of visible Latin-1 characters, with blanks only between them."""
    return _VALUE.fullmatch(value) is not None


def check_headers(sent: Mapping[str, str], pointer: str) -> Headers:
    """Return the headers as pairs, in order. Raises Unprocessable that lists every invalid one.

    Headers that are too many are one fault: a request has room for thousands, whose faults are many times as long.
    """
    if len(sent) > MAX_HEADERS:
        raise invalid(pointer, f"must have at most {MAX_HEADERS} headers")
    faults = [Fault(below(pointer, name), rule) for name, value in sent.items() if (rule := _broken_rule(name, value))]
    if len({name.lower() for name in sent}) < len(sent):
        faults.append(Fault(pointer, "has two names that differ only in case"))
    if sum(len(name) + len(value) for name, value in sent.items()) > MAX_CHARACTERS:
        faults.append(Fault(pointer, f"must have at most {MAX_CHARACTERS} characters in total"))
    if faults:
        raise Unprocessable(
            f"Invalid header: {faults[0].pointer} {faults[0].detail}.", code="invalid_value", faults=tuple(faults)
        )
    return tuple(sent.items())


def merge_headers(listener: Headers, message: Headers) -> Headers:
    """Return the headers of a listener and a message. If both have a name, the listener's value wins.

    Of the message's headers, those that carry trace context are left out.
    """
    taken = {name.lower() for name, _ in listener} | TRACE_HEADERS
    return (*listener, *[each for each in message if each[0].lower() not in taken])


def without_trace_headers(headers: Headers) -> Headers:
    """Return the headers without those that carry trace context: `tracestate` and `baggage` never leave."""
    return tuple(each for each in headers if each[0].lower() not in TRACE_HEADERS)


def _broken_rule(name: str, value: str) -> str:
    if not is_name_allowed(name):
        return "is not allowed: the name must be a token, and not one of the headers that discue sets itself"
    return (
        ""
        if is_value_allowed(value)
        else "must have a value of visible Latin-1 characters, with blanks only between them"
    )
