-- takes_jobs: whether an enqueue can succeed: the server writes, and the tables are there;
-- and whether the role `saves` what becomes of attempts.
--   $1 tables text[]  $2 columns text[], side by side: what this version relies on
-- On a standby it fails, because `admissions` is unlogged.
SELECT
    NOT pg_is_in_recovery()
    AND current_setting('transaction_read_only') = 'off'
    AND has_table_privilege('jobs', 'INSERT')
    AND has_table_privilege('admissions', 'INSERT, UPDATE') AS takes,
    has_table_privilege('jobs', 'UPDATE')
    AND coalesce(has_table_privilege(to_regclass('attempts'), 'INSERT'), false) AS saves,
    (SELECT count(*) FROM (SELECT FROM jobs LIMIT 1) AS one_job)
    + (SELECT count(*) FROM (SELECT FROM admissions LIMIT 1) AS one_tenant) AS seen,
    (
        SELECT string_agg(needed.rel || '.' || needed.col, ', ')
        FROM unnest($1::text[], $2::text[]) AS needed (rel, col)
        WHERE NOT EXISTS (
            SELECT FROM pg_attribute AS a
            WHERE a.attrelid = to_regclass(needed.rel) AND a.attname = needed.col
                AND NOT a.attisdropped
        )
    ) AS lacks
