-- What is known of a listener by probing it and by what it answered: written by the owner of its cursor alone. The state
-- holds for the URL of that hash, what is remembered of failed attempts for that version of its configuration.
CREATE TABLE liveness (
    organization BIGINT NOT NULL,
    listener BIGINT NOT NULL,
    url_hash BIGINT NOT NULL,
    config_version BIGINT NOT NULL,
    state $text NOT NULL,
    success_count BIGINT NOT NULL,
    failure_count BIGINT NOT NULL,
    last_success_at BIGINT NOT NULL,
    last_failure_at BIGINT NOT NULL,
    last_failure_status BIGINT NOT NULL,
    last_failure_msg $text NOT NULL,
    in_a_row BIGINT NOT NULL,
    failed_at BIGINT NOT NULL,
    failing_since BIGINT NOT NULL,
    swept_through BIGINT NOT NULL,
    sweep_until BIGINT NOT NULL,
    PRIMARY KEY (organization, listener)
) $hot;
