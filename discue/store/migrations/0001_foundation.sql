-- $bytes, $text, $clustered and $hot are filled in by the engine: the type of a byte string, of a text that is
-- compared byte by byte, a table stored in the order of its primary key, and a small table whose rows change at
-- every commit.

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

CREATE TABLE worker (
    incarnation BIGINT NOT NULL PRIMARY KEY,
    lease_until BIGINT NOT NULL,
    dead BIGINT NOT NULL DEFAULT 0,
    role $text NOT NULL
) $clustered;

CREATE TABLE organization (
    id BIGINT NOT NULL PRIMARY KEY,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    state $text NOT NULL,
    is_operator BIGINT NOT NULL,
    settings $text NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);

CREATE UNIQUE INDEX organization_alias ON organization (alias) WHERE deleted_at IS NULL;

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

CREATE TABLE queue (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    alias $text NOT NULL,
    ordered BIGINT NOT NULL DEFAULT 0,
    settings $text NOT NULL,
    schema $text,
    config_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    PRIMARY KEY (organization, id)
) $clustered;

CREATE UNIQUE INDEX queue_alias ON queue (organization, alias) WHERE deleted_at IS NULL;

CREATE TABLE listener (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    queue BIGINT NOT NULL,
    alias $text NOT NULL,
    mode $text NOT NULL DEFAULT 'push',
    status $text NOT NULL,
    notify_url $text NOT NULL,
    liveness_url $text NOT NULL,
    settings $text NOT NULL,
    secrets $bytes NOT NULL,
    config_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    PRIMARY KEY (organization, id)
) $clustered;

CREATE UNIQUE INDEX listener_alias ON listener (organization, queue, alias) WHERE deleted_at IS NULL;
CREATE INDEX listener_queue ON listener (organization, queue, id);

CREATE TABLE queue_head (
    organization BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    head BIGINT NOT NULL,
    tail BIGINT NOT NULL,
    last_stored_at BIGINT NOT NULL,
    config_version BIGINT NOT NULL,
    closed_at BIGINT,
    PRIMARY KEY (organization, queue)
) $hot;

CREATE TABLE log (
    organization BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    id $text NOT NULL,
    stored_at BIGINT NOT NULL,
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
CREATE INDEX log_alias ON log (organization, queue, alias) WHERE alias IS NOT NULL;

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
    PRIMARY KEY (organization, listener, stream)
) $hot;

CREATE INDEX cursor_owner ON cursor (owner);
CREATE INDEX cursor_queue ON cursor (organization, queue);

CREATE TABLE exception (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    stream BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    state $text NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    token BIGINT,
    key_hash BIGINT,
    blocked_from BIGINT,
    reason $text NOT NULL,
    PRIMARY KEY (organization, listener, stream, seq)
) $clustered;

CREATE INDEX exception_due ON exception (organization, listener, stream, due_at, seq) WHERE state = 'retry';
CREATE INDEX exception_sending ON exception (organization, listener, stream, seq) WHERE state = 'sending';
CREATE INDEX exception_missed ON exception (organization, listener, seq) WHERE state = 'missed';
CREATE INDEX exception_missed_at ON exception (due_at) WHERE state = 'missed';
CREATE INDEX exception_message ON exception (organization, queue, seq);

CREATE TABLE missed_range (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    seq_from BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    seq_to BIGINT NOT NULL,
    reason $text NOT NULL,
    missed_at BIGINT NOT NULL,
    PRIMARY KEY (organization, listener, seq_from)
) $clustered;

CREATE INDEX missed_range_message ON missed_range (organization, queue, seq_to, seq_from);
CREATE INDEX missed_range_at ON missed_range (missed_at);

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
    PRIMARY KEY (organization, id)
) $clustered;

CREATE INDEX attempt_listener ON attempt (organization, listener, id);
CREATE INDEX attempt_message ON attempt (organization, queue, seq);

CREATE TABLE job (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    listener BIGINT,
    kind $text NOT NULL,
    spec $text NOT NULL,
    progress $text NOT NULL,
    state $text NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;

CREATE INDEX job_state ON job (state, id);
