"""Hot statements read a bounded number of rows, whatever else the table holds.

The server tells the plan of every statement that the adapters run (auto_explain), with the rows
that each node produced and the pages that it touched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

import pytest
import pytest_asyncio

from async_jobs.adapters.postgres.apart import UNCHANGED
from async_jobs.adapters.postgres.catalog import bound_statements, count_of, page_of
from async_jobs.adapters.postgres.overview import PostgresLook
from async_jobs.adapters.postgres.pool import AnyConnection
from async_jobs.adapters.postgres.statements import sql
from async_jobs.adapters.postgres.statistics import PostgresStatistics
from async_jobs.adapters.postgres.walking import PAGE
from async_jobs.application.scheduling.chores.pausing import HELD_AT_ONCE
from async_jobs.domain import lifecycle
from async_jobs.domain.controls import Scope
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.filters import JobQuery, Span, id_bounds
from async_jobs.domain.job import HandOff, JobFilter, JobStatus
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.outlook import Counted
from async_jobs.ports.leases import HeadsQuery, Success
from async_jobs.testing.builders import a_control, a_handoff, a_job, an_operation, later
from async_jobs.testing.clocks import NOW
from tests.kit import services
from tests.postgres.backlog import FUTURE, READY, RUNNING, Rows, load
from tests.postgres.plans import LIMIT, Plan, Scene, explained

pytestmark = pytest.mark.asyncio(loop_scope="module")
module_fixture = pytest_asyncio.fixture(scope="module", loop_scope="module")

PENDING_MAX = 2_000
"""The quota of the tenant whose pending jobs are counted."""

ROWS_MAX: Mapping[str, int] = {
    "take_turns": 1,  # the version of the controls
    "live_workers": 0,
    "send_handoffs": 0,
    "running_counts": 3 * RUNNING,
    "expired_leases": 3 * RUNNING,
    "set_aside": LIMIT,
    "promote_due": 2 * LIMIT + 1,
    "sideline_late": 2 * LIMIT,
    "due_jobs": PAGE + 1,
    "late_jobs": PAGE + 1,
    "move_jobs": 2 * LIMIT,
    # The most urgent ones, the walk, and of up to twice as many tenants what is theirs.
    "ready_heads": 7 * LIMIT,
    "urgent_heads": LIMIT,
    "late_heads": LIMIT,
    "lease_jobs": LIMIT,
    "save_jobs": LIMIT,
    "claim_jobs": LIMIT,
    "succeed_jobs": LIMIT,
    "get_jobs": LIMIT,
    "purge_jobs": 2 * LIMIT,
    "oldest_finished": 8,  # one entry of each use case that has finished jobs
    "add_job": 2,  # the admission of its tenant, looked at twice
    "add_jobs": 2 * LIMIT,  # the admissions of their tenants
    "find_twins": 2 * LIMIT,
    "lock_admissions": 0,
    "wait_for_admissions": 0,
    "count_admissions": PENDING_MAX + LIMIT,
    "find_jobs": LIMIT + 1,
    "find_tenant_jobs": len(JobStatus) * (LIMIT + 1),
    # A tenant's in each status, and what runs, for it is not in that index.
    "search_jobs": len(JobStatus) * LIMIT + RUNNING,
    "count_jobs": len(JobStatus) * LIMIT + RUNNING,
    "last_looked_at": len(JobStatus) * (LIMIT + 1) + RUNNING,
    # Of each partition the first one behind those that are looked at.
    "error_groups": LIMIT + 3,
    "last_record_looked_at": LIMIT + 4,
    "use_cases": 6,  # the first entry of each, in two indexes, and that there is none after it
    "due_by": 4 * LIMIT,  # in all lanes, and of what is scheduled
    "backlog": 4 * LIMIT,  # in both lanes, and of what is in none
    "receive_handoffs": 2 * LIMIT,
    "release_handoffs": LIMIT,
    "ack_handoffs": LIMIT,
    "claim_handoffs": 3 * LIMIT,  # messages found, deleted, and their jobs
    "claimed_jobs": 3 * RUNNING,
    "drop_poison": 2 * LIMIT,
    # The most urgent ones in both lanes, those of their tenant, and what is changed of them.
    "hold_paused": 6 * HELD_AT_ONCE + 1,
    "release_held": 2 * HELD_AT_ONCE + 1,
}
"""The rows that a statement may read from tables, for each use case it is about."""

PAGES_OF_READ, PAGES_OF_WRITE = 6, 30
"""What a row costs: the way down an index and the row itself; entries in every index."""
WRITES = {"promote_due", "sideline_late", "lease_jobs", "save_jobs", "purge_jobs", "add_jobs"} | {
    "add_job",
    "move_jobs",
    "claim_jobs",
    "succeed_jobs",
    "set_aside",
    "send_handoffs",
    "receive_handoffs",
    "release_handoffs",
    "ack_handoffs",
    "claim_handoffs",
    "hold_paused",
    "release_held",
}
JOINED_ROWS_MAX = 15 * LIMIT
"""What a join in memory may go through; two batches in nested loops would be their product."""


@module_fixture
async def loaded(postgres_dsn: str, template_database: str) -> AsyncIterator[AnyConnection]:
    """A connection to a database that holds the whole backlog."""
    async with (
        services.database(postgres_dsn, template_dsn=template_database) as dsn,
        explained(dsn) as connection,
    ):
        await load(connection)
        yield connection


@pytest_asyncio.fixture(
    loop_scope="module",
    params=["force_custom_plan", "force_generic_plan"],
    ids=["custom", "generic"],
)
async def scene(request: pytest.FixtureRequest, loaded: AnyConnection) -> AsyncIterator[Scene]:
    """The backlog, as it was loaded; what a test changes is rolled back."""
    await loaded.execute(f"SET plan_cache_mode = {request.param}")
    transaction = loaded.transaction()
    await transaction.start()
    scene = Scene(loaded)
    with scene.listening():
        yield scene
    await transaction.rollback()


def excesses(plans: list[Plan], *, use_cases: int = 1) -> list[str]:
    """Return in words what the plans do that is not bounded as it has to be."""
    found = []
    for plan in plans:
        rows_max = ROWS_MAX[plan.statement] * use_cases
        by_row = PAGES_OF_WRITE if plan.statement in WRITES else PAGES_OF_READ
        # An insert reads nothing and still writes its batch.
        pages_max = by_row * max(rows_max, LIMIT)
        for what, value, value_max in (
            ("rows read", plan.rows_read, rows_max),
            ("rows sorted", plan.rows_sorted, max(rows_max, LIMIT)),
            ("rows joined", plan.rows_joined, JOINED_ROWS_MAX),
            ("pages", plan.pages, pages_max),
        ):
            if value > value_max:
                found.append(f"{plan.statement}: {value:,} {what}, at most {value_max:,}")
        found += [f"{plan.statement}: scans all of {name}" for name in plan.full_scans]
    return found


# --- a tick -------------------------------------------------------------------------------------

FIRST_OF = """
SELECT id FROM jobs WHERE use_case = $1 AND status = 'pending' AND lane IS NOT NULL
ORDER BY deadline_at LIMIT $2
"""
OPEN = UseCaseConfig(max_concurrent=LIMIT)
HALF_TAKEN = UseCaseConfig(max_concurrent=LIMIT + RUNNING)
TAKEN = UseCaseConfig(max_concurrent=RUNNING)
SIDELINE = UseCaseConfig(max_concurrent=LIMIT, late_policy=LatePolicy.SIDELINE)
EXPIRE = UseCaseConfig(max_concurrent=LIMIT, late_policy=LatePolicy.EXPIRE)
PAUSING = {"hold_paused", "release_held"}
EVERY_TICK = {
    "expired_leases",
    "save_jobs",
    "promote_due",
    "live_workers",
    "take_turns",
    "running_counts",
    "ready_heads",
    "lease_jobs",
    "oldest_finished",
    "purge_jobs",
}


async def test_a_tick_leases_a_hundred_jobs_of_a_large_backlog(scene: Scene) -> None:
    """Neither what is due later, nor what has ended, nor the backlog itself costs it anything."""
    tick = await scene.tick(even=HALF_TAKEN)
    plans = await scene.plans()

    assert tick.leased == LIMIT
    assert {plan.statement for plan in plans} == EVERY_TICK
    assert not excesses(plans)


async def test_a_tenant_with_most_of_the_backlog_costs_no_more(scene: Scene) -> None:
    """Its nine thousand jobs are the most urgent ones, and the others are found all the same."""
    tick = await scene.tick(skewed=OPEN)
    plans = await scene.plans()

    assert tick.leased == LIMIT
    assert not excesses(plans)


async def test_a_full_use_case_with_most_of_the_backlog_costs_no_more(scene: Scene) -> None:
    """Nobody looks at jobs that could not be leased."""
    tick = await scene.tick(full=TAKEN, even=HALF_TAKEN)
    plans = await scene.plans()

    assert tick.leased == LIMIT
    assert not excesses(plans)


PAUSED = 20_000


async def test_paused_jobs_at_the_head_of_every_order_cost_no_more(scene: Scene) -> None:
    """Of tenants of their own, of one that has others, and of all: a tick passes none of them."""
    for group, tenant in enumerate(("'paused-' || i % 40", "'tenant-0001'"), 97):
        rows = Rows(
            count=PAUSED // 2,
            use_case="'even'",
            tenant=tenant,
            run_at="$1 - interval '1 hour' - i * interval '1 ms'",
            lane="2",
        )
        await rows.insert(scene.connection, group)
    await scene.plans()

    tick = await scene.tick(even=HALF_TAKEN)
    plans = await scene.plans()

    assert tick.leased == LIMIT
    assert {plan.statement for plan in plans} == EVERY_TICK
    assert not excesses(plans)


async def test_what_is_paused_is_put_out_of_the_way_in_batches(scene: Scene) -> None:
    """And back, reading a bounded number of rows each time."""
    await scene.connection.execute(
        "UPDATE jobs SET type = 'noisy' WHERE use_case = 'even' AND tenant_id < 'tenant-0400'"
        " AND status = 'pending'"
    )
    control = a_control(scope=Scope(type="noisy"))
    put = await scene.controls.change(an_operation(control), control, expected=0)
    scheduler = scene.scheduler(even=HALF_TAKEN)
    await scene.plans()

    await scheduler.tick()
    holding = await scene.plans()
    ending = an_operation(control, after=None)
    await scene.controls.change(ending, control, expected=put.version, ends=True)
    await scene.plans()
    await scheduler.tick()
    releasing = await scene.plans()

    told = {plan.statement for plan in (*holding, *releasing)}
    assert told >= PAUSING
    pausing = [plan for plan in (*holding, *releasing) if plan.statement in PAUSING]
    # What is read is held against each pause, of which there are few.
    assert [each for each in excesses(pausing) if "rows joined" not in each] == []


async def test_urgent_jobs_that_priority_hides_are_a_batch_more(scene: Scene) -> None:
    """Their tenant has thousands that it likes better; it is read once more, by deadline."""
    await Rows(count=READY // 5, use_case="'hidden'", tenant="'keen'").insert(scene.connection, 99)
    await scene.connection.execute(
        "UPDATE jobs SET priority = 1 WHERE use_case = 'hidden' AND deadline_at > $1", later(58.05)
    )
    await scene.plans()

    tick = await scene.tick(hidden=OPEN)
    plans = await scene.plans()

    assert tick.leased == LIMIT
    assert {plan.statement for plan in plans} == EVERY_TICK | {"urgent_heads"}
    assert not excesses(plans)


async def test_rows_that_are_left_alone_are_passed_where_they_stand(scene: Scene) -> None:
    """Those that were refused cost what they are, and those of other use cases nothing."""
    store = scene.store
    left_alone: dict[str, set[UUID]] = {}
    for use_case in ("even", "full"):
        rows = await scene.connection.fetch(FIRST_OF, use_case, 1_000)
        left_alone[use_case] = {row["id"] for row in rows}
        for job_id in left_alone[use_case]:
            store._apart.tell(job_id, UNCHANGED, at=NOW, pending_in=use_case)
    await scene.plans()

    async with store.turn(["even", "skewed"]) as turn:
        queries = [HeadsQuery(use_case=name, limit=LIMIT) for name in ("even", "skewed")]
        heads = await turn.heads(queries, NOW)
    plans = {plan.statement: plan for plan in await scene.plans()}

    shown = {candidate.id for candidate in heads["even"].ready}
    assert LIMIT <= len(shown) <= 3 * LIMIT
    assert shown.isdisjoint(left_alone["even"])
    # By deadline, tenant by tenant, and what each of them has.
    read_max = 2 * ROWS_MAX["ready_heads"] + 3 * len(left_alone["even"])
    assert plans["ready_heads"].rows_read <= read_max
    assert not plans["ready_heads"].full_scans


async def test_late_jobs_are_put_behind_a_batch_at_a_time(scene: Scene) -> None:
    """However many are late at once, as after an outage; once it was seen that there are any."""
    scheduler = scene.scheduler(sidelined=SIDELINE)
    await scheduler.tick()
    await scene.plans()

    await scheduler.tick()
    plans = await scene.plans()

    assert "sideline_late" in {plan.statement for plan in plans}
    # More runs than was set up: what the first tick leased.
    assert not excesses([plan for plan in plans if plan.statement != "running_counts"])


async def test_late_jobs_are_buried_a_batch_at_a_time(scene: Scene) -> None:
    """With the policy `expire` a tick ends what is late among the jobs that it looked at."""
    tick = await scene.tick(late=EXPIRE)
    plans = await scene.plans()

    assert LIMIT <= tick.expired <= 5 * LIMIT
    assert {"late_heads", "get_jobs"} < {plan.statement for plan in plans}
    assert not excesses(plans, use_cases=5)


async def test_use_cases_add_up_and_do_not_multiply(scene: Scene) -> None:
    """What all of them cost together is no more than what each costs alone."""
    use_cases = {"even": HALF_TAKEN, "skewed": OPEN, "full": TAKEN, "sidelined": SIDELINE}

    await scene.tick(**use_cases)

    assert not excesses(await scene.plans(), use_cases=len(use_cases))


async def test_a_plan_made_on_empty_tables_serves_when_they_have_grown(
    postgres_dsn: str, template_database: str
) -> None:
    """Plans are kept; nobody may have counted the rows again since they were made."""
    async with (
        services.database(postgres_dsn, template_dsn=template_database) as dsn,
        explained(dsn) as connection,
    ):
        await connection.execute("ALTER TABLE jobs SET (autovacuum_enabled = off)")
        scene = Scene(connection)
        with scene.listening():
            for _ in range(10):
                await scene.tick(even=OPEN)
                await in_batches(scene)
                await scene.store.claim([a_handoff()], CLAIMED, now=NOW)
                await scene.store.succeed([Success(AN_OLD_ID, 1, None)], now=NOW)
            await Rows(count=2 * READY, use_case="'even'").insert(connection, 1)
            await scene.plans()
            await scene.tick(even=OPEN)
            await in_batches(scene)
            plans = await scene.plans()
            running = Rows(count=READY, status="'running'", lane="NULL", lease_end=LASTING)
            await running.insert(connection, 2)
            await scene.plans()
            await leases(scene)
            plans += await scene.plans()

    heads = [plan for plan in plans if plan.statement == "ready_heads"]
    assert not excesses([plan for plan in plans if plan not in heads])
    # Only what each tenant has may have to be sorted, until the server has counted.
    assert sum(plan.rows_read for plan in heads) < READY
    assert not [name for plan in heads for name in plan.full_scans]


# --- everything else ----------------------------------------------------------------------------


CLAIMED = lifecycle.Claimed("worker-1", later(60))
LASTING = "$1 + interval '60 s'"
AN_OLD_ID = UUID(f"00000000-0000-7000-8000-{FUTURE // 2:012x}")


async def in_batches(scene: Scene) -> None:
    """Add, read, change and finish a batch of jobs."""
    jobs = [a_job(tenant_id="tenant-0007", dedupe_key=f"key {n}") for n in range(LIMIT)]
    limits = {"tenant-0007": PENDING_MAX}
    await scene.store.add(jobs, limits)
    await scene.store.add(jobs, limits)
    read = await scene.store.get([job.id for job in jobs], tenant_id="tenant-0007")
    await scene.store.save([lifecycle.change(job, lifecycle.Cancelled(), now=NOW) for job in read])


async def one_at_a_time(scene: Scene) -> None:
    """Add a job, of a tenant without a limit and of one with a limit."""
    await scene.store.add([a_job(tenant_id="tenant-0008", dedupe_key="daily")], {})
    limited = [a_job(tenant_id="tenant-0009") for _ in range(2)]
    await scene.store.add(limited, {"tenant-0009": PENDING_MAX})
    await scene.store.add([a_job(tenant_id="tenant-0009")], {"tenant-0009": PENDING_MAX})


async def leases(scene: Scene) -> None:
    """Claim a batch of hand-offs, once more in vain, and end their leases."""
    rows = await scene.connection.fetch(
        "UPDATE jobs SET started_at = NULL WHERE id IN ("
        " SELECT id FROM jobs WHERE status = 'running' AND lease_expires_at > $1 LIMIT $2)"
        " RETURNING id, lease_seq, tenant_id",
        *(NOW, LIMIT),
    )
    handoffs = [HandOff(*row.values()) for row in rows]
    assert len(await scene.store.claim(handoffs, CLAIMED, now=NOW)) == LIMIT
    assert not await scene.store.claim(handoffs, CLAIMED, now=NOW)
    told = [Success(handoff.job_id, handoff.lease_seq or 0, {"n": 1}) for handoff in handoffs]
    assert len(await scene.store.succeed(told, now=NOW)) == LIMIT


async def unreadable_rows(scene: Scene) -> None:
    """Give back what nobody can read of the leases that are over."""
    await scene.connection.execute(
        "UPDATE jobs SET backoff_policy = '[]' WHERE status = 'running' AND use_case = 'lost'"
    )
    count = await scene.store.set_aside(NOW, until=later(300), limit=LIMIT)
    assert count == RUNNING // 2


async def promotions_apart(scene: Scene) -> None:
    """Let in what is due, row by row if need be."""
    promotions = scene.store._promotions
    await promotions.walk_on(later(86_400), LIMIT)
    await promotions.go_behind_apart(later(86_400), LIMIT, "sidelined")


async def a_lane(scene: Scene) -> None:
    """Receive a batch of hand-offs, and let go of it."""
    queue = scene.handed_off
    await queue.send([a_handoff() for _ in range(LIMIT)])
    received = await queue.receive(max_messages=LIMIT, wait_seconds=0)
    await queue.release(received[: LIMIT // 2])
    await queue.ack(received[LIMIT // 2 :])


async def a_lane_beside_the_jobs(scene: Scene) -> None:
    """Claim a batch of what runs off its lane, and one that tells of nothing."""
    await scene.connection.execute(
        "UPDATE jobs SET started_at = NULL WHERE status = 'running' AND lease_expires_at > $1", NOW
    )
    await scene.connection.execute(
        "INSERT INTO handoffs (queue, job_id, lease_seq, visible_at)"
        " SELECT 'lane', id, lease_seq, $1 FROM jobs"
        " WHERE status = 'running' AND lease_expires_at > $1 LIMIT $2",
        *(NOW, LIMIT),
    )
    await scene.plans()
    claims = await scene.lane("lane").claim(CLAIMED, now=NOW, max_messages=LIMIT)
    assert len(claims.jobs) == LIMIT
    assert len(await scene.lane("lane").claimed("worker-1", [NOW])) == LIMIT
    assert (await scene.handed_off.claim(CLAIMED, now=NOW, max_messages=LIMIT)).more


async def pages_of_all(scene: Scene) -> None:
    """Read two pages of everybody's jobs, the newest and one far from it."""
    await scene.store.find(JobFilter(), limit=LIMIT)
    await scene.store.find(JobFilter(), limit=LIMIT, before=AN_OLD_ID)


