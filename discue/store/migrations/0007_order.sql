-- Of an exception whose message has a key, in an ordered queue: how many messages of that key the cursor has passed that
-- wait behind it.
ALTER TABLE exception ADD COLUMN blocked BIGINT NOT NULL DEFAULT 0;

CREATE INDEX exception_key ON exception (organization, queue, key_hash, listener, stream, seq) WHERE key_hash IS NOT NULL;
