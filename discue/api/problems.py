"""Errors as clients see them: RFC 9457."""

import msgspec

from discue.api.negotiation import JSON, PROBLEM, Negotiated
from discue.domain.errors import DiscueError, reason_phrase

WWW_AUTHENTICATE = 'ApiKey realm="discue", header="X-API-KEY"'


class Place(msgspec.Struct, frozen=True):
    """One place in a request that is wrong. `pointer` is a JSON pointer (RFC 6901) into the body, or `?name`."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every response that is not a 200."""

    type: str
    title: str
    status: int
    request_id: str
    detail: str = ""
    errors: tuple[Place, ...] = ()


def problem_of(error: DiscueError, request_id: str, origin: str) -> Problem:
    """`origin` is where this service is, without a version."""
    places = tuple(Place(fault.pointer, fault.detail) for fault in error.faults)
    page = f"{origin}/docs/errors/{error.status}"
    return Problem(page, reason_phrase(error.status), error.status, request_id, error.detail, places)


def headers_of(error: DiscueError, taste: Negotiated) -> list[tuple[str, str]]:
    """The headers that belong to an error, its Content-Type first."""
    headers = [("content-type", PROBLEM if taste == "problem" else JSON)]
    if error.status == 401:
        headers.append(("www-authenticate", WWW_AUTHENTICATE))
    if error.allow:
        headers.append(("allow", ", ".join(error.allow)))
    if error.retry_after_seconds is not None:
        headers.append(("retry-after", str(error.retry_after_seconds)))
    return headers
