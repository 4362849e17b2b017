"""What every class of SQLSTATE becomes at every statement, and rows that the database refuses."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import pytest

from async_jobs.adapters.postgres import errors
from async_jobs.adapters.postgres.checkpoints import PostgresCheckpoints
from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.controls import PostgresControls
from async_jobs.adapters.postgres.lending import LendingPool
from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.overview import PostgresOverview
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.schedulers import PostgresSchedulers
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.statistics import PostgresStatistics
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.domain import lifecycle
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import (
    AsyncJobsError,
    ConfigurationError,
    StoreRefused,
    Unavailable,
)
from async_jobs.domain.job import HandOff, JobFilter, JobStatus
from async_jobs.domain.lifecycle import Claimed
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.host import SystemClock
from async_jobs.ports.leases import HeadsQuery, Success
from async_jobs.testing.builders import (
    SimpleLimits,
    a_control,
    a_job,
    a_scheduler,
    a_worker,
    an_operation,
    later,
)
from async_jobs.testing.clocks import NOW
from tests.kit.services import embedded_postgres
from tests.postgres.guarded import LANE, TRIGGERS, Guarded, refusal

ANSWERS: dict[str, type[AsyncJobsError]] = {
    # One code for each class that Postgres has.
    "03000": StoreRefused,
    "08006": Unavailable,
    "09000": StoreRefused,
    "0A000": StoreRefused,  # but for a standby's
    "0B000": StoreRefused,
    "0F000": StoreRefused,
    "0L000": StoreRefused,
    "0P000": StoreRefused,
    "0Z000": StoreRefused,
    "10608": StoreRefused,
    "20000": StoreRefused,
    "21000": StoreRefused,
    "22P05": StoreRefused,
    "23503": StoreRefused,
    "24000": StoreRefused,
    "25006": Unavailable,
    "26000": StoreRefused,
    "27000": StoreRefused,
    "28000": ConfigurationError,
    "2B000": StoreRefused,
    "2D000": StoreRefused,
    "2F000": StoreRefused,
    "34000": StoreRefused,
    "38000": StoreRefused,
    "39000": StoreRefused,
    "3B000": StoreRefused,
    "3D000": ConfigurationError,
    "3F000": StoreRefused,
    "40002": Unavailable,
    "42P01": ConfigurationError,
    "42501": ConfigurationError,
    "42804": StoreRefused,
    "44000": StoreRefused,
    "53100": Unavailable,
    "54000": StoreRefused,
    "55000": Unavailable,
    "57P01": Unavailable,
    "58000": Unavailable,
    "72000": StoreRefused,
    "F0000": StoreRefused,
    "HV000": StoreRefused,
    "P0001": StoreRefused,
    "XX000": Unavailable,
    # None that anybody has heard of.
    "ZZ999": StoreRefused,
}


class Broken(asyncpg.Connection):
    """A connection on which statements fail by the driver's own error for a code."""

    seen: ClassVar[list[str]] = []
    at: str | None = None
    code = ""

    @classmethod
    def _look(cls, query: str) -> None:
        named = re.match(r" /\*(\w+)\*/", query)
        name = named[1] if named else query
        cls.seen.append(name)
        if name == cls.at:
            raise asyncpg.PostgresError.new({"S": "ERROR", "C": cls.code, "M": "made up"})

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
        self._look(query)
        return await super().fetch(query, *arguments, **options)

    async def fetchrow(self, query: str, *arguments: Any, **options: Any) -> Any:
        self._look(query)
        return await super().fetchrow(query, *arguments, **options)

    async def fetchval(self, query: str, *arguments: Any, **options: Any) -> Any:
        self._look(query)
        return await super().fetchval(query, *arguments, **options)

    async def execute(self, query: str, *arguments: Any, **options: Any) -> Any:
        self._look(query)
        return await super().execute(query, *arguments, **options)


