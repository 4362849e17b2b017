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
