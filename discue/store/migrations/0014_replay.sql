-- A part of a log that is delivered to a listener once more, and how far that has come. Its id is the stream of a cursor,
-- which is there until the replay has ended: whoever owns the listener's live cursor owns that one, too.
-- `ended_at` is there once nothing more is done for it.
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
    retrying BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (organization, id)
) $clustered;

CREATE INDEX replay_listener ON replay (organization, listener, id) WHERE listener IS NOT NULL;
CREATE INDEX replay_open ON replay (organization, listener, id) WHERE ended_at IS NULL;
CREATE INDEX replay_ended_at ON replay (ended_at) WHERE ended_at IS NOT NULL;

-- Of which replay an attempt was; none of live deliveries.
ALTER TABLE attempt ADD COLUMN replay BIGINT;
