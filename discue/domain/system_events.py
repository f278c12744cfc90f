"""System events: what the service publishes to the queue `system/events` of each organization.

The structs are the only description of the events: documentation and JSON Schemas are generated from them.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from discue.domain.errors import Forbidden, invalid
from discue.domain.event_types import parse_pattern
from discue.domain.quotas import QuotaName
from discue.domain.schedule import SkipReason
from discue.domain.suggestions import alternatives

SYSTEM_QUEUE_ALIAS: Final = "system/events"

MAX_STORED: Final = 100_000
"""How many events an organization stores at most. While there are so many, new ones are dropped."""

REPORT_INTERVAL_MS: Final = 60_000
"""The minimum time between two `message.missed` events of a listener, or `source.refusing` events of a source."""

SKIPPED_AGAIN_MS: Final = 3_600_000
"""A run that is skipped for the same reason as the one before is reported only if it comes so much later."""


class ResourceName(msgspec.Struct, frozen=True):
    """A resource as it was called at the time of the event."""

    id: str
    alias: str


class SystemEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A system event."""

    at: Annotated[int, Meta(description="When it happened, in milliseconds since the epoch.")]

    @property
    def type(self) -> str:
        return type_of(type(self))


class _ListenerEvent(SystemEvent, frozen=True, kw_only=True):
    listener: Annotated[ResourceName, Meta(description="The listener.")]
    queue: Annotated[ResourceName, Meta(description="The queue of the listener.")]


class ListenerDisabled(_ListenerEvent, frozen=True, kw_only=True, tag="listener.disabled"):
    """A listener was disabled. Its messages wait until it is enabled."""

    reason: Annotated[
        Literal["request", "gone", "failing", "transform"],
        Meta(
            description="`request`: by a request to the API. `gone`: it responded with 410. `failing`: all attempts "
            "have failed for as long as the setting `disable_after_seconds` says. `transform`: its transform failed "
            "for 20 messages in a row."
        ),
    ]


class ListenerInactive(_ListenerEvent, frozen=True, kw_only=True, tag="listener.inactive"):
    """Three probes of a listener's liveness URL in a row have failed. Its messages wait until it recovers."""

    last_failure_status: Annotated[int, Meta(description="HTTP status of the last probe; 0 if there was none.")]
    last_failure_msg: Annotated[str, Meta(description="Why the last probe failed.")]


class ListenerRecovered(_ListenerEvent, frozen=True, kw_only=True, tag="listener.recovered"):
    """A listener that was inactive or disabled receives messages again."""

    was: Annotated[
        Literal["inactive", "disabled"],
        Meta(
            description="`inactive`: its probes succeed, it has acknowledged messages, or its liveness URL was "
            "changed. `disabled`: it was enabled by a request to the API."
        ),
    ]


class MessageMissed(_ListenerEvent, frozen=True, kw_only=True, tag="message.missed"):
    """A listener has missed messages. There is at most one such event per listener and minute.

    Missed messages of the queue `system/events` itself are not reported.
    """

    count: Annotated[int, Meta(description="Number of messages missed since the last event.")]
    since: Annotated[int, Meta(description="When the first of them was missed, in milliseconds since the epoch.")]
    reasons: Annotated[dict[str, int], Meta(description="Number of them by reason; see the deliveries of a message.")]
    message_ids: Annotated[
        list[str], Meta(description="Ids of the newest messages that the listener has missed, at most 10.")
    ]


class KeyLockedOut(SystemEvent, frozen=True, kw_only=True, tag="key.locked_out"):
    """An API key was locked out at a client address after too many attempts with a wrong secret from there.

    From other addresses, the key is still accepted. While a key is locked out at 10 addresses, lockouts at further
    addresses are not reported.
    """

    key: Annotated[ResourceName, Meta(description="The API key.")]
    address: Annotated[
        str, Meta(description="The client address from which the key is refused; for IPv6, its /64 network.")
    ]
    locked_until: Annotated[int, Meta(description="When the lockout ends, in milliseconds since the epoch.")]


class QuotaNear(SystemEvent, frozen=True, kw_only=True, tag="quota.near"):
    """80 % of a quota are in use.

    A number of resources is reported when it reaches 80 %, messages per day and stored bytes at most once a day.
    """

    quota: Annotated[QuotaName, Meta(description="The name of the quota.")]
    limit: Annotated[int, Meta(description="The quota.")]
    used: Annotated[int, Meta(description="The use of it.")]


