"""Responses: reading as much of HTTP/1.1 as is needed, within the limits, and classifying attempts. No I/O."""

import errno
import math
import os
import re
import ssl
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, NamedTuple

import httptools
import msgspec

from discue.domain.attempts import FailureKind, Outcome
from discue.domain.connection_errors import capitalized, connection_problem

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WITH_RETRY_AFTER = frozenset({429, 503})
_LONGEST_RETRY_AFTER_SECONDS = 86_400
_MOST_DIGITS = 20
# For wrong credentials, Tinyproxy 1.11 responds with 401.
_REJECTED_CREDENTIALS = frozenset({401, 407})
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_OUT_OF_RESOURCES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)


class Failure(NamedTuple):
    """The reason why an attempt failed: its kind, and one short sentence for people."""

    kind: FailureKind
    detail: str
    cause: str = ""
    """The cause, for the log only: clients must not see it."""


class RequestFailed(Exception):
    """A request cannot be sent, no connection can be opened for it, or its response cannot be read."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def classify_response(
    status: int, excerpt: bytes, duration_ms: int, *, retry_after: bytes = b"", no_retry: bytes = b"", now: int = 0
) -> Outcome:
    """Return the outcome of an attempt with this response: any 2xx acknowledges, and redirects are never followed.

    `retry_after` and `no_retry` are the values of the two headers. `now` is in milliseconds since the Unix epoch, and
    needed only with `retry_after`.
    """
    if 200 <= status < 300:
        return Outcome(status, "", "", duration_ms, None, False, excerpt)
    try:
        shown = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        shown = str(status)
    is_redirect = status in _REDIRECTS
    return Outcome(
        status=status,
        error="redirect" if is_redirect else "status",
        detail=f"The listener responded with {shown}{'; redirects are not followed' if is_redirect else ''}.",
        duration_ms=duration_ms,
        retry_after_seconds=retry_after_seconds(retry_after, now) if status in _WITH_RETRY_AFTER else None,
        no_retry=no_retry.strip().lower() == b"true",
        excerpt=excerpt,
    )


def retry_after_seconds(value: bytes, now: int) -> int | None:
    """Parse Retry-After (RFC 9110, 10.2.3) and limit it to 24 hours. Returns None if it is not valid."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) <= _MOST_DIGITS else _LONGEST_RETRY_AFTER_SECONDS
    else:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        # Rounded up: an attempt must not come early.
        seconds = -((now - int(date.timestamp() * 1_000)) // 1_000)
    return max(0, min(seconds, _LONGEST_RETRY_AFTER_SECONDS))


def classify_connect_error(error: OSError, host: str, *, over_tls: bool) -> Failure:
    if isinstance(error, ssl.SSLError):
        return _classify_tls_error(error, host)
    if isinstance(error, ConnectionRefusedError):
        return Failure("connect", "The connection was refused.")
    if isinstance(error, TimeoutError):
        return Failure("connect_timeout", "The address did not respond.")
    # TCP was connected, or the connection would have been refused: servers without TLS close it at the handshake.
    if over_tls and isinstance(error, ConnectionError):
        return Failure("tls", "The connection was closed during the TLS handshake.")
    # asyncio puts addresses into `strerror`.
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    # This machine has no sockets or memory left: not a failure of the listener.
    if error.errno in _OUT_OF_RESOURCES:
        return Failure("internal", f"No connection could be opened: {reason}.")
    return Failure("connect", f"The connection failed: {reason}.")


def classify_tunnel(head: bytes) -> Failure | None:
    """Return the failure that the proxy's response to CONNECT means; None if the tunnel is open."""
    found = _STATUS_LINE.match(head)
    status = 0 if found is None else int(found[1])
    # Nothing may follow the head: the client begins TLS.
    if status // 100 == 2 and head.endswith(b"\r\n\r\n"):
        return None
    if status // 100 == 4 and status not in _REJECTED_CREDENTIALS:
        return Failure("connect", f"The egress proxy refused to connect to the listener ({status}).")
    return Failure("egress_proxy", f"The egress proxy opened no connection ({status or 'invalid response'}).")


def _classify_tls_error(error: ssl.SSLError, host: str = "the server") -> Failure:
    return Failure("tls", f"{capitalized(connection_problem(error, host))}.")


def classify_lost_connection(error: Exception | None, *, response_started: bool, is_reused: bool = False) -> Failure:
    """Classify the loss of an open connection before the response was complete."""
    if isinstance(error, ssl.SSLError):
        return _classify_tls_error(error)
    what = "reused connection" if is_reused else "connection"
    verb = "closed" if error is None else "reset"
    when = "in the middle of the response" if response_started else "before the response"
    return Failure("reset", f"The {what} was {verb} {when}.")


class SenderLimits(msgspec.Struct, frozen=True):
    """Limits on connections and responses."""

    connect_timeout_ms: int = 5_000
    """For resolving, connecting and TLS together."""
    idle_seconds: float = 4.0
    """How long a connection is kept for reuse after a response, unless the server announces less.

    Many servers close idle connections after five seconds. A request that is on its way then is lost.
    """
    age_seconds: float = 60.0
    """How old a connection may be when it is reused."""
    idle_connections: int = 10_000
    idle_connections_per_origin: int = 50
    head_bytes: int = 65_536
    """A response with a longer head is a failure."""
    response_bytes: int = 262_144
    """Head and body; the rest of a longer response is not read, and its status decides."""
    excerpt_bytes: int = 16_384


_IDLE_TIMEOUT: Final = re.compile(rb"(?:^|[,\s])timeout\s*=\s*(\d{1,9})", re.IGNORECASE)
_ON_THE_WAY_SECONDS: Final = 1.0
"""How long a request may take to a server that is about to close its connection."""


def reusable_seconds(keep_alive: bytes) -> float:
    """Return for how long a connection is reused, by the value of a `Keep-Alive` header; infinite without a timeout."""
    announced = _IDLE_TIMEOUT.search(keep_alive)
    return math.inf if announced is None else max(0.0, int(announced[1]) - _ON_THE_WAY_SECONDS)


_INTERPRETED: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"retry-after", b"webhook-no-retry", b"keep-alive"}
)
"""The response headers that `ResponseReader` interprets. It only records the others."""


