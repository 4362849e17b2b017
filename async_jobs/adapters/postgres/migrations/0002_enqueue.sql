-- Enqueue a job from SQL: in the transaction of whoever calls it, by any driver.
--
-- Checks the bounds that `JobService.enqueue` checks, but what only a configuration knows: whether
-- the use case and the queue exist, and what their defaults are. A tenant's limit is checked if it
-- is passed. What is refused is an error: 22023 for a value, 53400 for a full tenant. Schedulers
-- are woken by the commit. The answer is the job's id, and whether it was there before.
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
        WHEN headers IS NULL THEN NULL
        WHEN json_typeof(headers) <> 'object' THEN 'headers: must be a JSON object of strings'
        WHEN (SELECT count(*) FROM json_each(headers)) > 16 OR EXISTS (
            SELECT FROM jsonb_each(headers::jsonb) AS each
            WHERE jsonb_typeof(each.value) <> 'string' OR length(each.value #>> '{}') > 1024
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
            lane
        ) VALUES (
            job_id, tenant_id, use_case, type, lane, payload, due, delay_tolerance,
            due + delay_tolerance, priority, max_attempts, '{"jitter":0.5}', dedupe_key, present,
            present, CASE WHEN headers::text::jsonb <> '{}' THEN headers END,
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
