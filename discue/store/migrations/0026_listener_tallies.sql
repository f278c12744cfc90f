-- The outcomes of a listener's deliveries in each period of five minutes. Workers add to it once a minute.
CREATE TABLE listener_tally (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    period BIGINT NOT NULL,
    acknowledged BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    missed BIGINT NOT NULL,
    PRIMARY KEY (organization, listener, period)
) $clustered;
CREATE INDEX listener_tally_period ON listener_tally (period);
