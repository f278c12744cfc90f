-- The tenant that created an organization; 0: the operator did. Its limits, quotas and suspension apply to both.
ALTER TABLE organization ADD COLUMN founder BIGINT NOT NULL DEFAULT 0;
CREATE INDEX organization_founder ON organization (founder) WHERE founder > 0;
