-- The schema of the first release. Until then, this file is edited in place: a database of another build is refused.
-- docs/architecture/schema.md shows how the tables relate.
--
-- $$bytes, $$text, $$clustered, $$hot, $$key, $$clock, $$body_start and $$intake are filled in by the engine: the type of a
-- byte string, of a text that is compared byte by byte, a table stored in the order of its primary key, a small table whose rows change at
-- every commit, the type of an integer that is the whole key, and what only one engine has.
--
-- A table is clustered only if its rows are short. To compare keys of a clustered table, SQLite reads whole rows: if a
-- row overflows its page, each comparison on the way to another row reads all of it.
--
-- `public_id` is the id that clients see; `id` and references are row ids. Times are milliseconds since the epoch.
-- Planners: a condition such as `WHERE queue IS NOT NULL` on a column that is never null makes an index partial, so
-- that only statements that name the column use it. If a planner assumes an empty table, all indexes cost the same, and
-- it would use such an index instead of the primary key.

$clock

-- Identifies the keys that encrypt secrets; '' until the first secret is stored.
INSERT INTO meta (key, value) VALUES ('encryption', '');

-- ---------------------------------------------------------------------------------------------------------------------
-- Workers and what they tell each other
-- ---------------------------------------------------------------------------------------------------------------------

-- A worker is one run of one process. `lease_until` follows `clock_ms()`, the database's clock. A worker that
-- `is_leaving` claims no more cursors.
CREATE TABLE worker (
    session_id BIGINT NOT NULL PRIMARY KEY,
    lease_until BIGINT NOT NULL,
    lease_ms BIGINT NOT NULL DEFAULT 10000,
    slot BIGINT NOT NULL DEFAULT 0,
    is_leaving BIGINT NOT NULL DEFAULT 0,
    dead BIGINT NOT NULL DEFAULT 0,
    role $text NOT NULL
) $clustered;

-- Changes of the control plane, which every worker follows.
CREATE TABLE feed (
    shard BIGINT NOT NULL,
    version BIGINT NOT NULL,
    kind $text NOT NULL,
    organization BIGINT NOT NULL,
    ref BIGINT NOT NULL,
    PRIMARY KEY (shard, version)
) $clustered;

CREATE TABLE feed_head (
    shard BIGINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
) $hot;

INSERT INTO feed_head (shard, version) VALUES (0, 0);

-- ---------------------------------------------------------------------------------------------------------------------
-- Organizations, keys and users
-- ---------------------------------------------------------------------------------------------------------------------

-- `founder` is the tenant that created the organization, whose limits, quotas and suspension apply to both; 0: the
-- operator did.
CREATE TABLE organization (
    id BIGINT NOT NULL PRIMARY KEY,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    state $text NOT NULL,
    is_operator BIGINT NOT NULL,
    founder BIGINT NOT NULL DEFAULT 0,
    settings $text NOT NULL,
    retry $text,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX organization_alias ON organization (alias) WHERE deleted_at IS NULL AND alias IS NOT NULL;
-- Each attempt with a key that does not exist reads the operator's organization.
CREATE INDEX organization_operator ON organization (is_operator, id) WHERE is_operator = 1 AND deleted_at IS NULL;
CREATE INDEX organization_founder ON organization (founder) WHERE founder > 0;

CREATE TABLE api_key (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    secret_hash $bytes NOT NULL,
    scopes $text NOT NULL,
    status $text NOT NULL,
    expires_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id),
    UNIQUE (organization, alias)
) $clustered;

CREATE TABLE organization_user (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    email $text NOT NULL,
    email_key $text NOT NULL,
    display_name $text NOT NULL,
    role $text NOT NULL,
    status $text NOT NULL DEFAULT 'enabled',
    password_hash $text,
    invitation_hash $bytes,
    invitation_expires_at BIGINT NOT NULL,
    has_identity BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id),
    UNIQUE (organization, email_key)
) $clustered;
CREATE INDEX organization_user_role ON organization_user (organization, role, id) WHERE role IS NOT NULL;
CREATE INDEX organization_user_email ON organization_user (email_key, id) WHERE email_key IS NOT NULL;
CREATE UNIQUE INDEX organization_user_invitation ON organization_user (invitation_hash)
    WHERE invitation_hash IS NOT NULL;

