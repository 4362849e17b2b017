-- bulk_under_way: how many operations are under way, and when one of them is due.
SELECT count(*) AS count, min(due_at) AS due_at FROM bulk_operations WHERE state = 'running'
