-- running_counts: how many jobs run, by use case, tenant and queue.
--   no parameters
SELECT
    use_case, tenant_id, queue,
    count(*) FILTER (WHERE started_at IS NOT NULL) AS claimed,
    count(*) FILTER (WHERE started_at IS NULL) AS unclaimed
FROM jobs
WHERE status = 'running'
GROUP BY use_case, tenant_id, queue
