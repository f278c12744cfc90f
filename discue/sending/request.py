"""Requests to listeners: the data of one attempt, and the head of its HTTP request."""

import re
from functools import cached_property

import msgspec

from discue import __version__
from discue.crypto.signing import SigningKey, sign
from discue.domain.cloudevents import DeliveryFormat, event_of
from discue.domain.egress import EgressProxy, Target
from discue.domain.headers import SCHEDULE_HEADERS, is_header_allowed, is_value_allowed
from discue.domain.message_data import DEFAULT_MEDIA_TYPES, Codec
from discue.domain.messages import SEQUENCE_HEADER, TYPE_HEADER, Entry, decode_options
from discue.domain.representation import shows
from discue.sending.response import Failure, RequestFailed


@shows("name")
class ClientIdentity(msgspec.Struct, frozen=True):
    """A client certificate for TLS and its private key, both in PEM. Only requests with the same `name` share it."""

    name: str
    certificate: str
    private_key: str


@shows("name")
class TokenGrant(msgspec.Struct, frozen=True):
    """The request for an access token with client credentials (RFC 6749, 4.4)."""

    name: str
    target: Target
    authorization: str
    form: bytes


Origin = tuple[str, str, int, str]
"""Scheme, host, port, and the name of the client identity or "". Requests with the same origin share connections."""


class Destination(msgspec.Struct, frozen=True, dict=True):
    """A listener as its requests need it, and what all of them have in common."""

    target: Target
    queue_id: str
    listener_id: str
    identity: ClientIdentity | None = None
    """The client certificate of its connections, if any."""

    @cached_property
    def origin(self) -> Origin:
        name = "" if self.identity is None else self.identity.name
        return self.target.scheme, self.target.host, self.target.port, name

    @cached_property
    def head(self) -> bytes:
        """The constant part of the heads. Raises RequestFailed if a value must not be in a head."""
        _require(_ID, self.queue_id, "The queue's id")
        _require(_ID, self.listener_id, "The listener's id")
        ids = f"discue-queue: {self.queue_id}\r\ndiscue-listener: {self.listener_id}\r\n"
        return f"{_head_start('POST', self.target)}{ids}".encode("ascii")


@shows("message_id", "number", "destination")
class AttemptRequest(msgspec.Struct, frozen=True, gc=False):
    """An attempt to deliver one message to one listener."""

    destination: Destination
    message_id: str
    codec: Codec
    body: bytes
    keys: tuple[SigningKey, ...]
    number: int
    headers: tuple[tuple[str, str], ...] = ()
    """Additional headers. Headers that the sender sets itself, or that frame the request, are refused."""
    timeout_ms: int = 15_000
    """For the whole attempt, the response body included."""
    media_type: str = ""
    """The content type; "" for the default of the codec."""
    is_test: bool = False
    """Whether to send `discue-test: true`."""
    replay_id: str = ""
    """The public id of the replay; "" for a live delivery."""
    grant: TokenGrant | None = None
    """How to get the access token that the request needs, if any."""
    traceparent: str = ""
    """The trace context of the attempt; "" for none."""
    sequence: int = 0
    """The place of the message in its queue; 0 if it is not in a queue."""
    expires_at: int = 0
    """When the request must not be written any more, in milliseconds since the epoch; 0 for never."""


def to_cloudevent(request: AttemptRequest, entry: Entry, kind: DeliveryFormat, traceparent: str = "") -> AttemptRequest:
    """Return the request with its message as a CloudEvent, in one of the two modes. The new body is signed.

    `traceparent` is the trace context that the event was created in, "" for none.
    """
    options = decode_options(entry.extra)
    event = event_of(
        entry,
        kind,
        request.destination.queue_id,
        request.headers,
        event_type=options.type,
        media_type=options.media_type,
        content_type=request.media_type,
        traceparent=traceparent,
    )
    return msgspec.structs.replace(request, body=event.body, media_type=event.media_type, headers=event.headers)


_VISIBLE = re.compile(r"[!-~]+")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def get_head(target: Target) -> bytes:
    """Build the head of a GET that is the only request of its connection. Raises RequestFailed."""
    return f"{_head_start('GET', target)}connection: close\r\n\r\n".encode("ascii")


