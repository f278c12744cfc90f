-- The search finds schedules of all queues by the beginning of their names.
CREATE INDEX schedule_organization_alias ON schedule (organization, alias, id) WHERE alias IS NOT NULL;
