"""The intake: messages that applications publish in their own transactions, by a function in the database.

The function only inserts a row: it takes no lock that another publish would wait for. The leader moves the rows into
the logs (`discue.dispatch.jobs.intake`).
"""

from typing import Final

INTAKE: Final = r"""
CREATE TABLE intake (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization BIGINT NOT NULL,
    queue BIGINT NOT NULL,
    size BIGINT NOT NULL,
    options TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    error TEXT COLLATE "C"
) WITH (autovacuum_vacuum_scale_factor=0.05, autovacuum_vacuum_threshold=500, autovacuum_vacuum_cost_delay=0);
CREATE INDEX intake_waiting ON intake (organization, queue, id) WHERE error IS NULL;

-- The roles of applications that may publish, each to the queues of one organization.
CREATE TABLE intake_role (
    role TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization BIGINT NOT NULL
);

-- Names have their schema, and no other schema is searched: a caller cannot put anything in their place.
DO $do$ BEGIN EXECUTE replace(replace($functions$

CREATE FUNCTION <schema>.discue_publish(
    queue TEXT,
    data JSON,
    key TEXT DEFAULT NULL,
    headers JSON DEFAULT NULL,
    alias TEXT DEFAULT NULL,
    deliver_at TIMESTAMPTZ DEFAULT NULL,
    expires_at TIMESTAMPTZ DEFAULT NULL
) RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
DECLARE
    owner BIGINT;
    target BIGINT;
    is_system BOOLEAN;
    most BIGINT;
    -- Blanks around the value are not part of it, as in the API. Otherwise, they would get past the limit of strings.
    body BYTEA := convert_to(btrim(discue_publish.data::text, E' \t\r\n'), 'UTF8');
    size BIGINT := octet_length(body);
    now_ms BIGINT := floor(extract(epoch FROM clock_timestamp()) * 1000);
    due_ms BIGINT := floor(extract(epoch FROM discue_publish.deliver_at) * 1000);
    end_ms BIGINT := floor(extract(epoch FROM discue_publish.expires_at) * 1000);
    fault TEXT;
BEGIN
    SELECT o.id INTO owner FROM <schema>.intake_role r JOIN <schema>.organization o ON o.id = r.organization
        WHERE r.role = session_user::text AND o.deleted_at IS NULL AND o.state = 'active';
    IF owner IS NULL THEN
        RAISE EXCEPTION 'The role "%" may not publish.', session_user USING ERRCODE = 'insufficient_privilege',
            HINT = 'The operator of discue allows it with discue_allow, for an organization that is active.';
    END IF;
    SELECT q.id, q.is_system = 1, (q.settings::json ->> 'max_message_bytes')::bigint INTO target, is_system, most
        FROM <schema>.queue q
        WHERE q.public_id = discue_publish.queue AND q.organization = owner AND q.deleted_at IS NULL;
    IF target IS NULL THEN
        SELECT q.id, q.is_system = 1, (q.settings::json ->> 'max_message_bytes')::bigint INTO target, is_system, most
            FROM <schema>.queue q
            WHERE q.alias = discue_publish.queue AND q.organization = owner AND q.deleted_at IS NULL;
    END IF;
    IF target IS NULL THEN
        RAISE EXCEPTION 'Queue "%" not found.', discue_publish.queue USING ERRCODE = 'undefined_object';
    END IF;
    IF is_system THEN
        RAISE EXCEPTION 'Only the service publishes to the queue of system events.'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF most IS NULL THEN
        -- The leader stores the setting. Until it has, the largest possible one applies here.
        SELECT coalesce(max(m.value::bigint), 8388608) INTO most FROM <schema>.meta m WHERE m.key = 'max_message_bytes';
    END IF;
    IF json_typeof(discue_publish.data) = 'string' THEN
        size := octet_length(convert_to(discue_publish.data #>> '{}', 'UTF8'));
    END IF;
    fault := CASE
        WHEN body IS NULL THEN 'data must be a JSON value; for null, write ''null''::json.'
        WHEN size > most THEN format('data has %s bytes; at most %s are allowed.', size, most)
        WHEN length(discue_publish.key) NOT BETWEEN 1 AND 255 THEN 'key must have 1 to 255 characters.'
        WHEN discue_publish.alias !~ '^[A-Za-z0-9._/-]{1,64}$' THEN
            'alias must be 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore, slash and hyphen.'
        WHEN json_typeof(discue_publish.headers) <> 'object' THEN 'headers must be a JSON object of strings.'
        WHEN due_ms > now_ms + 31536000000 THEN 'deliver_at must be at most a year ahead.'
        WHEN end_ms <= now_ms THEN 'expires_at must be in the future.'
        WHEN end_ms > 253402300799999 THEN 'expires_at must be before the year 10000.'
        WHEN end_ms <= due_ms THEN 'expires_at must be later than deliver_at.'
    END;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%', fault USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF discue_publish.headers IS NOT NULL THEN
        PERFORM <schema>.discue_check_headers(discue_publish.headers);
    END IF;
    INSERT INTO <schema>.intake (organization, queue, size, options, body)
    VALUES (
        owner,
        target,
        octet_length(body),
        json_strip_nulls(json_build_object(
            'key', discue_publish.key,
            'headers', discue_publish.headers,
            'alias', discue_publish.alias,
            'deliver_at', due_ms,
            'expires_at', end_ms
        ))::text,
        body
    );
    -- Commits with notifications take turns: an application may do without, and its messages wait for a poll.
    IF current_setting('discue.notify', true) IS DISTINCT FROM 'off' THEN
        -- Workers read it like a notification of another worker, and find nothing in it but its sender.
        PERFORM pg_notify('discue', '["intake",false,false,false,[]]');
    END IF;
END
$body$;

CREATE FUNCTION <schema>.discue_check_headers(headers JSON) RETURNS VOID LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    name TEXT;
    content JSON;
    reserved TEXT := '^(discue-.*|webhook-.*|proxy-.*|content-(type|length|encoding)|accept-encoding|user-agent|'
        'connection|expect|host|keep-alive|te|trailer|transfer-encoding|upgrade)$';
    allowed TEXT := '^([!-~\u00a0-\u00ff]([\t -~\u00a0-\u00ff]*[!-~\u00a0-\u00ff])?)?$';
    amount BIGINT := 0;
    characters BIGINT := 0;
    fault TEXT;
BEGIN
    IF (SELECT count(DISTINCT lower(each.key)) < count(*) FROM json_each(headers) AS each) THEN
        RAISE EXCEPTION 'headers has two names that differ only in case.' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR name, content IN SELECT each.key, each.value FROM json_each(headers) AS each LOOP
        amount := amount + 1;
        characters := characters + length(name) + length(content #>> '{}');
        fault := CASE
            WHEN json_typeof(content) <> 'string' THEN 'must be a string.'
            WHEN name !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]{1,128}$' OR lower(name) ~ reserved THEN
                'is not allowed: the name must be a token, and not one of the headers that discue sets itself.'
            WHEN content #>> '{}' !~ allowed THEN 'has invalid characters in its value, or blanks around it.'
            WHEN amount > 32 THEN 'is one too many: at most 32 headers are allowed.'
            WHEN characters > 4096 THEN 'is too long: at most 4096 characters are allowed in total.'
        END;
        IF fault IS NOT NULL THEN
            RAISE EXCEPTION 'The header "%" %', name, fault USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
END
$body$;

CREATE FUNCTION <schema>.discue_allow(role TEXT, organization TEXT) RETURNS VOID LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
DECLARE
    found BIGINT;
BEGIN
    SELECT o.id INTO found FROM <schema>.organization o
        WHERE (o.public_id = discue_allow.organization OR o.alias = discue_allow.organization) AND o.deleted_at IS NULL
        ORDER BY o.public_id = discue_allow.organization DESC LIMIT 1;
    IF found IS NULL THEN
        RAISE EXCEPTION 'Organization "%" not found.', discue_allow.organization USING ERRCODE = 'undefined_object';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', <name>, discue_allow.role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %I.discue_publish TO %I', <name>, discue_allow.role);
    INSERT INTO <schema>.intake_role (role, organization) VALUES (discue_allow.role, found)
        ON CONFLICT (role) DO UPDATE SET organization = excluded.organization;
END
$body$;

CREATE FUNCTION <schema>.discue_disallow(role TEXT) RETURNS VOID LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
BEGIN
    DELETE FROM <schema>.intake_role r WHERE r.role = discue_disallow.role;
    IF EXISTS (SELECT FROM pg_roles p WHERE p.rolname = discue_disallow.role) THEN
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %I.discue_publish FROM %I', <name>, discue_disallow.role);
        EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', <name>, discue_disallow.role);
    END IF;
END
$body$;

REVOKE ALL ON FUNCTION <schema>.discue_publish FROM PUBLIC;
REVOKE ALL ON FUNCTION <schema>.discue_check_headers FROM PUBLIC;
REVOKE ALL ON FUNCTION <schema>.discue_allow FROM PUBLIC;
REVOKE ALL ON FUNCTION <schema>.discue_disallow FROM PUBLIC;

$functions$, '<schema>', quote_ident(current_schema())), '<name>', quote_literal(current_schema())); END $do$;
"""
"""The tables and functions, as a migration creates them. A change is another migration."""
