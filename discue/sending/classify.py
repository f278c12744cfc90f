"""Classification of an attempt by its response, or by the lack of one. Pure functions."""

import errno
import os
import ssl
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from discue.domain.attempts import FailureKind, Outcome
from discue.domain.connection_errors import capitalized, connection_problem

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
    cause: str = ""
    """The cause, for the log only: clients must not see it."""


def classify_response(
    status: int, excerpt: bytes, duration_ms: int, *, retry_after: bytes = b"", no_retry: bytes = b"", now: int
) -> Outcome:
    """Return the outcome of an attempt with this response: any 2xx acknowledges, and redirects are never followed.

    `retry_after` and `no_retry` are the values of the two headers. `now` is in milliseconds since the Unix epoch.
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
    """Classify an error that prevented a connection to a host."""
    if isinstance(error, ssl.SSLError):
        return classify_tls_error(error, host)
    if isinstance(error, ConnectionRefusedError):
        return Failure("connect", "The connection was refused.")
    if isinstance(error, TimeoutError):
        return Failure("connect_timeout", "The address did not respond.")
    # TCP was connected, or the connection would have been refused: servers without TLS close it at the handshake.
    if over_tls and isinstance(error, ConnectionError):
        return Failure("tls", "The connection was closed during the TLS handshake.")
    # This machine has no sockets or memory left: not a failure of the listener.
    if error.errno in _OUT_OF_RESOURCES:
        return Failure("internal", f"No connection could be opened: {_reason(error)}.")
    return Failure("connect", f"The connection failed: {_reason(error)}.")


def classify_tls_error(error: ssl.SSLError, host: str = "the server") -> Failure:
    """Classify a TLS error, in words."""
    return Failure("tls", f"{capitalized(connection_problem(error, host))}.")


def classify_lost_connection(error: Exception | None, *, response_started: bool, is_reused: bool = False) -> Failure:
    """Classify the loss of an open connection before the response was complete."""
    if isinstance(error, ssl.SSLError):
        return classify_tls_error(error)
    what = "reused connection" if is_reused else "connection"
    verb = "closed" if error is None else "reset"
    when = "in the middle of the response" if response_started else "before the response"
    return Failure("reset", f"The {what} was {verb} {when}.")


def _reason(error: OSError) -> str:
    # asyncio puts addresses into `strerror`.
    return os.strerror(error.errno) if error.errno else type(error).__name__
