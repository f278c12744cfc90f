"""Reads HTTP/1.1 answers: as much as is needed, no more than is allowed."""

import httptools

from discue.sending.sender_limits import SenderLimits

_SWITCHING_PROTOCOLS = 101


class AnswerMalformed(Exception):
    """The answer is not HTTP."""


class AnswerHeadTooLarge(Exception):
    """The head of the answer is too large."""


class AnswerReader:
    """Reads the answers of one connection, one after another; `begin` before each.

    Interim answers (1xx) are skipped. Nothing is decompressed. The methods named `on_…` are called by
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
        """Expect the next answer."""
        self.received = 0
        """Bytes of this answer so far."""
        self.status = 0
        """Of the final answer; 0 until its head was read."""
        self.whole = False
        self.keep_alive = False
        """Whether the peer keeps the connection open after this answer."""
        self.surplus = False
        """Whether something came after the answer that nobody asked for."""
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
        """Whether the answer is decided: it is whole, or has been read as far as it ever will be.

        Raises AnswerMalformed and AnswerHeadTooLarge.
        """
        self.received += len(data)
        if self.status == 0 and self.received > self._limits.head_bytes:
            return self._feed_bounded(data)
        self._parse(data)
        return self.whole or self.received > self._limits.answer_bytes

    def end(self) -> bool:
        """Whether the answer is whole when the peer closes the connection now: one without a length is."""
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
        """Let go of the head: an idle connection holds no answer."""
        self.headers = []

    def _feed_bounded(self, data: bytes) -> bool:
        """Feed what fits the head's limit; the rest only if the head ended within it."""
        room = max(0, len(data) - (self.received - self._limits.head_bytes))
        self._parse(data[:room])
        if self.status == 0:
            raise AnswerHeadTooLarge
        self._parse(data[room:])
        return self.whole or self.received > self._limits.answer_bytes

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.whole:
                raise AnswerMalformed from error
            self.surplus = True

    def on_message_begin(self) -> None:
        if self.whole:
            self.surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes after the head is a trailer, or belongs to an answer that nobody asked for.
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
