"""A listener's configuration as its requests need it, and the attempts to deliver messages to it."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from discue.crypto.endpoint_credentials import decode_secrets
from discue.crypto.keyring import Keyring
from discue.crypto.signing import SigningKey, associated_data, signing_key_of
from discue.dispatch.delivery_rules import message_policy, policy_of
from discue.domain.attempts import Outcome
from discue.domain.clock import Clock
from discue.domain.cloudevents import DeliveryFormat
from discue.domain.egress import Target, parse_target
from discue.domain.filters import Filter, TypeFilter, filters_of
from discue.domain.headers import Headers, merge_headers, without_trace_headers
from discue.domain.messages import Entry, decode_options, lone_traceparent, message_headers
from discue.domain.rate import RateLimit
from discue.domain.retry import RetryPolicy
from discue.domain.trace_context import AttemptTrace, TraceIds, TraceMode, begin_attempt, is_sampled
from discue.sending.endpoint_auth import credentials_of
from discue.sending.request import AttemptRequest, Destination, TokenGrant, to_cloudevent
from discue.store.cursors import LaneRecord


class Endpoint(msgspec.Struct, frozen=True):
    """A version of a listener's configuration."""

    destination: Destination
    keys: tuple[SigningKey, ...]
    """Signing keys, newest first."""
    enabled: bool
    """False also if the organization requires verified domains and this one is not."""
    config_version: int
    max_in_flight: int
    timeout_ms: int
    policy: RetryPolicy
    liveness_url: str
    """"" without one."""
    probed: Target | None
    """The target of probes; None if the listener is not probed."""
    headers: Headers = ()
    rate_limit: RateLimit | None = None
    expiries: tuple[int, ...] = ()
    """When each key expires, in milliseconds since the epoch, 0 for never; empty if none expires."""
    filters: tuple[TypeFilter | Filter, ...] = ()
    transform: str | None = None
    format: DeliveryFormat = "plain"
    trace: TraceMode = "propagate"
    grant: TokenGrant | None = None

    def __repr__(self) -> str:
        target, version = self.destination.target, self.config_version
        return f"Endpoint(target={target!r}, enabled={self.enabled}, config_version={version})"


def endpoint_of(record: LaneRecord, keyring: Keyring, *, max_in_flight: int, timeout_ms: int) -> Endpoint:
    """Build the endpoint of a listener. `max_in_flight` and `timeout_ms` apply if its options leave them out.

    Raises ValueError and DiscueError for a row that cannot be used.
    """
    options = record.options
    secrets = decode_secrets(keyring.open(record.secrets, associated_data(record.organization, record.listener)))
    credentials = secrets.credentials
    if options.authentication != (None if credentials is None else credentials.public):
        raise ValueError("the secret of a listener's authentication is lost")
    authentication = credentials_of(credentials, record.listener_public_id)
    expiries = tuple(secret.expires_at for secret in secrets.signing)
    is_enabled = record.status == "enabled"
    is_probed = is_enabled and record.may_probe and record.liveness_url != ""
    return Endpoint(
        destination=Destination(
            parse_target(record.notify_url, "/notify_url"),
            record.queue_public_id,
            record.listener_public_id,
            authentication.identity,
        ),
        keys=tuple(signing_key_of(secret) for secret in secrets.signing),
        enabled=is_enabled and record.may_send,
        config_version=record.config_version,
        max_in_flight=options.max_in_flight or max_in_flight,
        timeout_ms=timeout_ms if options.timeout_seconds is None else options.timeout_seconds * 1_000,
        policy=policy_of(record),
        liveness_url=record.liveness_url,
        probed=parse_target(record.liveness_url, "/liveness_url") if is_probed else None,
        headers=(*without_trace_headers(options.headers), *authentication.headers),
        rate_limit=options.rate_limit,
        expiries=expiries if any(expiries) else (),
        filters=filters_of(options.criteria),
        transform=options.transform,
        format=options.format,
        trace=options.trace,
        grant=authentication.grant,
    )


@dataclass(slots=True, eq=False, repr=False)
class InFlightAttempt:
    entry: Entry
    seq: int
    number: int
    endpoint: Endpoint
    epoch: int
    """`AdaptiveLimit.epoch` when it was sent."""
    is_retry: bool
    """Whether the attempt uses a slot for retries. Its delivery has a row."""
    is_trial: bool = False
    """Whether the attempt belongs to the trial of a redelivery, and is therefore not retried."""
    hand_over_outcome: "Callable[[InFlightAttempt, Outcome], None] | None" = None
    """Takes the outcome once the lane has given the request away."""
    traceparent: str | None = None
    """The trace that the message was published in; None without one."""
    trace: AttemptTrace | None = None
    """None if the publisher's context, or none, is passed on."""
    started_at: float = 0.0
    """When its request was built, by the monotonic clock. Of attempts with `trace` only."""

    @property
    def policy(self) -> RetryPolicy:
        """The retry policy that applies if this attempt fails."""
        policy = message_policy(self.endpoint.policy, self.entry.extra)
        return msgspec.structs.replace(policy, delays_seconds=()) if self.is_trial else policy

    def request(self, record: LaneRecord, clock: Clock, trace_ids: TraceIds) -> AttemptRequest:
        """Build the request in the listener's format, signed with the keys that are valid now."""
        endpoint, entry = self.endpoint, self.entry
        sent, of_event = "", ""
        headers, keys, media_type = endpoint.headers, endpoint.keys, ""
        if entry.extra:
            # Where all requests are traced, most messages have this option alone.
            traceparent = lone_traceparent(entry.extra)
            if traceparent is None:
                options = decode_options(entry.extra)
                headers = merge_headers(headers, message_headers(options))
                media_type, traceparent = options.given_media_type, options.traceparent
            if traceparent is not None:
                self.traceparent = sent = of_event = traceparent
                if is_sampled(traceparent) or endpoint.trace != "propagate":
                    trace = self.trace = begin_attempt(traceparent, endpoint.trace, trace_ids)
                    self.started_at = clock.monotonic()
                    sent, of_event = trace.sent, trace.of_event
        if endpoint.expiries:
            now = clock.now()
            keys = tuple(key for key, end in zip(keys, endpoint.expiries, strict=True) if not end or now < end)
        request = AttemptRequest(
            endpoint.destination,
            entry.id,
            entry.codec,
            entry.body,
            keys,
            self.number,
            headers,
            endpoint.timeout_ms,
            media_type,
            replay_id="" if record.replay is None else record.replay.public_id,
            grant=endpoint.grant,
            traceparent=sent,
            sequence=entry.seq,
            expires_at=entry.expires_at,
        )
        if endpoint.format == "plain":
            return request
        return to_cloudevent(request, entry, endpoint.format, of_event)
