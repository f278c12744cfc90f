"""Resources: organizations and their keys and users, queues, topics, listeners and their deliveries.

Ids of other resources are row ids, unless they are called `public_id`. Times are in milliseconds since the epoch.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from discue.domain.cloudevents import DeliveryFormat
from discue.domain.filters import Criteria
from discue.domain.headers import Headers
from discue.domain.providers import HmacOptions, ProviderName
from discue.domain.rate import RateLimit
from discue.domain.representation import shows
from discue.domain.retry import RetryOptions
from discue.domain.trace_context import TraceMode


class Organization(msgspec.Struct, frozen=True):
    """A tenant."""

    id: int
    public_id: str
    alias: str
    state: Literal["active", "suspended"]
    is_operator: bool
    """Whether it is the operator's own organization, which is the first one."""
    settings: dict[str, int | bool]
    """The operator's settings for it, such as quotas."""
    created_at: int
    updated_at: int
    founder: int = 0
    """The tenant that created it, whose limits, quotas and suspension it shares; 0: the operator created it."""
    retry: RetryOptions | None = None
    """Retry options for queues and listeners without their own."""

    @property
    def account(self) -> int:
        """The organization whose quotas and rate limits it uses."""
        return self.founder or self.id


@shows("organization", "public_id", "status")
class ApiKey(msgspec.Struct, frozen=True):
    """An API key without its secret."""

    organization: int
    id: int
    public_id: str
    alias: str
    status: Literal["enabled", "disabled"]
    scopes: str
    """JSON of the scopes."""
    expires_at: int
    """0: never."""
    last_used_at: int
    """0: never."""
    created_at: int
    updated_at: int
    secret_hash: bytes = b""


LONGEST_CUSTOMER = 128
"""The largest number of characters in the name of a customer."""

Role = Literal["owner", "admin", "developer", "viewer"]


@shows("organization", "public_id", "role")
class User(msgspec.Struct, frozen=True):
    """A member of an organization."""

    organization: int
    id: int
    public_id: str
    email: str
    display_name: str
    role: Role
    created_at: int
    updated_at: int
    password_hash: str | None = None
    """None until the user sets a password."""
    invitation_hash: bytes | None = None
    """None without a pending invitation."""
    invitation_expires_at: int = 0
    status: Literal["enabled", "disabled"] = "enabled"
    """A disabled user cannot sign in, and has no sessions."""
    has_identity: bool = False
    """Whether an account at an identity provider is connected, so that the user can sign in without a password."""

    @property
    def state(self) -> Literal["invited", "active"]:
        return "active" if self.password_hash is not None or self.has_identity else "invited"

    @property
    def is_active_owner(self) -> bool:
        return self.role == "owner" and self.state == "active" and self.status == "enabled"


SchemaLanguage = Literal["rules", "json_schema"]

OnMissed = Literal["pass", "block"]
"""Effect of a missed message of an ordered queue on its key: the next message passes, or the key is blocked."""


class Queue(msgspec.Struct, frozen=True):
    """A log of messages."""

    organization: int
    id: int
    public_id: str
    alias: str
    retention_seconds: int | None
    """None: the value of the settings."""
    max_message_bytes: int | None
    """None: the value of the settings."""
    config_version: int
    created_at: int
    updated_at: int
    schema: str | None = None
    """Text of the schema as the client sent it; None without one."""
    schema_id: str | None = None
    """SHA-256 of the canonical schema; None without one."""
    title: str = ""
    """The title of its JSON Schema, shown to customers as the name of its messages; "" without a title."""
    schema_language: SchemaLanguage = "rules"
    schema_set_at: int = 0
    """0: never."""
    retry: RetryOptions | None = None
    ordered: bool = False
    on_missed: OnMissed = "pass"
    is_system: bool = False
    """Whether it is the organization's queue of system events, which only the service publishes to."""
    customer: str = ""
    """The organization's name or id of the customer that the queue and its listeners belong to; "" without one."""

    @property
    def event_type(self) -> str:
        """The name of the messages in the portal, which shows no alias."""
        return self.title or self.public_id


class Topic(msgspec.Struct, frozen=True):
    """A destination for messages, which its channels route to queues."""

    organization: int
    id: int
    public_id: str
    alias: str
    routes_version: int
    """Incremented whenever the channels of the topic change."""
    created_at: int
    updated_at: int


class Channel(msgspec.Struct, frozen=True):
    """A route from a topic to a queue, for the messages that match its pattern and its filter."""

    organization: int
    id: int
    public_id: str
    topic: int
    topic_public_id: str
    queue: int
    queue_public_id: str
    alias: str
    pattern: str | None
    """None: every type, and messages without one."""
    filter: str | None
    """Text of the filter as the client sent it; None: every message."""
    created_at: int
    updated_at: int


