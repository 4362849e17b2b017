-- What a job was first promised, and when it first started. Versions before leave both alone.
ALTER TABLE jobs
    ADD COLUMN first_deadline_at timestamptz,
    ADD COLUMN first_started_at timestamptz;

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
