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
