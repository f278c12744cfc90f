"""Indented responses, for `?pretty=true`."""

from typing import Final

import msgspec

from discue.domain.json_text import levels_of
from discue.domain.reservations import SMALL_READ_BYTES
from discue.http.pipeline import Request
from discue.store.ledger import Ledger
from discue.store.time_slice import ON_THREAD_BYTES

_MOST_BYTES: Final = 2_097_152
"""The largest size of an indented response. Larger ones stay compact."""
_EXTENDED_BYTES: Final = ON_THREAD_BYTES
"""Up to this size, a reservation is extended for an indented response if there is room. Larger responses are indented
only if the read has reserved enough."""


def is_pretty(request: Request) -> bool:
    """Return whether the client asks for an indented response, and the response is JSON."""
    query = request.scope.query_string
    return (
        "pretty=true" in query and "pretty=true" in query.split("&") and request.response_headers[0][1].endswith("json")
    )


def indented(request: Request, content: bytes, ledger: Ledger) -> bytes:
    """Return the content of a response, indented if there is memory for that.

    Content above `ON_THREAD_BYTES` may be indented on a thread: that changes no reservation.
    """
    if len(content) > _MOST_BYTES:
        return content
    # Data of a message can be nested so deeply that each of its values begins with hundreds of spaces.
    lines = content.count(b",") + 2 * (content.count(b"{") + content.count(b"["))
    # A line adds its end, its indentation and the space after a name.
    size = len(content) + lines * (2 + 2 * levels_of(content))
    if size > _MOST_BYTES or not _has_room(request, size, ledger):
        return content
    try:
        return msgspec.json.format(content)
    except RecursionError:
        # Data of a message can be nested that deeply.
        return content


def _has_room(request: Request, size: int, ledger: Ledger) -> bool:
    """Return whether the response may take this many bytes. Extends a reservation that is too small."""
    reservation = request.reservation
    if size <= (SMALL_READ_BYTES if reservation is None else reservation.bytes):
        return True
    if size > _EXTENDED_BYTES:
        return False
    if reservation is None:
        reservation = request.reservation = ledger.hold(request.principal.organization, 0)
    return reservation.extend(size)
