-- When a missed delivery was made due again: from then on its time counts anew.
ALTER TABLE exception ADD COLUMN redelivered_at BIGINT;

-- Missed deliveries that are made due again, and how far that has come: all of the chosen ones up to `position` are.
-- `spec` says which are chosen, `ended_at` is there once nothing more is done for it.
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
    PRIMARY KEY (organization, id)
) $clustered;

CREATE INDEX redelivery_listener ON redelivery (organization, listener, id) WHERE listener IS NOT NULL;
CREATE INDEX redelivery_open ON redelivery (organization, listener, id) WHERE ended_at IS NULL;
CREATE INDEX redelivery_ended_at ON redelivery (ended_at) WHERE ended_at IS NOT NULL;

-- Missed deliveries of one reason among those of others.
CREATE INDEX exception_missed_reason ON exception (organization, listener, reason, seq) WHERE state = 'missed';
-- Never taken by mistake where the primary key is meant: see the second migration.
DROP INDEX missed_range_message;
CREATE INDEX missed_range_message ON missed_range (organization, queue, seq_to, seq_from) WHERE queue IS NOT NULL;