-- Accounts of users at identity providers (OpenID Connect).
CREATE TABLE user_identity (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    issuer $text NOT NULL,
    subject $text NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id),
    UNIQUE (organization, issuer, subject)
) $clustered;
CREATE INDEX user_identity_user ON user_identity (organization, user_id, id) WHERE user_id IS NOT NULL;

-- Second factors (TOTP), by the row id of their user. `confirmed_at` is 0 until the user has entered a first code;
-- `last_step` is the time step of the last code that was accepted. `secrets` are encrypted; recovery codes are hashes.
-- `failed_codes` is the number of wrong codes in a row; no code is accepted until `refused_until`.
CREATE TABLE second_factor (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    secrets $bytes NOT NULL,
    confirmed_at BIGINT NOT NULL,
    last_step BIGINT NOT NULL,
    recovery_codes $text NOT NULL,
    failed_codes BIGINT NOT NULL,
    refused_until BIGINT NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;

-- Sessions of browsers, by a hash of their token. `user_id` is 0, and `role` not empty, for a session without a user.
CREATE TABLE session (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    token_hash $bytes NOT NULL UNIQUE,
    user_id BIGINT NOT NULL,
    role $text NOT NULL,
    state $text NOT NULL,
    method $text NOT NULL,
    provider $text NOT NULL,
    address $text NOT NULL,
    user_agent $text NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    idle_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id)
) $hot;
CREATE INDEX session_of_user ON session (organization, user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX session_idle_at ON session (idle_at) WHERE idle_at IS NOT NULL;

-- One-time codes that are exchanged for a session.
CREATE TABLE sign_in_code (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    code_hash $bytes NOT NULL UNIQUE,
    user_id BIGINT NOT NULL,
    role $text NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;
CREATE INDEX sign_in_code_expires_at ON sign_in_code (expires_at) WHERE expires_at IS NOT NULL;

-- The origins whose pages may embed the portal of an organization, as JSON.
CREATE TABLE portal (
    organization BIGINT NOT NULL,
    frame_ancestors $text NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization)
) $clustered;

-- Themes of portal sessions, each stored once. `id` is a hash of the content, which is JSON.
CREATE TABLE portal_theme (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    content $text NOT NULL,
    PRIMARY KEY (organization, id)
);

-- Sessions of customers, found by a hash of the one-time code until they are opened, then by a hash of the browser's
-- token. `spec` is the grant of the session, as JSON; `theme` is 0 for the default theme. Until the session is opened,
-- `expires_at` is that of the code.
CREATE TABLE portal_session (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    customer $text NOT NULL,
    code_hash $bytes UNIQUE,
    token_hash $bytes UNIQUE,
    spec $text NOT NULL,
    created_at BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    theme BIGINT NOT NULL,
    PRIMARY KEY (organization, id)
);
CREATE INDEX portal_session_customer ON portal_session (organization, customer, id) WHERE customer IS NOT NULL;
CREATE INDEX portal_session_expires_at ON portal_session (expires_at) WHERE expires_at IS NOT NULL;

-- Failed attempts to authenticate, by a hash of the subject that they count against. `name` is the id of a key or the
-- email of a user, otherwise empty; `address` is the client's, empty for a user. `failed_at` is a JSON list of times.
CREATE TABLE lockout (
    subject BIGINT NOT NULL PRIMARY KEY,
    kind $text NOT NULL,
    name $text NOT NULL,
    address $text NOT NULL,
    failed_at $text NOT NULL,
    locks BIGINT NOT NULL,
    locked_until BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) $hot;
CREATE INDEX lockout_until ON lockout (locked_until);
CREATE INDEX lockout_updated_at ON lockout (updated_at);
CREATE INDEX lockout_name ON lockout (kind, name, locked_until);
CREATE INDEX lockout_address ON lockout (address);

CREATE TABLE domain (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    hostname $text NOT NULL,
    host_key $text NOT NULL,
    port BIGINT NOT NULL,
    context_path $text NOT NULL,
    file_name $text NOT NULL,
    file_content $text NOT NULL,
    challenge_created_at BIGINT NOT NULL,
    challenge_expires_at BIGINT NOT NULL,
    verified BIGINT NOT NULL,
    verified_at BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    failed_since BIGINT NOT NULL,
    last_error $text NOT NULL,
    tried_at BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    due_at BIGINT,
    config_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id),
    UNIQUE (organization, alias)
) $clustered;
CREATE INDEX domain_place ON domain (organization, host_key, port, verified) WHERE host_key IS NOT NULL;
CREATE INDEX domain_due ON domain (due_at, organization, id) WHERE due_at IS NOT NULL;

