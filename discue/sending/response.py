"""Reading HTTP/1.1 responses: as much as is needed, within the limits."""

import httptools
import msgspec


class SenderLimits(msgspec.Struct, frozen=True):
    """How long connections are kept, how many, and how much of a response is read.

    `connect_timeout_ms` covers resolving, connecting and TLS. A connection is used again within
    `idle_seconds` of its last response, until it is `age_seconds` old. A response whose head is longer than
    `head_bytes` fails; one that is longer than `response_bytes` in all is cut, and its status decides.
    """

    connect_timeout_ms: int = 5_000
    idle_seconds: float = 15.0
    age_seconds: float = 60.0
    idle_connections: int = 10_000
    idle_connections_per_origin: int = 50
    head_bytes: int = 65_536
    response_bytes: int = 262_144
    excerpt_bytes: int = 16_384


_SWITCHING_PROTOCOLS = 101


class ResponseMalformed(Exception):
    """The response is not HTTP."""


class ResponseHeadTooLarge(Exception):
    """The response header section is too large."""


class ResponseReader:
    """Reads the responses of one connection, one after another; `begin` before each.

    Interim responses (1xx) are skipped. Nothing is decompressed. The methods named `on_…` are called by
    the parser.
    """

    __slots__ = (
        "_framed",
        "_interim",
        "_limits",
        "_parser",
        "_parts",
        "body_bytes",
        "headers",
        "keep_alive",
        "no_retry",
        "received",
        "retry_after",
        "status",
        "surplus",
        "whole",
    )

    def __init__(self, limits: SenderLimits) -> None:
        self._limits = limits
        self._parser = httptools.HttpResponseParser(self)
        # Bare line feeds, control characters in values and blanks after a chunk's size are harmless to
        # somebody who wants the status, and other clients take them.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.begin()

    def begin(self) -> None:
        """Expect the next response."""
        self.received = 0
        """Bytes of this response so far."""
        self.status = 0
        """Of the final response; 0 until its head was read."""
        self.whole = False
        self.keep_alive = False
        """Whether the peer keeps the connection open after this response."""
        self.surplus = False
        """Whether something came after the response that nobody asked for."""
        self.retry_after = b""
        self.no_retry = b""
        self.headers: list[tuple[bytes, bytes]] = []
        """Those of the head, their names in small letters."""
        self.body_bytes = 0
        """How much of the body has come."""
        self._framed = False
        self._interim = False
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bool:
        """Whether the response is decided: it is whole, or has been read as far as it ever will be.

        Raises ResponseMalformed and ResponseHeadTooLarge.
        """
        self.received += len(data)
        if self.status == 0 and self.received > self._limits.head_bytes:
            return self._feed_bounded(data)
        self._parse(data)
        return self.whole or self.received > self._limits.response_bytes

    def end(self) -> bool:
        """Whether the response is whole when the peer closes the connection now: one without a length is."""
        self.whole = self.whole or (self.status != 0 and not self._framed)
        return self.whole

    def close(self) -> None:
        """Let go of the parser, which refers to this object."""
        del self._parser

    def take_excerpt(self) -> bytes:
        """The first bytes of the body, once."""
        excerpt = b"".join(self._parts)
        self._parts = []
        return excerpt

    def forget(self) -> None:
        """Let go of the head: an idle connection holds no response."""
        self.headers = []

    def _feed_bounded(self, data: bytes) -> bool:
        """Feed what fits the head's limit; the rest only if the head ended within it."""
        room = max(0, len(data) - (self.received - self._limits.head_bytes))
        self._parse(data[:room])
        if self.status == 0:
            raise ResponseHeadTooLarge
        self._parse(data[room:])
        return self.whole or self.received > self._limits.response_bytes

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.whole:
                raise ResponseMalformed from error
            self.surplus = True

    def on_message_begin(self) -> None:
        if self.whole:
            self.surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes after the head is a trailer, or belongs to a response that nobody asked for.
        if self.status:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            self._framed = value.lower().rstrip().endswith(b"chunked")
        elif name == b"retry-after":
            self.retry_after = value
        elif name == b"webhook-no-retry":
            self.no_retry = value

    def on_headers_complete(self) -> None:
        if self.whole:
            return
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200 and status != _SWITCHING_PROTOCOLS
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
