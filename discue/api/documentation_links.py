"""What to do about each error that a client of the API may be told of."""

from collections.abc import Iterator

from discue.domain import errors
from discue.domain.errors import DiscueError, SettingsInvalid, StoreUnusable

_OF_COMMANDS = (StoreUnusable, SettingsInvalid)

ADVICE: dict[str, str] = {
    "DiscueError": "Look for the request id in the server's log: this is a fault of the service.",
    "BadRequest": "Correct the places that `errors` names, and send it again.",
    "Unauthorized": "Send an enabled key that has not expired. `discue keys create` makes one.",
    "QuotaExceeded": "Wait, or have the operator raise the quota.",
    "Forbidden": "Use a key with the scope that `detail` names.",
    "LockedOut": "Wait for the seconds in `Retry-After`, then use a valid key. The operator can lift it sooner.",
    "NotFound": "Check the address. What belongs to another organization is not found either.",
    "MethodNotAllowed": "Use one of the methods in the header `Allow`.",
    "NotAcceptable": "Accept `application/json`, or leave the header out.",
    "RequestTimeout": "Send the body faster, or in smaller parts; `request_body_timeout_seconds` is the limit.",
    "Conflict": "Look at what is there, and decide anew.",
    "PreconditionFailed": "Get it, look at what has changed, and send `If-Match` with its new `ETag`.",
    "PayloadTooLarge": "Send less; `detail` says how much is allowed. The queue's `max_message_bytes` can be raised.",
    "UriTooLong": "Shorten the query.",
    "UnsupportedMediaType": "Add `Content-Type: application/json`.",
    "Unprocessable": "Correct the places that `errors` names: each says what would be right.",
    "Locked": "Ask the operator.",
    "TooManyRequests": "Wait for the seconds in the header `Retry-After`.",
    "HeadersTooLarge": "Send fewer and shorter headers.",
    "Unavailable": "Send it again after the seconds in `Retry-After`.",
    "StoreUnavailable": "Send it again after the seconds in `Retry-After`: whether it was stored is unknown. The "
    "operator finds the cause in the server's log: a full disk, or a database that is locked.",
    "Overloaded": "Send it again after the seconds in `Retry-After`, more slowly. Nothing was stored.",
}


def answered() -> Iterator[type[DiscueError]]:
    """Every error that a client of the API may be told about, by its status."""
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DiscueError)]
    yield from sorted((kind for kind in found if kind not in _OF_COMMANDS), key=lambda kind: kind.status)