class WebhookSource(msgspec.Struct, frozen=True):
    """An endpoint that receives the webhooks of another service and publishes them to a queue."""

    organization: int
    id: int
    public_id: str
    alias: str
    provider: ProviderName
    queue: int
    queue_public_id: str
    created_at: int
    updated_at: int
    secrets: bytes
    """The encrypted list of secrets."""
    hmac: HmacOptions | None = None
    """The options of the provider `hmac`; None for others."""
    refused: int = 0
    """The number of refused requests."""
    refused_at: int = 0
    """When the last request was refused, in milliseconds since the epoch; 0: never."""


REFUSALS = ("signature_missing", "signature_wrong", "signature_stale", "unknown_type", "schema_violation")
"""Codes of the responses to requests that a source refuses. The last two: the queue refuses a verified request."""


class RefusedRequest(msgspec.Struct, frozen=True):
    """A request that a source refused, without its body."""

    id: str
    reason: str
    """A value of `REFUSALS`."""
    detail: str
    created_at: int
    """When it arrived, in milliseconds since the epoch."""
    headers: Headers


class EventType(msgspec.Struct, frozen=True):
    """An entry of an organization's catalogue of event types."""

    organization: int
    id: int
    public_id: str
    alias: str
    """The type of the messages."""
    status: Literal["enabled", "deprecated"]
    created_at: int
    updated_at: int
    description: str = ""
    json_schema: str | None = None
    """Text of the schema of the data, as the client sent it."""
    example: str | None = None
    """Text of an example of the data, as the client sent it."""

    @property
    def size(self) -> int:
        """The bytes of the schema and the example."""
        return sum(len(text.encode()) for text in (self.json_schema, self.example) if text is not None)


AuthenticationType = Literal["basic", "oauth2", "certificate"]


class Authentication(msgspec.Struct, frozen=True, omit_defaults=True):
    """How requests to a listener authenticate, without the secrets. Fields that do not apply to the type are ""."""

    type: AuthenticationType
    username: str = ""
    token_url: str = ""
    client_id: str = ""
    scope: str = ""
    audience: str = ""
    certificate: str = ""
    """PEM of the certificate and its intermediate certificates."""


@shows("timeout_seconds", "max_in_flight")
class DeliveryOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a listener. None: the default of the settings."""

    headers: Headers = ()
    """Sent in addition to the headers of discue."""
    timeout_seconds: int | None = None
    max_in_flight: int | None = None
    rate_limit: RateLimit | None = None
    """None: no limit."""
    retry: RetryOptions | None = None
    types: tuple[str, ...] | None = None
    """Types and patterns of the messages that it gets; None: every message."""
    filter: str | None = None
    """Text of the filter as the client sent it; None: every message."""
    transform: str | None = None
    """JMESPath expression that makes the body; None: the data is sent."""
    format: DeliveryFormat = "plain"
    lease_seconds: int | None = None
    """How long a pulled message is leased; pull mode only."""
    authentication: Authentication | None = None
    trace: TraceMode = "propagate"
    description: str = ""
    """Text for people, such as the purpose of the listener."""

    @property
    def criteria(self) -> Criteria:
        return self.types, self.filter


ListenerStatus = Literal["enabled", "disabled"]

DisabledBy = Literal["", "request", "gone", "failing", "transform"]
"""Cause of a disabled listener: a request, the response 410, attempts that all failed for days, or a transform that
failed for many messages in a row; "" if it is not disabled, or was by an earlier version of the program."""

DisableReason = Literal["gone", "failing", "transform"]
"""The causes for which the service disables a listener."""

ListenerMode = Literal["push", "pull"]
"""Whether messages are sent to a listener, or its consumers request them."""


@shows("organization", "public_id", "alias")
class Listener(msgspec.Struct, frozen=True):
    """A consumer that is registered on a queue."""

    organization: int
    id: int
    public_id: str
    queue: int
    queue_public_id: str
    alias: str
    status: ListenerStatus
    notify_url: str
    """"" in pull mode."""
    liveness_url: str
    """"" without one, and in pull mode."""
    config_version: int
    created_at: int
    updated_at: int
    secrets: bytes = b"[]"
    """Signing secrets and credentials in their stored form; empty in pull mode."""
    options: DeliveryOptions = DeliveryOptions()
    queue_retry: RetryOptions | None = None
    """Retry options of the queue."""
    mode: ListenerMode = "push"
    disabled_by: DisabledBy = ""
    status_changed_at: int = 0
    """0: before the program recorded it."""
    customer: str = ""
    """The customer whom it belongs to, as the organization calls them: sessions of the portal see only the listeners of
    their customer. "" for none."""
    queue_alias: str = ""
    queue_title: str = ""
    queue_customer: str = ""

    @property
    def endpoint(self) -> str:
        """The name of the listener in the portal, which shows no alias."""
        return self.notify_url or self.public_id


class CursorCounts(msgspec.Struct, frozen=True):
    """The position and the counters of a listener's cursor."""

    head: int
    """Last seq of the queue."""
    position: int
    """Every message up to this seq is settled or retrying."""
    settled_ahead: int
    """Messages beyond the position that are settled or retrying."""
    acknowledged: int
    missed: int
    retrying: int
    last_success_at: int
    """0: never."""
    last_failure_at: int
    """0: never."""

    @property
    def pending(self) -> int:
        """Deliveries that are neither acknowledged nor missed, computed without counting rows."""
        return self.head - self.position - self.settled_ahead + self.retrying


