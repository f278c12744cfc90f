-- The names of the settings that a change has changed, separated by commas. Programs before this migration leave it
-- empty.
ALTER TABLE event ADD COLUMN changes $text NOT NULL DEFAULT '';
