"""How listeners want their requests, between the bodies of requests and responses and the control plane."""

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from discue.api import bodies, wire
from discue.config.settings import Settings
from discue.control import listener_options
from discue.control.listener_options import OptionFields, RateFields
from discue.crypto.endpoint_credentials import AuthenticationFields
from discue.domain.model import Authentication, Listener
from discue.domain.rate import RateLimit
from discue.domain.retry import DEFAULT_RETRY_POLICY, RetryOptions, RetryPolicy


def options_of(body: bodies.ListenerBody) -> OptionFields:
    """What a request says of them."""
    rate = body.rate_limit
    return OptionFields(
        headers=body.headers,
        timeout_seconds=body.timeout,
        max_in_flight=body.max_in_flight,
        rate_limit=RateFields(rate.per_second, rate.burst) if isinstance(rate, bodies.RateLimitBody) else rate,
        retry=retry_of(body.retry),
        filter=filter_of(body.filter),
        format=body.format,
        lease_seconds=body.lease_seconds,
    )


def authentication_of(
    sent: bodies.AuthenticationBody | UnsetType | None,
) -> AuthenticationFields | UnsetType | None:
    return AuthenticationFields(**asdict(sent)) if isinstance(sent, bodies.AuthenticationBody) else sent


def authentication_shown(public: Authentication | None) -> wire.AuthenticationShown | UnsetType:
    """What its type has of it, and no secret."""
    if public is None:
        return UNSET
    return wire.AuthenticationShown(**{name: value for name, value in asdict(public).items() if value})


def filter_of(sent: bodies.AsSent) -> str | UnsetType | None:
    """The text of a filter, as it was sent."""
    text = bytes(sent).decode()
    return UNSET if not text else None if text == "null" else text


def filter_shown(text: str | None) -> msgspec.Raw | UnsetType:
    return UNSET if text is None else msgspec.Raw(text.encode())


def retry_of(sent: bodies.Retry) -> RetryOptions | UnsetType | None:
    """A list stands for the schedule alone."""
    if isinstance(sent, list):
        return RetryOptions(schedule=tuple(sent))
    if not isinstance(sent, bodies.RetryBody):
        return sent
    schedule, final = sent.schedule, sent.final_statuses
    return RetryOptions(
        schedule=None if schedule is None else tuple(schedule),
        jitter=sent.jitter,
        attempts=sent.attempts,
        final_statuses=None if final is None else tuple(final),
    )


def retry_shown(retry: RetryOptions | None) -> wire.RetryShown | UnsetType:
    """What was chosen, and nothing else."""
    if retry is None:
        return UNSET
    return wire.RetryShown(
        schedule=UNSET if retry.schedule is None else list(retry.schedule),
        jitter=UNSET if retry.jitter is None else retry.jitter,
        attempts=UNSET if retry.attempts is None else retry.attempts,
        final_statuses=UNSET if retry.final_statuses is None else list(retry.final_statuses),
    )


def rate_shown(rate: RateLimit | None) -> wire.RateLimitShown | UnsetType:
    return UNSET if rate is None else wire.RateLimitShown(rate.per_second, rate.burst)


def effective_shown(listener: Listener, settings: Settings) -> wire.EffectiveShown:
    """What holds for the listener's requests, whoever chose it."""
    defaults = (settings.delivery_timeout_seconds, settings.listener_max_in_flight)
    found = listener_options.effective(listener.options, listener.queue_retry, defaults, DEFAULT_RETRY_POLICY)
    pulls = listener.mode == "pull"
    return wire.EffectiveShown(
        timeout=UNSET if pulls else found.timeout_seconds,
        lease_seconds=found.lease_seconds if pulls else UNSET,
        max_in_flight=found.max_in_flight,
        retry=_policy(found.policy),
        format=found.format,
        rate_limit=rate_shown(found.rate_limit),
    )


def _policy(policy: RetryPolicy) -> wire.PolicyShown:
    final = sorted(policy.final)
    return wire.PolicyShown(
        schedule=list(policy.delays_seconds), jitter=policy.jitter, attempts=policy.attempts, final_statuses=final
    )
