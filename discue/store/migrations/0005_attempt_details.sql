-- What was sent and answered, packed: of those attempts alone of which that is kept. `size` is that of the content.
CREATE TABLE attempt_detail (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    size BIGINT NOT NULL,
    content $bytes NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;

CREATE INDEX attempt_detail_listener ON attempt_detail (organization, listener, id) WHERE listener IS NOT NULL;

-- Only a failure pays for it. It begins as no key does, so that no other index serves what is meant for it.
CREATE INDEX attempt_failed ON attempt (listener, id) WHERE error <> '';
