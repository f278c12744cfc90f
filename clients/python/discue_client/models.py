"""Objects that the service returns and takes.

Written by `make docs` from `docs/openapi.json`. Do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import msgspec


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    status: str
    """Whether it is in use."""
    key: str
    """The key: complete in the response to its creation, later only its first characters."""
    scopes: dict[str, dict[str, Any]]
    """Permissions: a map from resource to `access` (`write` includes `read`) and `targets` (ids; all if empty or
    `*`).
    """
    last_used_at: int
    """When the key was last used, in milliseconds since the epoch; 0: never."""
    expires_at: int
    """When the key expires, in milliseconds since the epoch; 0: never."""


class ApiKeyResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    api_key: ApiKey
    """The API key."""


class ApiKeysResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    api_keys: tuple[ApiKey, ...]
    """The API keys, newest first."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to deliver a message. The fields after `replay_id` are shown for a single attempt only, if kept."""

    id: str
    """The id, shared with the usage event of the attempt."""
    message_id: str | None = None
    """The id of the message. Omitted once the message is deleted."""
    listener_id: str
    """The id of the listener."""
    number: int
    """The number of the attempt, from 1."""
    state: str
    """The outcome."""
    status: int
    """The status of the response; 0: no response."""
    error: str
    """Why it failed; empty if it did not."""
    detail: str
    """The failure as a sentence."""
    took_ms: int
    """How long it took, in milliseconds."""
    withheld: bool
    """Whether the address is not public. The response, its timings and `detail` are then not shown, and `status`
    is the first of its class, such as 500.
    """
    started_at: int
    """When it started, in milliseconds since the epoch."""
    created_at: int
    """When it ended and was recorded, in milliseconds since the epoch."""
    replay_id: str | None = None
    """The id of the replay that it belongs to, if any."""
    next_attempt_at: int | None = None
    """When the next attempt may start, in milliseconds since the epoch. Omitted if none follows."""
    connection: Connection | None = None
    """The connection. Omitted if none was established or tried."""
    timings: Timings | None = None
    """How long each stage took."""
    request: Request | None = None
    """The request, without the message's data."""
    response: Response | None = None
    """The response. Omitted if there was none."""


class AttemptResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    attempt: Attempt
    """The attempt."""


class AttemptsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    attempts: tuple[Attempt, ...]
    """The attempts, newest first."""


class Authentication(msgspec.Struct, frozen=True, kw_only=True):
    """How requests authenticate to the listener, without secrets."""

    type: str
    """The authentication scheme."""
    username: str | None = None
    """`basic`: the user name, without a colon."""
    token_url: str | None = None
    """`oauth2`: the token endpoint."""
    client_id: str | None = None
    """`oauth2`: the client id."""
    scope: str | None = None
    """`oauth2`: the requested scopes."""
    audience: str | None = None
    """`oauth2`: the audience of the token, if the token endpoint requires one."""
    certificate: str | None = None
    """`certificate`: the client certificate in PEM, followed by its intermediate certificates."""


class AuthenticationBody(TypedDict, total=False):
    """How requests authenticate to the listener. The type decides which of the other fields are needed."""

    type: Literal["basic", "oauth2", "certificate"]
    """The authentication scheme."""
    username: str | None
    """`basic`: the user name, without a colon."""
    password: str | None
    """`basic`: the password. Never shown."""
    token_url: str | None
    """`oauth2`: the token endpoint."""
    client_id: str | None
    """`oauth2`: the client id."""
    client_secret: str | None
    """`oauth2`: the client secret. Never shown."""
    scope: str | None
    """`oauth2`: the requested scopes."""
    audience: str | None
    """`oauth2`: the audience of the token, if the token endpoint requires one."""
    certificate: str | None
    """`certificate`: the client certificate in PEM, followed by its intermediate certificates."""
    private_key: str | None
    """`certificate`: the private key in PEM, not encrypted. Never shown."""


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """How to verify a domain."""

    https: HttpsChallenge
    """A file at `/<context_path>/<file_name>` with exactly this content."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel from a topic to a queue."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    topic_id: str
    """The id of the topic."""
    queue_id: str
    """The id of the queue that it leads to."""
    pattern: str | None = None
    """Which types pass: `*` stands for one word, a final `>` for one or more. Without a pattern, all messages
    pass.
    """
    filter: dict[str, Any] | None = None
    """Which messages pass: conditions on their data, headers and key."""


class ChannelResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    channel: Channel
    """The channel."""


class ChannelsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    channels: tuple[Channel, ...]
    """The channels, newest first."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one condition."""

    pointer: str
    """JSON pointer to the condition in the filter."""
    holds: bool
    """Whether it is met."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """The connection of an attempt."""

    address: str
    """The address and port that was connected to, or the last one tried."""
    reused: bool
    """Whether the connection was reused."""


class CreatedOrganizationResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The organization that was created, and its first API key."""

    organization: Organization
    """The organization."""
    api_key: ApiKey
    """The API key."""


class CreatedRedeliveryResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    redelivery: Redelivery | None = None
    """The redelivery."""
    dry_run: DryRun | None = None
    """The messages that are selected, in a dry run."""


class CreatedReplayResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The replay that was started, or the result of a dry run."""

    replay: Replay | None = None
    """The replay."""
    dry_run: DryRun | None = None
    """The messages that are selected, in a dry run."""


class DeliveriesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    deliveries: tuple[Delivery, ...]
    """The deliveries, by listener, newest first."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The delivery of a message to one listener."""

    listener_id: str
    """The id of the listener."""
    state: str
    """The state of the delivery. `filtered`: the listener's filter excludes the message."""
    attempts: int
    """Number of attempts so far."""
    last_status: int
    """The status of the last response; 0: no response."""
    next_attempt_at: int | None = None
    """When a `retrying` delivery may be tried again, in milliseconds since the epoch. Omitted during an attempt."""
    missed_reason: str | None = None
    """Why a `missed` delivery is not tried again."""
    blocked_by: str | None = None
    """The id of the message that must be settled first."""
    waits_for: str | None = None
    """A sentence that says why a `pending` or `retrying` delivery waits."""
    last_error: str | None = None
    """Why the last attempt failed. Omitted if it did not."""
    last_detail: str | None = None
    """A sentence that says why the last attempt failed."""


