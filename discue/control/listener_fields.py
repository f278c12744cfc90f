"""The fields of a listener in a request, the listener that they make, and the rules about it."""

import math
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.control.context import ControlContext, chosen, one_of, out_of, require_found, require_none, within
from discue.crypto import endpoint_credentials
from discue.crypto.endpoint_credentials import AuthenticationFields, Credentials
from discue.domain import egress
from discue.domain.aliases import NameFields, check_customer
from discue.domain.cloudevents import DeliveryFormat
from discue.domain.errors import Fault, below, invalid, missing_field
from discue.domain.event_types import check_patterns
from discue.domain.headers import check_headers
from discue.domain.model import DeliveryOptions, Listener, ListenerMode
from discue.domain.rate import RateLimit
from discue.domain.retry import RetryOptions
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS, check_system_types
from discue.domain.trace_context import TRACE_MODES
from discue.store import domains, organizations
from discue.store.engine import Transaction

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
    types: tuple[str, ...] | UnsetType | None = UNSET
    filter: str | UnsetType | None = UNSET
    transform: str | UnsetType | None = UNSET
    format: str | UnsetType | None = UNSET
    lease_seconds: int | UnsetType | None = UNSET
    trace: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET


def changed_options(stored: DeliveryOptions, fields: OptionFields, mode: ListenerMode) -> DeliveryOptions:
    """Return the options with the values in the request.

    Raises Unprocessable for values out of range and for options that the listener's mode does not support.
    """
    foreign, rule = (_OF_REQUESTS, _ONLY_PUSH) if mode == "pull" else (_OF_LEASES, _ONLY_PULL)
    given = [name for name in foreign if getattr(fields, name) not in (UNSET, None)]
    require_none([Fault(f"/{_SHOWN_AS.get(name, name)}", rule) for name in given], code="conflicting_fields")
    sent = fields.headers
    changed = DeliveryOptions(
        headers=stored.headers if isinstance(sent, UnsetType) else check_headers(sent or {}, "/headers"),
        timeout_seconds=within(
            stored.timeout_seconds, fields.timeout_seconds, "/timeout", TIMEOUT_SECONDS, unit="seconds"
        ),
        max_in_flight=within(stored.max_in_flight, fields.max_in_flight, "/max_in_flight", MAX_IN_FLIGHT),
        rate_limit=_chosen_rate(stored.rate_limit, fields.rate_limit),
        retry=chosen_retry(stored.retry, fields.retry),
        types=changed_types(stored.types, fields.types),
        filter=chosen(stored.filter, fields.filter, None),
        transform=chosen(stored.transform, fields.transform, None),
        format=one_of(FORMATS, chosen(stored.format, fields.format, "plain"), "/format"),
        lease_seconds=within(
            stored.lease_seconds, fields.lease_seconds, "/lease_seconds", LEASE_SECONDS, unit="seconds"
        ),
        authentication=stored.authentication,
        trace=one_of(TRACE_MODES, chosen(stored.trace, fields.trace, "propagate"), "/trace"),
        description=chosen(stored.description, fields.description, ""),
    )
    if len(changed.description) > LONGEST_DESCRIPTION or not changed.description.isprintable():
        raise invalid("/description", f"must have at most {LONGEST_DESCRIPTION} printable characters")
    return changed


def changed_types(stored: tuple[str, ...] | None, given: tuple[str, ...] | UnsetType | None) -> tuple[str, ...] | None:
    """Return the types after a request. Raises Unprocessable."""
    types = chosen(stored, given, None)
    if types is not None:
        check_patterns(types, "/types")
    return types


def check_system_types_of(listener: Listener) -> None:
    """Raise Unprocessable if it is a listener of the system queue with types that no system event has."""
    if listener.queue_alias == SYSTEM_QUEUE_ALIAS:
        check_system_types(listener.options.types or ())


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