-- ---------------------------------------------------------------------------------------------------------------------
-- Queues, listeners, topics and schedules
-- ---------------------------------------------------------------------------------------------------------------------

-- The service publishes its own events to the queue that `is_system`. `customer` is '' for none, and never changes.
CREATE TABLE queue (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    customer $text NOT NULL DEFAULT '',
    ordered BIGINT NOT NULL DEFAULT 0,
    is_system BIGINT NOT NULL DEFAULT 0,
    settings $text NOT NULL,
    schema $text,
    schema_id $text,
    config_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    PRIMARY KEY (organization, id)
);
CREATE UNIQUE INDEX queue_alias ON queue (organization, alias) WHERE deleted_at IS NULL AND alias IS NOT NULL;
CREATE INDEX queue_customer ON queue (organization, customer, id) WHERE deleted_at IS NULL AND customer IS NOT NULL;

-- `disabled_by` is why a listener is disabled; '' if that is not known. `customer` is '' for none; in the queue of a
-- customer, it is that customer.
CREATE TABLE listener (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    queue BIGINT NOT NULL,
    alias $text NOT NULL,
    customer $text NOT NULL DEFAULT '',
    mode $text NOT NULL DEFAULT 'push',
    status $text NOT NULL,
    disabled_by $text NOT NULL DEFAULT '',
    status_changed_at BIGINT NOT NULL DEFAULT 0,
    notify_url $text NOT NULL,
    liveness_url $text NOT NULL,
    settings $text NOT NULL,
    secrets $bytes NOT NULL,
    config_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    PRIMARY KEY (organization, id)
);
CREATE INDEX listener_queue ON listener (organization, queue, id) WHERE queue IS NOT NULL;
CREATE INDEX listener_organization_alias ON listener (organization, alias, id) WHERE alias IS NOT NULL;
-- After the indexes above: of indexes that cost the same, PostgreSQL takes the one that was created last.
CREATE UNIQUE INDEX listener_alias ON listener (organization, queue, alias)
    WHERE deleted_at IS NULL AND alias IS NOT NULL;
CREATE INDEX listener_customer ON listener (organization, customer, id) WHERE customer IS NOT NULL;

-- What probes and deliveries have shown about a listener, written by the owner of its cursor. `state` holds for the URL
-- with this hash, and what is remembered of failed attempts for this version of the listener's configuration.
-- `changed_at` is when the listener last became inactive, or active again; 0: never.
CREATE TABLE liveness (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    url_hash BIGINT NOT NULL,
    config_version BIGINT NOT NULL,
    state $text NOT NULL,
    changed_at BIGINT NOT NULL DEFAULT 0,
    success_count BIGINT NOT NULL,
    failure_count BIGINT NOT NULL,
    last_success_at BIGINT NOT NULL,
    last_failure_at BIGINT NOT NULL,
    last_failure_status BIGINT NOT NULL,
    last_failure_msg $text NOT NULL,
    in_a_row BIGINT NOT NULL,
    failed_at BIGINT NOT NULL,
    failing_since BIGINT NOT NULL,
    swept_through BIGINT NOT NULL,
    sweep_until BIGINT NOT NULL,
    PRIMARY KEY (organization, listener)
) $hot;
CREATE INDEX liveness_inactive ON liveness (organization, listener) WHERE state = 'inactive';

