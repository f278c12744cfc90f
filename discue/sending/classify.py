"""Classification of an attempt by its response, or by the lack of one. Pure functions."""

import errno
import os
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from discue.domain.attempts import FailureKind, Outcome

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WITH_RETRY_AFTER = frozenset({429, 503})
_LONGEST_RETRY_AFTER_SECONDS = 86_400
_MOST_DIGITS = 20
_OUT_OF_RESOURCES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)


class Failure(NamedTuple):
    """The reason why an attempt failed: its kind, and one short sentence for people."""

    kind: FailureKind
    detail: str


ACKNOWLEDGED = Failure("", "")


class ResponseHead(NamedTuple):
    """The parts of a response head that decide an outcome. A header that is missing is b""."""

    status: int
    retry_after: bytes
    no_retry: bytes


def classify_response(head: ResponseHead, excerpt: bytes, duration_ms: int, now: int) -> Outcome:
    """Return the outcome of an attempt with this response. `now` is in milliseconds since the Unix epoch."""
    failure = classify_status(head.status)
    if failure is ACKNOWLEDGED:
        return Outcome(head.status, "", "", duration_ms, None, False, excerpt)
    return Outcome(
        status=head.status,
        error=failure.kind,
        detail=failure.detail,
        duration_ms=duration_ms,
        retry_after_seconds=(retry_after_seconds(head.retry_after, now) if head.status in _WITH_RETRY_AFTER else None),
        no_retry=head.no_retry.strip().lower() == b"true",
        excerpt=excerpt,
    )


def classify_status(status: int) -> Failure:
    """Classify a status: any 2xx acknowledges the message, and redirects are never followed."""
    if 200 <= status < 300:
        return ACKNOWLEDGED
    if status in _REDIRECTS:
        return Failure("redirect", f"The listener responded with {_named(status)}; redirects are not followed.")
    return Failure("status", f"The listener responded with {_named(status)}.")


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def retry_after_seconds(value: bytes, now: int) -> int | None:
    """Parse Retry-After (RFC 9110, 10.2.3) and limit it to 24 hours. Returns None if it is not valid."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) <= _MOST_DIGITS else _LONGEST_RETRY_AFTER_SECONDS
    else:
        date = _http_date(text)
        if date is None:
            return None
        seconds = -((now - int(date.timestamp() * 1_000)) // 1_000)
    return max(0, min(seconds, _LONGEST_RETRY_AFTER_SECONDS))


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def classify_connect_error(error: OSError, *, over_tls: bool) -> Failure:
    """Classify an error that prevented a connection."""
    if isinstance(error, ssl.SSLError):
        return classify_tls_error(error)
    if isinstance(error, ConnectionRefusedError):
        return Failure("connect", "The connection was refused.")
    if isinstance(error, TimeoutError):
        return Failure("connect_timeout", "The address did not respond.")
    if over_tls and isinstance(error, ConnectionError):
        return Failure("tls", "The connection was closed during the TLS handshake.")
    if error.errno in _OUT_OF_RESOURCES:
        return Failure("internal", f"No connection could be opened: {_reason(error)}.")
    return Failure("connect", f"The connection failed: {_reason(error)}.")


def classify_tls_error(error: ssl.SSLError) -> Failure:
    """Classify a TLS error. The detail has nothing but the words of OpenSSL."""
    # Errors that do not come from OpenSSL have neither attribute.
    message = getattr(error, "verify_message", None)
    if message:
        return Failure("tls", f"The certificate is not valid: {message.removesuffix('.')}.")
    return Failure("tls", f"TLS failed: {getattr(error, 'reason', None) or 'unknown reason'}.")


def classify_lost_connection(error: Exception | None, *, response_started: bool) -> Failure:
    """Classify the loss of an open connection before the response was complete."""
    if isinstance(error, ssl.SSLError):
        return classify_tls_error(error)
    verb = "closed" if error is None else "reset"
    when = "in the middle of the response" if response_started else "before the response"
    return Failure("reset", f"The connection was {verb} {when}.")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__
