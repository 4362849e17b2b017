-- ready_heads: a bounded view of the ready jobs of some use cases, in scheduling order.
--   $1 use_cases text[]  $2 limits int[]  $3 afters text[], side by side  $4 now timestamptz
--   $5 tenants text[]  $6 their use cases, by their place in $1, int[], side by side
--   $7 ids to leave out uuid[]
-- `pressing`: the most urgent jobs: those that can be on time, and where they do not fill the
-- limit, which ends the loop over the parts, late ones; and, without a job, who is named.
-- `walk`: the next tenants by name, one index probe each, if there are more jobs; the fewer, the
-- more tenants are known already. Reads O(limit) rows a use case, and what it leaves out.
-- `mark`: 4 times the place of the use case; plus 2 if the walk ended here, and not because there
-- is no further tenant; plus 1 if the job presses. What priority hides of those: urgent_heads.
WITH RECURSIVE q (use_case, max_rows, after, place) AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::int[], $3::text[]) WITH ORDINALITY
), pressing AS MATERIALIZED (
    SELECT q.place, w.tenant_id, w.deadline_at, w.id FROM q CROSS JOIN LATERAL (
        SELECT * FROM (VALUES (0, $4::timestamptz, 'infinity'), (0, '-infinity', $4),
            (1, '-infinity', 'infinity')) AS part (lane, since, until) CROSS JOIN LATERAL (
            SELECT j.tenant_id, j.deadline_at, j.id FROM jobs AS j
            WHERE j.use_case = q.use_case AND j.status = 'pending' AND j.lane = part.lane
                AND j.deadline_at >= part.since AND j.deadline_at < part.until
                AND j.id NOT IN (SELECT unnest($7::uuid[]))
            ORDER BY j.deadline_at, j.id LIMIT q.max_rows) AS job LIMIT q.max_rows) AS w
    UNION ALL SELECT n.*, NULL, NULL FROM unnest($6::int[], $5::text[]) AS n (place, tenant_id)
), known (place, tenant_id, n, until) AS MATERIALIZED (
    SELECT place, tenant_id, count(id), max(deadline_at) FROM pressing GROUP BY place, tenant_id
), walk AS (
    SELECT q.place, q.use_case, q.after COLLATE "C" AS tenant_id, 0 AS step,
        greatest(q.max_rows + 1 - count(*), (q.max_rows + 7) / 8) AS steps
    FROM q JOIN known USING (place)
    GROUP BY q.place, q.use_case, q.after, q.max_rows HAVING sum(known.n) >= q.max_rows
    UNION ALL
    SELECT w.place, w.use_case, t.tenant_id, w.step + 1, w.steps FROM walk AS w CROSS JOIN LATERAL (
        SELECT j.tenant_id FROM jobs AS j WHERE j.use_case = w.use_case AND j.status = 'pending'
            AND j.lane IS NOT NULL AND j.tenant_id > w.tenant_id
            AND j.id NOT IN (SELECT unnest($7::uuid[])) ORDER BY j.tenant_id LIMIT 1
    ) AS t WHERE w.step < w.steps
), shown (place, tenant_id, n, until, is_last, tenants) AS (
    SELECT place, tenant_id, max(n), max(until), max(is_last), count(*) OVER (PARTITION BY place)
    FROM (SELECT *, 0 AS is_last FROM known UNION ALL
        SELECT place, tenant_id, 0, NULL, (step = steps)::int FROM walk WHERE step > 0
    ) AS seen GROUP BY place, tenant_id
)
SELECT 4 * s.place + 2 * s.is_last + CASE WHEN head.deadline_at <= s.until
    AND head.id IN (SELECT id FROM pressing) THEN 1 ELSE 0 END AS mark, head.*
FROM shown AS s JOIN q USING (place) CROSS JOIN LATERAL (
    SELECT j.id, j.tenant_id, j.queue, j.priority, j.deadline_at, j.lease_seq,
        date_part('epoch', j.delay_tolerance) AS tolerance_seconds, j.type FROM jobs AS j
    WHERE j.use_case = q.use_case AND j.tenant_id = s.tenant_id AND j.status = 'pending'
        AND j.lane IS NOT NULL AND j.run_at <= $4 AND j.id NOT IN (SELECT unnest($7::uuid[]))
    ORDER BY j.lane, j.priority DESC, j.deadline_at, j.id
    LIMIT least(q.max_rows, s.n + greatest(1, 2 * q.max_rows / s.tenants))) AS head
