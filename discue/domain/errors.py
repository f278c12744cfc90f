"""Errors that are reported to a caller: one exception tree, with one HTTP status for each class."""

from http import HTTPStatus
from typing import ClassVar, NamedTuple


class Fault(NamedTuple):
    """An invalid place in a request."""

    pointer: str
    """JSON pointer (RFC 6901) into the body, or `?name` for a query parameter."""
    detail: str
    """The rule that the value breaks, to be read after the pointer: "must be a string"."""


class DiscueError(Exception):
    """Internal error."""

    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str | None = None,
        *,
        faults: tuple[Fault, ...] = (),
        retry_after_seconds: int | None = None,
        allow: tuple[str, ...] = (),
    ) -> None:
        """`detail` defaults to the docstring of the class. `allow` lists the methods for an `Allow` header."""
        self.detail = detail if detail is not None else (type(self).__doc__ or "").strip()
        self.faults = faults
        self.retry_after_seconds = retry_after_seconds
        self.allow = allow
        super().__init__(self.detail)


class BadRequest(DiscueError):
    """The request is malformed."""

    status = 400


class Unauthorized(DiscueError):
    """A valid API key is required in the X-API-KEY header."""

    status = 401


class QuotaExceeded(DiscueError):
    """A quota of the organization is exceeded."""

    status = 402


class Forbidden(DiscueError):
    """The API key does not have the required scope."""

    status = 403


class LockedOut(Forbidden):
    """Too many failed authentication attempts. Wait for the time in Retry-After, then use a valid key."""


class NotFound(DiscueError):
    """The resource does not exist."""

    status = 404


class MethodNotAllowed(DiscueError):
    """The method is not supported here; see the Allow header."""

    status = 405


class NotAcceptable(DiscueError):
    """Responses are JSON, which the Accept header excludes."""

    status = 406


class RequestTimeout(DiscueError):
    """The request body did not arrive in time."""

    status = 408


class Conflict(DiscueError):
    """The request conflicts with the current state of the resource."""

    status = 409


class PreconditionFailed(DiscueError):
    """The resource has changed since the version in If-Match. Fetch the current version and try again."""

    status = 412


class PayloadTooLarge(DiscueError):
    """The request body is too large."""

    status = 413


class UriTooLong(DiscueError):
    """The request URI is too long."""

    status = 414


class UnsupportedMediaType(DiscueError):
    """The request body must be JSON, with Content-Type: application/json."""

    status = 415


class Unprocessable(DiscueError):
    """The request has invalid values; see "errors"."""

    status = 422


class Locked(DiscueError):
    """The organization is suspended."""

    status = 423


class TooManyRequests(DiscueError):
    """The rate limit is exceeded. Wait for the time in Retry-After."""

    status = 429


class HeadersTooLarge(DiscueError):
    """The request headers are too large."""

    status = 431


class Unavailable(DiscueError):
    """The service is temporarily unavailable. Try again soon."""

    status = 503

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)


class StoreUnavailable(Unavailable):
    """The database cannot be written at the moment. Try again soon."""


class Overloaded(Unavailable):
    """Requests arrive faster than they can be stored. Try again soon."""


class StoreUnusable(DiscueError):
    """The database cannot be used by this version of discue."""


class SettingsInvalid(DiscueError):
    """The settings are invalid."""


def invalid(pointer: str, rule: str) -> Unprocessable:
    """Return the error for a value that breaks a rule. `rule` is a predicate, such as "must be a string"."""
    return Unprocessable(_sentence(pointer, rule), faults=(Fault(pointer, rule),))


def malformed(pointer: str, rule: str) -> BadRequest:
    """Return the error for a value that is missing, has the wrong type, or cannot be parsed."""
    return BadRequest(_sentence(pointer, rule), faults=(Fault(pointer, rule),))


def _sentence(pointer: str, rule: str) -> str:
    if pointer.startswith("?"):
        return f"The query parameter {pointer[1:]} {rule}."
    return f"The value at {pointer} {rule}." if pointer else f"The request body {rule}."


# HTTPStatus renamed these phrases in Python 3.13. Responses have the same title on every version.
_REASON_PHRASES = {413: "Payload Too Large", 414: "URI Too Long", 422: "Unprocessable Entity"}


def reason_phrase(status: int) -> str:
    """Return the reason phrase of a status, the `title` of an error response."""
    return _REASON_PHRASES.get(status) or HTTPStatus(status).phrase


# JSON pointers (RFC 6901), which name the place of a fault

_MAX_NAME_CHARACTERS = 100


def escaped(name: str) -> str:
    """Return a member name as one step of a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def unescaped(step: str) -> str:
    """Return the member name that one step of a pointer stands for."""
    return step.replace("~1", "/").replace("~0", "~")


def below(pointer: str, step: str | int) -> str:
    """Return the pointer to a member or element of the value at `pointer`. A long name is cut."""
    # Responses and logs repeat pointers, and a name may be as long as the request.
    return f"{pointer}/{step if isinstance(step, int) else escaped(step[:_MAX_NAME_CHARACTERS])}"
