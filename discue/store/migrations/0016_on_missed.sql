-- Missed messages that hold their keys, in ordered queues that are to be blocked by them: they are kept until somebody
-- says what becomes of them.
CREATE INDEX exception_blocking ON exception (organization, listener, stream, seq)
    WHERE state = 'missed' AND key_hash IS NOT NULL;

DROP INDEX exception_missed_at;
CREATE INDEX exception_missed_at ON exception (due_at) WHERE state = 'missed' AND key_hash IS NULL;
