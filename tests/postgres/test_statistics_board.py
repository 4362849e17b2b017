"""The board that reads the statistics in Postgres: each of its queries, and what they come to."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.tallies import PostgresTallies
from async_jobs.application.operating.reporting import ReportsService
from async_jobs.domain.tallies import HOUR, SIZE, Attained, Batch, Group, floor_of
from async_jobs.testing.clocks import ManualClock
from tests.kit.monitoring import STATISTICS_BOARD, panels

USE_CASES = ("brief", "mail", "it's")
TENANTS, TYPES = ("acme", ""), ("send", "print")
NOW = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
SINCE = NOW - timedelta(hours=6)
STEP_SECONDS = 600


def filled_in(query: str, *, use_cases: tuple[str, ...] = USE_CASES) -> str:
    """Return a query as Grafana sends it."""
    named = ",".join("'" + name.replace("'", "''") + "'" for name in use_cases)
    until = NOW.isoformat()
    times = f"\\1 BETWEEN '{SINCE.isoformat()}' AND '{until}'"
    grouped = rf'floor(extract(epoch from \1)/{STEP_SECONDS})*{STEP_SECONDS} AS "time"'
    query = query.replace("$use_case", named)
    query = re.sub(r"\$__timeFilter\((\w+)\)", times, query)
    query = re.sub(r"\$__timeGroupAlias\((\w+), \$__interval\)", grouped, query)
    assert "$" not in query
    return query


QUERIES = {
    (panel["title"], target["refId"]): target
    for panel in panels(STATISTICS_BOARD)
    for target in panel.get("targets", ())
}


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A database with statistics of some hours, the older ones of which are rolled up."""
    pool = await create_pool(database_dsn, max_size=2)
    tallies = PostgresTallies(pool)
    sums = {}
    for number in range(40):
        starting = floor_of(SINCE + timedelta(minutes=9 * number), timedelta(minutes=1))
        for at, use_case in enumerate(USE_CASES):
            for tenant in TENANTS:
                for type in TYPES:
                    counts = [(number * 7 + at * 3 + place) % 5 for place in range(SIZE)]
                    # As a version before had them: shorter.
                    cut = 30 if number == 1 else SIZE
                    sums[Group(starting, use_case, tenant, type)] = counts[:cut]
    await tallies.add(Batch("a process", 1, sums), at=NOW)
    rolled_up = await tallies.roll_up(floor_of(SINCE + 3 * HOUR, HOUR), limit=100_000)
    assert rolled_up > 0
    yield pool
    pool.terminate()


async def asked(pool: asyncpg.Pool, title: str, ref: str = "A") -> list[dict[str, Any]]:
    rows = await pool.fetch(filled_in(QUERIES[title, ref]["rawSql"]))
    told = [dict(row) for row in rows]
    return [
        {name: int(v) if isinstance(v, Decimal) else v for name, v in row.items()} for row in told
    ]


async def reported(pool: asyncpg.Pool, *by: str) -> list[Attained]:
    reports = ReportsService(PostgresTallies(pool), clock=ManualClock(NOW))
    report = await reports.attainment(since=SINCE, until=NOW + timedelta(minutes=1), by=by)
    return list(report.rows)


async def test_each_query_finds_what_its_panel_shows(pool: asyncpg.Pool) -> None:
    """Columns as Grafana wants them, and rows where there are statistics; one without at most."""
    for (title, ref), target in QUERIES.items():
        rows = await asked(pool, title, ref)

        assert rows, title
        if target["format"] == "time_series":
            times = [row["time"] for row in rows]
            assert times == sorted(times), title
            assert all(time % STEP_SECONDS == 0 for time in times), title
    await pool.execute("DELETE FROM tallies")
    for title, ref in QUERIES:
        assert len(await asked(pool, title, ref)) <= 1, title


async def test_the_board_says_what_the_report_says(pool: asyncpg.Pool) -> None:
    """Over the whole range, and by use case, tenant and type."""
    (all_of_it,) = await reported(pool)
    (shown,) = await asked(pool, "Attainment of the range")
    assert shown["attainment"] == pytest.approx(all_of_it.attainment)

    starts = await asked(pool, "First starts")
    shown = {name: sum(row[name] for row in starts) for name in starts[0]}
    assert (shown["on time"], shown["late"], shown["unstarted"]) == (
        all_of_it.on_time,
        all_of_it.late,
        all_of_it.unstarted,
    )
    jobs = await asked(pool, "Jobs")
    for name in ("enqueued", "succeeded", "dead", "cancelled", "expired"):
        assert sum(row[name] for row in jobs) == getattr(all_of_it, name)
    attempts = await asked(pool, "Attempts that did not succeed")
    assert {
        name: sum(row[name] for row in attempts) for name in all_of_it.attempts
    } == all_of_it.attempts
    for title, dimension in (("Tenants", "tenant_id"), ("Types", "type")):
        table = {row[dimension]: row for row in await asked(pool, title)}
        for row in await reported(pool, dimension):
            shown = table[getattr(row, dimension) or "(others)"]
            assert shown["attainment"] == pytest.approx(row.attainment)
            assert (shown["on time"], shown["late"], shown["unstarted"]) == (
                row.on_time,
                row.late,
                row.unstarted,
            )
            assert (shown["succeeded"], shown["dead"]) == (row.succeeded, row.dead)


async def test_a_use_case_can_be_looked_at_by_itself(pool: asyncpg.Pool) -> None:
    """Whatever its name; the variable offers those that there are."""
    (variable,) = (
        each for each in STATISTICS_BOARD["templating"]["list"] if each["name"] == "use_case"
    )
    offered = [row[0] for row in await pool.fetch(variable["query"])]
    query = QUERIES["Attainment by use case", "A"]["rawSql"]

    rows = await pool.fetch(filled_in(query, use_cases=("it's",)))

    assert offered == sorted(USE_CASES)
    assert {row["metric"] for row in rows} == {"it's"}


@pytest.mark.parametrize(
    ("title", "field", "shares"),
    [("Start latency", "start_latency", 3), ("Run time", "run_time", 2)],
)
async def test_shares_are_bounds_of_buckets(
    pool: asyncpg.Pool, title: str, field: str, shares: int
) -> None:
    """The larger the share, the longer; and none is beyond the last bound."""
    found = []
    for ref in "ABC"[:shares]:
        rows = await asked(pool, title, ref)
        found.append({row.pop("time"): row.popitem()[1] for row in rows})

    assert len({tuple(each) for each in found}) == 1
    for less, more in itertools.pairwise(found):
        assert all(less[time] <= more[time] <= 86_400 for time in less)
