-- What is counted, and how often, in periods of five minutes; in period 0 what is there at the moment. Each of the commits
-- that may run side by side has a slot of its own, so that none waits for another's row.
CREATE TABLE tally (
    organization BIGINT NOT NULL,
    period BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (organization, period, kind, slot)
) $hot;

INSERT INTO tally (organization, period, kind, slot, n)
SELECT organization, 0, 2, 3, CAST(sum(size) AS BIGINT) FROM log GROUP BY organization;

-- What happened in the control plane. What happened to messages is read from the rows of messages and attempts.
CREATE TABLE event (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    kind $text NOT NULL,
    client $text NOT NULL,
    ref $text NOT NULL,
    name $text NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;

CREATE INDEX event_kind ON event (organization, kind, id) WHERE kind IS NOT NULL;
CREATE INDEX event_ref ON event (organization, ref, id) WHERE ref IS NOT NULL;

-- Idempotency keys, by 128 bits of a hash, with what their first request was and what it was answered.
CREATE TABLE idempotency (
    organization BIGINT NOT NULL,
    key_high BIGINT NOT NULL,
    key_low BIGINT NOT NULL,
    fingerprint $bytes NOT NULL,
    content $bytes NOT NULL,
    stored_at BIGINT NOT NULL,
    PRIMARY KEY (organization, key_high, key_low)
) $clustered;

CREATE INDEX idempotency_stored_at ON idempotency (stored_at);

-- Requests that workers took from a caller's allowance of a minute: organization 0 has those of addresses.
CREATE TABLE allowance (
    organization BIGINT NOT NULL,
    caller BIGINT NOT NULL,
    minute BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    PRIMARY KEY (organization, caller, minute)
) $hot;

CREATE INDEX allowance_minute ON allowance (minute);

-- Failed attempts to authenticate, by whom they are held against: a key's id, or an address.
CREATE TABLE lockout (
    subject BIGINT NOT NULL PRIMARY KEY,
    kind $text NOT NULL,
    name $text NOT NULL,
    failed_at $text NOT NULL,
    locks BIGINT NOT NULL,
    locked_until BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) $hot;

CREATE INDEX lockout_until ON lockout (locked_until);
CREATE INDEX lockout_updated_at ON lockout (updated_at);

-- Each attempt with a key that there is not reads the operator's organization.
CREATE INDEX organization_operator ON organization (is_operator, id) WHERE is_operator = 1 AND deleted_at IS NULL;

CREATE TABLE organization_user (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    public_id $text NOT NULL UNIQUE,
    email $text NOT NULL,
    email_key $text NOT NULL,
    display_name $text NOT NULL,
    role $text NOT NULL,
    password_hash $text,
    invitation_hash $bytes,
    invitation_expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id),
    UNIQUE (organization, email_key)
) $clustered;

CREATE INDEX organization_user_role ON organization_user (organization, role, id) WHERE role IS NOT NULL;
CREATE UNIQUE INDEX organization_user_invitation ON organization_user (invitation_hash)
    WHERE invitation_hash IS NOT NULL;

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

ALTER TABLE queue ADD COLUMN schema_id $text;

-- Of all queues of an organization too, messages are found by their alias.
DROP INDEX log_alias;
CREATE INDEX log_alias ON log (organization, alias, queue, seq) WHERE alias IS NOT NULL;
CREATE INDEX log_alias_id ON log (organization, alias, id, queue) WHERE alias IS NOT NULL;
CREATE INDEX listener_organization_alias ON listener (organization, alias, id) WHERE alias IS NOT NULL;
-- Of indexes that cost the same by its reckoning a server takes the one that was made last: made anew, this one comes
-- before that of all listeners of a queue where an alias is asked for.
DROP INDEX listener_alias;
CREATE UNIQUE INDEX listener_alias ON listener (organization, queue, alias) WHERE deleted_at IS NULL AND alias IS NOT NULL;

-- What a listener has not settled for good, in the order of its log: lists of deliveries by state.
CREATE INDEX exception_open ON exception (organization, listener, seq) WHERE state <> 'missed';