class _DomainEvent(SystemEvent, frozen=True, kw_only=True):
    domain: Annotated[ResourceName, Meta(description="The domain.")]
    hostname: Annotated[str, Meta(description="Its host name.")]
    port: Annotated[int, Meta(description="Its port.")]


class DomainVerified(_DomainEvent, frozen=True, kw_only=True, tag="domain.verified"):
    """A domain was verified."""


class DomainLost(_DomainEvent, frozen=True, kw_only=True, tag="domain.lost"):
    """A domain is not verified any more: its checks have failed for three days."""

    error: Annotated[str, Meta(description="Why the last check failed.")]


class ScheduleSkipped(SystemEvent, frozen=True, kw_only=True, tag="schedule.skipped"):
    """A run of a schedule has published nothing.

    Of runs that are skipped one after the other for the same reason, less than an hour apart, only the first is
    reported.
    """

    schedule: Annotated[ResourceName, Meta(description="The schedule.")]
    queue: Annotated[ResourceName, Meta(description="The queue of the schedule.")]
    scheduled_at: Annotated[int, Meta(description="The time of the run, in milliseconds since the epoch.")]
    reason: Annotated[
        SkipReason,
        Meta(
            description="`late`: the service was not running at that time. `schema`, `too_large`: the queue does not "
            "accept the data any more. `quota`, `suspended`: the organization may not publish. `time_zone`: it is "
            "unknown."
        ),
    ]


class SourceRefusing(SystemEvent, frozen=True, kw_only=True, tag="source.refusing"):
    """A source has refused requests. There is at most one such event per source and minute."""

    source: Annotated[ResourceName, Meta(description="The source.")]
    count: Annotated[int, Meta(description="Number of requests refused since the last event.")]
    reasons: Annotated[
        dict[str, int],
        Meta(
            description="Number of requests by the code of the response: `signature_missing`, `signature_wrong`, "
            "`signature_stale`, `unknown_type` or `schema_violation`."
        ),
    ]


class StoreDamage(SystemEvent, frozen=True, kw_only=True, tag="store.damaged"):
    """A part of the database with data of a queue cannot be read. Other queues continue.

    Messages of the queue may not be delivered until the operator restores the database from a backup. Each worker that
    finds the damage reports it, and reports it again if it finds it after ten minutes or a restart.
    """

    queue: Annotated[ResourceName, Meta(description="The queue.")]


class EgressProxyFailing(SystemEvent, frozen=True, kw_only=True, tag="egress_proxy.failing"):
    """The operator's HTTP proxy did not pass on requests to listeners. Their messages wait, and no attempt is counted.

    Each worker reports this once, and again after a restart, or if the proxy fails after ten minutes without a failure.
    """


EVENTS: Final[tuple[type[SystemEvent], ...]] = (
    ListenerDisabled,
    ListenerInactive,
    ListenerRecovered,
    MessageMissed,
    KeyLockedOut,
    QuotaNear,
    DomainVerified,
    DomainLost,
    ScheduleSkipped,
    SourceRefusing,
    StoreDamage,
    EgressProxyFailing,
)

encode: Callable[[SystemEvent], bytes] = msgspec.json.Encoder().encode
"""Returns the data of the message that carries an event."""


def type_of(event: type[SystemEvent]) -> str:
    """Return the type of an event, which is also the alias of its messages."""
    return str(event.__struct_config__.tag)


TYPES: Final = tuple(map(type_of, EVENTS))


def check_system_types(types: Sequence[str]) -> None:
    """Raise Unprocessable for a type or pattern of a listener of the system queue that matches no system event."""
    for index, text in enumerate(types):
        pattern = parse_pattern(text)
        if not any(map(pattern.matches, TYPES)):
            raise invalid(f"/types/{index}", f"matches no system event{alternatives(text, TYPES)}")


def check_not_reserved(alias: str) -> None:
    """Raise Unprocessable for the alias that only the system queue may have."""
    if alias == SYSTEM_QUEUE_ALIAS:
        raise invalid("/alias", "is reserved for the events of the service", code="alias_taken")


def publishing_refused() -> Forbidden:
    """Return the error for a client that publishes to the system queue."""
    return Forbidden(f"Only the service publishes to the queue {SYSTEM_QUEUE_ALIAS}.", code="system_queue_read_only")
