-- Deliveries that a listener has missed and that no event has reported yet: in all, and for each reason. `due_at` is
-- when the next event may report them; `since` is when the first of them was missed.
CREATE TABLE missed_report (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    n BIGINT NOT NULL,
    attempts_used_up BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    final_status BIGINT NOT NULL,
    no_retry BIGINT NOT NULL,
    too_old BIGINT NOT NULL,
    since BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    PRIMARY KEY (organization, listener)
) $clustered;
CREATE INDEX missed_report_due ON missed_report (due_at);
