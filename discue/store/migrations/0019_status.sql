-- Why a listener is disabled ('' if it is not known), and since when its status is what it is; 0: not known.
ALTER TABLE listener ADD COLUMN disabled_by $text NOT NULL DEFAULT '';
ALTER TABLE listener ADD COLUMN status_changed_at BIGINT NOT NULL DEFAULT 0;
-- When the listener last became inactive, or stopped to be; 0: never.
ALTER TABLE liveness ADD COLUMN changed_at BIGINT NOT NULL DEFAULT 0;