async def pages_of_a_tenant(scene: Scene) -> None:
    """Read two pages of a tenant's jobs in every status, and one in one."""
    criteria = JobFilter(tenant_id="tenant-0007")
    await scene.store.find(criteria, limit=LIMIT)
    await scene.store.find(criteria, limit=LIMIT, before=AN_OLD_ID)
    await scene.store.find(JobFilter(tenant_id="big", status=JobStatus.PENDING), limit=LIMIT)


Call: TypeAlias = Callable[[Scene], Awaitable[None]]


@pytest.mark.parametrize(
    ("call", "statements"),
    [
        (
            in_batches,
            {
                "lock_admissions",
                "wait_for_admissions",
                "add_jobs",
                "find_twins",
                "count_admissions",
                "get_jobs",
                "save_jobs",
            },
        ),
        (
            one_at_a_time,
            {
                "add_job",
                "add_jobs",
                "lock_admissions",
                "wait_for_admissions",
                "count_admissions",
            },
        ),
        (leases, {"claim_jobs", "succeed_jobs"}),
        (unreadable_rows, {"expired_leases", "set_aside"}),
        (promotions_apart, {"due_jobs", "late_jobs", "move_jobs"}),
        (a_lane, {"send_handoffs", "receive_handoffs", "release_handoffs", "ack_handoffs"}),
        (a_lane_beside_the_jobs, {"claim_handoffs", "claimed_jobs", "drop_poison"}),
        (pages_of_all, {"find_jobs"}),
        (pages_of_a_tenant, {"find_tenant_jobs"}),
    ],
)
async def test_a_call_costs_what_it_returns_or_changes(
    scene: Scene, call: Call, statements: set[str]
) -> None:
    """A batch is found by indexes, and joined with what came along."""
    await call(scene)
    plans = await scene.plans()

    assert {plan.statement for plan in plans} == statements
    assert not excesses(plans)


