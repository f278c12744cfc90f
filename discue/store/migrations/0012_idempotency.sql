-- Idempotency keys, as narrow as they can be: they stand at random places, and each commit writes every page that it
-- changes. A key is the first half of its hash, which has the organization in it. What their first requests were answered
-- stands apart, that of many keys in one row, in the order in which it was stored.
CREATE TABLE idempotency_key (
    key $key NOT NULL PRIMARY KEY,
    answers BIGINT NOT NULL
);

CREATE TABLE idempotency_answers (
    organization BIGINT NOT NULL,
    id BIGINT NOT NULL,
    stored_at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    content $bytes NOT NULL,
    PRIMARY KEY (organization, id)
) $clustered;

-- Those that are there have a row of answers each. Ids have their milliseconds above the low 22 bits.
INSERT INTO idempotency_key (key, answers)
SELECT key_high, min(id) FROM (
    SELECT key_high,
        stored_at * 4194304 + row_number() OVER (ORDER BY stored_at, organization, key_high, key_low) AS id
    FROM idempotency
) AS kept GROUP BY key_high;

INSERT INTO idempotency_answers (organization, id, stored_at, size, content)
SELECT organization, id, stored_at, length(content), content FROM (
    SELECT organization, stored_at, $answer AS content,
        stored_at * 4194304 + row_number() OVER (ORDER BY stored_at, organization, key_high, key_low) AS id
    FROM idempotency
) AS kept;

DROP TABLE idempotency;
