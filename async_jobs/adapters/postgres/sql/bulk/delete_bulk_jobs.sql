-- delete_bulk_jobs: delete jobs that do not run, with the records of their attempts.
--   $1 ids uuid[], sorted  $2 lease_seqs bigint[], side by side
-- Whatever is absent from the result is unchanged.
WITH gone AS (
    DELETE FROM jobs AS j USING unnest($1::uuid[], $2::bigint[]) AS d (id, lease_seq)
    WHERE j.id = d.id AND j.id = ANY($1::uuid[])
        AND j.lease_seq = d.lease_seq AND j.status <> 'running'
    RETURNING j.id
), forgotten AS (
    DELETE FROM attempts WHERE job_id = ANY(ARRAY(SELECT id FROM gone))
)
SELECT id FROM gone
