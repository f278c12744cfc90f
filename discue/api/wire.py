"""What responses hold: one struct for each, from which encoding and documentation follow."""

from typing import Literal, Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.links import Links
from discue.key_text import shown_part

_RENAMED = {"links": "_links"}


class _Answer(msgspec.Struct, rename=_RENAMED, kw_only=True, frozen=True):
    """Every body of a 200 has links."""

    links: Links

    def without_secrets(self) -> Self:
        """What is kept of a response, to answer repetitions with."""
        return self


class Deleted(_Answer, kw_only=True, frozen=True):
    """Of every `DELETE`."""


class _Shown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What every resource has."""

    id: str
    alias: str
    name: str
    created_at: int
    updated_at: int


class QuotasShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Those that the organization has of its own."""

    queues: int | UnsetType = UNSET
    listeners: int | UnsetType = UNSET
    messages_a_day: int | UnsetType = UNSET
    bytes_stored: int | UnsetType = UNSET


class OrganizationShown(_Shown, kw_only=True, frozen=True):
    """`rate_limit` (requests a minute), `quotas` and `retention` (seconds) are there when they were set."""

    state: str
    require_verified_domains: bool
    rate_limit: int | UnsetType = UNSET
    quotas: QuotasShown | UnsetType = UNSET
    retention: int | UnsetType = UNSET


class ApiKeyShown(_Shown, kw_only=True, frozen=True):
    """`key` is whole in the answer to its creation, and its first characters afterwards."""

    status: str
    key: str
    scopes: dict[str, dict[str, object]]
    last_used_at: int
    expires_at: int

    def without_secrets(self) -> Self:
        return replace(self, key=shown_part(self.id))


class UserShown(_Shown, kw_only=True, frozen=True):
    """`alias` and `name` are the email."""

    email: str
    display_name: str
    role: str
    state: str


class InvitationShown(msgspec.Struct, kw_only=True, frozen=True):
    """`url` and `token` are there once: in the first answer to the request that made it."""

    expires_at: int
    url: str | UnsetType = UNSET
    token: str | UnsetType = UNSET


class User(_Answer, kw_only=True, frozen=True):
    """`invitation` is there in the answer to the request that made it alone."""

    user: UserShown
    invitation: InvitationShown | UnsetType = UNSET

    def without_secrets(self) -> Self:
        if isinstance(self.invitation, UnsetType):
            return self
        return replace(self, invitation=InvitationShown(expires_at=self.invitation.expires_at))


class Users(_Answer, kw_only=True, frozen=True):
    users: list[UserShown]


class ApiClient(_Answer, kw_only=True, frozen=True):
    api_client: OrganizationShown


class CreatedApiClient(ApiClient, kw_only=True, frozen=True):
    api_key: ApiKeyShown

    def without_secrets(self) -> Self:
        return replace(self, api_key=self.api_key.without_secrets())


class ApiClients(_Answer, kw_only=True, frozen=True):
    api_clients: list[OrganizationShown]


class Organization(_Answer, kw_only=True, frozen=True):
    organization: OrganizationShown


class CreatedOrganization(Organization, kw_only=True, frozen=True):
    api_key: ApiKeyShown

    def without_secrets(self) -> Self:
        return replace(self, api_key=self.api_key.without_secrets())


class Organizations(_Answer, kw_only=True, frozen=True):
    organizations: list[OrganizationShown]


class ApiKey(_Answer, kw_only=True, frozen=True):
    api_key: ApiKeyShown

    def without_secrets(self) -> Self:
        return replace(self, api_key=self.api_key.without_secrets())


class ApiKeys(_Answer, kw_only=True, frozen=True):
    api_keys: list[ApiKeyShown]


class HttpsChallenge(msgspec.Struct, frozen=True):
    """The file that must be found. `context_path` has no outer slashes."""

    file_content: str
    file_name: str
    context_path: str
    created_at: int
    expires_at: int


class ChallengeShown(msgspec.Struct, frozen=True):
    https: HttpsChallenge


class VerificationShown(msgspec.Struct, frozen=True):
    """`verified_at` is 0 until it is verified, `checked_at` before the first check, `last_error` empty without one."""

    verified: bool
    verified_at: int
    checked_at: int
    last_error: str