-- What is published to a topic goes through its channels into queues. `routes_version` is raised by every change of its
-- channels.
CREATE TABLE topic (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    routes_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;
CREATE UNIQUE INDEX topic_alias ON topic (organization, alias) WHERE alias IS NOT NULL;

CREATE TABLE channel (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    topic BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    alias $text NOT NULL,
    pattern $text,
    filter $text,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id)
);
CREATE INDEX channel_topic ON channel (organization, topic, id) WHERE topic IS NOT NULL;
CREATE UNIQUE INDEX channel_queue ON channel (organization, queue, topic) WHERE queue IS NOT NULL;
CREATE UNIQUE INDEX channel_alias ON channel (organization, topic, alias) WHERE alias IS NOT NULL;

-- Endpoints for the webhooks of other services. `options` are those of the provider `hmac`, `refusals` is a list of the
-- last refused requests.
CREATE TABLE source (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    provider $text NOT NULL,
    queue BIGINT NOT NULL,
    options $text,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    refused BIGINT NOT NULL DEFAULT 0,
    refused_at BIGINT NOT NULL DEFAULT 0,
    secrets $bytes NOT NULL,
    refusals $bytes,
    PRIMARY KEY (organization, id)
);
CREATE UNIQUE INDEX source_alias ON source (organization, alias) WHERE alias IS NOT NULL;

-- The event types that an organization offers. The alias is the type of messages; `size` is that of the schema and the
-- example together.
CREATE TABLE event_type (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    status $text NOT NULL,
    size BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    description $text NOT NULL,
    json_schema $text,
    example $text,
    PRIMARY KEY (organization, id)
);
CREATE UNIQUE INDEX event_type_alias ON event_type (organization, alias) WHERE alias IS NOT NULL;

-- Messages that a queue gets again and again. `settings` says when, and what else belongs to each message; `size` is that
-- of `body`. `next_run_at` is null when no run is left.
CREATE TABLE schedule (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    queue BIGINT NOT NULL,
    alias $text NOT NULL,
    status $text NOT NULL,
    settings $text NOT NULL,
    codec BIGINT NOT NULL,
    size BIGINT NOT NULL,
    config_version BIGINT NOT NULL,
    next_run_at BIGINT,
    last_run $text,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    body $bytes NOT NULL,
    PRIMARY KEY (organization, id)
);
CREATE UNIQUE INDEX schedule_alias ON schedule (organization, queue, alias);
CREATE INDEX schedule_queue ON schedule (organization, queue, id);
CREATE INDEX schedule_organization_alias ON schedule (organization, alias, id) WHERE alias IS NOT NULL;
CREATE INDEX schedule_due ON schedule (next_run_at, organization, id) WHERE next_run_at IS NOT NULL;

-- Work that outlasts its request: removing the data of deleted resources, or erasing messages.
CREATE TABLE job (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    listener BIGINT,
    kind $text NOT NULL,
    spec $text NOT NULL,
    progress $text NOT NULL,
    state $text NOT NULL,
    PRIMARY KEY (organization, id)
);
CREATE INDEX job_state ON job (state, id);

-- ---------------------------------------------------------------------------------------------------------------------
-- The log
-- ---------------------------------------------------------------------------------------------------------------------

