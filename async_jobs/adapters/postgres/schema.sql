-- The jobs table. One row a job; the row is the truth about it.
--
-- `lane` places a pending job in the ready indexes: NULL while it is not due yet, so that a
-- million jobs scheduled for tomorrow cost today's tick nothing; 0 once it is due; 1 when it is
-- late in a use case that sidelines late jobs. Names compare by bytes ("C"), as Python does.
-- JSON columns are `json`, not `jsonb`: what is read back is what was written.
--
-- What never changes comes first, then what only some transitions change, in the order in which
-- they come to it. An update that stays on its page logs only what follows its first change.
CREATE TABLE jobs (
    id               uuid        PRIMARY KEY,
    created_at       timestamptz NOT NULL,
    delay_tolerance  interval    NOT NULL,
    priority         smallint    NOT NULL DEFAULT 0,
    max_attempts     smallint    NOT NULL,
    tenant_id        text        NOT NULL COLLATE "C",
    use_case         text        NOT NULL COLLATE "C",
    type             text        NOT NULL COLLATE "C",
    queue            text        NOT NULL COLLATE "C",
    dedupe_key       text        COLLATE "C",
    backoff_policy   json        NOT NULL,
    headers          json,
    payload          json        NOT NULL,
    run_at           timestamptz NOT NULL,
    deadline_at      timestamptz NOT NULL,
    dispatches       integer     NOT NULL DEFAULT 0,
    cancel_requested boolean     NOT NULL DEFAULT false,
    enqueue_failed   boolean     NOT NULL DEFAULT false,
    crashes          smallint    NOT NULL DEFAULT 0,
    lease_seq        bigint      NOT NULL DEFAULT 0,
    lane             smallint,
    status           text        NOT NULL COLLATE "C" DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'succeeded', 'dead', 'cancelled')),
    attempts         smallint    NOT NULL DEFAULT 0,
    updated_at       timestamptz NOT NULL,
    lease_expires_at timestamptz,
    started_at       timestamptz,
    finished_at      timestamptz,
    worker_id        text        COLLATE "C",
    last_error       text,
    errors           json,
    result           json,
    first_deadline_at timestamptz, -- NULL as long as it is deadline_at
    first_started_at timestamptz,  -- once that lease has ended; NULL where started_at says it
    labels           jsonb,        -- compared, and never written again
    CHECK ((status = 'running') = (lease_expires_at IS NOT NULL)),
    -- An instant or a time that Python cannot hold would fail every read that meets it, of all
    -- the other rows too.
    CHECK (
        least(run_at, deadline_at, created_at, updated_at,
              lease_expires_at, started_at, finished_at) >= '1000-01-01 00:00+00'
        AND greatest(run_at, deadline_at, created_at, updated_at,
                     lease_expires_at, started_at, finished_at) < '9000-01-01 00:00+00'
        AND delay_tolerance BETWEEN interval '0' AND interval '1000 days'
    )
) WITH (
    -- Room on each page for all versions of every row, from its insert to its outcome, however
    -- quickly they follow each other: a claim and a renewal change no indexed column and are HOT
    -- then, and every update logs what it changes, not the row.
    fillfactor = 30,
    -- Every job leaves dead row versions behind; clean up by count, not by share of history.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0
);

-- Whose work presses: the most urgent ready jobs of a use case, across tenants.
CREATE INDEX idx_jobs_pending_deadline ON jobs (use_case, lane, deadline_at, id)
    INCLUDE (tenant_id) WHERE status = 'pending' AND lane IS NOT NULL;

-- Each tenant's ready jobs in scheduling order, and the walk over the tenants.
CREATE INDEX idx_jobs_pending_tenant
    ON jobs (use_case, tenant_id, lane, priority DESC, deadline_at, id)
    WHERE status = 'pending' AND lane IS NOT NULL;

-- What comes due next.
CREATE INDEX idx_jobs_pending_run_at ON jobs (run_at)
    WHERE status = 'pending' AND lane IS NULL;

-- Pending counts for quotas, and the pages of one tenant's jobs. What runs is few, and not worth an
-- entry at each lease.
CREATE INDEX idx_jobs_tenant_status ON jobs (tenant_id, status, id)
    WHERE status <> 'running';

-- What runs now: counted at every turn, searched by the reaper; as small as the caps. Equal
-- keys lie in the order of the table, so that dead rows, which somebody's old snapshot may keep
-- for hours, are passed a page at a time.
CREATE INDEX idx_jobs_use_case_status ON jobs (use_case)
    WHERE status = 'running';

