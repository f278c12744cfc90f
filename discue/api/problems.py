"""Errors as clients see them (RFC 9457), and what to do about each of them."""

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from discue.api.negotiation import JSON, PROBLEM, Negotiated
from discue.api.structs import doc
from discue.domain import errors
from discue.domain.errors import DiscueError, SettingsInvalid, StoreUnusable, reason_phrase

WWW_AUTHENTICATE = 'ApiKey realm="discue", header="X-API-KEY"'

_OF_COMMANDS = (StoreUnusable, SettingsInvalid)

REMEDIES: Final[dict[str, str]] = {
    "DiscueError": "This is a fault of the service: search its log for the request id.",
    "BadRequest": "Correct the values that `errors` names, and try again.",
    "Unauthorized": "Send an enabled API key that has not expired. `discue keys create` creates one.",
    "QuotaExceeded": "Delete what is not needed, or ask the operator to raise the quota.",
    "Forbidden": "Use a key with the scope that `detail` names.",
    "LockedOut": "Wait for the seconds in `Retry-After`, then use a valid key. The operator can unlock it sooner.",
    "NotFound": "Check the URL. Resources of other organizations are not found either.",
    "MethodNotAllowed": "Use one of the methods in the header `Allow`.",
    "NotAcceptable": "Accept `application/json`, or omit the header.",
    "RequestTimeout": "Send the body faster, or in several requests. The limit is `request_body_timeout_seconds`.",
    "Conflict": "Fetch the current state, and decide again.",
    "PreconditionFailed": "Fetch the current version, and send `If-Match` with its `ETag`.",
    "PayloadTooLarge": "Send less: `detail` names the limit. The queue's `max_message_bytes` can be raised.",
    "UriTooLong": "Shorten the query.",
    "UnsupportedMediaType": "Add `Content-Type: application/json`.",
    "Unprocessable": "Correct the values that `errors` names.",
    "Locked": "Ask the operator.",
    "TooManyRequests": "Wait for the seconds in the header `Retry-After`.",
    "HeadersTooLarge": "Send fewer and shorter headers.",
    "Unavailable": "Try again after the seconds in `Retry-After`.",
    "StoreUnavailable": "Try again after the seconds in `Retry-After`; it is unknown whether the request was stored. "
    "The operator finds the cause in the server's log: a full disk, or a locked database.",
    "Overloaded": "Try again after the seconds in `Retry-After`, more slowly. Nothing was stored.",
}


class ErrorView(msgspec.Struct, frozen=True):
    """A value of a request that is wrong."""

    pointer: Annotated[str, doc("A JSON pointer (RFC 6901) into the body, or `?` and a parameter's name.", "/alias")]
    detail: Annotated[str, doc("The rule that the value breaks.", "is taken")]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every response with an error."""

    type: Annotated[str, doc("A page about this status.", "https://discue.example.com/docs/errors/404")]
    title: Annotated[str, doc("The status in words.", "Not Found")]
    status: Annotated[int, doc("The status of the response.", 404, minimum=400, maximum=599)]
    request_id: Annotated[
        str, doc("The id of the request, as in `X-Request-Id`.", "5a1f0c9e-1", pattern="^[A-Za-z0-9._-]{1,128}$")
    ]
    detail: Annotated[str, doc("The error, and what to do.", 'Queue "orders" not found.')] = ""
    errors: Annotated[tuple[ErrorView, ...], doc("The values that are wrong.", [])] = ()


def client_errors() -> Iterator[type[DiscueError]]:
    """Yield every error that a client of the API can get, by status."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DiscueError)]
    yield from sorted((kind for kind in kinds if kind not in _OF_COMMANDS), key=lambda kind: kind.status)


def problem_of(error: DiscueError, request_id: str, origin: str) -> Problem:
    """Return the body of an error. `origin` is the URL of the service, without a version."""
    values = tuple(ErrorView(fault.pointer, fault.detail) for fault in error.faults)
    page = f"{origin}/docs/errors/{error.status}"
    return Problem(page, reason_phrase(error.status), error.status, request_id, error.detail, values)


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