class DomainShown(_Shown, kw_only=True, frozen=True):
    hostname: str
    port: int
    challenge: ChallengeShown
    verification: VerificationShown


class Domain(_Answer, kw_only=True, frozen=True):
    domain: DomainShown


class Domains(_Answer, kw_only=True, frozen=True):
    domains: list[DomainShown]


class Reference(msgspec.Struct, frozen=True):
    id: str
    alias: str
    name: str


class QueueMessages(msgspec.Struct, frozen=True):
    """`last_published_at` is 0 before the first message."""

    published_count: int
    last_published_at: int


class RetryShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What was chosen of a retry policy."""

    schedule: list[int] | UnsetType = UNSET
    jitter: float | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    final_statuses: list[int | str] | UnsetType = UNSET


class PolicyShown(msgspec.Struct, kw_only=True, frozen=True):
    """A whole retry policy."""

    schedule: list[int]
    jitter: float
    attempts: int
    final_statuses: list[str]


class RateLimitShown(msgspec.Struct, frozen=True):
    per_second: float
    burst: int


class EffectiveShown(msgspec.Struct, kw_only=True, frozen=True):
    """What holds for a listener's requests: its own choice, its queue's, or the service's."""

    timeout: int | UnsetType = UNSET
    lease_seconds: int | UnsetType = UNSET
    max_in_flight: int
    retry: PolicyShown
    format: str
    rate_limit: RateLimitShown | UnsetType = UNSET


class QueueShown(_Shown, kw_only=True, frozen=True):
    """`retention` (seconds) and `max_message_bytes` are there when they were set. `listeners` are the first 100.

    With a schema, `schema` or `json_schema` is as it was sent, and `schema_id` is there.
    """

    ordered: bool
    on_missed: str
    listeners: list[Reference]
    messages: QueueMessages
    retention: int | UnsetType = UNSET
    max_message_bytes: int | UnsetType = UNSET
    schema: msgspec.Raw | UnsetType = UNSET
    json_schema: msgspec.Raw | UnsetType = UNSET
    schema_id: str | UnsetType = UNSET
    retry: RetryShown | UnsetType = UNSET


class Queue(_Answer, kw_only=True, frozen=True):
    queue: QueueShown


class Queues(_Answer, kw_only=True, frozen=True):
    queues: list[QueueShown]


class TopicShown(_Shown, kw_only=True, frozen=True):
    channels: list[Reference]


class Topic(_Answer, kw_only=True, frozen=True):
    topic: TopicShown


class Topics(_Answer, kw_only=True, frozen=True):
    topics: list[TopicShown]


class ChannelShown(_Shown, kw_only=True, frozen=True):
    """Without a pattern, or a filter, messages of every subject, or every message, go this way."""

    topic_id: str
    queue_id: str
    pattern: str | UnsetType = UNSET
    filter: msgspec.Raw | UnsetType = UNSET


class Channel(_Answer, kw_only=True, frozen=True):
    channel: ChannelShown


class Channels(_Answer, kw_only=True, frozen=True):
    channels: list[ChannelShown]


class QueueSchema(_Answer, kw_only=True, frozen=True):
    """`schema` is the schema itself, as it was sent; what is known of it stands beside it."""

    schema: msgspec.Raw
    id: str
    queue_id: str
    language: Literal["rules", "json_schema"]
    created_at: int
    updated_at: int


class Liveness(msgspec.Struct, frozen=True):
    """The counts are totals. What there was not yet is 0, or an empty text."""

    state: str
    success_count: int
    failure_count: int
    last_success_at: int
    last_failure_at: int
    last_failure_status: int
    last_failure_msg: str


class ListenerMessages(msgspec.Struct, frozen=True):
    """`missed` are ids, newest first, at most 100."""

    acknowledged_count: int
    missed: tuple[str, ...]
    missed_count: int
    pending_count: int
    last_success_at: int
    last_failure_at: int


class AuthenticationShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How the service shows the listener who it is, without what is secret of it."""

    type: str
    username: str | UnsetType = UNSET
    token_url: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    audience: str | UnsetType = UNSET
    certificate: str | UnsetType = UNSET


class ListenerShown(_Shown, kw_only=True, frozen=True):
    """`secret` is there in the answer to its creation alone, options where they were chosen, and URLs unless its
    mode is pull.
    """

    queue_id: str
    status: str
    mode: str
    notify_url: str | UnsetType = UNSET
    liveness_url: str | UnsetType = UNSET
    liveness: Liveness
    messages: ListenerMessages
    effective: EffectiveShown
    lease_seconds: int | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    timeout: int | UnsetType = UNSET
    max_in_flight: int | UnsetType = UNSET
    rate_limit: RateLimitShown | UnsetType = UNSET
    retry: RetryShown | UnsetType = UNSET
    filter: msgspec.Raw | UnsetType = UNSET
    format: str | UnsetType = UNSET
    authentication: AuthenticationShown | UnsetType = UNSET
    secret: str | UnsetType = UNSET


class PulledShown(msgspec.Struct, kw_only=True, frozen=True):
    """A message that was handed out. `data` is what listeners receive, as a string; `receipt` stands for its lease."""

    id: str
    stored_at: int
    data: str
    content_type: str
    attempt: int
    receipt: str
    leased_until: int
    key: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET


class Pulled(_Answer, kw_only=True, frozen=True):
    messages: list[PulledShown]


class ReceiptShown(msgspec.Struct, frozen=True):
    """What became of what was said of a message."""

    receipt: str
    state: str


class Receipts(_Answer, kw_only=True, frozen=True):
    receipts: list[ReceiptShown]


class Listener(_Answer, kw_only=True, frozen=True):
    listener: ListenerShown

    def without_secrets(self) -> Self:
        return replace(self, listener=replace(self.listener, secret=UNSET))


class Listeners(_Answer, kw_only=True, frozen=True):
    listeners: list[ListenerShown]


class SecretShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """`secret` is there in the answer to its creation alone, `public_key` for a key pair. `expires_at` 0: no end."""

    id: str
    type: str
    fingerprint: str
    created_at: int
    updated_at: int
    expires_at: int
    public_key: str | UnsetType = UNSET
    secret: str | UnsetType = UNSET


class Secret(_Answer, kw_only=True, frozen=True):
    secret: SecretShown

    def without_secrets(self) -> Self:
        return replace(self, secret=replace(self.secret, secret=UNSET))


class Secrets(_Answer, kw_only=True, frozen=True):
    secrets: list[SecretShown]


class ConditionShown(msgspec.Struct, frozen=True):
    """`pointer` says which condition of the filter it is."""

    pointer: str
    holds: bool


class FilterTestShown(msgspec.Struct, kw_only=True, frozen=True):
    """Whether a filter lets a message through, and what each of its conditions says on its own."""

    matches: bool
    conditions: list[ConditionShown]


class FilterTest(_Answer, kw_only=True, frozen=True):
    filter_test: FilterTestShown


class MissedShown(msgspec.Struct, kw_only=True, frozen=True):
    """A message that a listener has missed."""

    id: str
    alias: str
    name: str
    stored_at: int
    missed_at: int
    reason: str
    attempts: int


class Missed(_Answer, kw_only=True, frozen=True):
    missed: list[MissedShown]


class RedeliveryCounts(msgspec.Struct, frozen=True):
    """Of deliveries: chosen at the beginning, made due again, and those whose messages were deleted."""

    selected: int
    redelivered: int
    gone: int


class RedeliveryShown(_Shown, kw_only=True, frozen=True):
    """`alias` and `name` are its id."""

    queue_id: str
    listener_id: str
    state: str
    counts: RedeliveryCounts
    ended_at: int
    pace: int | UnsetType = UNSET


class DryRun(msgspec.Struct, frozen=True):
    """What would be chosen. The ids are empty when it is nothing."""

    selected: int
    first_message: str
    last_message: str


class Redelivery(_Answer, kw_only=True, frozen=True):
    redelivery: RedeliveryShown


class AskedRedelivery(_Answer, kw_only=True, frozen=True, omit_defaults=True):
    """`dry_run` in place of the redelivery where one was asked for."""

    redelivery: RedeliveryShown | UnsetType = UNSET
    dry_run: DryRun | UnsetType = UNSET


class Redeliveries(_Answer, kw_only=True, frozen=True):
    redeliveries: list[RedeliveryShown]


class ReplayCounts(msgspec.Struct, frozen=True):
    """Of messages."""

    selected: int
    delivered: int
    failed: int
    expired: int
    retrying: int
    remaining: int


class ReplayShown(_Shown, kw_only=True, frozen=True):
    """`alias` and `name` are its id."""

    queue_id: str
    listener_id: str
    state: str
    counts: ReplayCounts
    ended_at: int
    pace: int | UnsetType = UNSET
    filter: msgspec.Raw | UnsetType = UNSET


class Replay(_Answer, kw_only=True, frozen=True):
    replay: ReplayShown


class AskedReplay(_Answer, kw_only=True, frozen=True, omit_defaults=True):
    """`dry_run` in place of the replay where one was asked for."""

    replay: ReplayShown | UnsetType = UNSET
    dry_run: DryRun | UnsetType = UNSET


class Replays(_Answer, kw_only=True, frozen=True):
    replays: list[ReplayShown]


class DeliveryShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """`last_status` is 0 where no answer was read. A retrying one has `next_attempt_at`, a missed one its reason."""

    listener_id: str
    state: str
    attempts: int
    last_status: int
    next_attempt_at: int | UnsetType = UNSET
    missed_reason: str | UnsetType = UNSET
    blocked_by: str | UnsetType = UNSET


class Deliveries(_Answer, kw_only=True, frozen=True):
    deliveries: list[DeliveryShown]


class HeaderShown(msgspec.Struct, frozen=True):
    """One line of a head."""

    name: str
    value: str


class RequestShown(msgspec.Struct, frozen=True):
    """What was sent, besides the message's data."""

    headers: list[HeaderShown]