-- `head` is the last seq that was assigned, `tail` the last one that retention removed. `moved` counts the seqs that went
-- to messages which had one before: delayed messages that became due.
CREATE TABLE queue_head (
    organization BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    head BIGINT NOT NULL,
    tail BIGINT NOT NULL,
    moved BIGINT NOT NULL DEFAULT 0,
    last_stored_at BIGINT NOT NULL,
    config_version BIGINT NOT NULL,
    closed_at BIGINT,
    PRIMARY KEY (organization, queue)
) $hot;

-- The messages of all queues. `kind` is 1 for a delayed message that is not due. `published_at` and `origin_seq` are set
-- when a message gets its seq later than it was published. `size` is that of body and options (`extra`), or 0 for a system
-- event, which counts towards no quota. A row without `body` has it in the table `body`.
CREATE TABLE log (
    organization BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    id $text NOT NULL,
    stored_at BIGINT NOT NULL,
    published_at BIGINT,
    updated_at BIGINT,
    kind BIGINT NOT NULL DEFAULT 0,
    origin_seq BIGINT,
    key_hash BIGINT,
    alias $text,
    expires_at BIGINT,
    size BIGINT NOT NULL,
    codec BIGINT NOT NULL,
    body_id BIGINT,
    extra $bytes,
    body $bytes,
    PRIMARY KEY (organization, queue, seq)
) $clustered;
CREATE UNIQUE INDEX log_id ON log (organization, id, queue);
CREATE INDEX log_key ON log (organization, queue, key_hash, seq) WHERE key_hash IS NOT NULL;
CREATE INDEX log_alias ON log (organization, alias, queue, seq) WHERE alias IS NOT NULL;
CREATE INDEX log_alias_id ON log (organization, alias, id, queue) WHERE alias IS NOT NULL;

-- Bodies of messages that went into several queues; on SQLite, also all bodies that are too long for their row in the log
-- (PostgreSQL moves long values out of rows by itself). `uses` is how many rows of the log name the body; the last one that
-- is deleted removes it. Row by row, the ids ascend: on SQLite, they are row ids.
CREATE TABLE body (
    id $key NOT NULL PRIMARY KEY,
    organization BIGINT NOT NULL,
    size BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    bytes $bytes NOT NULL
);

$body_start

-- Messages that are not due yet. Each has a row of kind 1 in the log, which lanes step over. When it is due, that row gets
-- another seq, as if it were appended then, and this one is removed. `size` is that of the body. The hash of its key
-- is kept here meanwhile: nothing waits for a message that is not due.
CREATE TABLE scheduled (
    organization BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    origin_seq BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    key_hash BIGINT,
    PRIMARY KEY (organization, queue, origin_seq)
) $clustered;
CREATE INDEX scheduled_due ON scheduled (due_at, organization, queue, origin_seq);

-- Idempotency keys, as narrow as they can be: they are spread over the table, and each commit writes every page that it
-- changes. A key is the first half of its hash, which includes the organization.
CREATE TABLE idempotency_key (
    key $key NOT NULL PRIMARY KEY,
    response BIGINT NOT NULL
);

-- The responses to the first requests with these keys: many in one row, in the order in which they were stored.
CREATE TABLE idempotency_response (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    stored_at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    content $bytes NOT NULL,
    PRIMARY KEY (organization, id)
);

-- ---------------------------------------------------------------------------------------------------------------------
-- Deliveries
-- ---------------------------------------------------------------------------------------------------------------------