DeliveryState = Literal["acknowledged", "pending", "retrying", "missed", "filtered"]
"""State of a delivery. `filtered`: the listener's types or filter do not match the message."""


class Delivery(msgspec.Struct, frozen=True):
    """The delivery of one message to one listener, as the API shows it."""

    listener_public_id: str
    state: DeliveryState
    attempts: int
    last_status: int
    """HTTP status of the last attempt; 0 if there is none."""
    next_attempt_at: int = 0
    """0 unless the state is `retrying`."""
    reason: str = ""
    """Reason of a missed delivery; "" in other states."""
    blocked_by: str = ""
    """Public id of the message with the same key that must be settled first; "" if there is none."""
    waits_for: str = ""
    """A sentence that says why it waits; "" if it is settled."""
    last_error: str = ""
    """The kind of failure of the last attempt; "" if it succeeded, or if there is none."""
    last_detail: str = ""
    """A sentence that says why the last attempt failed; may be "" even if it did."""


MISSED_REASONS = ("attempts_used_up", "expired", "final_status", "no_retry", "too_old", "transform")
"""Reasons of missed deliveries: no attempts left, the message expired, the retry policy declares the response's status
final, the response had `webhook-no-retry`, or the delivery deadline has passed."""


class MissedSelection(msgspec.Struct, frozen=True, omit_defaults=True):
    """A selection of a listener's deliveries to repeat: missed ones, all of them if there are no seqs and no reason."""

    seqs: tuple[int, ...] | None = None
    """Messages, in ascending order."""
    reason: str | None = None
    """A value of `MISSED_REASONS`."""
    cause: int | None = None
    """The id of a cause."""
    before_version: int | None = None
    """Excludes deliveries that became missed when the cursor had this version or a later one."""
    acknowledged: tuple[int, ...] = ()
    """The messages in `seqs` that the listener had acknowledged."""


class Redelivery(msgspec.Struct, frozen=True):
    """Missed deliveries of a listener that are made due again."""

    organization: int
    id: int
    public_id: str
    listener: int
    state: Literal["waiting", "running", "stopped", "done"]
    chosen: MissedSelection
    position: int
    """The selected deliveries up to this seq are done."""
    until_seq: int
    """Last seq of the selection."""
    selected: int
    """Number of selected deliveries at the start, as far as they were counted."""
    created_at: int
    updated_at: int
    pace: int | None = None
    """Messages per second; None: no limit."""
    redelivered: int = 0
    gone: int = 0
    """Selected deliveries whose messages have been deleted."""
    ended_at: int | None = None
    trial: int | None = None
    """Number of messages to acknowledge, one after the other, before the others become due; None: no trial."""
    tried: int = 0
    """Number of messages of the trial that were acknowledged."""
    trying_seq: int = 0
    """The seq of the trial's message that is being sent; 0: none."""
    stopped_by: str = ""
    """The cause of the failure that ended the trial, as JSON."""


class Erasure(msgspec.Struct, frozen=True):
    """A job that erases the messages of a queue with one key."""

    organization: int
    id: int
    public_id: str
    queue: int
    state: Literal["running", "done"]
    key: str
    until_seq: int
    """The head of the queue when the erasure reached its log. Later messages are kept."""
    created_at: int
    updated_at: int
    erased: int = 0
    """Number of erased messages."""
    delivered: Mapping[str, int] = {}
    """Number of erased messages that each listener received, by its public id."""
    ended_at: int | None = None


class JobListener(msgspec.Struct, frozen=True):
    """The listener of a redelivery or replay in a list of all listeners'."""

    public_id: str
    alias: str
    queue_public_id: str


class ReplaySpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a replay."""

    filter: str | None = None
    """Text of the filter as the client sent it; None: every message."""


class Replay(msgspec.Struct, frozen=True):
    """A part of a queue's log that is delivered to one listener again."""

    organization: int
    id: int
    """Row id, and also the id of the replay's cursor. The public id is derived from it."""
    public_id: str
    listener: int
    state: Literal["waiting", "running", "done"]
    from_seq: int
    until_seq: int
    """Included, like `from_seq`."""
    position: int
    """Every message up to this seq was delivered, failed, expired or skipped, or is retrying."""
    selected: int
    """Number of messages in the range at creation; for a long range, the number of seqs."""
    created_at: int
    updated_at: int
    pace: int | None = None
    """Messages per second; None: no limit."""
    spec: ReplaySpec = ReplaySpec()
    delivered: int = 0
    failed: int = 0
    expired: int = 0
    filtered: int = 0
    """Messages that the filter of the listener or of the replay rejects."""
    retrying: int = 0
    ended_at: int | None = None

    @property
    def remaining(self) -> int:
        """Upper bound of the messages that are still to be delivered."""
        if self.ended_at is not None:
            return 0
        return min(self.until_seq - self.position + self.retrying, self.selected)
