"""The words that the parts of the service exchange. Plain values; nothing here does anything."""

from typing import Literal

import msgspec

from discue.domain.attempt_trace import Trace


class RetryOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What somebody chose of a retry policy; None leaves it to whoever chooses in general.

    `schedule` are the delays between attempts in seconds, `final_statuses` statuses and classes of them (`"4xx"`)
    after which there is no other attempt.
    """

    schedule: tuple[int, ...] | None = None
    jitter: float | None = None
    attempts: int | None = None
    final_statuses: tuple[int | str, ...] | None = None


class RateLimit(msgspec.Struct, frozen=True):
    """At most `burst` at once, and `per_second` in the long run."""

    per_second: float
    burst: int


DeliveryFormat = Literal["plain", "cloudevents_binary", "cloudevents_structured"]
"""How a listener's requests carry a message: its data as it is, or as a CloudEvent."""


AuthenticationType = Literal["basic", "oauth2", "certificate"]


class Authentication(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the service shows a listener who it is, without what is secret of it. What a type has not is "".

    `certificate` is one in PEM, with those that lead to its issuer.
    """

    type: AuthenticationType
    username: str = ""
    token_url: str = ""
    client_id: str = ""
    scope: str = ""
    audience: str = ""
    certificate: str = ""


class DeliveryOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a listener wants its requests, where it wants them otherwise than the service makes them.

    `headers` are sent besides those of the service. `filter` is the text of which messages it wants, as it was sent.
    `lease_seconds` is for how long a message that is pulled is handed out.
    """

    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: int | None = None
    max_in_flight: int | None = None
    rate_limit: RateLimit | None = None
    retry: RetryOptions | None = None
    filter: str | None = None
    format: DeliveryFormat = "plain"
    lease_seconds: int | None = None
    authentication: Authentication | None = None

    def __repr__(self) -> str:
        # Headers may hold what somebody else must not know.
        return f"DeliveryOptions(timeout_seconds={self.timeout_seconds}, max_in_flight={self.max_in_flight})"


class MessageOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a producer asked for with one message. `key` is what its order is kept by.

    `deliver_at` is when it is due, where that is later than its publishing. `media_type` is there of what was
    published as a CloudEvent: what its data is, and "" without any.
    With its `subject` it was published to a topic.
    """

    headers: tuple[tuple[str, str], ...] = ()
    key: str | None = None
    retry: RetryOptions | None = None
    deliver_at: int | None = None
    media_type: str | None = None
    subject: str | None = None

    def __repr__(self) -> str:
        return f"MessageOptions(key={self.key!r})"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message of a queue's log, as lanes read it.

    `expires_at` is 0 where it never does. `extra` are its options as they are stored, empty where it has none.
    `key_hash` is None without a key. One that `waits` is not due yet, and has no body here: it is appended again when
    it is. Then `origin_seq` is where it stood, else 0.
    """

    seq: int
    id: str
    stored_at: int
    is_json: bool
    body: bytes
    expires_at: int = 0
    key_hash: int | None = None
    extra: bytes = b""
    waits: bool = False
    origin_seq: int = 0


FailureKind = Literal[
    "",
    "status",
    "redirect",
    "resolve",
    "refused_address",
    "connect",
    "connect_timeout",
    "tls",
    "timeout",
    "reset",
    "protocol",
    "response_too_large",
    "authentication",
    "internal",
    "rejected",
    "lease_expired",
]
"""Why an attempt failed: "" for one that did not. `status` and `redirect` mean that a whole answer was read,
`authentication` that the service had nothing to show the listener who it is with. What was pulled was `rejected`, or
not answered until its lease was over."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one attempt brought.

    `status` is 0 when no status line was read. `error` is "" exactly when the attempt was acknowledged
    (any 2xx). `detail` is one short sentence for people, and never contains a secret or more of an
    answer than its status. `retry_after_seconds` is set for 429 and 503 only. `trace` is there where somebody wants it.
    """

    status: int
    error: FailureKind
    detail: str
    took_ms: int
    retry_after_seconds: int | None = None
    no_retry: bool = False
    excerpt: bytes = b""
    trace: Trace | None = None

    @property
    def acknowledged(self) -> bool:
        return self.error == ""


DeliveryState = Literal["acknowledged", "pending", "retrying", "missed", "filtered"]
"""`filtered` is what the listener's filter did not let through: there was nothing to deliver."""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """The record of one HTTP try: `number` counts from 1 within a delivery.

    That of a replay has the row id of it.
    """

    id: int
    organization: int
    listener: int
    queue: int
    seq: int
    number: int
    status: int
    error: str
    took_ms: int
    detail: str = ""
    replay: int | None = None


AttemptState = Literal["acknowledged", "failed"]


class StoredAttempt(msgspec.Struct, frozen=True):
    """One attempt as the API shows it.

    `message_id` is "" when the message is not kept any more, `replay_id` when the attempt was of no replay.
    """

    id: str
    made_at: int
    listener_public_id: str
    message_id: str
    number: int
    status: int
    error: str
    detail: str
    took_ms: int
    replay_id: str = ""

    @property
    def state(self) -> AttemptState:
        return "failed" if self.error else "acknowledged"


class Organization(msgspec.Struct, frozen=True):
    """The tenant. `settings` are the operator's choices for it; the operator's own organization is the first."""

    id: int
    public_id: str
    alias: str
    state: Literal["active", "suspended"]
    is_operator: bool
    settings: dict[str, int | bool]
    created_at: int
    updated_at: int


class ApiKey(msgspec.Struct, frozen=True):
    """A key without its secret: of that, only the hash is kept."""

    organization: int
    id: int
    public_id: str
    alias: str
    status: Literal["enabled", "disabled"]
    scopes: str
    expires_at: int
    last_used_at: int
    created_at: int
    updated_at: int
    secret_hash: bytes = b""

    def __repr__(self) -> str:
        return f"ApiKey(organization={self.organization}, public_id={self.public_id!r}, status={self.status!r})"


SchemaLanguage = Literal["rules", "json_schema"]

OnMissed = Literal["pass", "block"]
"""What a message of an ordered queue that is missed does to its key: it lets the next one pass, or blocks it."""


class Queue(msgspec.Struct, frozen=True):
    """A log of messages. `retention_seconds` and `max_message_bytes` are None where the setting decides.

    `schema` is the text of its schema as it was sent; None, as `schema_id`, where there is none.
    """

    organization: int
    id: int
    public_id: str
    alias: str
    retention_seconds: int | None
    max_message_bytes: int | None
    config_version: int
    created_at: int
    updated_at: int
    schema: str | None = None
    schema_id: str | None = None
    schema_language: SchemaLanguage = "rules"
    schema_set_at: int = 0
    retry: RetryOptions | None = None
    ordered: bool = False
    on_missed: OnMissed = "pass"


class Topic(msgspec.Struct, frozen=True):
    """What messages are published to that go by channels into queues.

    `routes_version` is another one after each change of what its channels say.
    """

    organization: int
    id: int
    public_id: str
    alias: str
    routes_version: int
    created_at: int
    updated_at: int


class Channel(msgspec.Struct, frozen=True):
    """A way from a topic into a queue, for the messages that its pattern and its filter let through. None: all."""

    organization: int
    id: int
    public_id: str
    topic: int
    topic_public_id: str
    queue: int
    queue_public_id: str
    alias: str
    pattern: str | None
    filter: str | None
    created_at: int
    updated_at: int


ListenerMode = Literal["push", "pull"]
"""Whether messages are sent to a listener, or handed out when it asks for them."""


class Listener(msgspec.Struct, frozen=True):
    """A consumer registered on a queue. `secrets` are its signing secrets as they are stored.

    One in the mode `pull` has neither URLs nor secrets.

    `queue_retry` is what its queue says of the retry policy.
    """

    organization: int
    id: int
    public_id: str
    queue: int
    queue_public_id: str
    alias: str
    status: Literal["enabled", "disabled"]
    notify_url: str
    liveness_url: str
    config_version: int
    created_at: int
    updated_at: int
    secrets: bytes = b"[]"
    options: DeliveryOptions = DeliveryOptions()
    queue_retry: RetryOptions | None = None
    mode: ListenerMode = "push"

    def __repr__(self) -> str:
        return f"Listener(organization={self.organization}, public_id={self.public_id!r}, alias={self.alias!r})"


class CursorCounts(msgspec.Struct, frozen=True):
    """What a listener's cursor has counted, and where it stands in its queue's log."""

    head: int
    position: int
    settled_ahead: int
    acknowledged: int
    missed: int
    retrying: int
    last_success_at: int
    last_failure_at: int

    @property
    def pending(self) -> int:
        """Deliveries neither acknowledged nor missed: O(1), never a count of rows."""
        return self.head - self.position - self.settled_ahead + self.retrying


LivenessState = Literal["unknown", "stable", "unstable", "inactive"]


class Liveness(msgspec.Struct, frozen=True, gc=False):
    """What probing a listener's liveness URL has said. The counts are totals; instants are 0 where there was nothing.

    `in_a_row` is positive after successes, negative after failures, and says no more than what the rule asks for.
    `last_failure_status` is 0 where no answer was read.
    """

    state: LivenessState = "unknown"
    success_count: int = 0
    failure_count: int = 0
    last_success_at: int = 0
    last_failure_at: int = 0
    last_failure_status: int = 0
    last_failure_msg: str = ""
    in_a_row: int = 0


class StoredMessage(msgspec.Struct, frozen=True):
    """One message as the API shows it. `alias` is the id where none was given, `expires_at` 0 without one.

    `stored_at` is when it was published. One that `waits` is not due yet. `origin_seq` is where it was published: its
    `seq`, unless it was due later.
    """

    organization: int
    queue: int
    queue_public_id: str
    seq: int
    id: str
    alias: str
    stored_at: int
    updated_at: int
    is_json: bool
    body: bytes = b""
    expires_at: int = 0
    options: MessageOptions = MessageOptions()
    waits: bool = False
    origin_seq: int = 0


class Delivery(msgspec.Struct, frozen=True):
    """One listener's obligation for one message, as the API shows it.

    `next_attempt_at` is when a retrying one may be tried again, 0 for others; `reason` is why one was missed.
    `blocked_by` is the id of the message that one waits behind.
    """

    listener_public_id: str
    state: DeliveryState
    attempts: int
    last_status: int
    next_attempt_at: int = 0
    reason: str = ""
    blocked_by: str = ""


class Challenge(msgspec.Struct, frozen=True):
    """What must be found on a domain: a file with this content, at `context_path` (without outer slashes)."""

    context_path: str
    file_name: str
    file_content: str
    created_at: int
    expires_at: int


class Verification(msgspec.Struct, frozen=True):
    """What is known of a domain's challenge. Instants are 0 where there was nothing yet.

    `failures` are those since it was last found in order, the first of them at `failed_since`; `last_error` is "" when
    there are none. `due_at` is when the service looks next by itself, None when it does not.
    """

    verified: bool = False
    verified_at: int = 0
    failures: int = 0
    failed_since: int = 0
    last_error: str = ""
    tried_at: int = 0
    checked_at: int = 0
    due_at: int | None = None


class Domain(msgspec.Struct, frozen=True):
    """A host and port that an organization says is its own. `host_key` is the hostname as DNS knows it."""

    organization: int
    id: int
    public_id: str
    alias: str
    hostname: str
    host_key: str
    port: int
    challenge: Challenge
    verification: Verification
    config_version: int
    created_at: int
    updated_at: int


Role = Literal["owner", "admin", "developer", "viewer"]


class User(msgspec.Struct, frozen=True):
    """A member of an organization. Without a `password_hash` nobody has accepted an invitation yet."""

    organization: int
    id: int
    public_id: str
    email: str
    display_name: str
    role: Role
    created_at: int
    updated_at: int
    password_hash: str | None = None
    invitation_hash: bytes | None = None
    invitation_expires_at: int = 0

    @property
    def state(self) -> Literal["invited", "active"]:
        return "invited" if self.password_hash is None else "active"

    @property
    def is_active_owner(self) -> bool:
        return self.role == "owner" and self.state == "active"

    def __repr__(self) -> str:
        return f"User(organization={self.organization}, public_id={self.public_id!r}, role={self.role!r})"


MISSED_REASONS = ("attempts_used_up", "expired", "final_status", "no_retry", "too_old")
"""Why a delivery is missed: no attempt is left, the message expired, the retry policy calls the answer final, the
listener wanted no more, or it waited too long."""


class MissedSelection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which of a listener's missed deliveries: those of some messages, or those of a reason, or all.

    `seqs` are in rising order.
    """

    seqs: tuple[int, ...] | None = None
    reason: str | None = None


class Redelivery(msgspec.Struct, frozen=True):
    """Missed deliveries of a listener that are made due again.

    Of the chosen ones up to `position` all are; none is beyond `until_seq`. `selected` is how many there were at the
    beginning, as far as they were counted; `gone` are those whose messages were deleted. `pace` is in messages a
    second.
    """

    organization: int
    id: int
    public_id: str
    listener: int
    state: Literal["waiting", "running", "done"]
    chosen: MissedSelection
    position: int
    until_seq: int
    selected: int
    created_at: int
    updated_at: int
    pace: int | None = None
    redelivered: int = 0
    gone: int = 0
    ended_at: int | None = None


class ReplaySpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replay leaves out: `filter` is its text, as it was sent."""

    filter: str | None = None


class Replay(msgspec.Struct, frozen=True):
    """A part of a queue's log that is delivered to one listener once more, from `from_seq` to `until_seq`.

    Its row id is the stream of its cursor, and in another form its public id. `selected` is how many seqs there were at
    the beginning. Up to `position` each message is delivered, has failed for good, has expired, was left out, or is
    among those that are `retrying`.
    `pace` is in messages a second.
    """

    organization: int
    id: int
    public_id: str
    listener: int
    state: Literal["waiting", "running", "done"]
    from_seq: int
    until_seq: int
    position: int
    selected: int
    created_at: int
    updated_at: int
    pace: int | None = None
    spec: ReplaySpec = ReplaySpec()
    delivered: int = 0
    failed: int = 0
    expired: int = 0
    retrying: int = 0
    ended_at: int | None = None

    @property
    def remaining(self) -> int:
        """At most so many are still to be delivered."""
        return 0 if self.ended_at is not None else self.until_seq - self.position + self.retrying
