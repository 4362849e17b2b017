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
    transport   text        NOT NULL DEFAULT ''
);

-- What a scheduler remembers for the one that takes over: what each tenant that waits has had.
-- Unlogged, because without it all are equal again.
CREATE UNLOGGED TABLE checkpoints (
    name  text PRIMARY KEY COLLATE "C",
    state json NOT NULL
);
