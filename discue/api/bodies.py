"""What requests hold: one struct for each, from which decoding, checks and documentation follow."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

Text: TypeAlias = str | None | UnsetType
Whole: TypeAlias = int | None | UnsetType
READ_ONLY = "Read-only: what is sent is not looked at."

Ignored: TypeAlias = Annotated[msgspec.Raw, msgspec.Meta(description=READ_ONLY)]
"""A field that responses carry and clients send back: taken, not looked at."""

AsSent: TypeAlias = msgspec.Raw
"""A value that is kept as its text. Without bytes, nothing was sent."""

_RENAMED = {"links": "_links"}
_NOT_SENT = msgspec.Raw()


class Body(msgspec.Struct, forbid_unknown_fields=True, rename=_RENAMED, kw_only=True):
    """A request's body."""

    def least_bytes(self) -> int:
        """A length that no text of this value goes below: 0 where nothing is known."""
        return 0

    def opaque(self) -> Sequence[msgspec.Raw]:
        """Values that are the client's own, in the order in which they were sent: nothing is looked for inside."""
        return ()


class Nothing(Body, kw_only=True):
    """No body: what is sent is not read."""


class _Sent(Body, kw_only=True):
    """What every resource's response has, and a client may send back."""

    id: Ignored = _NOT_SENT
    created_at: Ignored = _NOT_SENT
    updated_at: Ignored = _NOT_SENT
    links: Ignored = _NOT_SENT


class QuotasBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How much an organization may have. null: no quota of its own."""

    queues: Whole = UNSET
    listeners: Whole = UNSET
    messages_a_day: Whole = UNSET
    bytes_stored: Whole = UNSET


class OrganizationBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for an organization. `retention` is in seconds, for queues that have none."""

    alias: Text = UNSET
    name: Text = UNSET
    rate_limit: Whole = UNSET
    quotas: QuotasBody | None | UnsetType = UNSET
    retention: Whole = UNSET
    require_verified_domains: bool | None | UnsetType = UNSET
    state: Ignored = _NOT_SENT


class DomainBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for a domain. `hostname` and `port` (443 without one) are chosen once and for all."""

    alias: Text = UNSET
    name: Text = UNSET
    hostname: str | UnsetType = UNSET
    port: Whole = UNSET
    challenge: Ignored = _NOT_SENT
    verification: Ignored = _NOT_SENT


class UserBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for a user. `alias` and `name` are its email; `invite` asks for a new invitation."""

    email: str | UnsetType = UNSET
    display_name: Text = UNSET
    role: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    invite: bool | UnsetType = UNSET
    alias: Ignored = _NOT_SENT
    name: Ignored = _NOT_SENT
    state: Ignored = _NOT_SENT


class InvitationBody(Body, kw_only=True):
    """Of `POST` for accepting an invitation."""

    token: str
    password: str


class ApiKeyBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for an API key. `scopes` has two forms and is read by the rules of access."""

    alias: Text = UNSET
    name: Text = UNSET
    status: Text = UNSET
    scopes: Any = UNSET
    expires_at: Whole = UNSET
    key: Ignored = _NOT_SENT
    last_used_at: Ignored = _NOT_SENT


class RetryBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """When failed deliveries are tried again. null, or nothing: as the queue or the service has it."""

    schedule: list[int] | None = None
    jitter: float | None = None
    attempts: int | None = None
    final_statuses: list[int | str] | None = None


Retry: TypeAlias = RetryBody | list[int] | None | UnsetType
"""A list is the schedule alone."""


class RateLimitBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How many requests a listener takes. Without a `burst`, as many at once as a second brings."""

    per_second: float
    burst: int | None = None


class QueueBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for a queue. `retention` is in seconds.

    `schema` and `json_schema` are their text as it was sent.
    """

    alias: Text = UNSET
    name: Text = UNSET
    retention: Whole = UNSET
    max_message_bytes: Whole = UNSET
    schema: AsSent = _NOT_SENT
    json_schema: AsSent = _NOT_SENT
    retry: Retry = UNSET
    ordered: bool | None | UnsetType = UNSET
    on_missed: Text = UNSET
    schema_id: Ignored = _NOT_SENT
    listeners: Ignored = _NOT_SENT
    messages: Ignored = _NOT_SENT

    def opaque(self) -> Sequence[msgspec.Raw]:
        # Reading a schema finds what occurs twice in it, and costs no more than its 64 KiB allow.
        return (self.schema, self.json_schema)


class AuthenticationBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How the service is to show the listener who it is. What is there depends on the type."""

    type: str
    username: str | None = None
    password: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    scope: str | None = None
    audience: str | None = None
    certificate: str | None = None
    private_key: str | None = None

    def __repr__(self) -> str:
        return f"AuthenticationBody(type={self.type!r})"


class ListenerBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for a listener. `filter` is its text as it was sent."""

    alias: Text = UNSET
    name: Text = UNSET
    notify_url: str | UnsetType = UNSET
    liveness_url: str | UnsetType = UNSET
    status: Text = UNSET
    headers: dict[str, str] | None | UnsetType = UNSET
    timeout: Whole = UNSET
    retry: Retry = UNSET
    max_in_flight: Whole = UNSET
    rate_limit: RateLimitBody | None | UnsetType = UNSET
    filter: AsSent = _NOT_SENT
    format: Text = UNSET
    mode: Text = UNSET
    lease_seconds: Whole = UNSET
    authentication: AuthenticationBody | None | UnsetType = UNSET
    queue_id: Ignored = _NOT_SENT
    liveness: Ignored = _NOT_SENT
    messages: Ignored = _NOT_SENT
    secret: Ignored = _NOT_SENT
    effective: Ignored = _NOT_SENT

    def opaque(self) -> Sequence[msgspec.Raw]:
        # As of a queue's schema.
        return (self.filter,)


class AcknowledgementsBody(Body, kw_only=True):
    """Of `POST` for what became of messages that were pulled: receipts of those that are done, have failed, are given
    back, and are still being worked on. `delay` (seconds) is for those given back, `lease_seconds` for the last.
    """

    acknowledge: list[str] | None | UnsetType = UNSET
    reject: list[str] | None | UnsetType = UNSET
    release: list[str] | None | UnsetType = UNSET
    extend: list[str] | None | UnsetType = UNSET
    delay: Whole = UNSET
    lease_seconds: Whole = UNSET


class TopicBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for a topic."""

    alias: Text = UNSET
    name: Text = UNSET
    channels: Ignored = _NOT_SENT


class ChannelBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for a channel. `filter` is its text as it was sent."""

    alias: Text = UNSET
    name: Text = UNSET
    queue_id: str | UnsetType = UNSET
    pattern: Text = UNSET
    filter: AsSent = _NOT_SENT
    topic_id: Ignored = _NOT_SENT

    def opaque(self) -> Sequence[msgspec.Raw]:
        # As of a queue's schema.
        return (self.filter,)


class FilterTestBody(Body, kw_only=True):
    """Of `POST` for trying a filter: the listener's own without one, on a message that was stored, or on this one."""

    filter: AsSent = _NOT_SENT
    message_id: str | None = None
    data: msgspec.Raw = _NOT_SENT
    headers: dict[str, str] | None = None
    key: str | None = None

    def opaque(self) -> Sequence[msgspec.Raw]:
        return (self.filter, self.data)


class DeliveryTestBody(Body, kw_only=True):
    """Of `POST` for a test. `data` is its text as it was sent; a small sample without one."""

    data: msgspec.Raw = _NOT_SENT
    headers: dict[str, str] | None = None

    def opaque(self) -> Sequence[msgspec.Raw]:
        return (self.data,)


class SecretBody(_Sent, kw_only=True):
    """Of `POST` for a signing secret. `expire_previous_in` is in seconds."""

    type: Text = UNSET
    secret: Text = UNSET
    expire_previous_in: Whole = UNSET
    fingerprint: Ignored = _NOT_SENT
    public_key: Ignored = _NOT_SENT
    expires_at: Ignored = _NOT_SENT


class MessageBody(_Sent, kw_only=True):
    """Of `POST` for a message. `data` is its text as it was sent."""

    data: msgspec.Raw
    alias: Text = UNSET
    name: Text = UNSET
    deliver_at: Whole = UNSET
    delay: Whole = UNSET
    expires_at: Whole = UNSET
    key: Text = UNSET
    headers: dict[str, str] | None | UnsetType = UNSET
    retry: Retry = UNSET
    queue_id: Ignored = _NOT_SENT
    deliveries: Ignored = _NOT_SENT

    @property
    def has_options(self) -> bool:
        """Whether anything was asked for beside the usual."""
        usual = self.deliver_at is self.delay is self.expires_at is self.key is self.headers is self.retry is UNSET
        return not usual

    def least_bytes(self) -> int:
        # {"data":…} with ,"alias":… and ,"name":… where they are. A character takes a byte at least.
        least = len(self.data) + 9
        if self.alias is not UNSET:
            least += 9 + _least_text(self.alias)
        if self.name is not UNSET:
            least += 8 + _least_text(self.name)
        return least

    def opaque(self) -> Sequence[msgspec.Raw]:
        return (self.data,)


