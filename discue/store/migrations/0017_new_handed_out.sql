-- When a new message was last handed out to a consumer that pulls; 0: never. See the throttle in `dispatch`.
ALTER TABLE cursor ADD COLUMN last_new_at BIGINT NOT NULL DEFAULT 0;
