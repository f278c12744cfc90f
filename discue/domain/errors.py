"""Errors that are reported to a caller: one exception tree, with one HTTP status for each class."""

from http import HTTPStatus
from typing import ClassVar, NamedTuple

from discue.domain.error_codes import REASONS


class Fault(NamedTuple):
    """An invalid place in a request."""

    pointer: str
    """JSON pointer (RFC 6901) into the body, or `?name` for a query parameter."""
    detail: str
    """The rule that the value breaks, to be read after the pointer: "must be a string"."""


class DiscueError(Exception):
    """Base of all errors. Each has the code of its exact reason: a key of `REASONS`."""

    status: ClassVar[int] = 500
    code: str = "internal_error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str = "",
        faults: tuple[Fault, ...] = (),
        retry_after_seconds: int | None = None,
        allow: tuple[str, ...] = (),
    ) -> None:
        """`code` defaults to that of the class, and `detail` to its meaning.

        `allow` lists the methods for an `Allow` header.
        """
        if code:
            self.code = code
        self.detail = REASONS[self.code].meaning if detail is None else detail
        self.faults = faults
        self.retry_after_seconds = retry_after_seconds
        self.allow = allow
        super().__init__(self.detail)


class _OfSeveralReasons(DiscueError):
    """An error of a status that has several reasons. Each place that raises it names the code."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str,
        faults: tuple[Fault, ...] = (),
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail, code=code, faults=faults, retry_after_seconds=retry_after_seconds)


class BadRequest(_OfSeveralReasons):
    """The request is malformed."""

    status = 400


class Unauthorized(DiscueError):
    """The request has no valid API key."""

    status = 401
    code = "key_missing"


class QuotaExceeded(DiscueError):
    """A quota of the organization is exceeded."""

    status = 402
    code = "quota_exceeded"


class Forbidden(DiscueError):
    """The API key may not do this."""

    status = 403
    code = "scope_missing"


class LockedOut(Forbidden):
    """Too many authentication attempts have failed."""

    code = "locked_out"


class NotFound(DiscueError):
    """The resource does not exist."""

    status = 404
    code = "not_found"


class MethodNotAllowed(DiscueError):
    """The path does not support the method."""

    status = 405
    code = "method_not_allowed"


class NotAcceptable(DiscueError):
    """The Accept header excludes JSON."""

    status = 406
    code = "not_acceptable"


class RequestTimeout(DiscueError):
    """The request body did not arrive in time."""

    status = 408
    code = "request_timeout"


class Conflict(_OfSeveralReasons):
    """The request conflicts with the current state of the resource."""

    status = 409


class PreconditionFailed(DiscueError):
    """The resource has changed since the version in If-Match."""

    status = 412
    code = "precondition_failed"


class PayloadTooLarge(DiscueError):
    """The request body, or a message in it, is too large."""

    status = 413
    code = "body_too_large"


class UriTooLong(DiscueError):
    """The request URI is too long."""

    status = 414
    code = "uri_too_long"


class UnsupportedMediaType(DiscueError):
    """The request body is not announced as JSON."""

    status = 415
    code = "unsupported_media_type"


class Unprocessable(_OfSeveralReasons):
    """The request has invalid values."""

    status = 422


class Locked(DiscueError):
    """The organization is suspended."""

    status = 423
    code = "organization_suspended"


class TooManyRequests(DiscueError):
    """The rate limit is exceeded."""

    status = 429
    code = "rate_limited"


class HeadersTooLarge(DiscueError):
    """The request headers are too large."""

    status = 431
    code = "headers_too_large"


class Unavailable(DiscueError):
    """The request had no effect, and can be tried again soon."""

    status = 503
    code = "not_stored"

    def __init__(self, detail: str | None = None, *, code: str = "", retry_after_seconds: int = 1) -> None:
        super().__init__(detail, code=code, retry_after_seconds=retry_after_seconds)


class StoreUnavailable(Unavailable):
    """The database is not available. Unless the code is `not_stored`, it is unknown whether it stored the request."""

    code = "outcome_unknown"


class StoreDamaged(Unavailable):
    """A part of the database is damaged. Other parts can be read and written."""

    code = "store_damaged"

    def __init__(self, detail: str | None = None, *, code: str = "", retry_after_seconds: int = 60) -> None:
        super().__init__(detail, code=code, retry_after_seconds=retry_after_seconds)


class Overloaded(Unavailable):
    """Requests arrive faster than they can be handled."""

    code = "overloaded"


class StoreUnusable(DiscueError):
    """The database cannot be used by this version of discue."""


class SettingsInvalid(DiscueError):
    """The settings are invalid."""


def invalid(pointer: str, rule: str, *, code: str = "invalid_value") -> Unprocessable:
    """Return the error for a value that breaks a rule. `rule` is a predicate, such as "must be a string"."""
    return Unprocessable(sentence_of(pointer, rule), code=code, faults=(Fault(pointer, rule),))


def malformed(pointer: str, rule: str, *, code: str = "wrong_type") -> BadRequest:
    """Return the error for a value that has the wrong type, or cannot be parsed."""
    return BadRequest(sentence_of(pointer, rule), code=code, faults=(Fault(pointer, rule),))


def missing_field(pointer: str, rule: str = "is missing") -> BadRequest:
    """Return the error for a value that is missing."""
    return malformed(pointer, rule, code="missing_field")


def sentence_of(pointer: str, rule: str) -> str:
    """Return the sentence about a place of the request that breaks a rule."""
    end = "" if rule.endswith("?") else "."
    if pointer.startswith("?"):
        return f"The query parameter {pointer[1:]} {rule}{end}"
    return f"The value at {pointer} {rule}{end}" if pointer else f"The request body {rule}{end}"


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
