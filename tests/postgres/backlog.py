"""A large table of jobs of every kind, on which a statement that reads too much is found out."""

from __future__ import annotations

from dataclasses import dataclass

from async_jobs.adapters.postgres.pool import AnyConnection
from async_jobs.testing.clocks import NOW

FUTURE, FINISHED, READY, TENANTS = 1_000_000, 100_000, 10_000, 1_000
RUNNING = 100
"""In each of three use cases; in one of them half the leases are over."""
_ROWS = """
INSERT INTO jobs (
    id, tenant_id, use_case, type, queue, status, payload, run_at, delay_tolerance, deadline_at,
    attempts, max_attempts, backoff_policy, created_at, updated_at, lease_seq, lane,
    lease_expires_at, started_at, finished_at
)
SELECT
    ('{group}-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid,
    {tenant}, {use_case}, {type}, 'lane', {status}, '{{"to": "somebody@example.com"}}',
    {run_at}, interval '60 s', {run_at} + interval '60 s', 1, 5,
    '{{"type":"exponential","base_delay_seconds":1.0,"max_delay_seconds":600.0,"jitter":0.5}}',
    $1 - interval '2 days', $1 - interval '2 days', 0, {lane},
    {lease_end}, {started_at}, {finished_at}
FROM generate_series(1, $2) AS i
"""
_ANYBODY = f"'tenant-' || lpad((i % {TENANTS})::text, 4, '0')"
_ANYTHING = "(ARRAY['even', 'skewed', 'full', 'late', 'sidelined'])[1 + i % 5]"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows that are alike, as SQL expressions of their number `i` and of now, `$1`."""

    count: int
    use_case: str = _ANYTHING
    tenant: str = _ANYBODY
    type: str = "'send_email'"
    status: str = "'pending'"
    run_at: str = "$1 - i * interval '1 ms'"
    lane: str = "0"
    lease_end: str = "NULL"
    started_at: str = "NULL"
    finished_at: str = "NULL"

    async def insert(self, connection: AnyConnection, group: int) -> None:
        columns = {name: getattr(self, name) for name in self.__annotations__ if name != "count"}
        statement = _ROWS.format(group=f"{group:08x}", **columns).replace("$1", "$1::timestamptz")
        await connection.execute(statement, NOW, self.count)


_AN_HOUR_LATE = "$1 - interval '1 hour' - i * interval '1 ms'"
BACKLOG = (
    Rows(count=FUTURE, run_at="$1 + interval '1 day' + i * interval '1 s'", lane="NULL"),
    Rows(
        count=FINISHED,
        status="(ARRAY['succeeded', 'dead', 'cancelled'])[1 + i % 3]",
        lane="NULL",
        finished_at="$1 - interval '1 day' - i * interval '1 s'",
    ),
    Rows(count=READY, use_case="'even'"),
    Rows(count=READY * 9 // 10, use_case="'skewed'", tenant="'big'", run_at=_AN_HOUR_LATE),
    Rows(count=READY // 10, use_case="'skewed'"),
    Rows(count=READY * 9, use_case="'full'"),
    Rows(count=READY // 5, use_case="'late'", run_at=_AN_HOUR_LATE),
    Rows(count=READY // 5, use_case="'sidelined'", run_at=_AN_HOUR_LATE),
    Rows(count=READY // 2, use_case="'even'", lane="NULL"),
    *(
        Rows(
            count=RUNNING,
            use_case=f"'{use_case}'",
            status="'running'",
            lane="NULL",
            started_at="$1",
            lease_end=lease_end,
        )
        for use_case, lease_end in (
            ("even", "$1 + interval '1 minute'"),
            ("full", "$1 + interval '1 minute'"),
            ("lost", f"$1 + (i - {RUNNING // 2}) * interval '1 s'"),
        )
    ),
)
_HANDOFFS = """
INSERT INTO handoffs (queue, job_id, lease_seq, tenant_id, visible_at)
SELECT 'lane-' || i % 3, gen_random_uuid(), 1, 'acme', $1 FROM generate_series(1, $2) AS i
"""


async def load(connection: AnyConnection) -> None:
    """Fill the tables; the indexes are made afterwards, which is quicker."""
    indexes = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition"
        " FROM pg_index WHERE indrelid = 'jobs'::regclass AND NOT indisprimary"
    )
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    for group, rows in enumerate(BACKLOG):
        await rows.insert(connection, group)
    for index in indexes:
        await connection.execute(index["definition"])
    await connection.execute(_HANDOFFS, NOW, 2 * READY)
    await connection.execute("VACUUM ANALYZE jobs, handoffs")