-- `stream` is 0 for live deliveries, or the id of a replay. Cursors whose messages are pulled have the owner -1;
-- `last_new_at` is when a new message was last handed out to a consumer, 0: never.
CREATE TABLE cursor (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    stream BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    owner BIGINT,
    token BIGINT NOT NULL,
    version BIGINT NOT NULL,
    start_seq BIGINT NOT NULL,
    until_seq BIGINT,
    position BIGINT NOT NULL,
    ahead $bytes,
    acknowledged BIGINT NOT NULL,
    missed BIGINT NOT NULL,
    retrying BIGINT NOT NULL,
    last_success_at BIGINT NOT NULL,
    last_failure_at BIGINT NOT NULL,
    last_new_at BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (organization, listener, stream)
) $hot;
CREATE INDEX cursor_owner ON cursor (owner, organization, listener, stream) WHERE owner IS NOT NULL;
CREATE INDEX cursor_free ON cursor (organization, listener, stream) WHERE owner IS NULL;
CREATE INDEX cursor_queue ON cursor (organization, queue) WHERE queue IS NOT NULL;

-- The state of one delivery that is not simply settled: `retry`, `sending`, `ended`, `leased` or `missed`. `sender` is the
-- session of the worker whose request is in flight. In an ordered queue, `blocked` counts the messages of the same key
-- that the cursor has passed and that wait for this one. `redelivered_at` is when a missed delivery was last made due
-- again. `cause` is why a missed delivery is missed, and `missed_version` the version of the cursor when it became so: a
-- redelivery has no part in what is missed after it was created.
CREATE TABLE delivery (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    stream BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    state $text NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    token BIGINT,
    sender BIGINT,
    key_hash BIGINT,
    blocked BIGINT NOT NULL DEFAULT 0,
    redelivered_at BIGINT,
    reason $text NOT NULL,
    cause BIGINT,
    missed_version BIGINT,
    PRIMARY KEY (organization, listener, stream, seq)
) $clustered;
CREATE INDEX delivery_due ON delivery (organization, listener, stream, due_at, seq) WHERE state = 'retry';
CREATE INDEX delivery_sending ON delivery (organization, listener, stream, seq) WHERE state = 'sending';
CREATE INDEX delivery_missed ON delivery (organization, listener, seq) WHERE state = 'missed';
-- A request that a previous owner of the cursor has finished: the owner counts it, and removes the row.
CREATE INDEX delivery_ended ON delivery (organization, listener, stream, seq) WHERE state = 'ended';
CREATE INDEX delivery_message ON delivery (organization, queue, seq) WHERE queue IS NOT NULL;
-- Deliveries that are not missed, in the order of the log: for lists of deliveries by state.
CREATE INDEX delivery_open ON delivery (organization, listener, seq) WHERE state <> 'missed';
CREATE INDEX delivery_key ON delivery (organization, queue, key_hash, listener, stream, seq) WHERE key_hash IS NOT NULL;
-- Missed deliveries of one reason among those of others.
CREATE INDEX delivery_missed_reason ON delivery (organization, listener, reason, seq) WHERE state = 'missed';
-- Missed deliveries of one cause, with what counts them.
CREATE INDEX delivery_missed_cause ON delivery (organization, listener, cause, seq, due_at) WHERE state = 'missed';
-- Deliveries that consumers hold, by the end of their leases.
CREATE INDEX delivery_leased ON delivery (organization, listener, stream, due_at, seq) WHERE state = 'leased';
-- Missed messages that hold their keys, in ordered queues with `on_missed: block`: they are kept until they are redelivered
-- or deleted.
CREATE INDEX delivery_blocking ON delivery (organization, listener, stream, seq)
    WHERE state = 'missed' AND key_hash IS NOT NULL;
CREATE INDEX delivery_missed_at ON delivery (due_at) WHERE state = 'missed' AND key_hash IS NULL;

CREATE TABLE missed_range (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    seq_from BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    seq_to BIGINT NOT NULL,
    reason $text NOT NULL,
    missed_at BIGINT NOT NULL,
    missed_version BIGINT,
    PRIMARY KEY (organization, listener, seq_from)
) $clustered;
CREATE INDEX missed_range_at ON missed_range (missed_at);
CREATE INDEX missed_range_message ON missed_range (organization, queue, seq_to, seq_from) WHERE queue IS NOT NULL;