@contextmanager
def breaking(at: str, code: str) -> Iterator[None]:
    """Let a statement fail by a code."""
    Broken.at, Broken.code = at, code
    try:
        yield
    finally:
        Broken.at = None


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    options: dict[str, Any] = {
        "min_size": 1,
        "max_size": 3,
        "max_inactive_connection_lifetime": 60.0,
    }
    async with LendingPool(database_dsn, connection_class=Broken, **options) as pool:
        yield pool


def calls(pool: asyncpg.Pool) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return everything that the adapters do with the database."""
    store = PostgresJobStore(pool)
    clock = PostgresClock(pool, host=SystemClock())
    lane = PostgresOutbox(store, LANE, clock=clock)
    workers, checkpoints = PostgresWorkers(pool), PostgresCheckpoints(pool)
    controls = PostgresControls(pool)
    job = a_job(lease_seq=1)
    handoff = HandOff(job.id, 1, job.tenant_id)
    claimed = Claimed("worker-1", later(60))

    async def turn() -> None:
        async with store.turn([LANE]) as turn:
            await turn.running()
            query = HeadsQuery(use_case=LANE, limit=1, late_policy=LatePolicy.EXPIRE)
            await turn.heads([query], NOW)
            await turn.lease([LeaseGrant(job.id, 0, 1, later(60), NOW)])

    async def look() -> None:
        async with PostgresOverview(pool).looking([LANE]) as look:
            await look.running()
            query = HeadsQuery(use_case=LANE, limit=1, late_policy=LatePolicy.EXPIRE)
            await look.heads([query], NOW)
            await look.ahead(job, SimpleLimits(), NOW, limit=1)
            await look.pending_of(["acme"], limit=1)
            await look.coming(NOW, limit=1)

    async def received() -> None:
        deliveries = await lane.receive(max_messages=1, wait_seconds=0)
        answers = [*await lane.ack(deliveries), *await lane.release(deliveries)]
        for each in answers:
            if each.error is not None:
                raise Unavailable(each.error)

    async def change(*, ends: bool) -> None:
        control = a_control()
        stands = (await controls.known(NOW)).controls
        expected = stands[0].version if stands else 0
        await controls.change(an_operation(control), control, expected=expected, ends=ends)

    revived = lifecycle.change(
        a_job(status=JobStatus.DEAD, finished_at=NOW), lifecycle.Retried(), now=NOW
    )
    return {
        "add": lambda: store.add([a_job()], {}),
        "add many within limits": lambda: store.add([a_job(), a_job()], {"acme": 10**6}),
        "get": lambda: store.get([job.id]),
        "find": lambda: store.find(JobFilter(), limit=1),
        "find a tenant's": lambda: store.find(JobFilter(tenant_id="acme"), limit=1),
        "expired": lambda: store.expired(NOW, limit=1),
        "turn": turn,
        "claim": lambda: store.claim([handoff], claimed, now=NOW),
        "succeed": lambda: store.succeed([Success(job.id, 1, None)], now=NOW),
        "save": lambda: store.save([lifecycle.change(a_job(), lifecycle.Cancelled(), now=NOW)]),
        "revive": lambda: store.save([revived]),
        "set aside": lambda: store.set_aside(NOW, until=later(1), limit=1),
        "promote": lambda: store.promote(NOW, limit=1, sidelined=[LANE]),
        "purge": lambda: store.purge(LANE, before=NOW, limit=1),
        "finished": store.oldest_finished,
        "receive": received,
        "depth": lane.depth,
        "claim off": lambda: lane.claim(claimed, now=NOW, max_messages=2),
        "claimed": lambda: lane.claimed("worker-1", [NOW]),
        "announce": lambda: workers.announce(a_worker()),
        "live": lambda: workers.live(NOW),
        "withdraw": lambda: workers.withdraw("worker-1"),
        "due by": lambda: PostgresStatistics(pool).due_by([LANE], NOW, limit=1),
        "checkpoint": lambda: checkpoints.save("a", {}),
        "checkpoints": lambda: checkpoints.load("a"),
        "announce scheduler": lambda: PostgresSchedulers(pool).announce(a_scheduler()),
        "schedulers": PostgresSchedulers(pool).known,
        "controls version": controls.version,
        "controls": lambda: controls.known(NOW),
        "put control": lambda: change(ends=False),
        "end control": lambda: change(ends=True),
        "operations": lambda: controls.operations(limit=1),
        "forget operations": lambda: controls.forget(NOW, limit=1),
        "look": look,
        "time": clock.refresh,
    }


async def test_every_code_at_every_statement_is_an_error_of_ours(pool: asyncpg.Pool) -> None:
    """None reaches those who wait and try again as an exception that they do not know."""
    asked = calls(pool)
    first: dict[str, Callable[[], Awaitable[object]]] = {}
    for call in asked.values():
        Broken.seen.clear()
        await call()
        for statement in Broken.seen:
            first.setdefault(statement, call)

    for code, expected in ANSWERS.items():
        for statement, call in first.items():
            # What is told of one row or one message is an answer, not an error.
            with breaking(statement, code), suppress(expected):
                await call()


def test_the_documented_classes_are_those_that_may_pass() -> None:
    """The table in the adapter is what decides."""
    passing = {code[:2] for code, expected in ANSWERS.items() if expected is Unavailable}
    assert passing == set(errors.WAITING)


SAYS_A_STANDBY = {
    "in English": {"M": "cannot access temporary or unlogged relations during recovery"},
    "in any language": {"M": "…", "F": "plancat.c", "R": "get_relation_info"},
}


@pytest.mark.parametrize("said", SAYS_A_STANDBY)
async def test_what_only_a_standby_cannot_do_may_pass(said: str) -> None:
    """By where the server raises it, as a real one was seen to, or else by its words."""
    fields = {"S": "ERROR", "C": "0A000", **SAYS_A_STANDBY[said]}

    with pytest.raises(Unavailable):
        async with errors.translated():
            raise asyncpg.PostgresError.new(fields)


async def test_a_refusal_quotes_no_value(database_dsn: str) -> None:
    """The details of a constraint's violation are the row, and so the payload."""
    pool = await create_pool(database_dsn)
    await pool.execute("ALTER TABLE jobs ADD CHECK (payload::text NOT LIKE '%secret%')")

    with pytest.raises(StoreRefused) as refused:
        await PostgresJobStore(pool).add([a_job(payload={"token": "a secret"})], {})

    await pool.close()
    assert "secret" not in str(refused.value)


