"""Headers that somebody may have sent to listeners besides the service's own."""

import re
from collections.abc import Mapping

from discue.domain.errors import Fault, Unprocessable
from discue.domain.json_pointer import below

LIMIT = 32
"""At most so many by one listener or with one message."""

BYTES = 4_096
"""At most so many of names and values together."""

SCHEDULE_HEADER = "discue-schedule"
SCHEDULED_AT_HEADER = "discue-scheduled-at"
SCHEDULE_HEADERS = frozenset({SCHEDULE_HEADER, SCHEDULED_AT_HEADER})
"""Of messages that a schedule published. Nobody else can have them sent."""

NAME_PATTERN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"
VALUE_PATTERN = r"^(?:[!-~\u00a0-\u00ff](?:[\t -~\u00a0-\u00ff]*[!-~\u00a0-\u00ff])?)?$"

_NAME = re.compile(NAME_PATTERN)
_VALUE = re.compile(VALUE_PATTERN)
_OURS = re.compile(r"discue-.*|webhook-.*|proxy-.*|content-(?:type|length|encoding)|accept-encoding|user-agent")
_FRAMING = frozenset({"connection", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})

Headers = tuple[tuple[str, str], ...]


def is_header_allowed(name: str, value: str) -> bool:
    """Whether a header may be sent besides ours: a token, and a value without control characters."""
    return is_name_allowed(name) and is_value_allowed(value)


def is_name_allowed(name: str) -> bool:
    """Whether it is a token (RFC 9110, 5.6.2) that is neither one of ours nor frames the request."""
    lowered = name.lower()
    return _NAME.fullmatch(name) is not None and lowered not in _FRAMING and _OURS.fullmatch(lowered) is None


def is_value_allowed(value: str) -> bool:
    """Whether it has visible characters of Latin-1 alone, with blanks only between them."""
    return _VALUE.fullmatch(value) is not None


def checked(sent: Mapping[str, str], pointer: str) -> Headers:
    """The headers as pairs, in their order. Raises Unprocessable with a place for each that cannot be sent."""
    faults = [Fault(below(pointer, name), rule) for name, value in sent.items() if (rule := _broken(name, value))]
    if len({name.lower() for name in sent}) < len(sent):
        faults.append(Fault(pointer, "has two names that differ in the case of their letters alone"))
    if len(sent) > LIMIT:
        faults.append(Fault(pointer, f"must have at most {LIMIT} headers"))
    if sum(len(name) + len(value) for name, value in sent.items()) > BYTES:
        faults.append(Fault(pointer, f"must have at most {BYTES} characters in all"))
    if faults:
        raise Unprocessable(
            f"The headers cannot be sent: {faults[0].pointer} {faults[0].detail}.", faults=tuple(faults)
        )
    return tuple(sent.items())


def merge_headers(listener: Headers, message: Headers) -> Headers:
    """What is sent for a message to a listener. Of a name that both have, the listener's counts."""
    taken = {name.lower() for name, _ in listener}
    return (*listener, *[each for each in message if each[0].lower() not in taken])


def _broken(name: str, value: str) -> str:
    if not is_name_allowed(name):
        return "is not a header that can be chosen: a token, and none that the service sends itself"
    return "" if is_value_allowed(value) else "has a value with characters that cannot be sent, or blanks around it"