class TopicMessageBody(MessageBody, kw_only=True):
    """Of `POST` for a message to a topic."""

    subject: Text = UNSET
    queues: Ignored = _NOT_SENT


def _least_text(value: Text) -> int:
    return len(value) + 2 if isinstance(value, str) else 4


def _least_batch(messages: Sequence[MessageBody]) -> int:
    # {"messages":[…,…]}
    return 15 + sum(message.least_bytes() + 1 for message in messages) - bool(messages)


class BatchBody(Body, kw_only=True):
    """Of `POST` for many messages."""

    messages: list[MessageBody]

    def least_bytes(self) -> int:
        return _least_batch(self.messages)

    def opaque(self) -> Sequence[msgspec.Raw]:
        return [message.data for message in self.messages]


class TopicBatchBody(Body, kw_only=True):
    """Of `POST` for many messages to a topic."""

    messages: list[TopicMessageBody]

    def least_bytes(self) -> int:
        return _least_batch(self.messages)

    def opaque(self) -> Sequence[msgspec.Raw]:
        return [message.data for message in self.messages]


class MessageChange(_Sent, kw_only=True):
    """Of `PUT` for a message: only its alias can change. `data` may be sent back, and is not looked at."""

    alias: Text = UNSET
    name: Text = UNSET
    data: Ignored = _NOT_SENT
    deliver_at: Ignored = _NOT_SENT
    expires_at: Ignored = _NOT_SENT
    key: Ignored = _NOT_SENT
    headers: Ignored = _NOT_SENT
    retry: Ignored = _NOT_SENT
    subject: Ignored = _NOT_SENT
    queue_id: Ignored = _NOT_SENT
    deliveries: Ignored = _NOT_SENT


class ScheduleBody(_Sent, kw_only=True):
    """Of `POST` and `PUT` for a schedule. `data` is its text as it was sent, as of a message."""

    alias: Text = UNSET
    name: Text = UNSET
    cron: str | UnsetType = UNSET
    time_zone: Text = UNSET
    data: AsSent = _NOT_SENT
    status: Text = UNSET
    missed_runs: Text = UNSET
    catch_up_limit: Whole = UNSET
    starts_at: Whole = UNSET
    ends_at: Whole = UNSET
    key: Text = UNSET
    headers: dict[str, str] | None | UnsetType = UNSET
    retry: Retry = UNSET
    expires_in: Whole = UNSET
    queue_id: Ignored = _NOT_SENT
    next_runs: Ignored = _NOT_SENT
    last_run: Ignored = _NOT_SENT

    def opaque(self) -> Sequence[msgspec.Raw]:
        return (self.data,)


class MissedFilter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which missed deliveries: those of a reason, and of messages stored later and earlier than two times."""

    reason: Text = UNSET
    created_after: Whole = UNSET
    created_before: Whole = UNSET


class RedeliveryBody(_Sent, kw_only=True):
    """Of `POST` for a redelivery: `messages`, `filter` or `all` says what is chosen."""

    messages: list[str] | None | UnsetType = UNSET
    filter: MissedFilter | None | UnsetType = UNSET
    all: bool | None | UnsetType = UNSET
    pace: Whole = UNSET
    dry_run: bool | None | UnsetType = UNSET


class ReplayBody(_Sent, kw_only=True):
    """Of `POST` for a replay: `from_at` or `from_message` says where it begins. `filter` is its text as it was sent."""

    from_at: Whole = UNSET
    from_message: Text = UNSET
    until_at: Whole = UNSET
    until_message: Text = UNSET
    pace: Whole = UNSET
    filter: AsSent = _NOT_SENT
    dry_run: bool | None | UnsetType = UNSET

    def opaque(self) -> Sequence[msgspec.Raw]:
        # As of a queue's schema.
        return (self.filter,)
