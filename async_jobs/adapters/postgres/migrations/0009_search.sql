-- The jobs that met an error, in the order of their ids; and the latest errors.
CREATE INDEX idx_attempts_fingerprint ON attempts (fingerprint, job_id)
    WHERE fingerprint IS NOT NULL;
CREATE INDEX idx_attempts_ended ON attempts (ended_at);

-- What searches find a job by. Adding it rewrites nothing.
ALTER TABLE jobs ADD COLUMN labels jsonb;

-- Enqueue a job from SQL, as before, and with labels.
DROP FUNCTION async_jobs_enqueue;
CREATE FUNCTION async_jobs_enqueue(
    tenant_id        text,
    use_case         text,
    type             text,
    payload          json,
    queue            text        DEFAULT NULL, -- the use case's name
    delay_tolerance  interval    DEFAULT '60 seconds',
    run_at           timestamptz DEFAULT NULL, -- now
    priority         integer     DEFAULT 0,
    max_attempts     integer     DEFAULT 5,
    dedupe_key       text        DEFAULT NULL,
    headers          json        DEFAULT NULL,
    id               uuid        DEFAULT NULL, -- a new one
    max_pending_jobs bigint      DEFAULT NULL, -- no limit
    labels           json        DEFAULT NULL,
    OUT job_id       uuid,
    OUT duplicate    boolean
)
LANGUAGE plpgsql
-- The tables are where this is, wherever the caller's path leads.
SET search_path FROM CURRENT
AS $body$
#variable_conflict use_variable
DECLARE
    present timestamptz := clock_timestamp();
    due     timestamptz := greatest(coalesce(run_at, present), present);
    lane    text        := coalesce(queue, use_case);
    wrong   text;
    owner   text;
    pending bigint;
