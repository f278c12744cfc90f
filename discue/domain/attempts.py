"""Delivery attempts: their outcome, their record, and the details that are kept of a request and its response."""

import re
import zlib
from collections.abc import Iterable
from typing import Final, Literal, cast

import msgspec

from discue.domain.representation import shows

FailureKind = Literal[
    "",
    "status",
    "redirect",
    "resolve",
    "refused_address",
    "connect",
    "connect_timeout",
    "tls",
    "timeout",
    "reset",
    "protocol",
    "response_too_large",
    "authentication",
    "egress_proxy",
    "internal",
    "rejected",
    "lease_expired",
]
"""Reason of a failed attempt; "" for a successful one.

`status` and `redirect`: a complete response was read. `authentication`: the credentials that the listener requires
could not be obtained. `egress_proxy`: the proxy failed; this does not count as an attempt. `rejected` and
`lease_expired` occur only in pull mode: the consumer rejected the message, or did not respond before its lease expired.
"""

NOT_RECEIVED: Final[frozenset[FailureKind]] = frozenset(
    {"resolve", "refused_address", "connect", "connect_timeout", "tls", "authentication", "egress_proxy"}
)
"""Failures that occur before the request is sent. After any other one, the listener may have received the message."""

_DESCRIPTIONS: Final[dict[FailureKind, str]] = {
    "resolve": "name not found",
    "refused_address": "address not allowed",
    "tls": "TLS failed",
    "egress_proxy": "egress proxy failed",
    "timeout": "no response in time",
    "reset": "no response",
    "protocol": "no response",
    "response_too_large": "no response",
}


def describe_failure(failure: FailureKind) -> str:
    """Return why no response to a probe or check was read. It reveals nothing about the network."""
    return _DESCRIPTIONS.get(failure, "no connection")


AttemptDetailLevel = Literal["all", "failures", "none"]
"""Attempts that keep full request and response details."""


