"""Refused requests, and the messages that are the reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from discue_client.errors import APIError, BadRequest, TooLarge, UnexpectedResponse, ValidationFailed, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discue_client.errors import DiscueError
    from discue_client.outbox.rows import Row

_REUSED = "idempotency_key_reused"
_INDEX = re.compile(r"/messages/(\d+)(?:/|$)")
_TOO_LARGE = 413


def is_reused(error: DiscueError) -> bool:
    """Return whether the service has stored another request under the idempotency key."""
    return isinstance(error, ValidationFailed) and error.code == _REUSED


def is_refusal(error: DiscueError) -> bool:
    """Return whether messages of the request are the reason, so that it is refused for ever.

    Messages must not be given up for anything else, such as an API key that was revoked or a queue that is missing.
    """
    if isinstance(error, UnexpectedResponse):
        # Proxies limit bodies, too.
        return error.status == _TOO_LARGE
    if isinstance(error, BadRequest):
        return error.code != "invalid_header"
    return isinstance(error, (TooLarge, ValidationFailed)) and not is_reused(error)


def refused_rows(error: DiscueError, rows: Sequence[Row]) -> dict[int, str]:
    """Return the ids of the rows that the error names, each with its reason."""
    if not isinstance(error, APIError):
        return {}
    faults: dict[int, list[str]] = {}
    for pointer, detail in error.errors:
        found = _INDEX.match(pointer)
        if found is not None and int(found[1]) < len(rows):
            faults.setdefault(int(found[1]), []).append(f"{pointer[found.end(1) :]} {detail}".strip())
    head = f"{error.request}: {error.status} {error.code}"
    return {rows[index].id: one_line(f"{head}: {'; '.join(listed)}") for index, listed in sorted(faults.items())}