async def test_what_waits_is_counted_no_further_than_the_limit(scene: Scene) -> None:
    """Neither a backlog nor a million scheduled jobs that become due by then cost more."""
    use_cases = ["even", "full", "sidelined"]
    statistics = PostgresStatistics(scene.pool)

    counts = await statistics.due_by(use_cases, later(30 * 86_400), limit=LIMIT)
    plans = await scene.plans()

    assert counts == dict.fromkeys(use_cases, Counted(LIMIT, at_least=True))
    assert {plan.statement for plan in plans} == {"due_by"}
    assert not excesses(plans, use_cases=len(use_cases))


async def test_what_waits_is_looked_at_no_further_than_the_limit(scene: Scene) -> None:
    """By the order of the index: a look costs as much with a backlog of millions."""
    use_cases = ["even", "full", "sidelined"]
    look = PostgresLook(scene.connection, use_cases)

    told = await look.backlog(use_cases, scene.clock.now(), limit=LIMIT)
    plans = await scene.plans()

    assert {name: len(each.due) for name, each in told.items()} == dict.fromkeys(use_cases, LIMIT)
    assert {plan.statement for plan in plans} == {"backlog"}
    assert not excesses(plans, use_cases=len(use_cases))


NOTHING: Mapping[str, JobQuery] = {
    "use_cases": JobQuery(use_cases=frozenset({"none"})),
    "types": JobQuery(tenant_id="tenant-0007", types=frozenset({"none"})),
    "statuses": JobQuery(tenant_id="big", statuses=frozenset({JobStatus.DEAD})),
    "dedupe_key": JobQuery(dedupe_key="none"),
    "deadline": JobQuery(deadline=Span(until=later(-(10**8)))),
    "error_group": JobQuery(error_group="0" * 16),
    "texts": JobQuery(
        use_cases=frozenset({"even"}),
        created=Span(since=later(-(10**8))),
        payload_text="nowhere",
        error_text="nowhere",
    ),
}