class DeliveryTest(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a test request. If it is `withheld`, only `request` is shown of the fields after that."""

    message_id: str
    """The message id that was sent. There is no such message."""
    started_at: int
    """When it started, in milliseconds since the epoch."""
    state: str
    """The outcome."""
    error: str
    """Why it failed; empty if it did not."""
    status_class: str
    """The class of the response's status; empty without a response."""
    withheld: bool
    """Whether the address is not public. The response and its timings are then not shown."""
    status: int | None = None
    """The status of the response; 0: no response."""
    detail: str | None = None
    """Why it failed; empty if it did not."""
    took_ms: int | None = None
    """How long it took, in milliseconds."""
    connection: Connection | None = None
    """The connection. Omitted if none was established or tried."""
    timings: Timings | None = None
    """How long each stage took."""
    request: Request | None = None
    """The request, without the message's data."""
    response: Response | None = None
    """The response. Omitted if there was none."""


class DeliveryTestResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a test request."""

    test: DeliveryTest
    """The result."""


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """A domain."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    hostname: str
    """A DNS name, not an IP address."""
    port: str | int
    """The port. Verified over http on port 80, else over https. Default: 443."""
    challenge: Challenge
    """How to verify the domain."""
    verification: Verification
    """Whether it is verified."""


class DomainResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    domain: Domain
    """The domain."""


class DomainsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    domains: tuple[Domain, ...]
    """The domains, newest first."""


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """The messages that a dry run selects."""

    selected: int
    """Number selected. Single deliveries outside of ranges are counted up to 100,000."""
    first_message: str
    """The id of the oldest message; empty if there is none."""
    last_message: str
    """The id of the newest message; empty if there is none."""


class EffectiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options in effect: set for the listener, its queue, its organization, or the service."""

    timeout: int | None = None
    """Timeout of an attempt, in seconds."""
    lease_seconds: int | None = None
    """How long a pulled message stays leased, in seconds."""
    max_in_flight: int
    """Maximum number of requests in flight."""
    retry: RetryPolicy
    """Retry policy."""
    format: str
    """How a message is sent: `plain` (its data unchanged, the default), or as a CloudEvent in one of two modes."""
    trace: str
    """The `traceparent` that it receives: of the trace of the publisher (`propagate`, the default), of a new trace
    with every attempt (`restart`), or none (`none`).
    """
    rate_limit: RateLimit | None = None
    """The maximum rate of requests to this listener, over all workers."""


class ErasedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A listener that received erased messages."""

    listener: str
    """The id of the listener."""
    count: int
    """Number of erased messages sent to the listener, as far as recorded."""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure of the messages with one key."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The id."""
    name: str
    """The id."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    queue_id: str
    """The id of the queue."""
    key: str
    """The key of the messages."""
    state: str
    """The progress."""
    erased: int
    """Number of messages erased."""
    delivered: tuple[ErasedDelivery, ...]
    """Listeners to which erased messages were sent, whatever their responses. Attempts in flight are added within
    twelve minutes.
    """
    ended_at: int
    """When the last message was erased, in milliseconds since the epoch; 0: not yet."""


class ErasureResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    erasure: Erasure
    """The erasure."""


class ErasuresResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    erasures: tuple[Erasure, ...]
    """The erasures, newest first."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A usage event. Its subject is in the field named after its kind."""

    id: str
    """The id of the event."""
    type: str
    """The type of the event."""
    stored_at: int
    """When it happened, in milliseconds since the epoch."""
    client: EventClient
    """The organization."""
    api_key_id: str | None = None
    """The id of the API key that was used, if known."""
    user_id: str | None = None
    """The id of the user, or of the session of a customer in the portal, who did it, if known."""
    message: EventSubject | None = None
    """The message."""
    api_key: EventSubject | None = None
    """The API key."""
    queue: EventSubject | None = None
    """The queue."""
    listener: EventSubject | None = None
    """The listener."""
    organization: EventSubject | None = None
    """The organization."""
    domain: EventSubject | None = None
    """The domain."""
    user: EventSubject | None = None
    """The user."""
    topic: EventSubject | None = None
    """The topic."""
    channel: EventSubject | None = None
    """The channel."""
    event_type: EventSubject | None = None
    """The event type."""
    source: EventSubject | None = None
    """The source."""
    erasure: EventSubject | None = None
    """The queue of the erasure."""
    address: EventSubject | None = None
    """The client address of a lockout of unknown keys or sign-ins."""
    session: EventSubject | None = None
    """The session of a user, by the user's email."""
    second_factor: EventSubject | None = None
    """The user whose second factor it is."""
    portal_session: EventSubject | None = None
    """The session of a customer in the portal, by the customer."""


class EventClient(msgspec.Struct, frozen=True, kw_only=True):
    """The organization of an event."""

    id: str
    """The id, assigned at creation. Ids sort by time."""


class EventCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of events by type."""

    api_key_added: int
    """API keys created."""
    api_key_updated: int
    """API keys changed."""
    api_key_deleted: int
    """API keys deleted."""
    queue_added: int
    """Queues created."""
    queue_updated: int
    """Queues changed."""
    queue_deleted: int
    """Queues deleted."""
    listener_added: int
    """Listeners created."""
    listener_updated: int
    """Listeners changed."""
    listener_deleted: int
    """Listeners deleted."""
    message_added: int
    """Messages published."""
    message_published_ok: int
    """Attempts acknowledged."""
    message_published_not_ok: int
    """Attempts failed."""


class EventSubject(msgspec.Struct, frozen=True, kw_only=True):
    """The subject of an event."""

    id: str
    """Id of the resource."""
    name: str
    """Alias of the resource at that time."""


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """An event type."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """A synonym of `type`."""
    name: str
    """A synonym of `type`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    type: str
    """The type of the messages. Unique in the organization."""
    status: str
    """A `deprecated` event type is offered only to listeners that have it. Its messages are still published."""
    description: str | None = None
    """When the event happens, for customers."""
    json_schema: dict[str, Any] | bool | None = None
    """JSON Schema (2020-12) of the data. The schema and the example have at most 65,536 bytes together."""
    example: Any = None
    """An example of the data, for customers, forms and tests."""


class EventTypeResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    event_type: EventType
    """The event type."""


class EventTypesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    event_types: tuple[EventType, ...]
    """The event types, newest first."""


class EventWindows(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of events by period."""

    last_24_hours: EventCounts
    """The last 24 hours."""
    last_1_hours: EventCounts
    """The last hour."""
    today_so_far: EventCounts
    """Since midnight UTC."""


class EventsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    events: tuple[Event, ...]
    """The events."""


class FailedTransform(msgspec.Struct, frozen=True, kw_only=True):
    """A message without a body."""

    message_id: str
    """The id of the message."""
    type: str | None = None
    """The type of the event."""
    detail: str
    """Why the message has no body."""


class FilterTest(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a filter."""

    matches: bool
    """Whether the listener receives such a message."""
    type_matches: bool
    """Whether the types match; true without types."""
    conditions: tuple[Condition, ...]
    """The result of each condition of the filter by itself."""


class FilterTestResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a filter test."""

    filter_test: FilterTest
    """The result."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A header field."""

    name: str
    """The name."""
    value: str
    """The value."""


class HealthResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The health of the service."""

    status: str
    """The health of the service. `damaged`: ready, but see `detail`."""
    damaged: int | None = None
    """Number of queues with data that cannot be read, plus 1 for damaged data that belongs to no single queue."""
    detail: str | None = None
    """The problem and its remedy."""


class HttpsChallenge(msgspec.Struct, frozen=True, kw_only=True):
    """The file that verifies a domain."""

    file_content: str
    """The content of the file."""
    file_name: str
    """The name of the file."""
    context_path: str
    """The path of the file, without leading and trailing slashes."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    expires_at: int
    """When it expires, unless the file was found before, in milliseconds since the epoch."""


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation. `url` and `token` are shown once, in the response to the request that created it."""

    expires_at: int
    """When it expires, in milliseconds since the epoch."""
    url: str | None = None
    """The URL to send to the user."""
    token: str | None = None
    """The token that accepts the invitation."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of an API key, its organization, and a request."""

    rate_limit: RateLimitStatus
    """The rate limit of the API key."""
    quotas: QuotaUsage
    """The quotas of the organization. Set by the operator."""
    retention: int
    """How long messages are kept in queues without a retention of their own, in seconds."""
    max_message_bytes: int
    """Maximum size of a message, in bytes."""
    max_batch_messages: int
    """Maximum number of messages in a batch."""
    max_batch_bytes: int
    """Maximum size of a batch, in bytes."""
    max_per_page: int
    """Maximum number of items per page."""
    private_targets: str
    """Whether listeners can have addresses that are not public: all, those in `some` networks, or none. Set by the
    operator.
    """


class LimitsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    limits: Limits
    """The limits."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `_links`."""

    href: str
    """An absolute URL."""


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A listener. Options that were not set are omitted."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    queue_id: str
    """The id of the queue."""
    status: str
    """Whether it is in use."""
    status_reason: str
    """Why it receives nothing, or little: it is disabled or inactive, or its domain is not verified. Empty if
    nothing prevents it.
    """
    status_changed_at: int
    """When it was last enabled or disabled, or became inactive or stopped to be, in milliseconds since the epoch."""
    mode: str
    """`push` (the default): messages are sent to it. `pull`: its consumers fetch them. Fixed at creation."""
    notify_url: str | None = None
    """Where messages are sent: an http or https URL without credentials and fragment. Push mode only."""
    liveness_url: str | None = None
    """Where the listener's liveness is checked: an http or https URL without credentials and fragment. null:
    nowhere. Push mode only.
    """
    liveness: Liveness
    """The results of liveness checks."""
    messages: ListenerMessages
    """The state of its deliveries."""
    effective: EffectiveOptions
    """The options in effect: set for the listener, its queue, or the service."""
    lease_seconds: int | None = None
    """How long a pulled message stays leased, in seconds. Default: 30. Pull mode only."""
    headers: dict[str, str] | None = None
    """Additional headers of each request: at most 32, with 4,096 characters in all."""
    timeout: int | None = None
    """Timeout of an attempt, response body included, in seconds."""
    max_in_flight: int | None = None
    """Maximum number of requests in flight."""
    rate_limit: RateLimit | None = None
    """The maximum rate of requests to this listener, over all workers."""
    retry: Retry | None = None
    """Retry policy. Omitted fields use the default."""
    types: tuple[str, ...] | None = None
    """Types or patterns; a message must match at least one. `*` stands for one word, a final `>` for one or more.
    A message without a type matches none. null: all messages.
    """
    filter: dict[str, Any] | None = None
    """Which messages it receives: conditions on their data, headers and key."""
    transform: str | None = None
    """JMESPath expression over `id`, `type`, `key`, `headers`, `created_at` and `data`. Its JSON result is the
    body that the listener receives. null: the data is sent as it is.
    """
    format: str | None = None
    """How a message is sent: `plain` (its data unchanged, the default), or as a CloudEvent in one of two modes."""
    trace: str | None = None
    """The `traceparent` that it receives: of the trace of the publisher (`propagate`, the default), of a new trace
    with every attempt (`restart`), or none (`none`).
    """
    description: str | None = None
    """A note about the purpose of the listener. It has no effect on deliveries. null: none."""
    customer: str | None = None
    """Your name or id of the customer that the listener belongs to. Sessions of the portal see only the listeners
    of their customer. In a customer's queue, it is always that customer. null: none.
    """
    authentication: Authentication | None = None
    """How requests authenticate to the listener, without secrets."""
    secret: str | None = None
    """The signing secret. Shown at creation only."""


class ListenerMessages(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a listener's deliveries."""

    acknowledged_count: int
    """Number of messages acknowledged."""
    missed: tuple[str, ...]
    """Ids of missed messages, newest first, at most 100."""
    missed_count: int
    """Number of messages missed."""
    pending_count: int
    """Number of messages that wait for the listener."""
    last_success_at: int
    """When an attempt last succeeded, in milliseconds since the epoch; 0: never."""
    last_failure_at: int
    """When an attempt last failed, in milliseconds since the epoch; 0: never."""
    last_failure_status: int
    """The status of the response to the last failed attempt; 0: no response, or no failure."""
    last_failure_msg: str
    """Why the last failed attempt failed; empty if no attempt failed, or the attempt is no longer kept."""


class ListenerResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    listener: Listener
    """The listener."""


class ListenersResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    listeners: tuple[Listener, ...]
    """The listeners, newest first."""


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """The results of liveness checks. Times and statuses are 0, and texts empty, as long as there are none."""

    state: str
    """The liveness of the listener."""
    success_count: int
    """Number of successful checks."""
    failure_count: int
    """Number of failed checks."""
    last_success_at: int
    """When a check last succeeded, in milliseconds since the epoch; 0: never."""
    last_failure_at: int
    """When a check last failed, in milliseconds since the epoch; 0: never."""
    last_failure_status: int
    """Status of the response to the last failed check; 0: no response."""
    last_failure_msg: str
    """Why the last failed check failed; empty if none failed."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message. Responses to a publish have the base fields only; lists also `queue_id`, `size`, `state`, `type`,
    `sequence`, `key` and `headers`.
    """

    id: str
    """The id, assigned when it is published."""
    alias: str
    """The name, which need not be unique. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    queue_id: str | None = None
    """The id of the queue."""
    data: Any = None
    """The data, in the form in which it was sent."""
    data_base64: str | None = None
    """The data, if it was sent as `data_base64`."""
    content_type: str | None = None
    """The media type of the data, if it was published with one."""
    type: str | None = None
    """The type of the event."""
    sequence: int | None = None
    """The place of the message in its queue: higher than that of every message committed before it. Numbers may be
    skipped.
    """
    deliver_at: int | None = None
    """When it is delivered, if later than its creation, in milliseconds since the epoch."""
    expires_at: int | None = None
    """When it expires, in milliseconds since the epoch: a listener that has not received it by then misses it."""
    key: str | None = None
    """In an ordered queue, messages with the same key are delivered one after the other."""
    headers: dict[str, str] | None = None
    """Additional headers of each request: at most 32, with 4,096 characters in all."""
    size: int | None = None
    """The size of the data, in bytes."""
    state: str | None = None
    """The first that a delivery has of `missed`, `retrying` and `pending`, else `acknowledged`, which includes
    deliveries that filters exclude; `no_listeners`: published before the queue had any. In lists with a
    `listener`, the state for that one. Omitted where reading it takes too long: in queues with more than 1,000
    listeners, and on pages with more than 10,000 deliveries that are missed or wait for a retry; the listeners
    of a page of several queues share the 1,000, with at least 100 for each queue.
    """
    retry: Retry | None = None
    """Retry policy. Omitted fields use the default."""
    deliveries: tuple[Delivery, ...] | None = None
    """Deliveries to the oldest 100 listeners."""


class MessageBody(TypedDict, total=False):
    """A message to publish."""

    alias: str | None
    """The unique name. Default: the id."""
    name: str | None
    """A synonym of `alias`."""
    data: Any
    """The data: a string, or any other JSON value, which is delivered as written."""
    data_base64: str | None
    """Bytes, in base64, instead of `data`. A queue with a schema does not accept them."""
    content_type: str | None
    """The media type of the data. With a media type of JSON, a string is delivered as a JSON string. Default:
    `application/json` if the data is JSON, `text/plain; charset=utf-8` for other strings, and
    `application/octet-stream` for `data_base64`.
    """
    type: str | None
    """The type of the event: words separated by dots."""
    deliver_at: int | None
    """When to deliver it, in milliseconds since the epoch: at most a year ahead; at once if it has passed. Cannot
    be combined with `delay`.
    """
    delay: int | None
    """How long to hold it back, in seconds. Cannot be combined with `deliver_at`."""
    expires_at: int | None
    """When it expires, in milliseconds since the epoch: a listener that has not received it by then misses it."""
    key: str | None
    """In an ordered queue, messages with the same key are delivered one after the other."""
    headers: Mapping[str, str] | None
    """Additional headers of each request: at most 32, with 4,096 characters in all."""
    retry: RetryBody | Sequence[int] | None
    """Retry policy. Omitted fields use the default."""


class MessageResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    message: Message
    """The message."""


class MessagesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    messages: tuple[Message, ...]
    """The messages, newest first."""


class MissedFilterBody(TypedDict, total=False):
    """Selects missed messages to redeliver."""

    reason: Literal["attempts_used_up", "expired", "final_status", "no_retry", "too_old", "transform"] | None
    """Only messages missed for this reason."""
    created_after: int | None
    """Only messages stored later than this, in milliseconds since the epoch."""
    created_before: int | None
    """Only messages stored earlier than this, in milliseconds since the epoch."""


class MissedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The messages that a listener missed for the same cause."""

    id: str
    """The id of the group."""
    queue: Reference
    """The queue."""
    listener: Reference
    """The listener."""
    reason: str
    """Why they were missed."""
    status: int
    """HTTP status of the last response; 0: none."""
    text: str
    """The beginning of one of the responses, or why there was none. Empty if nothing was sent, and for causes
    after the first 100 of the listener. The listener chose this text: escape it in pages.
    """
    count: int
    """Number of messages. It may include deleted messages."""
    first_at: int
    """When the first one was missed, in milliseconds since the epoch."""
    last_at: int
    """When the last one was missed, in milliseconds since the epoch."""
    sample: tuple[str, ...]
    """The ids of up to five messages, newest first."""


class MissedGroupsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    groups: tuple[MissedGroup, ...]
    """The groups, largest first."""


class MissedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a listener missed."""

    id: str
    """The id of the message."""
    alias: str
    """The name, which need not be unique. Default: the id."""
    name: str
    """A synonym of `alias`."""
    queue_id: str
    """The id of the queue."""
    listener_id: str
    """The id of the listener."""
    stored_at: int
    """When the message was stored, in milliseconds since the epoch."""
    type: str | None = None
    """The type of the event."""
    missed_at: int
    """When it was missed, in milliseconds since the epoch."""
    reason: str
    """Why it was missed: it ran out of attempts, expired, got a final response, was rejected for good, was too
    old, or could not be transformed.
    """
    attempts: int
    """Number of attempts."""
    last_failure_status: int
    """The status of the response to the last failed attempt; 0: no response, or no failure."""
    last_failure_msg: str
    """Why the last failed attempt failed; empty if no attempt failed, or the attempt is no longer kept."""


class MissedMessagesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    missed: tuple[MissedMessage, ...]
    """The missed messages, newest first."""


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """An organization. Limits that were not set are omitted."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The unique name. Default: `<creator's alias>.<id>`."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    state: str
    """Requests of a suspended organization get a 423."""
    require_verified_domains: bool
    """Whether listeners must be on domains of the organization, and receive nothing until these are verified."""
    require_known_types: bool
    """Whether each message must have one of the organization's event types and fit its schema. Others get a 422."""
    rate_limit: int | None = None
    """Requests per minute of each API key; all keys together can make four times as many. 0: unlimited. Set by the
    operator.
    """
    quotas: Quotas | None = None
    """Quotas of the organization. Set by the operator."""
    retention: int | None = None
    """How long messages are kept in queues without a retention of their own, in seconds. Set by the operator."""
    retry: Retry | None = None
    """Retry policy. Omitted fields use the default."""


class OrganizationResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    organization: Organization
    """The organization."""


class OrganizationsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    organizations: tuple[Organization, ...]
    """The organizations, newest first."""


class PortalResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    portal: PortalSettings
    """The settings."""


class PortalSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session of a customer in the portal."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """Your name or id of the customer. The session sees only the listeners of this customer."""
    name: str
    """Your name or id of the customer. The session sees only the listeners of this customer."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    customer: str
    """Your name or id of the customer. The session sees only the listeners of this customer."""
    state: str
    """`new` until its URL is opened."""
    queues: tuple[str, ...]
    """Ids of its queues."""
    topics: tuple[str, ...]
    """Ids of its topics."""
    may: tuple[str, ...]
    """Actions that the customer may take. `create`, `edit` and `replay` require that all queues belong to the
    customer. Default: all except `limit`, which changes the rate limit; if a queue does not belong to the
    customer, `disable`, `test` and `redeliver`.
    """
    expires_at: int
    """When it ends, in milliseconds since the epoch; until it is opened, when its URL does."""
    url: str | None = None
    """The URL to open within a minute, once. Shown only at creation."""
    warnings: tuple[str, ...] | None = None
    """Sentences about queues that the session does not show, or about a customer without a queue. Shown only at
    creation, and only if there are warnings.
    """


class PortalSessionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    portal_session: PortalSession
    """The session."""


class PortalSessionsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    portal_sessions: tuple[PortalSession, ...]
    """The sessions, newest first."""


class PortalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the portal."""

    frame_ancestors: tuple[str, ...]
    """Origins whose pages may embed the portal: https, or http on loopback. By default none."""


class PortalThemeBody(TypedDict, total=False):
    """How the portal looks."""

    accent: str
    """The colour of buttons and links."""
    font: str
    """Names of fonts of the system."""
    radius: int | None
    """Radius of corners, in pixels."""
    logo_url: str
    """A data URL of a PNG, JPEG or WebP image in base64."""
    scheme: Literal["light", "dark", "auto"]
    """Light or dark; `auto` follows the browser."""


class PulledMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A leased message."""

    id: str
    """The id of the message."""
    stored_at: int
    """When the message was stored, in milliseconds since the epoch."""
    data: str | None = None
    """The data of the message, as text: the body that a request to a `notify_url` has."""
    data_base64: str | None = None
    """The data, if it was sent as `data_base64`."""
    content_type: str
    """The media type of the data: as published, or the default; empty for an event without data."""
    attempt: int
    """The number of this attempt, from 1."""
    receipt: str
    """The receipt handle of the lease."""
    leased_until: int
    """When the lease ends, in milliseconds since the epoch."""
    sequence: int
    """The place of the message in its queue: higher than that of every message committed before it. Numbers may be
    skipped.
    """
    type: str | None = None
    """The type of the event."""
    key: str | None = None
    """The key of the message."""
    headers: dict[str, str]
    """The headers of the message, including attributes of an event (`ce-…`), `discue-type` and `discue-sequence`."""
    traceparent: str | None = None
    """The trace context of this attempt, if the message was published in a trace and the listener gets it."""


class PulledMessagesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The messages that were leased."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    messages: tuple[PulledMessage, ...]
    """The leased messages, at most `max`."""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A queue."""

    id: str
    """The id, assigned at creation. Ids sort by time."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    ordered: bool
    """Whether a listener receives messages with the same key one after the other. Messages without a key count as
    having the same key. Fixed at creation.
    """
    on_missed: str
    """The effect of a missed message in an ordered queue. `pass`: the next message with its key is sent. `block`:
    messages with its key wait until it is redelivered and acknowledged, or deleted. Fixed at creation.
    """
    listeners: tuple[Reference, ...]
    """Listeners of the queue, oldest first, at most 100."""
    messages: QueueMessages
    """Statistics of its messages."""
    retention: int | None = None
    """How long messages are kept after all listeners have settled them, in seconds. Default: set by the
    organization or the operator.
    """
    max_message_bytes: int | None = None
    """Maximum size of a message, in bytes. Default: set by the operator."""
    schema: dict[str, Any] | None = None
    """Schema that messages must match, as a rule for each property. null removes it."""
    json_schema: dict[str, Any] | bool | None = None
    """Schema that messages must match, as JSON Schema (2020-12). null removes it."""
    schema_id: str | None = None
    """The id of the schema."""
    retry: Retry | None = None
    """Retry policy. Omitted fields use the default."""
    customer: str | None = None
    """Your name or id of the customer that the queue and its listeners belong to. Sessions of the portal may
    create and edit listeners, and replay, only in queues of their customer. null: none. Fixed at creation.
    """


class QueueMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of the messages of a queue."""

    published_count: int
    """Number of messages published so far."""
    last_published_at: int
    """When the last message was published, or a delayed one became due, in milliseconds since the epoch; 0: never."""


class QueueResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    queue: Queue
    """The queue."""


class QueueSchemaResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The schema of a queue."""

    schema: dict[str, Any] | bool
    """The schema as it was sent."""
    id: str
    """The SHA-256 of the schema's canonical JSON."""
    queue_id: str
    """The id of the queue."""
    language: str
    """The field of the queue that the schema was set with."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""


class QueuesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    queues: tuple[Queue, ...]
    """The queues, newest first."""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A quota and its use. Without a quota, resources are counted up to 10,000."""

    limit: int | None
    """The quota; null: none."""
    used: int
    """How much of it is used."""


class QuotaUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The quotas of an organization and their use."""

    queues: Quota
    """Queues."""
    listeners: Quota
    """Listeners of all queues."""
    topics: Quota
    """Topics."""
    domains: Quota
    """Domains."""
    api_keys: Quota
    """API keys."""
    users: Quota
    """Users."""
    portal_sessions: Quota
    """Portal sessions."""
    creations_a_day: Quota
    """Resources created today (UTC)."""
    messages_a_day: Quota
    """Messages published today (UTC)."""
    bytes_stored: Quota
    """Size of all messages, schedules and stored responses, in bytes."""


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """The quotas that were set for an organization."""

    queues: int | None = None
    """Maximum number of queues."""
    listeners: int | None = None
    """Maximum number of listeners."""
    topics: int | None = None
    """Maximum number of topics."""
    domains: int | None = None
    """Maximum number of domains."""
    api_keys: int | None = None
    """Maximum number of API keys."""
    users: int | None = None
    """Maximum number of users."""
    portal_sessions: int | None = None
    """Maximum number of portal sessions."""
    creations_a_day: int | None = None
    """Maximum number of resources created per day (UTC)."""
    messages_a_day: int | None = None
    """Maximum number of messages published per day (UTC)."""
    bytes_stored: int | None = None
    """Maximum size of all messages, schedules and stored responses, in bytes."""


class QuotasBody(TypedDict, total=False):
    """Quotas of an organization. null restores the setting."""

    queues: int | None
    """Maximum number of queues."""
    listeners: int | None
    """Maximum number of listeners."""
    topics: int | None
    """Maximum number of topics."""
    domains: int | None
    """Maximum number of domains."""
    api_keys: int | None
    """Maximum number of API keys."""
    users: int | None
    """Maximum number of users."""
    portal_sessions: int | None
    """Maximum number of portal sessions."""
    creations_a_day: int | None
    """Maximum number of resources created per day (UTC)."""
    messages_a_day: int | None
    """Maximum number of messages published per day (UTC)."""
    bytes_stored: int | None
    """Maximum size of all messages, schedules and stored responses, in bytes."""


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The maximum rate of requests to a listener."""

    per_second: float
    """Requests per second."""
    burst: int
    """Requests that may be sent at once."""


class RateLimitBody(TypedDict, total=False):
    """The maximum rate of requests to a listener."""

    per_second: float
    """Requests per second."""
    burst: int | None
    """Requests that may be sent at once. Default: as many as in one second."""


class RateLimitStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The rate limit of an API key."""

    limit: int
    """Requests per minute; 2147483647: unlimited."""
    remaining: int
    """Requests left in this window."""
    reset_at: int
    """When the window ends, in milliseconds since the epoch."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one receipt."""

    receipt: str
    """The receipt handle of the lease."""
    state: str
    """The result. `expired`: the lease had ended, and the message is due again or leased to another consumer.
    `settled`: the message was settled already.
    """


class ReceiptsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The results of an acknowledgement."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    receipts: tuple[Receipt, ...]
    """The result for each receipt, in the order of the request."""


class RedeliveriesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    redeliveries: tuple[Redelivery, ...]
    """The redeliveries, newest first."""


class Redelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A redelivery of missed messages."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The id."""
    name: str
    """The id."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    queue_id: str
    """The id of the queue."""
    listener_id: str
    """The id of the listener."""
    counts: RedeliveryCounts
    """Numbers of deliveries."""
    ended_at: int
    """When it was done, in milliseconds since the epoch; 0: not yet."""
    pace: int | None = None
    """Maximum number of messages per second."""
    state: str
    """The progress. `stopped`: the listener did not acknowledge a message of the trial."""
    trial: int | None = None
    """Number of messages to try first: the oldest are sent one after the other, with one attempt each. The others
    become due once all of these are acknowledged. The first failure stops the redelivery.
    """
    tried: int | None = None
    """Number of trial messages that were acknowledged; only with `trial`."""
    stopped_by: StoppedBy | None = None
    """Why it was stopped; only if `state` is `stopped`."""


class RedeliveryCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of deliveries."""

    selected: int
    """Number selected. Single deliveries outside of ranges are counted up to 100,000."""
    redelivered: int
    """Deliveries that are due again, or were."""
    gone: int
    """Deliveries of messages that were deleted before."""


class RedeliveryResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    redelivery: Redelivery
    """The redelivery."""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A related resource."""

    id: str
    """The id."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A refused request to a source, without its body."""

    id: str
    """The id of the refused request."""
    reason: str
    """Why it was refused: the `code` of the response."""
    detail: str
    """The reason in a sentence."""
    headers: dict[str, str]
    """Its headers, up to 2,048 characters, without credentials."""
    created_at: int
    """When it arrived, in milliseconds since the epoch."""


class RefusalsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    refusals: tuple[Refusal, ...]
    """The refused requests, newest first."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A replay of a part of the queue."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The id."""
    name: str
    """The id."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    queue_id: str
    """The id of the queue."""
    listener_id: str
    """The id of the listener."""
    counts: ReplayCounts
    """Numbers of messages."""
    ended_at: int
    """When it was done, in milliseconds since the epoch; 0: not yet."""
    pace: int | None = None
    """Maximum number of messages per second."""
    state: str
    """The progress."""
    filter: dict[str, Any] | None = None
    """Which messages."""


class ReplayCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of messages."""

    selected: int
    """Messages from start to end, including those that a filter rejects. For more than 1,000 positions of the log:
    the number of positions.
    """
    delivered: int
    """Messages acknowledged."""
    failed: int
    """Messages out of attempts."""
    expired: int
    """Messages that expired, or were too old."""
    filtered: int
    """Messages that the filter of the listener or the replay rejects."""
    retrying: int
    """Messages that wait for another attempt."""
    remaining: int
    """Messages that may still be sent, at most."""


class ReplayResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    replay: Replay
    """The replay."""


class ReplaysResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    replays: tuple[Replay, ...]
    """The replays, newest first."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a listener, without the message's data."""

    headers: tuple[Header, ...]
    """The headers. The signature, and values that were not chosen by the service, are `[hidden]`."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The response of a listener."""

    headers: tuple[Header, ...]
    """The headers, with lower-case names. Values that look like secrets are `[hidden]`."""
    body: str
    """The first 16 KiB of the body. Bytes that are not UTF-8 are replaced."""
    body_bytes: int
    """Number of bytes of the body that were read."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a retry policy that were set."""

    schedule: tuple[int, ...] | None = None
    """The delays between attempts, in seconds."""
    jitter: float | None = None
    """How much longer a delay may be at random, as a fraction of it."""
    attempts: int | None = None
    """Number of attempts."""
    final_statuses: tuple[int | str, ...] | None = None
    """Responses with one of these statuses, or classes of statuses, are not retried."""


class RetryBody(TypedDict, total=False):
    """When failed deliveries are retried. null or an omitted field: the policy of the queue or the service."""

    schedule: Sequence[int] | None
    """The delays between attempts, in seconds."""
    jitter: float | None
    """How much longer a delay may be at random, as a fraction of it."""
    attempts: int | None
    """Number of attempts. Shortens the schedule, or repeats its last delay."""
    final_statuses: Sequence[int] | None
    """Responses with one of these statuses, or classes of statuses, are not retried."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A complete retry policy."""

    schedule: tuple[int, ...]
    """The delays between attempts, in seconds."""
    jitter: float
    """How much longer a delay may be at random, as a fraction of it."""
    attempts: int
    """Number of attempts."""
    final_statuses: tuple[str, ...]
    """Responses with one of these statuses, or classes of statuses, are not retried."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a schedule: either `message_id` or `reason` is set."""

    scheduled_at: int
    """When it was scheduled, in milliseconds since the epoch."""
    ran_at: int
    """When it ran, in milliseconds since the epoch."""
    state: str
    """The outcome."""
    message_id: str | None = None
    """The id of its message."""
    reason: str | None = None
    """Why it published nothing."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule. Lists omit `data`; options that were not set are omitted."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    queue_id: str
    """The id of the queue."""
    status: str
    """Whether it runs."""
    cron: str
    """When it runs: minute, hour, day of the month, month and day of the week, separated by spaces, or one of
    @hourly, @daily, @weekly, @monthly, @yearly.
    """
    time_zone: str
    """IANA name of the time zone of `cron`. Default: UTC."""
    missed_runs: str
    """Handling of runs that no worker was there for: `skip` (the default) drops them, `catch_up` publishes the
    newest `catch_up_limit` of them.
    """
    catch_up_limit: int
    """Maximum number of missed runs to catch up on. Default: 10."""
    next_runs: tuple[int, ...]
    """The next five runs, in milliseconds since the epoch; empty if it is disabled or has ended."""
    last_run: Run | None = None
    """The last run."""
    starts_at: int | None = None
    """The earliest time of a run, in milliseconds since the epoch, at most ten years ahead."""
    ends_at: int | None = None
    """The time before which it runs, in milliseconds since the epoch."""
    data: Any = None
    """The data, in the form in which it was sent."""
    data_base64: str | None = None
    """The data, if it was sent as `data_base64`."""
    content_type: str | None = None
    """The media type of the data, if it was published with one."""
    type: str | None = None
    """The type of the event."""
    key: str | None = None
    """The key of each message."""
    headers: dict[str, str] | None = None
    """Additional headers of each request: at most 32, with 4,096 characters in all."""
    retry: Retry | None = None
    """Retry policy. Omitted fields use the default."""
    expires_in: int | None = None
    """How long after its run each message expires, in seconds: a listener that has not received it by then misses
    it.
    """


class ScheduleResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    schedule: Schedule
    """The schedule."""


class SchedulesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    schedules: tuple[Schedule, ...]
    """The schedules, newest first."""


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A signing secret."""

    id: str
    """The id, assigned at creation."""
    type: str
    """How it signs: `hmac` (signatures `v1`) or `ed25519` (signatures `v1a`)."""
    fingerprint: str
    """The first 16 hexadecimal digits of the SHA-256 of the secret's text, or of the public key's."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    expires_at: int
    """When it expires, in milliseconds since the epoch; 0: never."""
    public_key: str | None = None
    """`ed25519`: the public key that verifies its signatures."""
    secret: str | None = None
    """`hmac`: the secret itself. Shown at creation only."""


class SecretResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    secret: Secret
    """The signing secret."""


class SecretsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    secrets: tuple[Secret, ...]
    """The signing secrets, newest first."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A source."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    provider: str
    """The service whose webhooks it receives; `hmac` for others."""
    queue_id: str
    """The id of the queue that it publishes to."""
    url: str
    """The URL for the provider's settings."""
    refused: int
    """The number of requests that it has refused."""
    refused_at: int
    """When it last refused a request, in milliseconds since the epoch; 0: never."""
    header: str | None = None
    """`hmac`: the header with the signature."""
    algorithm: str | None = None
    """`hmac`: the hash function. Default: sha256."""
    encoding: str | None = None
    """`hmac`: the encoding of the signature. Default: hex."""
    prefix: str | None = None
    """`hmac`: the text before the signature."""
    timestamp_header: str | None = None
    """`hmac`: the header with the Unix time in seconds. With it, the signature covers the time, a dot and the
    body.
    """
    id_header: str | None = None
    """`hmac`: the header with the id of the event."""


class SourceResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    source: Source
    """The source."""


class SourcesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    sources: tuple[Source, ...]
    """The sources, newest first."""


class StatisticsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    aggregated_api_usage_events: EventWindows
    """Numbers of events by period."""


class StoppedBy(msgspec.Struct, frozen=True, kw_only=True):
    """The failure that stopped a redelivery."""

    reason: str
    """Why the message is missed again."""
    status: int
    """HTTP status of the response; 0: none."""
    text: str
    """The beginning of the response, or why there was none. The listener chose this text: escape it in pages."""


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """How long each stage of an attempt took. Stages that were not reached or not needed are omitted."""

    resolve_ms: int | None = None
    """DNS lookup, in milliseconds."""
    connect_ms: int | None = None
    """TCP connect, in milliseconds."""
    tls_ms: int | None = None
    """TLS handshake, in milliseconds."""
    first_byte_ms: int | None = None
    """From sending the request to the first byte of the response, in milliseconds."""
    total_ms: int
    """Everything together, in milliseconds."""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    channels: tuple[Reference, ...]
    """Channels of the topic, oldest first."""


class TopicMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was published to a topic."""

    id: str
    """The id, the same in all queues."""
    alias: str
    """The unique name. Default: the id."""
    name: str
    """A synonym of `alias`."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    queues: tuple[str, ...]
    """The ids of the queues that the message was published to."""
    deliver_at: int | None = None
    """When it is delivered, if later than its creation, in milliseconds since the epoch."""


class TopicMessageResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The message that was published."""

    message: TopicMessage
    """The message."""


class TopicMessagesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The messages that were published."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    messages: tuple[TopicMessage, ...]
    """The messages, in the order of the request."""


class TopicResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    topic: Topic
    """The topic."""


class TopicsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    topics: tuple[Topic, ...]
    """The topics, newest first."""


class TransformTest(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a transform test."""

    tested: int
    """Number of messages tried, beginning with the newest."""
    failed: tuple[FailedTransform, ...]
    """The messages for which the transform failed, at most 100."""
    succeeded: tuple[Transformed, ...]
    """The first three messages that have a body."""


class TransformTestResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a transform test."""

    transform_test: TransformTest
    """The results."""


class Transformed(msgspec.Struct, frozen=True, kw_only=True):
    """A message with the body that would be sent."""

    message_id: str
    """The id of the message."""
    type: str | None = None
    """The type of the event."""
    body: Any
    """The body that would be sent."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user."""

    id: str
    """The id, assigned at creation."""
    alias: str
    """The email address."""
    name: str
    """The email address."""
    created_at: int
    """When it was created, in milliseconds since the epoch."""
    updated_at: int
    """When it was last changed, in milliseconds since the epoch."""
    email: str
    """The email address, unique in the organization, ignoring case."""
    display_name: str
    """The name to show."""
    role: str
    """Permissions of the user in the dashboard."""
    status: str
    """Whether the user may sign in. Disabling ends all sessions."""
    state: str
    """`invited` until the user can sign in."""


class UserResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    user: User
    """The user."""
    invitation: Invitation | None = None
    """The invitation. Shown only when it is created."""


class UsersResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)
    users: tuple[User, ...]
    """The users, newest first."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the last check of a domain."""

    verified: bool
    """Whether the domain is verified."""
    verified_at: int
    """When it was verified, in milliseconds since the epoch; 0: it is not."""
    checked_at: int
    """When it was last checked, in milliseconds since the epoch; 0: never."""
    last_error: str
    """Why the last check failed; empty if it did not."""


class WebhooksDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The catalogue, as an OpenAPI document."""

    openapi: str
    """The version of OpenAPI."""
    info: dict[str, Any]
    """The catalogue."""
    webhooks: dict[str, Any]
    """The request of each event type."""
