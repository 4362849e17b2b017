-- lock_free_bulk_jobs: lock_bulk_jobs, without those that somebody else holds.
--   $1 ids uuid[]
SELECT {job_columns}
FROM jobs AS j
WHERE j.id = ANY($1::uuid[])
ORDER BY j.id
FOR UPDATE SKIP LOCKED
