-- Whether the queue is the one to which the service publishes its own events.
ALTER TABLE queue ADD COLUMN is_system BIGINT NOT NULL DEFAULT 0;