def form_head(target: Target, authorization: str, form: bytes) -> bytes:
    """Build the head of a form POST that is the only request of its connection. Raises RequestFailed.

    An empty authorization adds no header.
    """
    if authorization and not is_value_allowed(authorization):
        raise RequestFailed(Failure("internal", "The authorization cannot be sent."))
    credentials = f"authorization: {authorization}\r\n" if authorization else ""
    head = (
        f"{_head_start('POST', target, accept='application/json')}{credentials}"
        "content-type: application/x-www-form-urlencoded\r\n"
        f"content-length: {len(form)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii")


def for_proxy(request: bytes, target: Target, proxy: EgressProxy) -> bytes:
    """Return a request to an `http` target as the proxy gets it: with the whole URL, and the proxy's credentials."""
    line, _, rest = request.partition(b"\r\n")
    method, _, path_and_version = line.partition(b" ")
    return b"%b http://%b%b\r\n%b%b" % (method, target.authority.encode(), path_and_version, proxy.header, rest)


def connect_head(target: Target, proxy: EgressProxy) -> bytes:
    """Return the request for a tunnel to an `https` target (RFC 9110, 9.3.6), which always names the port."""
    place = (target.authority.removesuffix(f":{target.port}") + f":{target.port}").encode()
    return b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (place, place, proxy.header)


def _head_start(method: str, target: Target, *, accept: str = "*/*") -> str:
    """Return the lines that every head begins with. Raises RequestFailed."""
    _require(_VISIBLE, target.path, "The path")
    _require(_VISIBLE, target.authority, "The host")
    return (
        f"{method} {target.path} HTTP/1.1\r\nhost: {target.authority}\r\nuser-agent: discue/{__version__}\r\n"
        f"accept: {accept}\r\naccept-encoding: identity\r\n"
    )


def attempt_head(request: AttemptRequest, timestamp: int) -> bytes:
    """Build the signed head, blank line included. `timestamp` is in seconds. Raises RequestFailed."""
    if _ID.fullmatch(request.message_id) is None:
        raise _invalid("The message's id")
    media_type = request.media_type or DEFAULT_MEDIA_TYPES[request.codec]
    signature = sign(request.keys, request.message_id, timestamp, request.body)
    own = _own_headers(request.headers) if request.headers else ""
    test = "discue-test: true\r\n" if request.is_test else ""
    sequence = f"{SEQUENCE_HEADER}: {request.sequence}\r\n" if request.sequence else ""
    # Everything in a head is checked where it is written: no stored value may add a line.
    if request.replay_id:
        _require(_ID, request.replay_id, "The replay's id")
        own = f"discue-replay: {request.replay_id}\r\n{own}"
    trace = request.traceparent
    if trace:
        # Cheaper than a pattern, and enough: no character of a line break is printable.
        if not trace.isprintable():
            raise _invalid("The trace context")
        trace = f"traceparent: {trace}\r\n"
    rest = (
        f"content-type: {media_type}\r\ncontent-length: {len(request.body)}\r\n"
        f"webhook-id: {request.message_id}\r\nwebhook-timestamp: {timestamp}\r\n"
        f"webhook-signature: {signature}\r\ndiscue-attempt: {request.number}\r\n{sequence}{trace}{test}{own}\r\n"
    )
    return request.destination.head + rest.encode("latin-1")


def _own_headers(headers: tuple[tuple[str, str], ...]) -> str:
    for name, value in headers:
        # Clients cannot set these names: the service itself added them to the message.
        is_ours = name in SCHEDULE_HEADERS or name in (TYPE_HEADER, SEQUENCE_HEADER)
        is_allowed = is_value_allowed(value) if is_ours else is_header_allowed(name, value)
        if not is_allowed:
            raise RequestFailed(Failure("internal", "One of the message's or listener's own headers cannot be sent."))
    return "".join([f"{name}: {value}\r\n" for name, value in headers])


def _require(pattern: re.Pattern[str], text: str, what: str) -> None:
    if pattern.fullmatch(text) is None:
        raise _invalid(what)


def _invalid(what: str) -> RequestFailed:
    return RequestFailed(Failure("internal", f"{what} contains a character that cannot be sent."))
