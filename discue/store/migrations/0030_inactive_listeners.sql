-- The overview of the dashboard finds inactive listeners among any number of others.
CREATE INDEX liveness_inactive ON liveness (organization, listener) WHERE state = 'inactive';