-- Causes of missed deliveries, with the response of the first one. Deliveries of other causes had no response.
CREATE TABLE missed_cause (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    cause BIGINT NOT NULL,
    reason $text NOT NULL,
    status BIGINT NOT NULL,
    text $text NOT NULL,
    PRIMARY KEY (organization, listener, cause)
) $clustered;

-- Deliveries that a listener has missed and that no event has reported yet: in all, and for each reason. `due_at` is
-- when the next event may report them; `since` is when the first of them was missed.
CREATE TABLE missed_report (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    n BIGINT NOT NULL,
    attempts_used_up BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    final_status BIGINT NOT NULL,
    no_retry BIGINT NOT NULL,
    too_old BIGINT NOT NULL,
    transform BIGINT NOT NULL,
    since BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    PRIMARY KEY (organization, listener)
) $clustered;
CREATE INDEX missed_report_due ON missed_report (due_at);

-- `replay` is the replay that an attempt belonged to; null for live deliveries. No index lists the attempts of a listener:
-- with one, each delivery of a fan-out would write a page of its own.
CREATE TABLE attempt (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    number BIGINT NOT NULL,
    status BIGINT NOT NULL,
    error $text NOT NULL,
    took_ms BIGINT NOT NULL,
    detail $text NOT NULL,
    replay BIGINT,
    PRIMARY KEY (organization, id)
) $clustered;
CREATE INDEX attempt_message ON attempt (organization, queue, seq);
-- Only failures are indexed. The index does not begin like a primary key, so that no other statement uses it.
CREATE INDEX attempt_failed ON attempt (listener, id) WHERE error <> '';

-- Requests and responses of attempts, packed, for those attempts whose details are kept. `size` is that of the content.
CREATE TABLE attempt_detail (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    size BIGINT NOT NULL,
    content $bytes NOT NULL,
    PRIMARY KEY (organization, id)
);
CREATE INDEX attempt_detail_listener ON attempt_detail (organization, listener, id) WHERE listener IS NOT NULL;

-- Missed deliveries that are made due again: all of the selected ones up to `position` are. `spec` has the selection.
-- `ended_at` is set when nothing is left to do. A trial sends the first messages one after the other: `tried` counts those
-- that were acknowledged, and `trying_seq` is the one that is being sent.
CREATE TABLE redelivery (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    listener BIGINT NOT NULL,
    state $text NOT NULL,
    spec $text NOT NULL,
    pace BIGINT,
    position BIGINT NOT NULL,
    until_seq BIGINT NOT NULL,
    selected BIGINT NOT NULL,
    redelivered BIGINT NOT NULL,
    gone BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    ended_at BIGINT,
    trial BIGINT,
    tried BIGINT NOT NULL DEFAULT 0,
    trying_seq BIGINT NOT NULL DEFAULT 0,
    stopped_by $text NOT NULL DEFAULT '',
    PRIMARY KEY (organization, id)
);
CREATE INDEX redelivery_listener ON redelivery (organization, listener, id) WHERE listener IS NOT NULL;
CREATE INDEX redelivery_open ON redelivery (organization, listener, id) WHERE ended_at IS NULL;
CREATE INDEX redelivery_ended_at ON redelivery (ended_at) WHERE ended_at IS NOT NULL;

-- A part of a log that is delivered to a listener once more. Its id is the stream of a cursor, which exists until the
-- replay has ended and has the owner of the listener's live cursor.
CREATE TABLE replay (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    listener BIGINT NOT NULL,
    state $text NOT NULL,
    spec $text NOT NULL,
    pace BIGINT,
    from_seq BIGINT NOT NULL,
    until_seq BIGINT NOT NULL,
    position BIGINT NOT NULL,
    selected BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    filtered BIGINT NOT NULL,
    retrying BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (organization, id)
);
CREATE INDEX replay_listener ON replay (organization, listener, id) WHERE listener IS NOT NULL;
CREATE INDEX replay_open ON replay (organization, listener, id) WHERE ended_at IS NULL;
CREATE INDEX replay_ended_at ON replay (ended_at) WHERE ended_at IS NOT NULL;

