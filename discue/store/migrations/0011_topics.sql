-- What is published to a topic goes by its channels into queues. `routes_version` is another one after each change of
-- what its channels say.
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
) $clustered;

-- Never taken by mistake where the primary key is meant: see the second migration.
CREATE UNIQUE INDEX topic_alias ON topic (organization, alias) WHERE alias IS NOT NULL;
CREATE INDEX channel_topic ON channel (organization, topic, id) WHERE topic IS NOT NULL;
CREATE UNIQUE INDEX channel_queue ON channel (organization, queue, topic) WHERE queue IS NOT NULL;
CREATE UNIQUE INDEX channel_alias ON channel (organization, topic, alias) WHERE alias IS NOT NULL;

-- Bodies of messages that went into several queues: each of their rows in the log names it, and `uses` says how many
-- there are. The row goes with the last one.
CREATE TABLE body (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    size BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    bytes $bytes NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;
