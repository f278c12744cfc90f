-- Deliveries that were handed out and neither answered nor given back: those of a cursor whose messages are pulled, by when
-- their leases end. Their cursors have the owner -1.
CREATE INDEX exception_leased ON exception (organization, listener, stream, due_at, seq) WHERE state = 'leased';
