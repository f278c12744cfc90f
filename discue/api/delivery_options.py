"""Options of deliveries that several resources have: retry policy, rate limit, headers, filter, key, delay."""

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from discue.api.structs import AsSent, Integer, Text, doc, number_given, within
from discue.config.settings import Settings
from discue.control.listener_fields import (
    ATTEMPTS,
    BURST,
    DELAYS_LIMIT,
    FINAL_LIMIT,
    FORMATS,
    HIGHEST_RATE,
    LEASE_SECONDS,
    LEASED_FOR_SECONDS,
    LOWEST_RATE,
    STATUS_CLASSES,
    STATUSES,
    RateFields,
)
from discue.control.listener_fields import DELAY_SECONDS as RETRY_DELAY_SECONDS
from discue.domain import event_types, headers
from discue.domain.clock import check_unit
from discue.domain.cloudevents import KEY_CHARACTERS
from discue.domain.errors import invalid
from discue.domain.model import Listener
from discue.domain.rate import RateLimit
from discue.domain.retry import RetryOptions, effective_policy
from discue.domain.trace_context import TRACE_MODES
from discue.domain.transforms import MAX_CHARACTERS

LONGEST_DELAY_SECONDS: Final = 31_536_000
DELAY_SECONDS: Final = range(LONGEST_DELAY_SECONDS + 1)
KEY_LIMITS: Final[dict[str, Any]] = {"minLength": KEY_CHARACTERS.start, "maxLength": KEY_CHARACTERS.stop - 1}

_DELAYS: Final[dict[str, Any]] = {"maxItems": DELAYS_LIMIT, "items": {"type": "integer", **within(RETRY_DELAY_SECONDS)}}
_STATUSES: Final = [{"type": "integer", **within(STATUSES)}, {"type": "string", "enum": list(STATUS_CLASSES)}]
_SCHEDULE: Final = doc("The delays between attempts, in seconds.", [10, 60, 600], **_DELAYS)
_JITTER: Final = doc("How much longer a delay may be at random, as a fraction of it.", 0.2, minimum=0, maximum=1)
_FINAL: Final = doc(
    "Responses with one of these statuses, or classes of statuses, are not retried.",
    [422],
    maxItems=FINAL_LIMIT,
    items={"anyOf": _STATUSES},
)
_RATE: Final = doc("Requests per second.", 100, minimum=LOWEST_RATE, maximum=HIGHEST_RATE)

TYPE_LIMITS: Final = {"minLength": 1, "maxLength": event_types.MAX_CHARACTERS, "pattern": event_types.TYPE}
TypeSent: TypeAlias = Annotated[
    Text, doc("The type of the event: words separated by dots.", "order.paid", **TYPE_LIMITS)
]
TYPE_PATTERN: Final = {"minLength": 1, "maxLength": event_types.MAX_CHARACTERS, "pattern": event_types.PATTERN}
LISTENER_TYPES: Final = doc(
    "Types or patterns; a message must match at least one. `*` stands for one word, a final `>` for one or more. A "
    "message without a type matches none. null: all messages.",
    ["order.*", "invoice.paid"],
    minItems=1,
    maxItems=event_types.MAX_PATTERNS,
    items={"type": "string", **TYPE_PATTERN},
)
TypesSent: TypeAlias = Annotated[tuple[str, ...] | None | UnsetType, LISTENER_TYPES]
SEQUENCE: Final = doc(
    "The place of the message in its queue: higher than that of every message committed before it. Numbers may be "
    "skipped.",
    17,
    minimum=1,
)
TypeShown: TypeAlias = Annotated[str | UnsetType, doc("The type of the event.", "order.paid")]

