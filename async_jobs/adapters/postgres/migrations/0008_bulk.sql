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