class ResponseShown(msgspec.Struct, frozen=True):
    """What was answered. Of a body that is not UTF-8, some characters stand for others."""

    headers: list[HeaderShown]
    body: str
    body_bytes: int


class ConnectionShown(msgspec.Struct, frozen=True):
    """Where the request went."""

    address: str
    reused: bool


class TimingsShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long each stage took, in milliseconds. What was not come to, or was not needed, is not there."""

    resolve_ms: int | UnsetType = UNSET
    connect_ms: int | UnsetType = UNSET
    tls_ms: int | UnsetType = UNSET
    first_byte_ms: int | UnsetType = UNSET
    total_ms: int


class AttemptShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields after `replay_id` are those of a single attempt alone, and of one whose details were kept.

    Without a `message_id`, the message is not kept any more.
    """

    id: str
    message_id: str | UnsetType = UNSET
    listener_id: str
    number: int
    state: str
    status: int
    error: str
    detail: str
    took_ms: int
    started_at: int
    created_at: int
    replay_id: str | UnsetType = UNSET
    next_attempt_at: int | UnsetType = UNSET
    connection: ConnectionShown | UnsetType = UNSET
    timings: TimingsShown | UnsetType = UNSET
    request: RequestShown | UnsetType = UNSET
    response: ResponseShown | UnsetType = UNSET


class Attempt(_Answer, kw_only=True, frozen=True):
    attempt: AttemptShown


class Attempts(_Answer, kw_only=True, frozen=True):
    attempts: list[AttemptShown]


class DeliveryTestShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a test. Of one that is `withheld`, `request` alone is there of the fields after that."""

    message_id: str
    started_at: int
    state: str
    error: str
    status_class: str
    withheld: bool
    status: int | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    took_ms: int | UnsetType = UNSET
    connection: ConnectionShown | UnsetType = UNSET
    timings: TimingsShown | UnsetType = UNSET
    request: RequestShown | UnsetType = UNSET
    response: ResponseShown | UnsetType = UNSET


class DeliveryTest(_Answer, kw_only=True, frozen=True):
    test: DeliveryTestShown


class MessageShown(_Shown, kw_only=True, frozen=True):
    """`data` is what listeners receive, as a string; options are there where they were chosen."""

    data: str | UnsetType = UNSET
    deliver_at: int | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET
    key: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    retry: RetryShown | UnsetType = UNSET
    subject: str | UnsetType = UNSET
    deliveries: list[DeliveryShown] | UnsetType = UNSET


class Message(_Answer, kw_only=True, frozen=True):
    message: MessageShown


class Messages(_Answer, kw_only=True, frozen=True):
    messages: list[MessageShown]


class RunShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A run that published has its message, one that was skipped the reason."""

    scheduled_at: int
    ran_at: int
    state: str
    message_id: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class ScheduleShown(_Shown, kw_only=True, frozen=True):
    """`data` is what listeners receive, as a string: not in lists. What was not chosen, or was not yet, is left out."""

    queue_id: str
    status: str
    cron: str
    time_zone: str
    missed_runs: str
    catch_up_limit: int
    next_runs: list[int]
    last_run: RunShown | UnsetType = UNSET
    starts_at: int | UnsetType = UNSET
    ends_at: int | UnsetType = UNSET
    data: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    retry: RetryShown | UnsetType = UNSET
    expires_in: int | UnsetType = UNSET


