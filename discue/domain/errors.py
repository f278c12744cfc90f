"""Errors that are reported to a caller: the table of their codes, and one exception tree.

Pages, the reference and the OpenAPI document are generated from the table. The meaning of a code never changes, because
programs branch on it.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple


class Reason(NamedTuple):
    """The meaning of an error code."""

    status: int
    meaning: str
    """A sentence."""
    remedy: str
    """Advice in a sentence. With the meaning, it is the `detail` of an error that has none of its own."""


_RETRY: Final = "Try again after the seconds in `Retry-After`."
_CORRECT: Final = "Correct the values that `errors` names."

REASONS: Final[Mapping[str, Reason]] = {
    # 400
    "invalid_json": Reason(
        400,
        "The request body is not JSON in UTF-8, or is nested deeper than 900 levels.",
        "Send valid JSON; `detail` says where it breaks.",
    ),
    "duplicate_field": Reason(
        400, "The request body has a field twice.", "Send each field once: parsers disagree about which of two counts."
    ),
    "unknown_field": Reason(
        400,
        "The request body has a field that does not exist.",
        "Correct its name: `errors` has its place and the nearest known name.",
    ),
    "missing_field": Reason(400, "The request body lacks a required field.", "Add the fields that `errors` names."),
    "wrong_type": Reason(400, "A value in the request body has the wrong type.", "Send the type that `errors` names."),
    "unknown_parameter": Reason(
        400,
        "The query has a parameter that does not exist here.",
        "Correct its name, or leave it out: `detail` has the nearest known name.",
    ),
    "invalid_parameter": Reason(
        400, "A query parameter has an invalid value.", "Correct the parameter that `errors` names."
    ),
    "invalid_header": Reason(
        400,
        "A request header is missing, malformed, or given more than once.",
        "Correct the header that `detail` names.",
    ),
    # 401
    "key_missing": Reason(
        401, "An API key is required in the header X-API-KEY.", "Send an API key. `discue keys create` creates one."
    ),
    "key_unknown": Reason(
        401,
        "The API key in the header X-API-KEY is malformed or does not exist.",
        "Send the key as it was shown when it was created. Five failed attempts within a minute lead to a lockout.",
    ),
    "key_disabled": Reason(401, "The API key is disabled.", "Enable the key again, or use another one."),
    "key_expired": Reason(401, "The API key has expired.", "Extend its `expires_at`, or use another key."),
    "signature_missing": Reason(
        401,
        "A request to a source is not signed as its provider signs requests.",
        "Check the `provider` of the source, and set a signing secret at the provider.",
    ),
    "signature_wrong": Reason(
        401,
        "The signature of a request to a source does not match its content.",
        "Use the same secret at the provider and in `secrets` of the source. Nothing between them may change the body.",
    ),
    "signature_stale": Reason(
        401,
        "The signed time of a request to a source is more than five minutes from the current time.",
        "Send a request when it is signed. Check the clocks of both sides.",
    ),
    # 402
    "quota_exceeded": Reason(
        402,
        "A quota of the organization is exceeded.",
        "Delete what is not needed, or ask the operator to raise the quota, such as `quota_queues`.",
    ),
    # 403
    "scope_missing": Reason(
        403, "The API key does not have the required scope.", "Use a key with the scope that `detail` names."
    ),
    "scope_exceeded": Reason(
        403, "An API key cannot grant more access than it has.", "Grant less, or use a key with more access."
    ),
    "operator_only": Reason(
        403,
        "Only the operator's organization may do this.",
        "Ask the operator; `detail` names a setting if one allows it.",
    ),
    "system_queue_read_only": Reason(
        403,
        "Only the service publishes to the queue of system events.",
        "Publish to another queue. Listeners of the system queue receive its events.",
    ),
    "locked_out": Reason(
        403,
        "Too many attempts from this client address have failed with this key or with unknown keys.",
        "Wait for the seconds in `Retry-After`, then use a valid key. Other valid keys still work. The operator can "
        "end the lockout with `discue unlock`.",
    ),
    # 404
    "not_found": Reason(
        404, "The resource does not exist.", "Check the URL. Resources of other organizations are not found either."
    ),
    "no_route": Reason(404, "The API has no such path.", "Check the path: `/docs/api` lists all."),
    # 405, 406, 408
    "method_not_allowed": Reason(
        405, "The method is not supported here.", "Use one of the methods in the header `Allow`."
    ),
    "not_acceptable": Reason(
        406,
        "The response is JSON, which the Accept header excludes.",
        "Accept `application/json`, or omit the header. Documentation pages need `text/html`.",
    ),
    "request_timeout": Reason(
        408,
        "The request body did not arrive in time.",
        "Send the body faster, or in several requests. The limit is `request_body_timeout_seconds`.",
    ),
    # 409
    "request_in_flight": Reason(
        409,
        "A request with this idempotency key is still in flight.",
        "Try again after the seconds in `Retry-After`, with the same key.",
    ),
    "last_admin_key": Reason(
        409, "This is the last key that can manage keys.", "Create another key with the scope `api_keys` first."
    ),
    "last_owner": Reason(409, "This is the last active owner.", "Make another user an owner first."),
    "last_secret": Reason(
        409, "This is the only secret of the listener without an expiry.", "Create a new secret before you delete it."
    ),
    "limit_reached": Reason(
        409,
        "There are as many of these as one resource can have.",
        "Delete or finish one first; `detail` has the limit.",
    ),
    "wrong_mode": Reason(
        409,
        "The mode of the listener does not support this.",
        "Pull from listeners in pull mode; replay to listeners in push mode.",
    ),
    "listener_disabled": Reason(
        409, "The listener is disabled: its messages wait.", "Set the listener's `status` to `enabled`."
    ),
    "system_queue": Reason(409, "The queue of system events cannot be deleted.", "Delete its listeners instead."),
    "operator_organization": Reason(
        409, "The operator's organization cannot be deleted or suspended.", "Choose another organization."
    ),
    "has_organizations": Reason(409, "The organization has created others.", "Delete those first."),
    "follows_founder": Reason(
        409,
        "The organization shares the limits and the suspension of the one that created it.",
        "Change those of the organization that `detail` names.",
    ),
    # 412 to 415
    "precondition_failed": Reason(
        412,
        "The resource has changed since the version in `If-Match`.",
        "Fetch the current version, and send `If-Match` with its `ETag`.",
    ),
    "body_too_large": Reason(
        413, "The request body is too large.", "Send less. `detail` states the limit, and how to send or allow more."
    ),
    "message_too_large": Reason(
        413,
        "A message is larger than its queue allows.",
        "Send less, or raise the queue's `max_message_bytes`. The operator sets the default with `max_message_bytes`.",
    ),
    "uri_too_long": Reason(414, "The request URI is too long.", "Shorten the query."),
    "unsupported_media_type": Reason(
        415,
        "The request body is not announced as JSON.",
        "Add the header `content-type: application/json`: with curl, `-H 'content-type: application/json'`.",
    ),
    # 422
    "invalid_value": Reason(422, "The request has invalid values.", _CORRECT),
    "alias_taken": Reason(
        422, "The alias is taken.", "Choose another alias, or change the resource that has it with `PUT`."
    ),
    "email_taken": Reason(422, "A user with this email exists.", "Change the user that has it."),
    "immutable_field": Reason(
        422, "The field cannot be changed after the resource is created.", "Create another resource instead."
    ),
    "conflicting_fields": Reason(
        422,
        "Fields of the request exclude each other, or do not fit the resource.",
        "Leave out one of the fields that `errors` names.",
    ),
    "unknown_reference": Reason(
        422, "The request refers to a resource that does not exist.", "Correct the id that `errors` names."
    ),
    "already_exists": Reason(422, "The resource exists already.", "Change the existing one, or send another value."),
    "too_many": Reason(422, "The request would exceed a limit.", "Send fewer; `detail` has the limit."),
    "scope_protected": Reason(
        422,
        "The scope cannot be granted through the API.",
        "The operator grants it with `discue keys create --scope`.",
    ),
    "unknown_type": Reason(
        422,
        "The organization accepts only messages with one of its event types.",
        "Send one of the types that `GET /event_types` lists, or create the event type.",
    ),
    "schema_violation": Reason(
        422,
        "A message does not fit the schema of its queue or of its type.",
        "Correct the values that `errors` names, or change the schema.",
    ),
    "invalid_schema": Reason(422, "The schema is invalid.", _CORRECT),
    "invalid_filter": Reason(422, "The filter is invalid.", _CORRECT),
    "invalid_transform": Reason(422, "The transform is not a supported JMESPath expression.", _CORRECT),
    "transform_failed": Reason(
        422, "The transform has no result for the data.", "Change the data, or the transform of the listener."
    ),
    "idempotency_key_reused": Reason(
        422, "The idempotency key was used for a different request.", "Use a new key for each request."
    ),
    "address_refused": Reason(
        422,
        "Requests may not be sent to this address.",
        "Use a public address, or ask the operator to allow it with `allow_private_targets`.",
    ),
    "domain_not_registered": Reason(
        422,
        "The organization requires registered domains, and the URL is not on one.",
        "Create a domain with the host and port of the URL. The operator sets `require_verified_domains`.",
    ),
    "domain_not_verified": Reason(
        422,
        "The organization requires verified domains, and the URL is not on one.",
        "Publish the challenge of the domain, then `PUT` its `verification`.",
    ),
    # 423 to 431
    "organization_suspended": Reason(
        423, "The organization is suspended.", "Ask the operator, who can resume it with `discue organizations resume`."
    ),
    "rate_limited": Reason(
        429,
        "The rate limit is exceeded.",
        "Wait for the seconds in `Retry-After`, or ask the operator to raise `rate_limit`.",
    ),
    "headers_too_large": Reason(431, "The request headers are too large.", "Send fewer and shorter headers."),
    # 500 and 503
    "internal_error": Reason(
        500,
        "Internal error.",
        "This is a fault of the service: its log has details under the request id.",
    ),
    "not_ready": Reason(503, "The service is starting or draining.", _RETRY),
    "not_stored": Reason(
        503,
        "The database is not available at the moment. Nothing was changed.",
        f"{_RETRY} The server's log has the cause: a full disk, or a database that is down or locked.",
    ),
    "outcome_unknown": Reason(
        503,
        "The database failed during the request: it is unknown whether the request took effect.",
        "Try again with the same `Idempotency-Key`, or look whether it took effect. "
        "The operator finds the cause in the server's log.",
    ),
    "secrets_unreadable": Reason(
        503,
        "The server cannot encrypt or decrypt the secrets of the listener.",
        "All servers need the same `encryption_key`. If the secret of the `authentication` is lost, send it again.",
    ),
    "store_damaged": Reason(
        503,
        "A part of the database that the request needs is damaged and cannot be read.",
        "The operator must restore the database from a backup; the server's log has details. Requests that need other "
        "parts succeed.",
    ),
    "overloaded": Reason(
        503,
        "Requests arrive faster than they can be handled. Nothing was changed.",
        f"{_RETRY} Send more slowly.",
    ),
}
"""The reasons of errors by their code, in the order of their status."""


class Fault(NamedTuple):
    """An invalid place in a request."""

    pointer: str
    """JSON pointer (RFC 6901) into the body, or `?name` for a query parameter."""
    detail: str
    """The rule that the value breaks, to be read after the pointer: "must be a string"."""


class DiscueError(Exception):
    """Base of all errors. Each has the code of its exact reason: a key of `REASONS`, which has the HTTP status."""

    code: str = "internal_error"
    retry_after_seconds: int | None = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str = "",
        faults: tuple[Fault, ...] = (),
        retry_after_seconds: int | None = None,
        allow: tuple[str, ...] = (),
    ) -> None:
        """`code` and `retry_after_seconds` default to those of the class, `detail` to the meaning of the code.

        `allow` lists the methods for an `Allow` header.
        """
        if code:
            self.code = code
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds
        self.detail = REASONS[self.code].meaning if detail is None else detail
        self.faults = faults
        self.allow = allow
        super().__init__(self.detail)

    @property
    def status(self) -> int:
        return REASONS[self.code].status


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
    """The request is malformed (400)."""


class Unauthorized(DiscueError):
    code = "key_missing"


class QuotaExceeded(DiscueError):
    code = "quota_exceeded"


class Forbidden(DiscueError):
    code = "scope_missing"


class LockedOut(Forbidden):
    code = "locked_out"


class NotFound(DiscueError):
    code = "not_found"


class MethodNotAllowed(DiscueError):
    code = "method_not_allowed"


class Conflict(_OfSeveralReasons):
    """The request conflicts with the current state of the resource (409)."""


class PreconditionFailed(DiscueError):
    code = "precondition_failed"


class PayloadTooLarge(DiscueError):
    """The request body, or a message in it, is too large."""

    code = "body_too_large"


class UnsupportedMediaType(DiscueError):
    code = "unsupported_media_type"


class Unprocessable(_OfSeveralReasons):
    """The request has invalid values (422)."""


class Locked(DiscueError):
    code = "organization_suspended"


class TooManyRequests(DiscueError):
    code = "rate_limited"


class Unavailable(DiscueError):
    """The request had no effect, and can be tried again soon."""

    code = "not_stored"
    retry_after_seconds = 1


class StoreUnavailable(Unavailable):
    """The database is not available. Unless the code is `not_stored`, it is unknown whether it stored the request."""

    code = "outcome_unknown"


class StoreDamaged(Unavailable):
    """A part of the database is damaged. Other parts can be read and written."""

    code = "store_damaged"
    retry_after_seconds = 60


class Overloaded(Unavailable):
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
    return malformed(pointer, rule, code="missing_field")


def sentence_of(pointer: str, rule: str) -> str:
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
