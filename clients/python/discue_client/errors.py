"""Errors that a client raises. All derive from `DiscueError`; those that a response reports derive from `APIError`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_TEXT = 500


class DiscueError(Exception):
    """Base of every error of this package."""


class ConfigurationError(DiscueError):
    """The URL or the API key is missing or cannot be used."""


class ConnectionFailed(DiscueError):
    """No response arrived. A request that was sent may have had an effect."""


class TimedOut(DiscueError):
    """No response arrived in time. The request may have had an effect."""


class UnexpectedResponse(DiscueError):
    """The response is not one of a discue service: a proxy or another server answered, or the body was cut off."""

    status: int | None = None
    """The HTTP status, if it is that of an error."""


class FieldError(NamedTuple):
    """A wrong value of a request."""

    pointer: str
    """JSON pointer to the value."""
    detail: str
    """The rule that the value violates."""


class APIError(DiscueError):
    """The service refused a request. `str()` is one line."""

    status = 0
    """The HTTP status."""
    request = ""
    """The method and the path of the request."""
    code: str | None = None
    """The reason, as a stable identifier: branch on it, not on the text. None if the service does not report one."""
    title = ""
    detail = ""
    """The error and what to do, for people."""
    errors: tuple[FieldError, ...] = ()
    """The wrong values of the request, if the response lists them."""
    request_id: str | None = None
    """The id under which the service logs the request."""
    retry_after: float | None = None
    """How long the service asks to wait before the next request, in seconds."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        # Copies by `pickle` and `copy` call this without fields, and then restore the dictionary.
        self.__dict__.update(fields)

    def __str__(self) -> str:
        reason = " ".join(str(part) for part in (self.status, self.code) if part)
        # The detail usually says the first one already.
        said = 1 if self.errors and _says(self.detail, self.errors[0]) else 0
        listed = "; ".join(f"{error.pointer}: {error.detail}" for error in self.errors[said:])
        text = (self.detail or self.title or "The request failed.") + (f" ({listed})" if listed else "")
        return one_line(f"{self.request}: {reason}: {text}") + (f" [request {self.request_id}]" * bool(self.request_id))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def pointers(self) -> tuple[str, ...]:
        """JSON pointers to the wrong values."""
        return tuple(error.pointer for error in self.errors)


def _says(detail: str, error: FieldError) -> bool:
    """Return whether the detail of a response already names a wrong value and the rule that it violates."""
    return error.pointer.removeprefix("?") in detail and error.detail in detail


class BadRequest(APIError):
    """400: the request is malformed or has an unknown field."""


class Unauthorized(APIError):
    """401: the API key is missing, unknown, disabled or expired."""


class QuotaExceeded(APIError):
    """402: a quota of the organization is used up."""


class Forbidden(APIError):
    """403: the API key lacks a scope, or is locked out."""


class NotFound(APIError):
    """404: the path or the resource does not exist."""


class Conflict(APIError):
    """409: the state of the resource does not allow it."""


class Gone(APIError):
    """410: the resource existed and does not exist any more."""


class PreconditionFailed(APIError):
    """412: the resource has changed since it was fetched."""


class TooLarge(APIError):
    """413: the body is too large."""


class ValidationFailed(APIError):
    """422: a value is not acceptable; `errors` says which."""


class RateLimited(APIError):
    """429: too many requests; `retry_after` says how long to wait."""


class ServerError(APIError):
    """5xx: the service failed."""


class Unavailable(ServerError):
    """503: the service is starting, stopping, overloaded, or cannot store."""


_CLASSES: dict[int, type[APIError]] = {
    400: BadRequest,
    401: Unauthorized,
    402: QuotaExceeded,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    412: PreconditionFailed,
    413: TooLarge,
    422: ValidationFailed,
    429: RateLimited,
    503: Unavailable,
}


def error_of(
    status: int, headers: Mapping[str, str], content: bytes, *, request: str, retry_after: float | None
) -> APIError | UnexpectedResponse:
    """Return the error that a response reports. A body that is no problem document gives `UnexpectedResponse`."""
    try:
        problem = json.loads(content)
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict) or problem.get("status") != status:
        start = one_line(content[:_LONGEST_TEXT].decode(errors="replace")) or "an empty body"
        unexpected = UnexpectedResponse(f"{request}: {status} from something other than discue: {start}")
        unexpected.status = status
        return unexpected
    fields: dict[str, Any] = {"request_id": headers.get("x-request-id")}
    fields |= {name: problem[name] for name in ("title", "detail", "code", "request_id") if _text(problem.get(name))}
    listed = problem.get("errors")
    errors = tuple(
        FieldError(_text(each.get("pointer")), _text(each.get("detail")))
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
    )
    kind = _CLASSES.get(status, ServerError if status >= 500 else APIError)
    return kind(status=status, request=request, errors=errors, retry_after=retry_after, **fields)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def one_line(text: str) -> str:
    """Replace line breaks and control characters, and cut off what is too long to read."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"
