-- Under which keys the signing secrets are, by the keys' ids: nobody has said so yet. An older program does not know
-- how to read what is encrypted.
INSERT INTO meta (key, value) VALUES ('encryption', '');
