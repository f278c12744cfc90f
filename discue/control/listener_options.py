"""Options of a listener's requests: their limits, and which values of a request are valid."""

import math
from collections.abc import Mapping
from typing import Final, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.domain import headers
from discue.domain.cloudevents import DeliveryFormat
from discue.domain.errors import Fault, Unprocessable
from discue.domain.filters.parser import parse_filter
from discue.domain.model import DeliveryOptions, ListenerMode
from discue.domain.rate import RateLimit
from discue.domain.retry import RetryOptions, RetryPolicy, with_options

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


class Effective(msgspec.Struct, frozen=True):
    """The options in effect for a listener, after the defaults of its queue and of the server."""

    timeout_seconds: int
    max_in_flight: int
    policy: RetryPolicy
    rate_limit: RateLimit | None
    lease_seconds: int
    format: DeliveryFormat


def changed(stored: DeliveryOptions, fields: OptionFields, mode: ListenerMode = "push") -> DeliveryOptions:
    """Return the options with the values in the request.

    Raises Unprocessable for values out of range and for options that the listener's mode does not support.
    """
    _check_mode(fields, mode)
    return DeliveryOptions(
        headers=_chosen_headers(stored, fields.headers),
        timeout_seconds=_chosen(stored.timeout_seconds, fields.timeout_seconds, ("/timeout", TIMEOUT_SECONDS)),
        max_in_flight=_chosen(stored.max_in_flight, fields.max_in_flight, ("/max_in_flight", MAX_IN_FLIGHT)),
        rate_limit=_chosen_rate(stored.rate_limit, fields.rate_limit),
        retry=chosen_retry(stored.retry, fields.retry),
        filter=_chosen_filter(stored.filter, fields.filter),
        format=_chosen_format(stored.format, fields.format),
        lease_seconds=_chosen(stored.lease_seconds, fields.lease_seconds, ("/lease_seconds", LEASE_SECONDS)),
        authentication=stored.authentication,
    )


def chosen_retry(
    stored: RetryOptions | None, given: RetryOptions | UnsetType | None, pointer: str = ""
) -> RetryOptions | None:
    """Return the retry policy after a request, which replaces it as a whole. Raises Unprocessable."""
    if isinstance(given, UnsetType):
        return stored
    if given is None or given == RetryOptions():
        return None
    check_retry(given, f"{pointer}/retry")
    return given


def check_retry(retry: RetryOptions, pointer: str) -> None:
    """Raise Unprocessable, with a pointer to each value out of range, unless the retry policy is valid."""
    faults = [
        *_schedule_faults(retry.schedule or (), f"{pointer}/schedule"),
        *_final_faults(retry.final_statuses or (), f"{pointer}/final_statuses"),
    ]
    if retry.jitter is not None and not 0 <= retry.jitter <= 1:
        faults.append(Fault(f"{pointer}/jitter", "must be from 0 to 1"))
    if retry.attempts is not None and retry.attempts not in ATTEMPTS:
        faults.append(_outside(f"{pointer}/attempts", ATTEMPTS))
    if faults:
        raise _unacceptable(*faults)


def effective(
    options: DeliveryOptions, queue_retry: RetryOptions | None, defaults: tuple[int, int], policy: RetryPolicy
) -> Effective:
    """Return the options in effect. `defaults` are the server's timeout in seconds and limit of requests in flight."""
    timeout_seconds, max_in_flight = defaults
    return Effective(
        options.timeout_seconds or timeout_seconds,
        options.max_in_flight or max_in_flight,
        with_options(with_options(policy, queue_retry), options.retry),
        options.rate_limit,
        options.lease_seconds or LEASED_FOR_SECONDS,
        options.format,
    )


def _check_mode(fields: OptionFields, mode: ListenerMode) -> None:
    foreign = _OF_REQUESTS if mode == "pull" else _OF_LEASES
    rule = _ONLY_PUSH if mode == "pull" else _ONLY_PULL
    given = [name for name in foreign if getattr(fields, name) not in (UNSET, None)]
    if given:
        raise _unacceptable(*(Fault(f"/{_SHOWN_AS.get(name, name)}", rule) for name in given))


def _chosen(stored: int | None, given: int | UnsetType | None, rule: tuple[str, range]) -> int | None:
    if isinstance(given, UnsetType):
        return stored
    pointer, bounds = rule
    if given is not None and given not in bounds:
        raise _unacceptable(_outside(pointer, bounds))
    return given


def _chosen_headers(stored: DeliveryOptions, given: Mapping[str, str] | UnsetType | None) -> headers.Headers:
    if isinstance(given, UnsetType):
        return stored.headers
    return headers.check_headers(given or {}, "/headers")


def _chosen_filter(stored: str | None, given: str | UnsetType | None) -> str | None:
    if isinstance(given, UnsetType):
        return stored
    if given is not None:
        parse_filter(given.encode(), "/filter")
    return given


def _chosen_format(stored: DeliveryFormat, given: str | UnsetType | None) -> DeliveryFormat:
    if isinstance(given, UnsetType):
        return stored
    for known in FORMATS:
        if known == ("plain" if given is None else given):
            return known
    raise _unacceptable(Fault("/format", f"must be one of {', '.join(FORMATS)}"))


def _chosen_rate(stored: RateLimit | None, given: RateFields | UnsetType | None) -> RateLimit | None:
    if isinstance(given, UnsetType):
        return stored
    if given is None:
        return None
    faults = []
    if not LOWEST_RATE <= given.per_second <= HIGHEST_RATE:
        faults.append(Fault("/rate_limit/per_second", f"must be from {LOWEST_RATE} to {HIGHEST_RATE:.0f}"))
    if given.burst is not None and given.burst not in BURST:
        faults.append(_outside("/rate_limit/burst", BURST))
    if faults:
        raise _unacceptable(*faults)
    return RateLimit(given.per_second, given.burst or math.ceil(given.per_second))


def _schedule_faults(schedule: tuple[int, ...], pointer: str) -> list[Fault]:
    if len(schedule) > DELAYS_LIMIT:
        return [Fault(pointer, f"must have at most {DELAYS_LIMIT} delays")]
    return [
        _outside(f"{pointer}/{index}", DELAY_SECONDS)
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


def _outside(pointer: str, bounds: range) -> Fault:
    return Fault(pointer, f"must be from {bounds.start} to {bounds.stop - 1}")


def _unacceptable(*faults: Fault) -> Unprocessable:
    return Unprocessable(f"The value at {faults[0].pointer} {faults[0].detail}.", faults=faults)