HEADERS: Final = doc(
    f"Additional headers of each request: at most {headers.MAX_HEADERS}, "
    f"with {headers.MAX_CHARACTERS:,} characters in all.",
    {"x-shop": "north"},
    maxProperties=headers.MAX_HEADERS,
    propertyNames={"pattern": headers.NAME_PATTERN},
    additionalProperties={"type": "string", "pattern": headers.VALUE_PATTERN},
)
HeadersSent: TypeAlias = Annotated[dict[str, str] | None | UnsetType, HEADERS]
HeadersShown: TypeAlias = Annotated[dict[str, str] | UnsetType, HEADERS]
TRANSFORM: Final = doc(
    "JMESPath expression over `id`, `type`, `key`, `headers`, `created_at` and `data`. Its JSON result is the body "
    "that the listener receives. null: the data is sent as it is.",
    "{text: join(' ', ['Order', to_string(data.order), 'is paid.'])}",
    maxLength=MAX_CHARACTERS,
)
FORMAT: Final = doc(
    "How a message is sent: `plain` (its data unchanged, the default), or as a CloudEvent in one of two modes.",
    "cloudevents_binary",
    enum=list(FORMATS),
)
RATE_LIMIT: Final = doc(
    "The maximum rate of requests to this listener, over all workers.", {"per_second": 100, "burst": 20}
)
TRACE: Final = doc(
    "The `traceparent` that it receives: of the trace of the publisher (`propagate`, the default), of a new trace with "
    "every attempt (`restart`), or none (`none`).",
    "propagate",
    enum=list(TRACE_MODES),
)
LEASE: Final = doc(
    "How long a pulled message stays leased, in seconds. Default: 30. Pull mode only.", 30, **within(LEASE_SECONDS)
)
_RETRY_EXAMPLE: Final = {"schedule": [10, 60, 600], "final_statuses": [422]}
_RETRY_TEXT: Final = "Retry policy. Omitted fields use the default."
FILTER_EXAMPLE: Final = {"data": {"order.state": ["paid", "refunded"], "order.total": {"$gt": 5}}}


def filter_sent_doc(description: str, example: object = FILTER_EXAMPLE) -> msgspec.Meta:
    return doc(description, example, anyOf=[{"$ref": "#/components/schemas/MessageFilter"}, {"type": "null"}])


class RetryBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """When failed deliveries are retried. null or an omitted field: the policy of the queue or the service."""

    schedule: Annotated[tuple[int, ...] | None, _SCHEDULE] = None
    jitter: Annotated[float | None, _JITTER] = None
    attempts: Annotated[
        int | None, doc("Number of attempts. Shortens the schedule, or repeats its last delay.", 4, **within(ATTEMPTS))
    ] = None
    final_statuses: Annotated[tuple[int | str, ...] | None, _FINAL] = None


RetrySent: TypeAlias = Annotated[
    RetryBody | tuple[int, ...] | None | UnsetType,
    doc(
        _RETRY_TEXT,
        _RETRY_EXAMPLE,
        anyOf=[
            {"$ref": "#/components/schemas/RetryBody"},
            {"type": "array", "description": "The schedule alone.", **_DELAYS},
            {"type": "null"},
        ],
    ),
]
"""A list is the schedule alone."""