@pytest.mark.parametrize("name", list(NOTHING))
async def test_a_search_reads_no_further_than_it_may(scene: Scene, name: str) -> None:
    """Whatever it looks for, and although there is none of it."""
    query = NOTHING[name]
    bounds = id_bounds(query)
    assert bounds is not None

    await bound_statements(scene.connection, seconds=60)
    rows, _ = await page_of(scene.connection, query, bounds, limit=LIMIT, look_at=LIMIT)
    counted = await count_of(scene.connection, query, bounds, limit=LIMIT, look_at=LIMIT)
    plans = await scene.plans()

    assert rows == []
    assert counted.jobs == 0
    assert {plan.statement for plan in plans} == {"search_jobs", "count_jobs", "last_looked_at"}
    assert not excesses(plans)


async def test_error_groups_read_no_further_than_they_may(scene: Scene) -> None:
    """However many records there are of the time, over days and in the default partition."""
    for day in (3, 4):
        await scene.connection.execute(
            "SELECT async_jobs_add_attempts_day($1)", (NOW + timedelta(days=day)).date()
        )
    await scene.connection.execute(
        "INSERT INTO attempts (ended_at, job_id, tenant_id, use_case, type, attempt, lease_seq,"
        " outcome, error, fingerprint) SELECT $1::timestamptz + n * interval '50 s',"
        " gen_random_uuid(), 'acme', 'even', 'kind', 1, 1, 'failed', 'gone', md5((n % 7)::text)"
        " FROM generate_series(1, 8000) AS n",
        NOW,
    )
    await scene.connection.execute("ANALYZE attempts")
    await bound_statements(scene.connection, seconds=60)
    await scene.plans()

    time = NOW, NOW + timedelta(days=9), LIMIT
    groups = await scene.connection.fetch(sql("error_groups"), *time, None, None, 10)
    ends = await scene.connection.fetch(sql("last_record_looked_at"), *time)
    plans = await scene.plans()

    assert sum(group["count"] for group in groups) == LIMIT
    assert len(ends) == 2
    assert {plan.statement for plan in plans} == {"error_groups", "last_record_looked_at"}
    assert not excesses(plans)


async def test_use_cases_are_named_by_their_first_entries(scene: Scene) -> None:
    """Neither a backlog nor a long retention makes it longer."""
    statistics = PostgresStatistics(scene.pool)
    # What left the backlog since the last vacuum is passed over once, and marked.
    await statistics.use_cases()
    await scene.plans()

    named = await statistics.use_cases()
    plans = await scene.plans()

    assert {"even", "full", "sidelined"} <= set(named)
    assert {plan.statement for plan in plans} == {"use_cases"}
    assert not excesses(plans, use_cases=len(named))


async def test_an_unbounded_plan_is_found(scene: Scene) -> None:
    """The bounds have been seen to fail: without its index a statement reads all there is."""
    await scene.connection.execute("DROP INDEX idx_jobs_use_case_status")

    await scene.store.expired(later(), limit=LIMIT)

    assert excesses(await scene.plans())