class Schedule(_Answer, kw_only=True, frozen=True):
    schedule: ScheduleShown


class Schedules(_Answer, kw_only=True, frozen=True):
    schedules: list[ScheduleShown]


class TopicMessageShown(_Shown, kw_only=True, frozen=True):
    """`queues` are the ids of those that it went into: none where no channel let it through."""

    queues: list[str]


class TopicMessage(_Answer, kw_only=True, frozen=True):
    message: TopicMessageShown


class TopicMessages(_Answer, kw_only=True, frozen=True):
    messages: list[TopicMessageShown]


class UsageCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many events of each type there were."""

    api_key_added: int = 0
    api_key_updated: int = 0
    api_key_deleted: int = 0
    queue_added: int = 0
    queue_updated: int = 0
    queue_deleted: int = 0
    listener_added: int = 0
    listener_updated: int = 0
    listener_deleted: int = 0
    message_added: int = 0
    message_published_ok: int = 0
    message_published_not_ok: int = 0


class UsageWindows(msgspec.Struct, frozen=True):
    """Today begins at midnight UTC."""

    last_24_hours: UsageCounts
    last_1_hours: UsageCounts
    today_so_far: UsageCounts


class Statistics(_Answer, kw_only=True, frozen=True):
    aggregated_api_usage_events: UsageWindows


class EventClient(msgspec.Struct, frozen=True):
    """The organization."""

    id: str


class EventSubject(msgspec.Struct, frozen=True):
    id: str
    name: str


class EventShown(msgspec.Struct, frozen=True, kw_only=True):
    """What it happened to stands under the name of its sort. `api_key_id` is the key that did it, if it is known."""

    id: str
    type: str
    stored_at: int
    client: EventClient
    api_key_id: str | UnsetType = UNSET
    message: EventSubject | UnsetType = UNSET
    api_key: EventSubject | UnsetType = UNSET
    queue: EventSubject | UnsetType = UNSET
    listener: EventSubject | UnsetType = UNSET
    organization: EventSubject | UnsetType = UNSET
    domain: EventSubject | UnsetType = UNSET
    user: EventSubject | UnsetType = UNSET
    topic: EventSubject | UnsetType = UNSET
    channel: EventSubject | UnsetType = UNSET
    address: EventSubject | UnsetType = UNSET


class Events(_Answer, kw_only=True, frozen=True):
    events: list[EventShown]


class RateShown(msgspec.Struct, frozen=True):
    """Requests a minute. `reset_at` is in milliseconds; 2147483647 stands for any number."""

    limit: int
    remaining: int
    reset_at: int


class QuotaShown(msgspec.Struct, frozen=True):
    """`limit` is null where there is none. Without one, queues and listeners are counted up to 10,000."""

    limit: int | None
    used: int


class QuotasUsed(msgspec.Struct, frozen=True):
    queues: QuotaShown
    listeners: QuotaShown
    messages_a_day: QuotaShown
    bytes_stored: QuotaShown


class LimitsShown(msgspec.Struct, frozen=True):
    """What the key, its organization and a request may come to. Sizes are in bytes, `retention` is in seconds."""

    rate_limit: RateShown
    quotas: QuotasUsed
    retention: int
    max_message_bytes: int
    max_batch_messages: int
    max_batch_bytes: int
    max_per_page: int


class Limits(_Answer, kw_only=True, frozen=True):
    limits: LimitsShown


class ServiceShown(_Answer, kw_only=True, frozen=True):
    name: str
    version: str


class OpenApiDocument(msgspec.Struct, frozen=True):
    """This document."""

    openapi: str
    info: dict[str, object]
    servers: list[object]
    tags: list[object]
    paths: dict[str, object]
    components: dict[str, object]


class Health(_Answer, kw_only=True, frozen=True):
    status: str
