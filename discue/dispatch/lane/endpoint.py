"""What requests to a listener are made of."""

import msgspec

from discue.crypto.endpoint_credentials import decode_credentials
from discue.crypto.keyring import Keyring
from discue.crypto.signatures import SigningKey
from discue.crypto.signing_secrets import associated_data, decode_secrets, signing_key_of
from discue.domain.clock import Clock
from discue.domain.cloudevents import DeliveryFormat
from discue.domain.egress import Target, parse_target
from discue.domain.filters.filters import Filter, compile_filter
from discue.domain.headers import Headers
from discue.domain.messages import Entry
from discue.domain.rate import RateLimit
from discue.domain.retry import DEFAULT_RETRY_POLICY, RetryPolicy, with_options
from discue.sending.endpoint_auth import RequestCredentials, credentials_of
from discue.sending.request import ClientIdentity, TokenGrant
from discue.store.cursors import LaneRecord


class DeliveryDefaults(msgspec.Struct, frozen=True):
    """How requests are made to listeners that say nothing about it."""

    max_in_flight: int
    timeout_ms: int
    policy: RetryPolicy = DEFAULT_RETRY_POLICY


class Endpoint(msgspec.Struct, frozen=True):
    """What a request to a listener is made of, from its configuration at one version.

    Not `enabled` is also one whose domain is not verified, where its organization wants that. `probed` is None when it
    is not to be probed. `ends` are the instants at which the keys end, 0 for no end; none of them do when it is empty.
    """

    target: Target
    keys: tuple[SigningKey, ...]
    enabled: bool
    config_version: int
    max_in_flight: int
    timeout_ms: int
    policy: RetryPolicy
    liveness_url: str
    probed: Target | None
    headers: Headers = ()
    rate_limit: RateLimit | None = None
    ends: tuple[int, ...] = ()
    filter: Filter | None = None
    format: DeliveryFormat = "plain"
    grant: TokenGrant | None = None
    identity: ClientIdentity | None = None

    def keys_valid(self, clock: Clock) -> tuple[SigningKey, ...]:
        """What an attempt that begins now is signed with, newest first."""
        if not self.ends:
            return self.keys
        now = clock.now()
        return tuple(key for key, end in zip(self.keys, self.ends, strict=True) if not end or now < end)

    def wants(self, entry: Entry) -> bool:
        """Whether the listener's filter lets a message through."""
        return self.filter is None or self.filter.accepts(entry)

    def __repr__(self) -> str:
        return f"Endpoint(target={self.target!r}, enabled={self.enabled}, config_version={self.config_version})"


def endpoint_of(record: LaneRecord, defaults: DeliveryDefaults, keyring: Keyring) -> Endpoint:
    """Raises ValueError and DiscueError for a row that cannot be used."""
    options, held = record.options, keyring.open(record.secrets, associated_data(record.organization, record.listener))
    secrets, shown = decode_secrets(held), _presented(record, held)
    ends = tuple(secret.expires_at for secret in secrets)
    is_on, probed = record.status == "enabled", parse_target(record.liveness_url, "/liveness_url")
    timeout_ms = defaults.timeout_ms if options.timeout_seconds is None else options.timeout_seconds * 1_000
    return Endpoint(
        target=parse_target(record.notify_url, "/notify_url"),
        keys=tuple(signing_key_of(secret) for secret in secrets),
        enabled=is_on and record.may_send,
        config_version=record.config_version,
        max_in_flight=options.max_in_flight or defaults.max_in_flight,
        timeout_ms=timeout_ms,
        policy=with_options(with_options(defaults.policy, record.queue_retry), options.retry),
        liveness_url=record.liveness_url,
        probed=probed if is_on and record.may_probe else None,
        headers=(*options.headers, *shown.headers),
        rate_limit=options.rate_limit,
        ends=ends if any(ends) else (),
        filter=None if options.filter is None else compile_filter(options.filter),
        format=options.format,
        grant=shown.grant,
        identity=shown.identity,
    )


def _presented(record: LaneRecord, held: bytes) -> RequestCredentials:
    """Nothing is sent to a listener without the credentials that it is to be shown."""
    credentials = decode_credentials(held)
    if record.options.authentication != (None if credentials is None else credentials.public):
        raise ValueError("the secret of a listener's authentication is lost")
    return credentials_of(credentials, record.listener_public_id)
