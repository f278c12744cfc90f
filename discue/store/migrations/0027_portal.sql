-- The portal for customers. Programs before this migration ignore the tables and the customer of a listener.
ALTER TABLE listener ADD COLUMN customer $text NOT NULL DEFAULT '';
CREATE INDEX listener_customer ON listener (organization, customer, id) WHERE customer IS NOT NULL;

-- The origins whose pages may embed the portal of an organization, as JSON.
CREATE TABLE portal (
    organization BIGINT NOT NULL,
    frame_ancestors $text NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization)
) $clustered;

-- Sessions of customers, by hashes: of the one-time code until they are opened, of the token of a browser then.
-- `spec` has what the session grants, as JSON. `expires_at` is that of the code until the session is opened.
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
    PRIMARY KEY (organization, id)
) $clustered;
CREATE INDEX portal_session_expires_at ON portal_session (expires_at) WHERE expires_at IS NOT NULL;