class ResponseReader:
    """Reads the responses of one connection, one after another. Call `begin` before each.

    Interim responses (1xx) are skipped. Bodies are not decompressed. The parser calls the methods named `on_…`.
    """

    def __init__(self, limits: SenderLimits) -> None:
        self._limits = limits
        self._parser = httptools.HttpResponseParser(self)
        # Bare line feeds, control characters in values and blanks after a chunk size do no harm to a client that
        # needs the status only, and other HTTP clients accept them.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.begin()

    def begin(self) -> None:
        """Expect the next response."""
        self.received = 0
        self.status = 0
        """The status of the final response; 0 until its head was read."""
        self.whole = False
        self.keep_alive = False
        """Whether the peer keeps the connection open after this response."""
        self.keep_alive_header = b""
        self.surplus = False
        """Whether bytes were received after the end of the response."""
        self.retry_after = b""
        self.no_retry = b""
        self.headers: list[tuple[bytes, bytes]] = []
        """The headers, with names in lower case."""
        self.body_bytes = 0
        self._framed = False
        self._interim = False
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bool:
        """Read bytes. Returns whether the response is decided: complete, or read up to the limit.

        Raises RequestFailed.
        """
        self.received += len(data)
        # The parser has no limit of its own. Interim responses count too, so that a flood of them ends.
        if self.status == 0 and self.received > self._limits.head_bytes:
            # The rest is read only if the head ended within the limit.
            room = max(0, len(data) - (self.received - self._limits.head_bytes))
            self._parse(data[:room])
            if self.status == 0:
                raise RequestFailed(Failure("response_too_large", "The response header section is too large."))
            data = data[room:]
        self._parse(data)
        return self.whole or self.received > self._limits.response_bytes

    def end(self) -> bool:
        """Note that the peer closed the connection: a response without length is complete. Returns whether it is."""
        self.whole = self.whole or (self.status != 0 and not self._framed)
        return self.whole

    def close(self) -> None:
        """Break the reference cycle with the parser."""
        del self._parser

    def take_excerpt(self) -> bytes:
        """Return the first bytes of the body, and release them."""
        excerpt = b"".join(self._parts)
        self._parts = []
        return excerpt

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.whole:
                raise RequestFailed(Failure("protocol", "The response is not valid HTTP.")) from error
            self.surplus = True

    def on_message_begin(self) -> None:
        if self.whole:
            self.surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # A later header is a trailer, or part of a second, unsolicited response.
        if self.status:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name not in _INTERPRETED:
            return
        if name == b"content-length":
            self._framed = True
        # RFC 9112, 6.3: without chunked as the last coding, the body ends with the connection.
        elif name == b"transfer-encoding":
            self._framed = value.lower().rstrip().endswith(b"chunked")
        elif name == b"retry-after":
            self.retry_after = value
        elif name == b"webhook-no-retry":
            self.no_retry = value
        elif name == b"keep-alive":
            self.keep_alive_header = value

    def on_headers_complete(self) -> None:
        if self.whole:
            return
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200 and status != HTTPStatus.SWITCHING_PROTOCOLS
        if not self._interim:
            self.status = status

    def on_body(self, data: bytes) -> None:
        if self.whole:
            return
        room = self._limits.excerpt_bytes - self.body_bytes
        if room > 0:
            self._parts.append(data[:room])
        self.body_bytes += len(data)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self._framed = False
            self.retry_after = self.no_retry = b""
            self.headers = []
        elif not self.whole:
            self.whole = True
            self.keep_alive = self._parser.should_keep_alive()
