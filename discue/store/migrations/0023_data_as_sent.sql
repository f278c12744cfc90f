-- Codecs 2 and 3: JSON that was sent as such rather than as a string, and bytes. Programs before this migration would
-- deliver both as text, so they cannot use the database any more. No row changes.
SELECT 1;
