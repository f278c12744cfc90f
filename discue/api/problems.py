"""Errors as clients see them (RFC 9457)."""

from typing import Annotated

import msgspec

from discue.api.structs import ERROR_CODE, doc
from discue.domain.error_codes import REASONS
from discue.domain.errors import DiscueError, reason_phrase
from discue.http.negotiation import JSON, PROBLEM, Negotiated

WWW_AUTHENTICATE = 'ApiKey realm="discue", header="X-API-KEY"'


class ErrorView(msgspec.Struct, frozen=True):
    """A value of a request that is wrong."""

    pointer: Annotated[str, doc("A JSON pointer (RFC 6901) into the body, or `?` and a parameter's name.", "/alias")]
    detail: Annotated[str, doc("The rule that the value breaks.", "is taken")]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every response with an error."""

    type: Annotated[str, doc("A page about this code.", "https://discue.example.com/docs/errors/not_found")]
    code: Annotated[str, doc("The exact reason, for programs.", "not_found", pattern=ERROR_CODE)]
    title: Annotated[str, doc("The status in words.", "Not Found")]
    status: Annotated[int, doc("The status of the response.", 404, minimum=400, maximum=599)]
    request_id: Annotated[
        str, doc("The id of the request, as in `X-Request-Id`.", "5a1f0c9e-1", pattern="^[A-Za-z0-9._-]{1,128}$")
    ]
    detail: Annotated[str, doc("The error, and what to do.", 'Queue "orders" not found.')] = ""
    errors: Annotated[tuple[ErrorView, ...], doc("The values that are wrong.", [])] = ()


def problem_of(error: DiscueError, request_id: str, origin: str) -> Problem:
    """Return the body of an error. `origin` is the URL of the service, without a version."""
    values = tuple(ErrorView(fault.pointer, fault.detail) for fault in error.faults)
    page = f"{origin}/docs/errors/{error.code}"
    meaning, remedy = REASONS[error.code][1:]
    detail = f"{meaning} {remedy}" if error.detail == meaning else error.detail
    return Problem(page, error.code, reason_phrase(error.status), error.status, request_id, detail, values)


def headers_of(error: DiscueError, negotiated: Negotiated) -> list[tuple[str, str]]:
    """Return the headers of an error, Content-Type first."""
    headers = [("content-type", PROBLEM if negotiated == "problem" else JSON)]
    # RFC 9110 requires the header of a 401 (15.5.2) and that of a 405 (15.5.6).
    if error.status == 401:
        headers.append(("www-authenticate", WWW_AUTHENTICATE))
    if error.allow:
        headers.append(("allow", ", ".join(error.allow)))
    if error.retry_after_seconds is not None:
        headers.append(("retry-after", str(error.retry_after_seconds)))
    return headers
