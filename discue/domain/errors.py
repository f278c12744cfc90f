"""Everything that can go wrong in a way a caller is told about: one tree, one status and title each."""

from http import HTTPStatus
from typing import ClassVar, NamedTuple


class Fault(NamedTuple):
    """One place in a request that is wrong: a JSON pointer into the body (or `?name`), and what would be right."""

    pointer: str
    detail: str


class DiscueError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str | None = None,
        *,
        faults: tuple[Fault, ...] = (),
        retry_after_seconds: int | None = None,
        allow: tuple[str, ...] = (),
    ) -> None:
        self.detail = detail if detail is not None else (type(self).__doc__ or "").strip()
        self.faults = faults
        self.retry_after_seconds = retry_after_seconds
        self.allow = allow
        super().__init__(self.detail)


class BadRequest(DiscueError):
    """The request cannot be understood."""

    status = 400


class Unauthorized(DiscueError):
    """A valid API key is needed in the X-API-KEY header."""

    status = 401


class QuotaExceeded(DiscueError):
    """The organization's quota is used up."""

    status = 402


class Forbidden(DiscueError):
    """The API key does not have the scope that this needs."""

    status = 403


class LockedOut(Forbidden):
    """Too many attempts to authenticate have failed. Wait as long as Retry-After says, and then use a valid key."""


class NotFound(DiscueError):
    """There is nothing at this address."""

    status = 404


class MethodNotAllowed(DiscueError):
    """This address does not know that method."""

    status = 405


class NotAcceptable(DiscueError):
    """Responses are JSON; the Accept header excludes it."""

    status = 406


class RequestTimeout(DiscueError):
    """The request's body did not arrive in time."""

    status = 408


class Conflict(DiscueError):
    """The request conflicts with what is there."""

    status = 409


class PreconditionFailed(DiscueError):
    """The resource is not what If-Match names any more. Read it again, and repeat the request with its new ETag."""

    status = 412


class PayloadTooLarge(DiscueError):
    """The request's body is too large."""

    status = 413


class UriTooLong(DiscueError):
    """The address is too long."""

    status = 414


class UnsupportedMediaType(DiscueError):
    """A request's body must be JSON, announced by Content-Type: application/json."""

    status = 415


class Unprocessable(DiscueError):
    """The request is well-formed, and not acceptable."""

    status = 422


class Locked(DiscueError):
    """The organization is suspended."""

    status = 423


class TooManyRequests(DiscueError):
    """Too many requests within a minute."""

    status = 429


class HeadersTooLarge(DiscueError):
    """The request's headers are too large."""

    status = 431


class Unavailable(DiscueError):
    """The service cannot take this now. Try again soon."""

    status = 503

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)


class StoreUnavailable(Unavailable):
    """The store cannot take writes at the moment. Try again soon."""


class Overloaded(Unavailable):
    """More is arriving than can be stored. Try again soon."""


class StoreUnusable(DiscueError):
    """The database cannot be used by this program."""


class SettingsInvalid(DiscueError):
    """The settings are not valid."""


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


_TITLES = {413: "Payload Too Large", 414: "URI Too Long", 422: "Unprocessable Entity"}


def reason_phrase(status: int) -> str:
    """The reason phrase of a status, as clients of the API know it."""
    return _TITLES.get(status) or HTTPStatus(status).phrase
