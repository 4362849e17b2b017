-- history_parts: the partitions of the history and what each takes; of the default one, since when
-- and until when it has records.
SELECT c.relname::text AS name, pg_total_relation_size(c.oid) AS size, d.oldest, d.newest
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
CROSS JOIN LATERAL (
    SELECT min(ended_at) AS oldest, max(ended_at) AS newest FROM attempts_default
) AS d
WHERE i.inhparent = 'attempts'::regclass