-- One live job per key. It covers every live status, so no live-to-live change can violate it.
CREATE UNIQUE INDEX idx_jobs_dedupe_key ON jobs (tenant_id, dedupe_key)
    WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'running');

-- Retention.
CREATE INDEX idx_jobs_finished ON jobs (use_case, finished_at)
    WHERE finished_at IS NOT NULL;

-- How many live jobs a tenant with a limit has at most: whoever adds raises it, nobody lowers it,
-- and once it passes the limit the jobs are counted anew. NULL, or no row, is for "count them".
-- Unlogged, because it can be counted.
CREATE UNLOGGED TABLE admissions (
    tenant_id text   PRIMARY KEY COLLATE "C",
    live_max  bigint
) WITH (
    -- Every call of a tenant updates its one row; room for that on the page keeps it HOT.
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

-- Hand-offs on their way to workers. Unlogged, because losing one is mended by the expiry of
-- the lease it tells of. A row without a job is poison.
CREATE UNLOGGED TABLE handoffs (
    queue      text        NOT NULL COLLATE "C",
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    job_id     uuid,
    lease_seq  bigint,
    tenant_id  text        NOT NULL DEFAULT '' COLLATE "C",
    visible_at timestamptz NOT NULL,
    receipts   integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, id)
) WITH (
    -- Room for a second version of every row: what a receipt leaves behind is HOT.
    fillfactor = 45,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

-- Workers that are alive. Unlogged, because they announce themselves again within seconds.
CREATE UNLOGGED TABLE workers (
    worker_id   text        PRIMARY KEY COLLATE "C",
    queues      text[]      NOT NULL,
    slots       integer     NOT NULL,
    busy        integer     NOT NULL,
    host        text        NOT NULL,
    version     text        NOT NULL,
    seen_at     timestamptz NOT NULL,
    alive_until timestamptz NOT NULL,
    run_times   json        NOT NULL DEFAULT '{}',
    transport   text        NOT NULL DEFAULT '',
    types       text[]
);

-- Sums of what happened to jobs, by minute, and by hour once they are two days old. `tenant_id` is ''
-- for all who are not told apart. What each number of `sums` is: domain/tallies.py.
CREATE TABLE tallies (
    starting  timestamptz NOT NULL,
    minutes   smallint    NOT NULL CHECK (minutes IN (1, 60)),
    use_case  text        NOT NULL COLLATE "C",
    tenant_id text        NOT NULL COLLATE "C",
    type      text        NOT NULL COLLATE "C",
    sums      integer[]   NOT NULL,
    PRIMARY KEY (minutes, starting, use_case, tenant_id, type)
) WITH (fillfactor = 50);

-- Which processes have added to them, and up to which batch: none counts twice.
CREATE TABLE tally_sources (
    source   text        PRIMARY KEY COLLATE "C",
    number   bigint      NOT NULL,
    added_at timestamptz NOT NULL
);

-- Schedulers that are alive or were lately. Unlogged: after a crash they announce themselves again.
CREATE UNLOGGED TABLE schedulers (
    scheduler_id text        PRIMARY KEY COLLATE "C",
    ticked_at    timestamptz NOT NULL,
    alive_until  timestamptz NOT NULL,
    info         json        NOT NULL
);

-- What a scheduler remembers for the one that takes over: what each tenant that waits has had.
-- Unlogged, because without it all are equal again.
CREATE UNLOGGED TABLE checkpoints (
    name  text PRIMARY KEY COLLATE "C",
    state json NOT NULL
);

-- Controls: pauses and limits that operators order while the system runs, and the audit of it.
-- A name that a scope does not give is empty. `limits` is NULL for a pause.
CREATE TABLE controls (
    id        uuid        PRIMARY KEY,
    use_case  text        NOT NULL COLLATE "C",
    tenant_id text        NOT NULL COLLATE "C",
    type      text        NOT NULL COLLATE "C",
    queue     text        NOT NULL COLLATE "C",
    is_pause  boolean     NOT NULL,
    limits    json,
    actor     text        NOT NULL,
    reason    text        NOT NULL,
    since     timestamptz NOT NULL,
    until     timestamptz,
    version   bigint      NOT NULL,
    UNIQUE (use_case, tenant_id, type, queue, is_pause)
);

-- The version of all controls, in one row, which every change locks. Who has read that version
-- knows all controls.
CREATE TABLE controls_version (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    version bigint  NOT NULL
);
INSERT INTO controls_version (version) VALUES (0);

-- What operators did. Ids order it by age.
CREATE TABLE operations (
    id         uuid        PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text        NOT NULL,
    address    text        NOT NULL,
    action     text        NOT NULL,
    control_id uuid        NOT NULL,
    use_case   text        NOT NULL COLLATE "C",
    tenant_id  text        NOT NULL COLLATE "C",
    type       text        NOT NULL COLLATE "C",
    queue      text        NOT NULL COLLATE "C",
    reason     text        NOT NULL,
    before     json,
    after      json,
    version    bigint      NOT NULL
);
-- Bulk operations: one action of an operator over many jobs, and how far it is. `criteria` is the
-- filter, `amendment` what the action changes to.
CREATE TABLE bulk_operations (
    id         uuid        PRIMARY KEY,
    action     text        NOT NULL,
    criteria   json        NOT NULL,
    amendment  json        NOT NULL,
    tenant_id  text        NOT NULL COLLATE "C",
    undoes     uuid,
    maximum    bigint      NOT NULL,
    matched    bigint      NOT NULL,
    actor      text        NOT NULL,
    address    text        NOT NULL,
    reason     text        NOT NULL,
    created_at timestamptz NOT NULL,
    due_at     timestamptz NOT NULL,
    done       bigint      NOT NULL DEFAULT 0,
    skipped    bigint      NOT NULL DEFAULT 0,
    failed     bigint      NOT NULL DEFAULT 0,
    problem    text,
    cursor     uuid,
    state      text        NOT NULL,
    ended_at   timestamptz
);
-- What is under way.
CREATE INDEX idx_bulk_operations_due ON bulk_operations (due_at, id) WHERE state = 'running';

-- The jobs that each batch has cancelled, and when: what an undo takes back.
CREATE TABLE bulk_batches (
    operation_id uuid        NOT NULL REFERENCES bulk_operations ON DELETE CASCADE,
    first_id     uuid        NOT NULL,
    at           timestamptz NOT NULL,
    ids          uuid[]      NOT NULL,
    PRIMARY KEY (operation_id, first_id)
);

-- What became of each attempt that ended, written with the change of its job. A partition a day,
-- made ahead and dropped as a whole; what comes on a day without one is in the default partition.
CREATE TABLE attempts (
    ended_at    timestamptz NOT NULL,
    job_id      uuid        NOT NULL,
    tenant_id   text        NOT NULL COLLATE "C",
    use_case    text        NOT NULL COLLATE "C",
    type        text        NOT NULL COLLATE "C",
    attempt     smallint    NOT NULL,
    lease_seq   bigint      NOT NULL,
    worker_id   text        COLLATE "C",
    started_at  timestamptz,
    outcome     text        NOT NULL COLLATE "C",
    error       text,
    fingerprint text        COLLATE "C",
    traceback   text
) PARTITION BY RANGE (ended_at);
CREATE INDEX idx_attempts_job ON attempts (job_id, ended_at);
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;
-- Which days it has records of.
CREATE INDEX idx_attempts_default_ended ON attempts_default (ended_at);
-- The jobs that met an error, in the order of their ids; and the latest errors.
CREATE INDEX idx_attempts_fingerprint ON attempts (fingerprint, job_id)
    WHERE fingerprint IS NOT NULL;
CREATE INDEX idx_attempts_ended ON attempts (ended_at);

-- Make the partition of a day that has not begun, whoever owns the table. Its callers are those who
-- may delete records, by the role that they logged in with.
CREATE FUNCTION async_jobs_add_attempts_day(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $body$
DECLARE
    place text := current_schema();
    part  text := format('attempts_%s', to_char(day, 'YYYYMMDD'));
BEGIN
    IF NOT has_table_privilege(session_user, format('%I.attempts', place), 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'to tidy attempts takes DELETE on them';
    END IF;
    EXECUTE format('CREATE TABLE %I.%I (LIKE %I.attempts INCLUDING ALL)', place, part, place);
    EXECUTE format(
        'ALTER TABLE %I.attempts ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
        place, place, part, to_char(day, 'YYYY-MM-DD 00:00+00'),
        to_char(day + 1, 'YYYY-MM-DD 00:00+00')
    );
END
$body$;

-- Forget the partition of a day, or all that is in the default one.
CREATE FUNCTION async_jobs_drop_attempts(part text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $body$
DECLARE
    place text := current_schema();
BEGIN
    IF NOT has_table_privilege(session_user, format('%I.attempts', place), 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'to tidy attempts takes DELETE on them';
    END IF;
    IF part = 'attempts_default' THEN
        EXECUTE format('TRUNCATE %I.attempts_default', place);
    ELSIF part ~ '^attempts_[0-9]{8}$' THEN
        EXECUTE format('DROP TABLE %I.%I', place, part);
    END IF;
END
$body$;

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
