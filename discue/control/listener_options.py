"""Options of a listener's requests: their limits, and which values of a request are valid."""

import math
from collections.abc import Mapping
from typing import Final, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.control.context import chosen, one_of, out_of, require_none, within
from discue.domain import headers
from discue.domain.cloudevents import DeliveryFormat
from discue.domain.errors import Fault, invalid
from discue.domain.model import DeliveryOptions, ListenerMode
from discue.domain.rate import RateLimit
from discue.domain.retry import RetryOptions
from discue.domain.trace_context import TRACE_MODES

TIMEOUT_SECONDS = range(1, 301)
MAX_IN_FLIGHT = range(1, 1_001)
LEASE_SECONDS = range(1, 43_201)
LEASED_FOR_SECONDS = 30
"""Lease length of listeners that do not set one."""
BURST = range(1, 10_001)
LOWEST_RATE, HIGHEST_RATE = 0.01, 10_000.0
DELAYS_LIMIT = 50
DELAY_SECONDS = range(1, 30 * 86_400 + 1)
ATTEMPTS = range(1, 101)
LONGEST_DESCRIPTION = 256
STATUSES = range(300, 600)
STATUS_CLASSES = ("3xx", "4xx", "5xx")
FINAL_LIMIT = 100
_OF_REQUESTS: Final = ("headers", "timeout_seconds", "rate_limit", "format")
_OF_LEASES: Final = ("lease_seconds",)
_SHOWN_AS: Final = {"timeout_seconds": "timeout"}
_ONLY_PUSH: Final = "is supported in push mode only"
_ONLY_PULL: Final = "is supported in pull mode only"
FORMATS: Final[tuple[DeliveryFormat, ...]] = get_args(DeliveryFormat)


class RateFields(msgspec.Struct, frozen=True):
    """A rate limit in a request."""

    per_second: float
    burst: int | None = None
    """Requests at once after a pause. None: the requests of one second."""


class OptionFields(msgspec.Struct, frozen=True):
    """The options of a listener in a request. UNSET keeps the stored value, None restores the default."""

    headers: Mapping[str, str] | UnsetType | None = UNSET
    timeout_seconds: int | UnsetType | None = UNSET
    max_in_flight: int | UnsetType | None = UNSET
    rate_limit: RateFields | UnsetType | None = UNSET
    retry: RetryOptions | UnsetType | None = UNSET
    filter: str | UnsetType | None = UNSET
    format: str | UnsetType | None = UNSET
    lease_seconds: int | UnsetType | None = UNSET
    trace: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET


def changed(stored: DeliveryOptions, fields: OptionFields, mode: ListenerMode) -> DeliveryOptions:
    """Return the options with the values in the request.

    Raises Unprocessable for values out of range and for options that the listener's mode does not support.
    """
    foreign, rule = (_OF_REQUESTS, _ONLY_PUSH) if mode == "pull" else (_OF_LEASES, _ONLY_PULL)
    given = [name for name in foreign if getattr(fields, name) not in (UNSET, None)]
    require_none([Fault(f"/{_SHOWN_AS.get(name, name)}", rule) for name in given], code="conflicting_fields")
    sent = fields.headers
    return DeliveryOptions(
        headers=stored.headers if isinstance(sent, UnsetType) else headers.check_headers(sent or {}, "/headers"),
        timeout_seconds=within(stored.timeout_seconds, fields.timeout_seconds, "/timeout", TIMEOUT_SECONDS),
        max_in_flight=within(stored.max_in_flight, fields.max_in_flight, "/max_in_flight", MAX_IN_FLIGHT),
        rate_limit=_chosen_rate(stored.rate_limit, fields.rate_limit),
        retry=chosen_retry(stored.retry, fields.retry),
        filter=chosen(stored.filter, fields.filter, None),
        format=one_of(FORMATS, chosen(stored.format, fields.format, "plain"), "/format"),
        lease_seconds=within(stored.lease_seconds, fields.lease_seconds, "/lease_seconds", LEASE_SECONDS),
        authentication=stored.authentication,
        trace=one_of(TRACE_MODES, chosen(stored.trace, fields.trace, "propagate"), "/trace"),
        description=_checked_description(chosen(stored.description, fields.description, "")),
    )


def chosen_retry(
    stored: RetryOptions | None, given: RetryOptions | UnsetType | None, pointer: str = ""
) -> RetryOptions | None:
    """Return the retry policy after a request, which replaces it as a whole.

    Raises Unprocessable, with a pointer to each value out of range.
    """
    if isinstance(given, UnsetType):
        return stored
    if given is None or given == RetryOptions():
        return None
    pointer = f"{pointer}/retry"
    faults = [
        *_schedule_faults(given.schedule or (), f"{pointer}/schedule"),
        *_final_faults(given.final_statuses or (), f"{pointer}/final_statuses"),
    ]
    if given.jitter is not None and not 0 <= given.jitter <= 1:
        faults.append(Fault(f"{pointer}/jitter", "must be from 0 to 1"))
    if given.attempts is not None and given.attempts not in ATTEMPTS:
        faults.append(Fault(f"{pointer}/attempts", out_of(ATTEMPTS)))
    require_none(faults)
    return given


def _checked_description(given: str) -> str:
    if len(given) > LONGEST_DESCRIPTION or not given.isprintable():
        raise invalid("/description", f"must have at most {LONGEST_DESCRIPTION} printable characters")
    return given


def _chosen_rate(stored: RateLimit | None, given: RateFields | UnsetType | None) -> RateLimit | None:
    if isinstance(given, UnsetType):
        return stored
    if given is None:
        return None
    faults = []
    if not LOWEST_RATE <= given.per_second <= HIGHEST_RATE:
        faults.append(Fault("/rate_limit/per_second", f"must be from {LOWEST_RATE} to {HIGHEST_RATE:.0f}"))
    if given.burst is not None and given.burst not in BURST:
        faults.append(Fault("/rate_limit/burst", out_of(BURST)))
    require_none(faults)
    return RateLimit(given.per_second, given.burst or math.ceil(given.per_second))


def _schedule_faults(schedule: tuple[int, ...], pointer: str) -> list[Fault]:
    if len(schedule) > DELAYS_LIMIT:
        return [Fault(pointer, f"must have at most {DELAYS_LIMIT} delays")]
    return [
        Fault(f"{pointer}/{index}", out_of(DELAY_SECONDS))
        for index, delay in enumerate(schedule)
        if delay not in DELAY_SECONDS
    ]


def _final_faults(statuses: tuple[int | str, ...], pointer: str) -> list[Fault]:
    if len(statuses) > FINAL_LIMIT:
        return [Fault(pointer, f"must have at most {FINAL_LIMIT} statuses")]
    rule = f"must be a status from 300 to 599, or one of {', '.join(STATUS_CLASSES)}"
    return [
        Fault(f"{pointer}/{index}", rule)
        for index, status in enumerate(statuses)
        if status not in (STATUSES if isinstance(status, int) else STATUS_CLASSES)
    ]
