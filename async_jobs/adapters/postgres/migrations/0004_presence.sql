-- Who is there: the job types that workers have handlers for, and the schedulers.
-- Workers that announce themselves without types say nothing about them.
ALTER TABLE workers ADD COLUMN types text[];

-- Schedulers that are alive or were lately. Unlogged: after a crash they announce themselves again.
CREATE UNLOGGED TABLE schedulers (
    scheduler_id text        PRIMARY KEY COLLATE "C",
    ticked_at    timestamptz NOT NULL,
    alive_until  timestamptz NOT NULL,
    info         json        NOT NULL
);
