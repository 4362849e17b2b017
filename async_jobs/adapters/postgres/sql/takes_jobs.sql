-- takes_jobs: whether an enqueue can succeed: the server writes, and the tables are there.
-- On a standby it fails, because `admissions` is unlogged.
SELECT
    NOT pg_is_in_recovery()
    AND current_setting('transaction_read_only') = 'off'
    AND has_table_privilege('jobs', 'INSERT')
    AND has_table_privilege('admissions', 'INSERT, UPDATE') AS takes,
    (SELECT count(*) FROM (SELECT FROM jobs LIMIT 1) AS one_job)
    + (SELECT count(*) FROM (SELECT FROM admissions LIMIT 1) AS one_tenant) AS seen
