-- Sign-in to the dashboard. Programs before this migration ignore the tables, and a status of users.
ALTER TABLE organization_user ADD COLUMN status $text NOT NULL DEFAULT 'enabled';
ALTER TABLE organization_user ADD COLUMN has_identity BIGINT NOT NULL DEFAULT 0;
CREATE INDEX organization_user_email ON organization_user (email_key, id) WHERE email_key IS NOT NULL;

-- The user who caused an event in the dashboard; empty for none. `client` has the API key.
ALTER TABLE event ADD COLUMN user_id $text NOT NULL DEFAULT '';

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