def _chosen_rate(stored: RateLimit | None, given: RateFields | UnsetType | None) -> RateLimit | None:
    if isinstance(given, UnsetType):
        return stored
    if given is None:
        return None
    faults = []
    if not LOWEST_RATE <= given.per_second <= HIGHEST_RATE:
        rule = f"must be from {LOWEST_RATE} to {HIGHEST_RATE:.0f} requests per second"
        faults.append(Fault("/rate_limit/per_second", rule))
    if given.burst is not None and given.burst not in BURST:
        faults.append(Fault("/rate_limit/burst", out_of(BURST)))
    require_none(faults)
    return RateLimit(given.per_second, given.burst or math.ceil(given.per_second))


def _schedule_faults(schedule: tuple[int, ...], pointer: str) -> list[Fault]:
    if len(schedule) > DELAYS_LIMIT:
        return [Fault(pointer, f"must have at most {DELAYS_LIMIT} delays")]
    return [
        Fault(f"{pointer}/{index}", out_of(DELAY_SECONDS, "seconds"))
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


AUTHORIZATION: Final = "authorization"

AuthenticationChange = Credentials | UnsetType | None
"""UNSET keeps the stored credentials, None removes them."""

Status = Literal["enabled", "disabled"]
MODES: Final[tuple[ListenerMode, ...]] = get_args(ListenerMode)
_NOT_IN_PULL_MODE: Final = "is not supported in pull mode: nothing is sent to the listener"


class ListenerFields(NameFields, frozen=True):
    """The fields of a listener in a request. None keeps the stored value."""

    status: Status | None = None
    mode: str | None = None
    notify_url: str | None = None
    liveness_url: str | UnsetType | None = UNSET
    """None removes it, UNSET keeps the stored value."""
    options: OptionFields = OptionFields()
    authentication: AuthenticationFields | UnsetType | None = UNSET
    customer: str | UnsetType | None = UNSET
    """The customer that it belongs to. None means the customer of the queue; UNSET keeps the stored value."""


def changed_listener(
    control: ControlContext, stored: Listener, fields: ListenerFields, alias: str, *, asked: AuthenticationChange
) -> Listener:
    """Return the listener after a request. The version of a new listener is 0 before it, and 1 in the store."""
    if fields.mode is not None and one_of(MODES, fields.mode, "/mode") != stored.mode:
        raise invalid("/mode", "cannot be changed: create another listener instead", code="immutable_field")
    options = changed_options(stored.options, fields.options, stored.mode)
    if not isinstance(asked, UnsetType):
        options = msgspec.structs.replace(options, authentication=None if asked is None else asked.public)
    check_customer(fields.customer)
    now, status = control.clock.now(), fields.status or stored.status
    changed = msgspec.structs.replace(
        stored,
        alias=alias,
        status=status,
        notify_url=_url(control, fields.notify_url, stored, "/notify_url"),
        liveness_url=_liveness_url(control, fields.liveness_url, stored),
        customer=customer_in_queue(stored.queue_customer, chosen(stored.customer, fields.customer, "")),
        options=options,
        config_version=stored.config_version + 1,
        updated_at=now,
    )
    if status != stored.status:
        disabled_by = "request" if status == "disabled" else ""
        changed = msgspec.structs.replace(changed, disabled_by=disabled_by, status_changed_at=now)
    _check_authentication(stored, changed, asked)
    return changed


def customer_in_queue(queue_customer: str, given: str) -> str:
    """Return the customer of a listener. In a customer's queue, it is that customer.

    Raises Unprocessable for another one.
    """
    if not queue_customer or given in {"", queue_customer}:
        return queue_customer or given
    rule = f'must be "{queue_customer}", the customer of the queue: leave it out, or use a queue of this customer'
    raise invalid("/customer", rule, code="conflicting_fields")


def _url(control: ControlContext, given: str | None, listener: Listener, pointer: str) -> str:
    """Return the URL as sent: it is not normalized. Raises BadRequest and Unprocessable."""
    stored: str = getattr(listener, pointer[1:])
    if listener.mode == "pull":
        if given is not None:
            raise invalid(pointer, _NOT_IN_PULL_MODE, code="conflicting_fields")
        return ""
    if given is None:
        if not stored:
            raise missing_field(pointer)
        return stored
    if not given or given != stored:
        egress.check_target(egress.parse_target(given, pointer), control.egress, pointer)
    return given


def _liveness_url(control: ControlContext, given: str | UnsetType | None, listener: Listener) -> str:
    """Return the URL as sent, "" without one. Raises Unprocessable."""
    if given is None:
        return ""
    if isinstance(given, UnsetType):
        return listener.liveness_url
    return _url(control, given, listener, "/liveness_url")


def asked_authentication(
    control: ControlContext, stored: Listener, fields: AuthenticationFields | UnsetType | None
) -> AuthenticationChange:
    """Return the change of credentials in a request. Raises BadRequest and Unprocessable."""
    if fields is None or isinstance(fields, UnsetType):
        return fields
    if stored.mode == "pull":
        raise invalid("/authentication", _NOT_IN_PULL_MODE, code="conflicting_fields")
    if endpoint_credentials.is_unchanged(stored.options.authentication, fields):
        return UNSET
    made = endpoint_credentials.parse_credentials(fields, control.clock.now())
    if made.public.token_url:
        pointer = "/authentication/token_url"
        egress.check_target(egress.parse_target(made.public.token_url, pointer), control.egress, pointer)
    return made


def urls_in(fields: ListenerFields) -> list[str]:
    authentication = fields.authentication
    token_url = authentication.token_url if isinstance(authentication, AuthenticationFields) else None
    return [url for url in (fields.notify_url, fields.liveness_url, token_url) if isinstance(url, str) and url]


def urls_of(listener: Listener) -> dict[str, str]:
    """Return the URLs of a listener that requests are sent to, by their place in the request."""
    public = listener.options.authentication
    token_url = "" if public is None else public.token_url
    urls = {"/notify_url": listener.notify_url, "/liveness_url": listener.liveness_url}
    urls["/authentication/token_url"] = token_url or ""
    return {pointer: url for pointer, url in urls.items() if url}


def check_hosts(stored: Listener, changed: Listener, refused: frozenset[str]) -> None:
    """Raise Unprocessable if one of the new URLs is `refused`. URLs that the listener already has are not checked."""
    before = urls_of(stored)
    for pointer, url in urls_of(changed).items():
        if url in refused and before.get(pointer) != url:
            raise egress.refused_address(pointer)


def _check_authentication(stored: Listener, changed: Listener, asked: AuthenticationChange) -> None:
    """Raise Unprocessable if the credentials do not fit the other fields of the listener."""
    public = changed.options.authentication
    if public is None:
        return
    target = egress.parse_target(changed.notify_url, "/notify_url")
    if public.type == "certificate":
        if target.scheme != "https":
            rule = "must be an https URL: a client certificate requires TLS"
            raise invalid("/notify_url", rule, code="conflicting_fields")
    elif taken := next((name for name, _ in changed.options.headers if name.lower() == AUTHORIZATION), None):
        rule = "cannot be combined with authentication, which sets this header"
        raise invalid(below("/headers", taken), rule, code="conflicting_fields")
    if isinstance(asked, UnsetType) and stored.notify_url != changed.notify_url:
        before = egress.parse_target(stored.notify_url, "/notify_url")
        if (before.scheme, before.host, before.port) != (target.scheme, target.host, target.port):
            # Someone who can edit a listener must not be able to redirect its credentials to a server of their own.
            rule = "must be sent again, with its secret: the origin of notify_url changes"
            raise invalid("/authentication", rule, code="conflicting_fields")


async def require_registered(tx: Transaction, stored: Listener | None, changed: Listener) -> None:
    """Raise Unprocessable if the organization requires registered domains and a new URL is not on one of them.

    URLs that the listener already has are not checked.
    """
    owner = require_found(await organizations.get(tx, changed.organization))
    if changed.mode == "pull" or not owner.settings.get(domains.REQUIRE_VERIFIED_DOMAINS):
        return
    for name in ("notify_url", "liveness_url"):
        url, pointer = getattr(changed, name), f"/{name}"
        if not url or (stored is not None and url == getattr(stored, name)):
            continue
        target = egress.parse_target(url, pointer)
        if not await domains.is_registered(tx, changed.organization, target.host, target.port):
            rule = "must be on a domain of the organization: create one with this host and port first"
            raise invalid(pointer, rule, code="domain_not_registered")
