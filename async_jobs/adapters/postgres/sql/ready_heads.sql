-- ready_heads: a bounded view of the ready jobs of some use cases, in scheduling order.
--   $1 use_cases text[]  $2 limits int[]  $3 afters text[], side by side  $4 now timestamptz
-- `pressing`: whose jobs are among the most urgent. `walk`: the next tenants by name, one index
-- probe each, where the urgent ones do not show everybody; the fewer, the more of them press.
-- `is_last`: the walk ended here, and not because there is no further tenant.
-- Reads O(limit) rows a use case.
WITH RECURSIVE query AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::int[], $3::text[]) AS q (use_case, max_rows, after)
), pressing AS MATERIALIZED (
    SELECT q.use_case, q.max_rows, w.tenant_id, count(*) AS n
    FROM query AS q CROSS JOIN LATERAL (
        SELECT j.tenant_id FROM jobs AS j
        WHERE j.use_case = q.use_case AND j.status = 'pending' AND j.lane IS NOT NULL
        ORDER BY j.lane, j.deadline_at, j.id LIMIT q.max_rows
    ) AS w GROUP BY q.use_case, q.max_rows, w.tenant_id
), walk AS (
    SELECT q.use_case, q.after COLLATE "C" AS tenant_id, 0 AS step, w.steps
    FROM query AS q JOIN (
        SELECT use_case, greatest(max_rows + 1 - count(*), (max_rows + 7) / 8) AS steps
        FROM pressing GROUP BY use_case, max_rows HAVING sum(n) >= max_rows
    ) AS w USING (use_case)
    UNION ALL
    SELECT w.use_case, t.tenant_id, w.step + 1, w.steps FROM walk AS w CROSS JOIN LATERAL (
        SELECT j.tenant_id FROM jobs AS j
        WHERE j.use_case = w.use_case AND j.tenant_id > w.tenant_id
            AND j.status = 'pending' AND j.lane IS NOT NULL
        ORDER BY j.tenant_id LIMIT 1
    ) AS t WHERE w.step < w.steps
), shown AS (
    SELECT use_case, tenant_id, sum(n) AS n, bool_or(is_last) AS is_last,
        count(*) OVER (PARTITION BY use_case) AS tenants
    FROM (
        SELECT use_case, tenant_id, n, false AS is_last FROM pressing
        UNION ALL SELECT use_case, tenant_id, 0, step = steps FROM walk WHERE step > 0
    ) AS seen GROUP BY use_case, tenant_id
)
SELECT s.use_case, s.is_last, head.* FROM shown AS s JOIN query AS q USING (use_case)
CROSS JOIN LATERAL (
    SELECT j.id, j.tenant_id, j.queue, j.priority, j.deadline_at, j.lease_seq
    FROM jobs AS j
    WHERE j.use_case = s.use_case AND j.tenant_id = s.tenant_id AND j.status = 'pending'
        AND j.lane IS NOT NULL AND j.run_at <= $4
    ORDER BY j.lane, j.priority DESC, j.deadline_at, j.id
    LIMIT least(q.max_rows, s.n + ceil(2.0 * q.max_rows / s.tenants))
) AS head