BEGIN
    SELECT each.field || ': must have 1 to 200 characters, none of them a control character'
    INTO wrong
    FROM (VALUES
        ('tenant_id', tenant_id), ('use_case', use_case), ('type', type), ('queue', lane),
        ('dedupe_key', coalesce(dedupe_key, '-'))
    ) AS each (field, value)
    WHERE coalesce(length(each.value), 0) NOT BETWEEN 1 AND 200
        OR each.value ~ '[\u0001-\u001f\u007f-\u009f]'
    LIMIT 1;
    -- Numbers are judged as they are written: jsonb makes an integer of 1e30, and of 1e200000 an
    -- error that names no field. Text without many digits in a row and without long exponents
    -- holds none that is out of bounds, and is not looked through.
    IF wrong IS NULL AND json_typeof(payload) = 'object' AND octet_length(payload::text) <= 262144
        AND payload::text ~ '[0-9]{19}|[eE][+-]?[0-9]{3}'
    THEN
        WITH RECURSIVE part AS (
            SELECT 'payload' AS path, payload AS value, 0 AS level
            UNION ALL
            SELECT part.path || inner_part.step, inner_part.value, part.level + 1
            FROM part, LATERAL (
                SELECT '.' || left(each.key, 80), each.value
                FROM json_each(
                    CASE json_typeof(part.value) WHEN 'object' THEN part.value END
                ) AS each
                UNION ALL
                SELECT format('[%s]', each.place - 1), each.value
                FROM json_array_elements(
                    CASE json_typeof(part.value) WHEN 'array' THEN part.value END
                ) WITH ORDINALITY AS each (value, place)
            ) AS inner_part (step, value)
            WHERE part.level <= 32
        ), judged AS (
            SELECT CASE WHEN part.level > 32 THEN 'payload: is nested deeper than 32 levels'
            ELSE part.path || ': ' || CASE
                WHEN digits !~ '[.eE]' THEN CASE
                    WHEN length(digits) > 20
                        OR digits::numeric NOT BETWEEN -9223372036854775808 AND 9223372036854775807
                    THEN 'must fit into 64 bits'
                END
                WHEN digits ~ '[eE]\+?0*[1-9][0-9]{4}' THEN 'must be a finite number'
                WHEN length(digits) > 1000 OR digits ~ '[eE]-0*[1-9][0-9]{4}'
                THEN 'must have at most 1000 characters, and 4 digits in its exponent'
                WHEN abs(digits::numeric) > 1.7976931348623158e308 THEN 'must be a finite number'
            END END AS told
            FROM part, LATERAL (SELECT part.value::text) AS number (digits)
            WHERE json_typeof(part.value) = 'number' OR part.level > 32
        )
        SELECT judged.told INTO wrong FROM judged WHERE judged.told IS NOT NULL LIMIT 1;
    END IF;
    -- Before a plan with headers as jsonb is made, which evaluates it.
    IF wrong IS NULL AND EXISTS (
        SELECT FROM json_each(CASE json_typeof(headers) WHEN 'object' THEN headers END) AS each
        WHERE json_typeof(each.value) <> 'string'
    ) THEN
        wrong := 'headers: must be at most 16 strings, each of at most 1024 characters';
    END IF;
    wrong := CASE
        WHEN wrong IS NOT NULL THEN wrong
        WHEN json_typeof(payload) IS DISTINCT FROM 'object' THEN 'payload: must be a JSON object'
        WHEN octet_length(payload::text) > 262144 THEN 'payload: must have at most 256 KiB'
        -- As jsonb, which takes no zero character and no half of a surrogate pair.
        WHEN payload::jsonb @? '$.**{33 to last}'
            THEN 'payload: is nested deeper than 32 levels'
        WHEN delay_tolerance IS NULL OR delay_tolerance NOT BETWEEN '0' AND interval '30 days'
            THEN 'delay_tolerance: must be a duration from 0 s to 30 days'
        WHEN due > present + interval '366 days' THEN 'run_at: must be no further than 366 days ahead'
        WHEN priority IS NULL OR priority NOT BETWEEN -32768 AND 32767
            THEN 'priority: must be from -32768 to 32767'
        WHEN max_attempts IS NULL OR max_attempts NOT BETWEEN 1 AND 100
            THEN 'max_attempts: must be from 1 to 100'
        WHEN labels IS NOT NULL AND json_typeof(labels) <> 'object'
            THEN 'labels: must be a JSON object of strings'
        WHEN labels IS NOT NULL AND ((SELECT count(*) FROM json_each(labels)) > 8 OR EXISTS (
            SELECT FROM jsonb_each(labels::jsonb) AS each
            WHERE jsonb_typeof(each.value) <> 'string'
                OR length(each.value #>> '{}') NOT BETWEEN 1 AND 100
                OR length(each.key) NOT BETWEEN 1 AND 50
                OR (each.key || (each.value #>> '{}')) ~ '[\u0001-\u001f\u007f-\u009f]'
        )) THEN 'labels: must be at most 8 strings, each of 1 to 100 characters'
        WHEN headers IS NULL THEN NULL
        WHEN json_typeof(headers) <> 'object' THEN 'headers: must be a JSON object of strings'
        WHEN (SELECT count(*) FROM json_each(headers)) > 16 OR EXISTS (
            SELECT FROM jsonb_each(headers::jsonb) AS each
            WHERE length(each.value #>> '{}') > 1024
                OR length(each.key) NOT BETWEEN 1 AND 200
                OR each.key ~ '[\u0001-\u001f\u007f-\u009f]'
        ) THEN 'headers: must be at most 16 strings, each of at most 1024 characters'
    END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = wrong;
    END IF;
    -- A UUIDv7: ids order jobs by age.
    job_id := coalesce(id, encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM present) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid);
    FOR round IN 1..10 LOOP
        duplicate := true;
        SELECT j.tenant_id INTO owner FROM jobs AS j WHERE j.id = job_id;
        IF FOUND AND owner <> tenant_id THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = 'id: is taken; choose another';
        ELSIF FOUND THEN
            RETURN;
        END IF;
        IF dedupe_key IS NOT NULL THEN
            SELECT j.id INTO id FROM jobs AS j
            WHERE j.tenant_id = tenant_id AND j.dedupe_key = dedupe_key
                AND j.status IN ('pending', 'running');
            IF FOUND THEN
                job_id := id;
                RETURN;
            END IF;
        END IF;
        IF max_pending_jobs IS NULL THEN
            UPDATE admissions AS a SET live_max = NULL
            WHERE a.tenant_id = tenant_id AND a.live_max IS NOT NULL;
        ELSE
            UPDATE admissions AS a SET live_max = a.live_max + 1
            WHERE a.tenant_id = tenant_id AND a.live_max + 1 <= max_pending_jobs;
            IF NOT FOUND THEN
                INSERT INTO admissions (tenant_id, live_max) VALUES (tenant_id, NULL)
                ON CONFLICT ON CONSTRAINT admissions_pkey DO UPDATE SET live_max = NULL;
                SELECT count(*) INTO pending FROM jobs AS j
                WHERE j.tenant_id = tenant_id AND j.status = 'pending';
                IF pending + 1 > max_pending_jobs THEN
                    RAISE EXCEPTION USING ERRCODE = 'configuration_limit_exceeded', MESSAGE = format(
                        'tenant %L may have %s pending jobs; it has %s and asked for 1 more',
                        tenant_id, max_pending_jobs, pending);
                END IF;
                UPDATE admissions AS a SET live_max = pending + 1 + (
                    SELECT count(*) FROM jobs AS j
                    WHERE j.tenant_id = tenant_id AND j.status = 'running')
                WHERE a.tenant_id = tenant_id;
            END IF;
        END IF;
        INSERT INTO jobs (
            id, tenant_id, use_case, type, queue, payload, run_at, delay_tolerance, deadline_at,
            priority, max_attempts, backoff_policy, dedupe_key, created_at, updated_at, headers,
            labels, lane
        ) VALUES (
            job_id, tenant_id, use_case, type, lane, payload, due, delay_tolerance,
            due + delay_tolerance, priority, max_attempts, '{"jitter":0.5}', dedupe_key, present,
            present, CASE WHEN headers::text::jsonb <> '{}' THEN headers END,
            CASE WHEN labels::jsonb <> '{}' THEN labels::jsonb END,
            CASE WHEN due <= present THEN 0 END
        ) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            duplicate := false;
            -- The channel of the topic `dispatch`.
            PERFORM pg_notify('async_jobs_5fc1ebf360e376b48d7c7e9e3f1f2fb4', '');
            RETURN;
        END IF;
        -- Whoever stood in the way may have finished, or have been rolled back, since.
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
        MESSAGE = 'a dedupe key changed hands too often while a job was being added';
END
$body$;
