"""The fields that say how deliveries are made: see `field_rules`."""

from collections.abc import Mapping
from typing import Any, Final

from discue.api.message_options import KEY_CHARACTERS, LONGEST_DELAY_SECONDS
from discue.api.openapi.rule import INSTANT, Rule
from discue.control.listener_options import (
    ATTEMPTS,
    BURST,
    DELAY_SECONDS,
    DELAYS_LIMIT,
    FINAL_LIMIT,
    FORMATS,
    HIGHEST_RATE,
    LOWEST_RATE,
    MAX_IN_FLIGHT,
    STATUS_CLASSES,
    STATUSES,
    TIMEOUT_SECONDS,
)
from discue.control.queues import ON_MISSED
from discue.crypto import endpoint_credentials
from discue.domain import headers


def _within(bounds: range) -> dict[str, int]:
    return {"minimum": bounds.start, "maximum": bounds.stop - 1}


_SECRET_TEXT = {"minLength": 1, "maxLength": endpoint_credentials.MAX_SECRET_CHARACTERS}
_PEM = {"minLength": 1, "maxLength": endpoint_credentials.MAX_PEM_CHARACTERS}
_TOKEN_URL = {"minLength": 4, "maxLength": 253, "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^#]+$"}
_HEADERS_TEXT = (
    "Headers that are sent besides the service's own: "
    f"at most {headers.MAX_HEADERS}, with {headers.MAX_CHARACTERS:,} characters in all."
)
_HEADERS_EXAMPLE = {"x-shop": "north"}
_HEADERS: dict[str, Any] = {
    "maxProperties": headers.MAX_HEADERS,
    "propertyNames": {"pattern": headers.NAME_PATTERN},
    "additionalProperties": {"type": "string", "pattern": headers.VALUE_PATTERN},
}
_SCHEDULE = {
    "maxItems": DELAYS_LIMIT,
    "items": {"type": "integer", **_within(DELAY_SECONDS)},
}
_FINAL = {
    "maxItems": FINAL_LIMIT,
    "items": {
        "anyOf": [{"type": "integer", **_within(STATUSES)}, {"type": "string", "enum": list(STATUS_CLASSES)}],
    },
}
_RETRY_TEXT = "When a failed delivery is tried again. What is not said holds as it does without."
RETRY_SENT = {
    "anyOf": [
        {"$ref": "#/components/schemas/RetryBody"},
        {"type": "array", "description": "The schedule alone.", **_SCHEDULE},
        {"type": "null"},
    ]
}
_RETRY_EXAMPLE = {"schedule": [10, 60, 600], "final_statuses": [422]}
_FILTER_EXAMPLE = {"data": {"order.state": ["paid", "refunded"], "order.total": {"$gt": 5}}}
_FILTER_SENT = {"anyOf": [{"$ref": "#/components/schemas/MessageFilter"}, {"type": "null"}]}
_RATE_TEXT = "How many requests it takes. None is sent beyond that, on however many machines."
_DELIVER_TEXT = (
    "The instant from which on the message is delivered, in milliseconds since the epoch, at most a year ahead. "
    "One that has passed means at once. Not together with `delay`."
)
_DELIVER_AT_TEXT = (
    "From when on it is delivered, in milliseconds since the epoch, where that is later than its creation."
)
_DELAY_TEXT = "For how many seconds from now the message is held back. Not together with `deliver_at`."
_EXPIRES_TEXT = (
    "An instant in milliseconds since the epoch: what a listener has not got by then, it misses. Without one only the "
    "service's deadline counts."
)
_KEY_TEXT = "What the message belongs to: in an ordered queue, messages of one key come one after the other."

