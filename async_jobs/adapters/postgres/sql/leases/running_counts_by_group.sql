-- running_counts_by_group: as running_counts, and by the group of the worker that has claimed.
--   $1 worker_ids text[]: claims of others are counted as strays, too
--   $2 told_apart text[]  $3 groups int[]: those of them whose group is not 0
-- A statement of its own: the join costs a quarter more, and few fleets need it.
SELECT
    use_case, tenant_id, queue,
    count(*) FILTER (WHERE started_at IS NOT NULL) AS claimed,
    count(*) FILTER (WHERE started_at IS NULL) AS unclaimed,
    count(*) FILTER (WHERE started_at IS NOT NULL AND worker_id <> ALL ($1::text[])) AS strays,
    coalesce(number, 0) AS number
FROM jobs
LEFT JOIN unnest($2::text[], $3::int[]) AS told_apart (claimant, number)
    ON claimant COLLATE "C" = worker_id AND started_at IS NOT NULL
WHERE status = 'running'
GROUP BY use_case, tenant_id, queue, number