class Timings(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Duration of each stage of an attempt in milliseconds; for the stage that failed, until the failure.

    None for a stage that was not reached or not needed: a reused connection is neither resolved nor connected.
    """

    resolve_ms: int | None
    connect_ms: int | None
    tls_ms: int | None
    first_byte_ms: int | None
    """From sending the request to the first byte of the response."""
    total_ms: int


@shows("address", "is_reused", "timings")
class Trace(msgspec.Struct, frozen=True, gc=False):
    """The request and response of one attempt, as the sender recorded them."""

    request_head: bytes
    response_headers: tuple[tuple[bytes, bytes], ...]
    excerpt: bytes
    """Beginning of the response body."""
    body_bytes: int
    """Bytes of the response body that were read."""
    address: str
    """IP address and port of the connection, or of the last one tried; "" if none was tried."""
    is_reused: bool
    """Whether the connection had served an earlier request."""
    timings: Timings


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one attempt."""

    status: int
    """HTTP status; 0 if no status line was read."""
    error: FailureKind
    """"" if the attempt was acknowledged (any 2xx)."""
    detail: str
    """A short sentence for people. It contains no secrets, and of the response only the status."""
    duration_ms: int
    retry_after_seconds: int | None = None
    """Value of the Retry-After header, for 429 and 503 only."""
    no_retry: bool = False
    """Whether the response has the header `webhook-no-retry: true`."""
    excerpt: bytes = b""
    """Beginning of the response body."""
    trace: Trace | None = None
    """None if the details of this attempt are not kept."""
    withheld: bool = False
    """Whether clients may know only the kind of outcome and the class of the status: the address is not public."""
    cause: str = ""
    """The cause of a failure, for the log only: clients must not see it."""

    @property
    def acknowledged(self) -> bool:
        return self.error == ""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """The record of one attempt, as it is written to the database. Ids are row ids."""

    id: int
    organization: int
    listener: int
    queue: int
    seq: int
    number: int
    """Number of the attempt within its delivery, from 1."""
    status: int
    """HTTP status; 0 if none was read."""
    error: str
    """A FailureKind."""
    duration_ms: int
    """WITHHELD if clients may not know more than the kind of outcome and the class of the status."""
    detail: str = ""
    replay: int | None = None
    """Row id of the replay that the attempt belongs to; None for a regular delivery."""


WITHHELD: Final = -1
_WITHHELD_DETAIL: Final = (
    "The details are not shown, because the address is not public; the operator can show them with "
    "`show_private_responses`."
)


def shown_outcome(outcome: Outcome) -> tuple[int, int, str]:
    """Return the status, duration and detail of an attempt's record. A withheld status is the first of its class."""
    if not outcome.withheld:
        return outcome.status, outcome.duration_ms, outcome.detail
    return outcome.status // 100 * 100, WITHHELD, _WITHHELD_DETAIL if outcome.error else ""


def shown_trace(outcome: Outcome) -> Trace | None:
    """Return what may be kept of the trace for clients: only the request, if the outcome is withheld."""
    if outcome.trace is None or not outcome.withheld:
        return outcome.trace
    return Trace(outcome.trace.request_head, (), b"", 0, "", False, Timings(None, None, None, None, 0))


AttemptState = Literal["acknowledged", "failed"]


class StoredAttempt(msgspec.Struct, frozen=True):
    """The record of an attempt, as the API shows it."""

    id: str
    ended_at: int
    """End of the attempt, in milliseconds since the epoch."""
    listener_public_id: str
    message_id: str
    """"" if the message has been deleted."""
    number: int
    status: int
    error: str
    detail: str
    duration_ms: int
    replay_id: str = ""
    """"" for a regular delivery."""

    @property
    def state(self) -> AttemptState:
        return "failed" if self.error else "acknowledged"

    @property
    def withheld(self) -> bool:
        """Whether the address was not public. `status` is then the first of its class."""
        return self.duration_ms == WITHHELD

    @property
    def cause(self) -> str:
        """The cause of the failure, in a few words; of a withheld response, only what clients may know."""
        if not self.withheld:
            return self.detail
        return f"answered {self.status // 100}xx" if self.status else describe_failure(cast("FailureKind", self.error))


# Attempt details: what is kept of a trace, without secrets and bounded in size.

HIDDEN: Final = "[hidden]"
"""Replaces a header value that may be a secret."""

MAX_HEADERS: Final = 64
MAX_VALUE_CHARACTERS: Final = 1_024
MAX_HEAD_CHARACTERS: Final = 8_192
"""Limit of all names and values of a request or response together; headers beyond it are omitted."""

_FORMAT: Final = b"\x01"
_FASTEST: Final = 1
_OWN_HEADERS: Final = re.compile(
    r"accept|accept-encoding|connection|content-(?:length|type)|discue-[a-z-]+|host|trace(?:parent|state)|user-agent"
    r"|webhook-(?:id|timestamp)"
)
_SECRET_NAME: Final = re.compile(r"auth|cookie|credential|(?:^|[-_])key(?:$|[-_])|api-?key|passw|secret|session|token")

HeaderPairs = tuple[tuple[str, str], ...]


@shows("address", "timings")
class AttemptDetail(msgspec.Struct, frozen=True, array_like=True):
    """The stored details of an attempt. Fields without a comment are those of Trace."""

    request_headers: HeaderPairs
    response_headers: HeaderPairs
    body: bytes
    """Beginning of the response body."""
    body_bytes: int
    address: str
    is_reused: bool
    timings: Timings
    next_attempt_at: int
    """Milliseconds since the epoch; 0 if no attempt follows."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AttemptDetail).decode


def detail_of(trace: Trace, next_attempt_at: int, body_bytes: int | None = None) -> AttemptDetail:
    """Return what is kept of a trace: of the response body, at most `body_bytes` if given."""
    return AttemptDetail(
        visible_request_headers(trace.request_head),
        visible_response_headers(trace.response_headers),
        trace.excerpt[:body_bytes],
        trace.body_bytes,
        trace.address,
        trace.is_reused,
        trace.timings,
        next_attempt_at,
    )


def encode_detail(trace: Trace, next_attempt_at: int, *, body_bytes: int | None = None) -> bytes:
    """Return what `detail_of` keeps of a trace, in its stored form."""
    # The fastest level, because this runs for each attempt that keeps its details.
    return _FORMAT + zlib.compress(_encode(detail_of(trace, next_attempt_at, body_bytes)), _FASTEST)


def decode_detail(stored: bytes) -> AttemptDetail:
    """Return stored details. Raises ValueError for a format of a newer version."""
    if not stored.startswith(_FORMAT):
        raise ValueError("the attempt details are stored in an unknown format")
    return _decode(zlib.decompress(stored[len(_FORMAT) :]))


def visible_request_headers(head: bytes) -> HeaderPairs:
    """Return the headers of a request. The signature, and values that were chosen by a user, are hidden."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(": ") for line in lines if line)
    return _within_limits((name, value if _OWN_HEADERS.fullmatch(name.lower()) else HIDDEN) for name, _, value in pairs)


def visible_response_headers(headers: Iterable[tuple[bytes, bytes]]) -> HeaderPairs:
    """Return the headers of a response. Values are hidden if the name suggests a secret."""
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return _within_limits((name, HIDDEN if _SECRET_NAME.search(name.lower()) else value) for name, value in pairs)


def _within_limits(pairs: Iterable[tuple[str, str]]) -> HeaderPairs:
    # Bounded per value, in number and in total: a listener must not be able to fill the database with its headers.
    kept: list[tuple[str, str]] = []
    left = MAX_HEAD_CHARACTERS
    for _, (name, value) in zip(range(MAX_HEADERS), pairs, strict=False):
        short = value if len(value) <= MAX_VALUE_CHARACTERS else value[:MAX_VALUE_CHARACTERS] + "…"
        left -= len(name) + len(short)
        if left < 0:
            break
        kept.append((name, short))
    return tuple(kept)
