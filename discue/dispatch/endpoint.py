"""What requests to a listener are made of."""

import msgspec

from discue.backoff import DEFAULT_RETRY_POLICY, RetryPolicy, narrowed
from discue.egress import Target, parse_target
from discue.headers import Headers
from discue.keyring import Keyring
from discue.model import RateLimit
from discue.signing import key_of
from discue.signing_secrets import SigningSecret, decoded, place_of
from discue.store.cursors import LaneRecord


class DeliveryDefaults(msgspec.Struct, frozen=True):
    """How requests are made to listeners that say nothing about it."""

    max_in_flight: int
    timeout_ms: int
    policy: RetryPolicy = DEFAULT_RETRY_POLICY


class Endpoint(msgspec.Struct, frozen=True):
    """What a request to a listener is made of, from its configuration at one version.

    Not `enabled` is also one whose domain is not verified, where its organization wants that. `probed` is None when it
    is not to be probed.
    """

    target: Target
    keys: tuple[bytes, ...]
    enabled: bool
    config_version: int
    max_in_flight: int
    timeout_ms: int
    policy: RetryPolicy
    liveness_url: str
    probed: Target | None
    headers: Headers = ()
    rate_limit: RateLimit | None = None

    def __repr__(self) -> str:
        return f"Endpoint(target={self.target!r}, enabled={self.enabled}, config_version={self.config_version})"


def endpoint_of(record: LaneRecord, defaults: DeliveryDefaults, keyring: Keyring) -> Endpoint:
    """Raises ValueError and DiscueError for a row that cannot be used."""
    options = record.options
    is_on, probed = record.status == "enabled", parse_target(record.liveness_url, "/liveness_url")
    timeout_ms = defaults.timeout_ms if options.timeout_seconds is None else options.timeout_seconds * 1_000
    return Endpoint(
        target=parse_target(record.notify_url, "/notify_url"),
        keys=tuple(key_of(secret.text) for secret in _secrets(record, keyring)),
        enabled=is_on and record.may_send,
        config_version=record.config_version,
        max_in_flight=options.max_in_flight or defaults.max_in_flight,
        timeout_ms=timeout_ms,
        policy=narrowed(narrowed(defaults.policy, record.queue_retry), options.retry),
        liveness_url=record.liveness_url,
        probed=probed if is_on and record.may_probe else None,
        headers=options.headers,
        rate_limit=options.rate_limit,
    )


def _secrets(record: LaneRecord, keyring: Keyring) -> tuple[SigningSecret, ...]:
    return decoded(keyring.open(record.secrets, place_of(record.organization, record.listener)))