-- The slots of an organization's running replays: at most three. `owner` is the session of the worker that runs one.
-- Slots of sessions without a living worker are free, like those without a row.
CREATE TABLE replay_slot (
    organization BIGINT NOT NULL,
    number BIGINT NOT NULL,
    owner BIGINT NOT NULL,
    PRIMARY KEY (organization, number)
) $clustered;

-- Jobs that erase the messages of a queue with one key, up to `until_seq`. Until the erasure is done, a row of `job`
-- has the same id. `spec` is a JSON object with the number of erased messages that each listener received.
CREATE TABLE erasure (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    queue BIGINT NOT NULL,
    state $text NOT NULL,
    key $text NOT NULL,
    until_seq BIGINT NOT NULL,
    erased BIGINT NOT NULL,
    spec $text NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (organization, id)
);
CREATE INDEX erasure_queue ON erasure (organization, queue, id) WHERE queue IS NOT NULL;
CREATE INDEX erasure_ended_at ON erasure (ended_at) WHERE ended_at IS NOT NULL;

-- Erased messages whose attempts in flight may still be recorded.
CREATE TABLE erased_message (
    organization BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    erasure BIGINT NOT NULL,
    erased_at BIGINT NOT NULL,
    PRIMARY KEY (organization, queue, seq)
) $clustered;
CREATE INDEX erased_message_at ON erased_message (erased_at);

-- ---------------------------------------------------------------------------------------------------------------------
-- Counts, limits and events
-- ---------------------------------------------------------------------------------------------------------------------

-- Counts per period of five minutes; period 0 has current amounts. Commits that may run at the same time use different
-- slots, so that none waits for another's row.
CREATE TABLE tally (
    organization BIGINT NOT NULL,
    period BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (organization, period, kind, slot)
) $hot;

-- The outcomes of a listener's deliveries per period of five minutes. Workers add to them once a minute.
CREATE TABLE listener_tally (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    period BIGINT NOT NULL,
    acknowledged BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    missed BIGINT NOT NULL,
    PRIMARY KEY (organization, listener, period)
) $clustered;
CREATE INDEX listener_tally_period ON listener_tally (period);

-- Sums of tallies that are older than a day, over three hours each. `period` is the first period of five minutes. Listener
-- 0 stands for all listeners of the organization, including deleted ones.
CREATE TABLE listener_history (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    period BIGINT NOT NULL,
    acknowledged BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    PRIMARY KEY (organization, listener, period)
) $clustered;
CREATE INDEX listener_history_period ON listener_history (period);

-- Requests that workers took from a caller's allowance for a minute. Organization 0 has those of addresses. Allowances
-- for a longer period, such as a customer's creations of a day, have its last minute.
CREATE TABLE allowance (
    organization BIGINT NOT NULL,
    caller BIGINT NOT NULL,
    minute BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    PRIMARY KEY (organization, caller, minute)
) $hot;
CREATE INDEX allowance_minute ON allowance (minute);

-- Events of the control plane; those of messages are read from messages and attempts. `client` is the API key, `user_id`
-- the user of the dashboard, '' for none. `changes` has the names of changed settings, separated by commas.
CREATE TABLE event (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    kind $text NOT NULL,
    client $text NOT NULL,
    user_id $text NOT NULL DEFAULT '',
    ref $text NOT NULL,
    name $text NOT NULL,
    changes $text NOT NULL DEFAULT '',
    PRIMARY KEY (organization, id)
) $clustered;
CREATE INDEX event_kind ON event (organization, kind, id) WHERE kind IS NOT NULL;
CREATE INDEX event_ref ON event (organization, ref, id) WHERE ref IS NOT NULL;

-- Messages that applications publish in their own transactions, on PostgreSQL: `discue.store.intake`.
$intake