# --- rows that a trigger of the application refuses -----------------------------------------------


@pytest.fixture(params=TRIGGERS)
async def guarded(database_dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[Guarded]:
    pool = await create_pool(database_dsn)
    yield await Guarded.on(pool, request.param)
    await pool.close()


async def test_outcomes_are_saved_beside_one_that_is_refused(guarded: Guarded) -> None:
    """One job's trigger is not the others' affair; it is told of once."""
    good, bad = await guarded.running(claim=True)
    changes = [lifecycle.change(job, lifecycle.Failed("no"), now=later(1)) for job in [*good, bad]]

    applied = await guarded.store.save(changes)
    again = await guarded.store.save(changes)

    assert applied.ids == again.ids == {job.id for job in good}
    assert applied.conflicting == frozenset()
    assert await guarded.stand([bad]) == [bad]
    assert guarded.told == refusal(bad)


async def test_successes_are_saved_beside_one_that_is_refused(guarded: Guarded) -> None:
    """As other outcomes."""
    good, bad = await guarded.running(claim=True)

    succeeded = await guarded.store.succeed(
        [Success(job.id, 1, None) for job in [*good, bad]], now=later(1)
    )

    assert succeeded == {job.id for job in good}
    assert guarded.told == refusal(bad)


async def test_jobs_are_claimed_beside_one_that_is_refused(guarded: Guarded) -> None:
    """It is left to the end of its lease."""
    good, bad = await guarded.running(claim=False)
    handoffs = [HandOff(job.id, 1, job.tenant_id) for job in [*good, bad]]

    jobs = await guarded.store.claim(handoffs, Claimed("worker-1", later(60)), now=NOW)

    assert {job.id for job in jobs} == {job.id for job in good}
    assert guarded.told == refusal(bad)


async def test_a_lane_is_not_held_up_by_one_that_is_refused(guarded: Guarded) -> None:
    """Its hand-off is gone, the others are claimed."""
    good, bad = await guarded.running(claim=False)
    lane = guarded.lane()
    claimed: list[UUID] = []

    more = True
    while more:
        claims = await lane.claim(Claimed("worker-1", later(60)), now=NOW, max_messages=32)
        claimed += [job.id for job in claims.jobs]
        more = claims.more

    assert sorted(claimed) == [job.id for job in good]
    assert await lane.depth() == 0
    assert guarded.told == refusal(bad)


async def test_jobs_are_leased_beside_one_that_is_refused(guarded: Guarded) -> None:
    """The turn that meets it leases nothing; the next one leases the others."""
    good, bad = await guarded.jobs()
    await guarded.guard()

    async def lease() -> frozenset[UUID]:
        async with guarded.store.turn([LANE]) as turn:
            grants = [LeaseGrant(job.id, 0, 1, later(60), NOW) for job in [*good, bad]]
            return await turn.lease(grants)

    with pytest.raises(StoreRefused):
        await lease()
    assert await lease() == {job.id for job in good}
    assert guarded.told == refusal(bad)


async def test_a_lease_that_cannot_be_ended_does_not_keep_the_others(guarded: Guarded) -> None:
    """Leases that are over end, but for the one that a trigger holds."""
    good, bad = await guarded.running(claim=True)
    over = await guarded.store.expired(later(120), limit=100)
    changes = [lifecycle.change(job, lifecycle.LeaseExpired(), now=later(120)) for job in over]

    applied = await guarded.store.save(changes)

    assert applied.ids == {job.id for job in good}
    assert guarded.told == refusal(bad)


LACKS = {
    "InsufficientPrivilegeError": "RAISE EXCEPTION 'no right' USING ERRCODE = '42501'",
    "UndefinedTableError": "INSERT INTO their_audit VALUES (NEW.id)",
    "UndefinedColumnError": "PERFORM their_column FROM jobs LIMIT 1",
    "InvalidCatalogNameError": "RAISE EXCEPTION 'no database' USING ERRCODE = '3D000'",
}


@pytest.mark.parametrize("kind", LACKS)
async def test_what_a_rows_trigger_lacks_ends_no_program(guarded: Guarded, kind: str) -> None:
    """It is a refusal of one row; only what our own statements lack is a wrong set-up."""
    good, bad = await guarded.running(claim=True)
    await guarded.pool.execute(
        "CREATE OR REPLACE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {LACKS[kind]}; END $$"
    )
    changes = [lifecycle.change(job, lifecycle.Failed("no"), now=later(1)) for job in [*good, bad]]

    applied = await guarded.store.save(changes)

    assert applied.ids == {job.id for job in good}
    ((job_id, problem),) = guarded.told
    assert job_id == bad.id
    assert problem.startswith(kind)


async def test_a_policy_forbids_one_row_and_ends_no_program(database_dsn: str) -> None:
    """Row-level security refuses with the code of a missing right."""
    owner = await asyncpg.connect(database_dsn)
    role = f"policed_{secrets.token_hex(6)}"
    good, bad = a_job(), a_job(priority=7)
    await owner.execute(f"""
        CREATE ROLE {role};
        GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
        ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY theirs ON jobs USING (true) WITH CHECK (priority <> 7);
    """)
    try:
        async with asyncpg.create_pool(
            database_dsn, min_size=1, max_size=1, server_settings={"role": role}
        ) as pool:
            told: list[UUID] = []
            store = PostgresJobStore(pool, unwritable=lambda job_id, _: told.append(job_id))
            await PostgresJobStore(pool).add([good], {})
            with pytest.raises(StoreRefused):
                await store.add([bad], {})
            await owner.execute("ALTER TABLE jobs DISABLE ROW LEVEL SECURITY")
            await store.add([bad], {})
            await owner.execute("ALTER TABLE jobs ENABLE ROW LEVEL SECURITY")
            changes = [lifecycle.change(job, lifecycle.Cancelled(), now=NOW) for job in (good, bad)]

            assert (await store.save(changes)).ids == {good.id}
            assert told == [bad.id]

            await owner.execute(f"REVOKE UPDATE ON jobs FROM {role}")
            with pytest.raises(ConfigurationError):
                await store.save(changes)
    finally:
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()


async def test_a_rows_own_unique_index_is_no_dedupe_key(guarded: Guarded) -> None:
    """What an index of the application refuses conflicts with no other job of ours."""
    await guarded.pool.execute("CREATE UNIQUE INDEX theirs ON jobs (last_error)")
    good, _ = await guarded.running(claim=True)
    changes = [lifecycle.change(job, lifecycle.Failed("no"), now=later(1)) for job in good[:2]]

    applied = await guarded.store.save(changes)

    assert applied.ids == {good[0].id}
    assert applied.conflicting == frozenset()
    assert guarded.told == [(good[1].id, "UniqueViolationError by theirs")]


# --- rows that other tables refer to --------------------------------------------------------------


async def test_jobs_are_purged_beside_those_that_others_refer_to(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign key keeps its row, not the others, however many pages of such rows there are."""
    monkeypatch.setattr("async_jobs.adapters.postgres.walking.PURGED_AT_ONCE", 2)
    jobs = [a_job() for _ in range(9)]
    await guarded.store.add(jobs, {})
    for at, job in enumerate(jobs):
        ended = lifecycle.change(job, lifecycle.Cancelled(), now=later(at))
        await guarded.store.save([ended])
    await guarded.pool.execute("CREATE TABLE orders (job_id uuid REFERENCES jobs)")
    kept = {jobs[at].id for at in (0, 1, 2, 5)}
    await guarded.pool.execute("INSERT INTO orders SELECT unnest($1::uuid[])", list(kept))

    async def purge() -> int:
        return await guarded.store.purge(LANE, before=later(100), limit=100)

    assert await purge() == 5
    assert {job.id for job in await guarded.stand(jobs)} == kept
    assert {job_id for job_id, _ in guarded.told} == kept
    assert await purge() == 0

    await guarded.pool.execute("TRUNCATE orders")
    assert await purge() == 4
    assert len(guarded.told) == len(kept)


# --- a full queue of notifications ----------------------------------------------------------------


async def test_a_full_queue_of_notifications_leaves_the_work_to_polling() -> None:
    """A stranger listens and sits in a transaction: nothing that notifies can be committed."""
    with embedded_postgres(settings={"max_notify_queue_pages": "64"}) as server:
        await migrate(server.dsn)
        stranger = await asyncpg.connect(server.dsn)
        for statement in ("LISTEN a", "BEGIN", "SELECT 1"):
            await stranger.execute(statement)
        async with await create_pool(server.dsn) as pool:
            filling = (
                "SELECT pg_notify('a', n || repeat('x', 7000)) FROM generate_series(1, 9) AS n"
            )
            with suppress(asyncpg.ProgramLimitExceededError):
                while True:
                    await pool.execute(filling)
            store = PostgresJobStore(pool)
            jobs = [a_job() for _ in range(3)]
            await store.add(jobs, {})

            def lane() -> PostgresOutbox:
                signal = PostgresSignal(pool, clock=SystemClock())
                clock = PostgresClock(pool, host=SystemClock())
                return PostgresOutbox(store, LANE, clock=clock, signal=signal)

            async def leased(onto: PostgresOutbox) -> frozenset[UUID]:
                async with store.turn([LANE]) as turn:
                    grants = [LeaseGrant(job.id, 0, 1, later(60), NOW) for job in jobs]
                    return await turn.lease(grants, onto=[onto])

            by_turns, by_sends = lane(), lane()
            with pytest.raises(Unavailable):
                await leased(by_turns)
            assert await leased(by_turns) == {job.id for job in jobs}
            (sent,) = await by_sends.send([HandOff(jobs[0].id, 1, "acme")])
            assert sent.error is None
            assert await by_sends.depth() == 4
        await stranger.close()