RULES: Final[Mapping[str, Rule]] = {
    "headers": Rule(_HEADERS_TEXT, _HEADERS_EXAMPLE, _HEADERS),
    "timeout": Rule("Seconds that an attempt may take, the answer's body included.", 15, _within(TIMEOUT_SECONDS)),
    "max_in_flight": Rule("How many requests may be under way at once.", 50, _within(MAX_IN_FLIGHT)),
    "EffectiveShown.timeout": Rule("Seconds that an attempt may take.", 15, {"minimum": 1}),
    "EffectiveShown.max_in_flight": Rule("How many requests may be under way at once.", 50, {"minimum": 1}),
    "ListenerBody.rate_limit": Rule(_RATE_TEXT, {"per_second": 100, "burst": 20}),
    "ListenerShown.rate_limit": Rule(_RATE_TEXT, {"per_second": 100, "burst": 20}),
    "EffectiveShown.rate_limit": Rule(_RATE_TEXT, {"per_second": 100, "burst": 20}),
    "per_second": Rule("Requests a second in the long run.", 100, {"minimum": LOWEST_RATE, "maximum": HIGHEST_RATE}),
    "burst": Rule(
        "Requests that may be sent at once; as many as a second brings where it is not given.", 20, _within(BURST)
    ),
    "ListenerBody.retry": Rule(_RETRY_TEXT, _RETRY_EXAMPLE, RETRY_SENT),
    "QueueBody.retry": Rule(_RETRY_TEXT, _RETRY_EXAMPLE, RETRY_SENT),
    "MessageBody.retry": Rule(_RETRY_TEXT, _RETRY_EXAMPLE, RETRY_SENT),
    "EffectiveShown.retry": Rule(
        "When a failed delivery is tried again.",
        {"schedule": [10, 60, 600], "jitter": 0.2, "attempts": 4, "final_statuses": ["422"]},
    ),
    "retry": Rule(_RETRY_TEXT, _RETRY_EXAMPLE),
    "schedule": Rule("The delays between attempts, in seconds.", [10, 60, 600], _SCHEDULE),
    "jitter": Rule("By which part of itself a delay may be longer.", 0.2, {"minimum": 0, "maximum": 1}),
    "RetryBody.attempts": Rule(
        "How many attempts there are. The schedule is cut for fewer, and its last delay repeated for more.",
        4,
        _within(ATTEMPTS),
    ),
    "RetryShown.attempts": Rule("How many attempts there are.", 4, _within(ATTEMPTS)),
    "PolicyShown.attempts": Rule("How many attempts there are.", 12, {"minimum": 1}),
    "final_statuses": Rule(
        "After an answer with one of these, or of one of these classes, there is no other attempt.", [422], _FINAL
    ),
    "PolicyShown.final_statuses": Rule("The same, as text.", ["422"]),
    "ListenerBody.filter": Rule(
        "Which messages it gets: conditions on their data, headers and key. null: all.", _FILTER_EXAMPLE, _FILTER_SENT
    ),
    "ListenerShown.filter": Rule(
        "Which messages it gets: conditions on their data, headers and key.", _FILTER_EXAMPLE, {"type": "object"}
    ),
    "format": Rule(
        "How a message is sent: its data as it is (`plain`, the default), or as a CloudEvent in one of two modes.",
        "cloudevents_binary",
        {"enum": list(FORMATS)},
    ),
    "FilterTestBody.filter": Rule(
        "The filter to try; the listener's own where it is not given.", _FILTER_EXAMPLE, _FILTER_SENT
    ),
    "ReplayBody.filter": Rule(
        "Only messages that it lets through: a filter as a listener has. null: all.", _FILTER_EXAMPLE, _FILTER_SENT
    ),
    "ReplayShown.filter": Rule("Only messages that it lets through.", _FILTER_EXAMPLE, {"type": "object"}),
    "FilterTestBody.data": Rule(
        "The data of a message that is made up. It, or `message_id`, is needed.", {"order": {"state": "paid"}}
    ),
    "FilterTestBody.key": Rule("The key of that message.", "customer-9"),
    "authentication": Rule(
        "How the service shows the listener who it is, in every delivery. null: by its signatures alone.",
        {"type": "basic", "username": "discue", "password": "correct horse battery"},
    ),
    "ListenerShown.authentication": Rule(
        "How the service shows the listener who it is, without what is secret of it.",
        {"type": "basic", "username": "discue"},
    ),
    "AuthenticationBody.type": Rule("By which way.", "oauth2", {"enum": list(endpoint_credentials.TYPES)}),
    "AuthenticationShown.type": Rule("By which way.", "oauth2", {"enum": list(endpoint_credentials.TYPES)}),
    "username": Rule(
        "`basic`: the user, without a colon.",
        "discue",
        {"minLength": 1, "maxLength": endpoint_credentials.MAX_USERNAME_CHARACTERS},
    ),
    "AuthenticationBody.password": Rule(
        "`basic`: the password. It is never shown.", "correct horse battery", _SECRET_TEXT
    ),
    "token_url": Rule("`oauth2`: where access tokens are got.", "https://login.example.com/token", _TOKEN_URL),
    "client_id": Rule("`oauth2`: the client that the service is there.", "discue", _SECRET_TEXT),
    "client_secret": Rule("`oauth2`: the client's secret. It is never shown.", "correct horse battery", _SECRET_TEXT),
    "scope": Rule("`oauth2`: the scopes that are asked for.", "orders:write", _SECRET_TEXT),
    "audience": Rule("`oauth2`: whom the token is to be for, where the token URL wants that.", "orders", _SECRET_TEXT),
    "certificate": Rule(
        "`certificate`: what is shown in TLS: a certificate in PEM, and those that lead to its issuer.",
        "-----BEGIN CERTIFICATE-----\n…",
        _PEM,
    ),
    "private_key": Rule(
        "`certificate`: its key in PEM, without a password. It is never shown.", "-----BEGIN PRIVATE KEY-----\n…", _PEM
    ),
    "DeliveryTestBody.data": Rule(
        'What to send; `{"test": true}` where it is not given.', {"order": {"state": "paid"}}
    ),
    "message_id": Rule("The id of a stored message of the queue.", "0VbuJFW500I0yWwoGXXf6"),
    "filter_test": Rule("What the filter says.", None),
    "matches": Rule("Whether the listener gets such a message.", True),
    "conditions": Rule("What each condition of the filter says on its own.", []),
    "ConditionShown.pointer": Rule("Where in the filter it stands, as a JSON pointer.", "/filter/data/order.state"),
    "holds": Rule("Whether it holds.", True),
    "effective": Rule("What holds: its own choice, its queue's, or the service's.", None),
    "MessageBody.deliver_at": Rule(_DELIVER_TEXT, 1_767_225_600_000, {"minimum": 0}),
    "MessageShown.deliver_at": Rule(_DELIVER_AT_TEXT, 1_767_225_600_000, INSTANT),
    "MessageBody.delay": Rule(_DELAY_TEXT, 3_600, {"minimum": 0, "maximum": LONGEST_DELAY_SECONDS}),
    "MessageBody.expires_at": Rule(_EXPIRES_TEXT, 1_893_456_000_000, INSTANT),
    "MessageShown.expires_at": Rule(_EXPIRES_TEXT, 1_893_456_000_000, INSTANT),
    "MessageBody.key": Rule(
        _KEY_TEXT, "customer-9", {"minLength": KEY_CHARACTERS.start, "maxLength": KEY_CHARACTERS.stop - 1}
    ),
    "ordered": Rule(
        "Whether messages of one key (all without one are of one) are sent to a listener one after the other. Chosen "
        "at creation.",
        False,
    ),
    "on_missed": Rule(
        "What a message that a listener of an ordered queue has missed does: it lets the next one of its key pass, or "
        "blocks the key until it is redelivered and acknowledged, or deleted. Chosen at creation.",
        "pass",
        {"enum": list(ON_MISSED)},
    ),
    "blocked_by": Rule("The id of the message that it waits behind.", "0VbuJFW500I0yWwoGXXf6"),
    "MessageShown.key": Rule(_KEY_TEXT, "customer-9"),
}
