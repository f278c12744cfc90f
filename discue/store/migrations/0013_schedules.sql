-- Messages that a queue gets again and again. `settings` says when, and what else goes with each message; `size` is that of
-- `body`. Only a schedule that has a run to come has a `next_run_at`.
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
    body $bytes NOT NULL,
    config_version BIGINT NOT NULL,
    next_run_at BIGINT,
    last_run $text,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;

CREATE UNIQUE INDEX schedule_alias ON schedule (organization, queue, alias);
CREATE INDEX schedule_queue ON schedule (organization, queue, id);
CREATE INDEX schedule_due ON schedule (next_run_at, organization, id) WHERE next_run_at IS NOT NULL;
