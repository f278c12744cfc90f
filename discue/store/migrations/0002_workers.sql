-- $$clock is the engine's way to have `clock_ms()`, the database's own clock in milliseconds.

$clock

ALTER TABLE worker ADD COLUMN slot BIGINT NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN lease_ms BIGINT NOT NULL DEFAULT 10000;
ALTER TABLE worker ADD COLUMN leaves BIGINT NOT NULL DEFAULT 0;

-- Who has the request of a `sending` exception under way: the incarnation of a worker.
ALTER TABLE exception ADD COLUMN sender BIGINT;

-- A request that the cursor's former owner brought to its end: the owner counts it, and removes the row.
CREATE INDEX exception_ended ON exception (organization, listener, stream, seq) WHERE state = 'ended';

-- An index that is partial by a condition on its own column serves those statements that name the column, and is never
-- taken by mistake where the primary key is meant: to a planner all indexes of a table that was empty cost the same.
DROP INDEX cursor_owner;
CREATE INDEX cursor_owner ON cursor (owner, organization, listener, stream) WHERE owner IS NOT NULL;
CREATE INDEX cursor_free ON cursor (organization, listener, stream) WHERE owner IS NULL;
DROP INDEX cursor_queue;
CREATE INDEX cursor_queue ON cursor (organization, queue) WHERE queue IS NOT NULL;
DROP INDEX exception_message;
CREATE INDEX exception_message ON exception (organization, queue, seq) WHERE queue IS NOT NULL;
DROP INDEX organization_alias;
CREATE UNIQUE INDEX organization_alias ON organization (alias) WHERE deleted_at IS NULL AND alias IS NOT NULL;
DROP INDEX queue_alias;
CREATE UNIQUE INDEX queue_alias ON queue (organization, alias) WHERE deleted_at IS NULL AND alias IS NOT NULL;
DROP INDEX listener_alias;
CREATE UNIQUE INDEX listener_alias ON listener (organization, queue, alias)
    WHERE deleted_at IS NULL AND alias IS NOT NULL;
DROP INDEX listener_queue;
CREATE INDEX listener_queue ON listener (organization, queue, id) WHERE queue IS NOT NULL;
