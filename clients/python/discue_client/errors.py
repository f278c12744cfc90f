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


class FieldError(NamedTuple):
    """A wrong value of a request."""

    pointer: str
    """JSON pointer to the value."""
    detail: str
    """The rule that the value violates."""


class Problem(NamedTuple):
    """The content of an error response, and the request that failed."""

    status: int
    request: str
    """The method and the path of the request."""
    title: str = ""
    detail: str = ""
    """The error and what to do, for people."""
    code: str | None = None
    """The reason, for programs. None if the service does not report one."""
    errors: tuple[FieldError, ...] = ()
    request_id: str | None = None
    retry_after: float | None = None
    """How long the service asks to wait before the next request, in seconds."""


class APIError(DiscueError):
    """The service refused a request. `str()` is one line."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        problem = self.problem
        reason = " ".join(str(part) for part in (problem.status, problem.code) if part)
        text = problem.detail or problem.title or "The request failed."
        fields = "; ".join(f"{error.pointer}: {error.detail}" for error in problem.errors)
        line = f"{problem.request}: {reason}: {text}" + (f" ({fields})" if fields else "")
        return one_line(line) + (f" [request {problem.request_id}]" if problem.request_id else "")

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def code(self) -> str | None:
        """The reason, as a stable identifier: branch on it, not on the text."""
        return self.problem.code

    @property
    def errors(self) -> tuple[FieldError, ...]:
        """The wrong values of the request, if the response lists them."""
        return self.problem.errors

    @property
    def pointers(self) -> tuple[str, ...]:
        """JSON pointers to the wrong values."""
        return tuple(error.pointer for error in self.problem.errors)

    @property
    def request_id(self) -> str | None:
        """The id under which the service logs the request."""
        return self.problem.request_id

    @property
    def retry_after(self) -> float | None:
        """How long the service asks to wait before the next request, in seconds."""
        return self.problem.retry_after


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
    fields = _object(content)
    if fields.get("status") != status:
        start = one_line(content[:_LONGEST_TEXT].decode(errors="replace")) or "an empty body"
        return UnexpectedResponse(f"{request}: {status} from something other than discue: {start}")
    problem = Problem(
        status=status,
        request=request,
        title=_text(fields.get("title")),
        detail=_text(fields.get("detail")),
        code=_text(fields.get("code")) or None,
        errors=_field_errors(fields.get("errors")),
        request_id=_text(fields.get("request_id")) or headers.get("x-request-id"),
        retry_after=retry_after,
    )
    return _CLASSES.get(status, ServerError if status >= 500 else APIError)(problem)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _field_errors(value: object) -> tuple[FieldError, ...]:
    listed = value if isinstance(value, list) else []
    return tuple(
        FieldError(_text(each.get("pointer")), _text(each.get("detail"))) for each in listed if isinstance(each, dict)
    )


def one_line(text: str) -> str:
    """Replace line breaks and control characters, and cut off what is too long to read."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"
