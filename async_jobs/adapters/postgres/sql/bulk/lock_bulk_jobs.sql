-- lock_bulk_jobs: jobs that nobody else can change until the transaction ends, in one order for all.
--   $1 ids uuid[]
SELECT {job_columns}
FROM jobs AS j
WHERE j.id = ANY($1::uuid[])
ORDER BY j.id
FOR UPDATE