class RateLimitBody(RateFields, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The maximum rate of requests to a listener."""

    per_second: Annotated[float, _RATE]
    burst: Annotated[
        int | None, doc("Requests that may be sent at once. Default: as many as in one second.", 20, **within(BURST))
    ] = None


class RetryView(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The fields of a retry policy that were set."""

    schedule: Annotated[list[int] | UnsetType, _SCHEDULE] = UNSET
    jitter: Annotated[float | UnsetType, _JITTER] = UNSET
    attempts: Annotated[int | UnsetType, doc("Number of attempts.", 4, **within(ATTEMPTS))] = UNSET
    final_statuses: Annotated[list[int | str] | UnsetType, _FINAL] = UNSET


RetryShown: TypeAlias = Annotated[RetryView | UnsetType, doc(_RETRY_TEXT, _RETRY_EXAMPLE)]


class RetryPolicyView(msgspec.Struct, kw_only=True, frozen=True):
    """A complete retry policy."""

    schedule: Annotated[list[int], _SCHEDULE]
    jitter: Annotated[float, _JITTER]
    attempts: Annotated[int, doc("Number of attempts.", 12, minimum=1)]
    final_statuses: Annotated[
        list[str], doc("Responses with one of these statuses, or classes of statuses, are not retried.", ["422"])
    ]


class RateLimitView(msgspec.Struct, frozen=True):
    """The maximum rate of requests to a listener."""

    per_second: Annotated[float, _RATE]
    burst: Annotated[int, doc("Requests that may be sent at once.", 20, **within(BURST))]


class EffectiveOptionsView(msgspec.Struct, kw_only=True, frozen=True):
    """The options in effect: set for the listener, its queue, its organization, or the service."""

    timeout: Annotated[int | UnsetType, doc("Timeout of an attempt, in seconds.", 15, minimum=1)] = UNSET
    lease_seconds: Annotated[
        int | UnsetType, doc("How long a pulled message stays leased, in seconds.", 30, **within(LEASE_SECONDS))
    ] = UNSET
    max_in_flight: Annotated[int, doc("Maximum number of requests in flight.", 50, minimum=1)]
    retry: Annotated[
        RetryPolicyView,
        doc("Retry policy.", {"schedule": [10, 60, 600], "jitter": 0.2, "attempts": 4, "final_statuses": ["422"]}),
    ]
    format: Annotated[str, FORMAT]
    trace: Annotated[str, TRACE]
    rate_limit: Annotated[RateLimitView | UnsetType, RATE_LIMIT] = UNSET


def due_at(deliver_at: Integer, delay: Integer, pointer: str, now: int) -> int | None:
    """Return when a message is to be delivered; None: at once. Raises Unprocessable, with a pointer below `pointer`."""
    if isinstance(deliver_at, int) and isinstance(delay, int):
        raise invalid(f"{pointer}/delay", "cannot be combined with deliver_at", code="conflicting_fields")
    delay = number_given(delay, DELAY_SECONDS, f"{pointer}/delay", " seconds")
    if delay is not None:
        return now + delay * 1_000 if delay else None
    if not isinstance(deliver_at, int):
        return None
    check_unit(deliver_at, f"{pointer}/deliver_at")
    if not 0 <= deliver_at <= now + LONGEST_DELAY_SECONDS * 1_000:
        raise invalid(f"{pointer}/deliver_at", "must be at most a year ahead, in milliseconds since the epoch")
    return deliver_at if deliver_at > now else None


def key_given(sent: Text, pointer: str) -> str | None:
    """Return the key of a message. Raises Unprocessable."""
    if not isinstance(sent, str):
        return None
    if len(sent) not in KEY_CHARACTERS:
        raise invalid(pointer, f"must have {KEY_CHARACTERS.start} to {KEY_CHARACTERS.stop - 1} characters")
    return sent


def filter_given(sent: AsSent) -> str | UnsetType | None:
    """Return the JSON of a filter as the client wrote it."""
    # Kept as text: a client gets back what it wrote, with its numbers and the order of its members.
    text = bytes(sent).decode()
    return UNSET if not text else None if text == "null" else text


def filter_view(text: str | None) -> msgspec.Raw | UnsetType:
    return UNSET if text is None else msgspec.Raw(text.encode())


def retry_given(sent: RetrySent) -> RetryOptions | None | UnsetType:
    if isinstance(sent, RetryBody):
        return RetryOptions(**asdict(sent))
    return RetryOptions(schedule=sent) if isinstance(sent, tuple) else sent


def retry_view(retry: RetryOptions | None) -> RetryView | UnsetType:
    """Return the fields of a retry policy that were set."""
    if retry is None:
        return UNSET
    given: dict[str, Any] = {name: value for name, value in asdict(retry).items() if value is not None}
    return RetryView(**given)


def rate_view(rate: RateLimit | None) -> RateLimitView | UnsetType:
    return UNSET if rate is None else RateLimitView(rate.per_second, rate.burst)


def effective_view(listener: Listener, default_retry: RetryOptions | None, settings: Settings) -> EffectiveOptionsView:
    """Return the options in effect for a listener.

    They are its own, or those of its queue, its organization (`default_retry`) or the server.
    """
    options, pulls = listener.options, listener.mode == "pull"
    policy = effective_policy(default_retry, listener.queue_retry, options.retry)
    return EffectiveOptionsView(
        timeout=UNSET if pulls else options.timeout_seconds or settings.delivery_timeout_seconds,
        lease_seconds=(options.lease_seconds or LEASED_FOR_SECONDS) if pulls else UNSET,
        max_in_flight=options.max_in_flight or settings.listener_max_in_flight,
        retry=RetryPolicyView(
            schedule=list(policy.delays_seconds),
            jitter=policy.jitter,
            attempts=policy.attempts,
            final_statuses=sorted(policy.final),
        ),
        format=options.format,
        trace=options.trace,
        rate_limit=rate_view(options.rate_limit),
    )
