-- Messages that are not due yet. Each has its row in the log, of kind 1, which lanes step over; when it is due that row gets
-- another seq, as if it were appended then, and this one goes. `size` is that of the body. A key's
-- hash stands here meanwhile: nothing waits behind what is not due.
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

-- When a message was published that got its seq later.
ALTER TABLE log ADD COLUMN published_at BIGINT;

-- How many seqs were given to messages that had one already.
ALTER TABLE queue_head ADD COLUMN moved BIGINT NOT NULL DEFAULT 0;
