-- ready_heads: a bounded view of the ready jobs of some use cases, in scheduling order (LS-1).
--   $1 use_cases text[]  $2 limits int[]  $3 afters text[], side by side  $4 now timestamptz
--   $5 tenants text[]  $6 their use cases, by their place in $1, int[], side by side
--   $7 ids to leave out uuid[]
-- Reads O(limit) rows a use case, and what it leaves out. What priority hides: urgent_heads.
WITH RECURSIVE query (use_case, max_rows, after, place) AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::int[], $3::text[]) WITH ORDINALITY
),
-- The most urgent jobs, at most `max_rows`: first what can still be on time, then what is late,
-- then what was sidelined. The outer LIMIT ends the loop over these parts as soon as it is reached.
-- Besides, without a job, the tenants that the caller names.
urgent AS MATERIALIZED (
    SELECT query.place, job.tenant_id, job.deadline_at, job.id
    FROM query CROSS JOIN LATERAL (
        SELECT * FROM (VALUES
            (0, $4::timestamptz, 'infinity'), (0, '-infinity', $4), (1, '-infinity', 'infinity')
        ) AS part (lane, since, until) CROSS JOIN LATERAL (
            SELECT j.tenant_id, j.deadline_at, j.id FROM jobs AS j
            WHERE j.use_case = query.use_case AND j.status = 'pending' AND j.lane = part.lane
                AND j.deadline_at >= part.since AND j.deadline_at < part.until
                AND j.id NOT IN (SELECT unnest($7::uuid[]))
            ORDER BY j.deadline_at, j.id LIMIT query.max_rows
        ) AS of_part LIMIT query.max_rows
    ) AS job
    UNION ALL
    SELECT named.*, NULL, NULL FROM unnest($6::int[], $5::text[]) AS named (place, tenant_id)
),
-- Their tenants: how many of the most urgent jobs each has, and the last deadline among them.
known (place, tenant_id, job_count, last_deadline) AS MATERIALIZED (
    SELECT place, tenant_id, count(id), max(deadline_at) FROM urgent GROUP BY place, tenant_id
),
-- The next tenants by name after `after`, one index probe each, where there are more jobs than
-- those above. The rotation is the shorter, the more tenants are known already, but an eighth of
-- `max_rows` at least.
rotation AS (
    SELECT query.place, query.use_case, query.after COLLATE "C" AS tenant_id, 0 AS step,
        greatest(query.max_rows + 1 - count(*), (query.max_rows + 7) / 8) AS rotation_length
    FROM query JOIN known USING (place)
    GROUP BY query.place, query.use_case, query.after, query.max_rows
    HAVING sum(known.job_count) >= query.max_rows
    UNION ALL
    SELECT r.place, r.use_case, next.tenant_id, r.step + 1, r.rotation_length
    FROM rotation AS r CROSS JOIN LATERAL (
        SELECT j.tenant_id FROM jobs AS j
        WHERE j.use_case = r.use_case AND j.status = 'pending' AND j.lane IS NOT NULL
            AND j.tenant_id > r.tenant_id AND j.id NOT IN (SELECT unnest($7::uuid[]))
        ORDER BY j.tenant_id LIMIT 1
    ) AS next WHERE r.step < r.rotation_length
),
-- All tenants of which a beginning is shown. `is_last`: the rotation ended with this tenant, and
-- not because there is no further one.
shown (place, tenant_id, job_count, last_deadline, is_last, tenant_count) AS (
    SELECT place, tenant_id, max(job_count), max(last_deadline), max(is_last),
        count(*) OVER (PARTITION BY place)
    FROM (
        SELECT *, 0 AS is_last FROM known
        UNION ALL
        SELECT place, tenant_id, 0, NULL, (step = rotation_length)::int FROM rotation WHERE step > 0
    ) AS seen GROUP BY place, tenant_id
)
-- `mark` packs three answers into a number: 4 × the place of the use case, + 2 if `is_last`,
-- + 1 if the job is one of the most urgent. The tenant of `is_last` is told as `resume`, in a row
-- without a job if all that it has is held.
SELECT 4 * shown.place + 2 * shown.is_last + CASE WHEN head.deadline_at <= shown.last_deadline
    AND head.id IN (SELECT id FROM urgent) THEN 1 ELSE 0 END AS mark,
    CASE WHEN shown.is_last = 1 THEN shown.tenant_id END AS resume, head.*
FROM shown JOIN query USING (place) LEFT JOIN LATERAL (
    SELECT {candidate_columns} FROM jobs AS j
    WHERE j.use_case = query.use_case AND j.tenant_id = shown.tenant_id AND j.status = 'pending'
        AND j.lane IS NOT NULL AND j.lane < 2 AND j.run_at <= $4
        AND j.id NOT IN (SELECT unnest($7::uuid[]))
    ORDER BY j.lane, j.priority DESC, j.deadline_at, j.id
    LIMIT least(
        query.max_rows,
        shown.job_count + greatest(1, 2 * query.max_rows / shown.tenant_count)
    )
) AS head ON true WHERE head.id IS NOT NULL OR shown.is_last = 1
