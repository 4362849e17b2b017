-- running_counts: how many jobs run, by use case, tenant and queue.
--   $1 worker_ids text[]: claims of others are counted as strays, too
SELECT
    use_case, tenant_id, queue,
    count(*) FILTER (WHERE started_at IS NOT NULL) AS claimed,
    count(*) FILTER (WHERE started_at IS NULL) AS unclaimed,
    count(*) FILTER (WHERE started_at IS NOT NULL AND worker_id <> ALL ($1::text[])) AS strays
FROM jobs
WHERE status = 'running'
GROUP BY use_case, tenant_id, queue
