"""What explain says of a job is what the next turn does with it, in thousands of situations."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import Phase as Phase_
from hypothesis import event, given, settings
from hypothesis import strategies as st

from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.history import MemoryHistory
from async_jobs.adapters.memory.overview import MemoryOverview
from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.adapters.memory.statistics import MemoryStatistics
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.application.operating.operations import OperationsService
from async_jobs.application.scheduling.dispatcher import Dispatched, Dispatcher
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.explain import Explanation, NextTurn, Why
from async_jobs.domain.job import HandOff, Job, JobStatus, Phase
from async_jobs.domain.lifecycle import Claimed, Succeeded
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.pools import Fleet
from async_jobs.domain.presence import WorkerInfo, fleet_of
from async_jobs.ports.checkpoints import CHECKPOINT
from async_jobs.testing.builders import SimpleLimits, a_job, a_scheduler, a_worker
from async_jobs.testing.clocks import ManualClock
from async_jobs.testing.contracts.scenes import all_jobs, happened

USE_CASES = ("mail", "report")
QUEUES = ("mail", "report", "shared")
TENANTS = ("acme", "bolt", "core")
LEASE = timedelta(seconds=600)
WINDOW_MIN = 3
HAND_OFF_SECONDS = 0.5
JOBS_MAX = 14
"""So many of a use case are shown whole, however few places there are."""

Step = tuple[str, Any]

configs = st.builds(
    UseCaseConfig,
    max_concurrent=st.sampled_from([1, 2, 3, 6, 50, 0]),
    late_policy=st.sampled_from(LatePolicy),
    queue=st.sampled_from([None, "shared"]),
)
quotas = st.dictionaries(
    st.sampled_from(TENANTS),
    st.builds(
        TenantQuota,
        max_running=st.sampled_from([None, None, 0, 1, 2]),
        weight=st.sampled_from([1.0, 2.0, 0.5]),
    ),
)
fleets = st.lists(
    st.builds(
        lambda queues, slots, types: a_worker(
            queues=tuple(sorted(queues)), slots=slots, types=types
        ),
        st.sets(st.sampled_from(QUEUES), min_size=1),
        st.integers(1, 4),
        st.sampled_from([None, ("a", "b"), ("b",)]),
    ),
    min_size=1,
    max_size=3,
)
jobs = st.fixed_dictionaries(
    {
        "tenant_id": st.sampled_from(TENANTS),
        "use_case": st.sampled_from([*USE_CASES * 4, "unknown"]),
        "type": st.sampled_from("ab"),
        "priority": st.integers(-1, 1),
        "delay_tolerance": st.sampled_from([0, 2, 15, 60, 3_600]).map(
            lambda seconds: timedelta(seconds=seconds)
        ),
        "due_in": st.sampled_from([0] * 8 + [5, 100]),
    }
)
steps = st.one_of(
    st.tuples(st.just("add"), st.lists(jobs, min_size=2, max_size=8)),
    st.tuples(st.just("turn"), st.none()),
    st.tuples(st.just("claim"), st.integers(1, 4)),
    st.tuples(st.just("end"), st.integers(1, 4)),
    st.tuples(st.just("pass"), st.sampled_from([0.05, 1.0, 4.0, 30.0])),
)


@dataclass
class Play:
    """One system: a dispatcher that turns, jobs that come and go, and whoever explains."""

    config: SimpleLimits
    fleet_workers: Sequence[WorkerInfo]
    clock: ManualClock = field(default_factory=ManualClock)
    store: MemoryJobStore = field(default_factory=MemoryJobStore)
    checkpoints: MemoryCheckpoints = field(default_factory=MemoryCheckpoints)

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(self.config, self.store, self.clock)
        self.handed_off: list[HandOff] = []
        self.counts: Counter[str] = Counter()
        self.turned_at = self.clock.now()
        for_ever = self.clock.now() + timedelta(days=1)
        self.live = [replace(each, alive_until=for_ever) for each in self.fleet_workers]

    @property
    def fleet(self) -> Fleet:
        fleet = fleet_of(self.live, window_min=WINDOW_MIN)
        return replace(fleet, hand_off_seconds=HAND_OFF_SECONDS)

    async def do(self, step: Step) -> None:
        kind, what = step
        if kind == "add":
            await self.add(what)
        elif kind == "turn":
            await self.turn()
        elif kind == "claim":
            await self.claim(what)
        elif kind == "end":
            await self.end(what)
        else:
            self.clock.advance(seconds=what)

    async def add(self, wanted: Sequence[dict[str, Any]]) -> None:
        now = self.clock.now()
        for each in wanted:
            if self.counts[each["use_case"]] >= JOBS_MAX:
                continue
            self.counts[each["use_case"]] += 1
            fields = {name: value for name, value in each.items() if name != "due_in"}
            config = self.config.use_case_configs.get(each["use_case"], UseCaseConfig())
            job = a_job(
                created_at=now,
                run_at=now + timedelta(seconds=each["due_in"]),
                queue=config.queue or each["use_case"],
                **fields,
            )
            await self.store.add([job], {})

    async def turn(self) -> Dispatched:
        dispatched = await self.dispatcher.dispatch(
            list(self.config.use_case_configs), self.fleet, LEASE
        )
        self.handed_off += dispatched.handoffs
        self.turned_at = self.clock.now()
        return dispatched

    async def claim(self, count: int) -> None:
        """Let workers take what was handed off, one of them dead."""
        ids = [*[worker.worker_id for worker in self.live], "dead"]
        for handoff in self.handed_off[:count]:
            worker_id = ids[handoff.job_id.int % len(ids)]
            claimed = Claimed(worker_id, self.clock.now() + LEASE)
            await self.store.claim([handoff], claimed, now=self.clock.now())
        del self.handed_off[:count]

    async def end(self, count: int) -> None:
        running = [job for job in await all_jobs(self.store) if job.phase is Phase.CLAIMED]
        for job in running[:count]:
            await happened(self.store, job, Succeeded(None), now=self.clock.now())

    async def explained(self) -> dict[Any, tuple[Job, Explanation]]:
        """Explain every job that is pending."""
        memory = self.dispatcher.memory
        if memory.is_contested:
            await self.checkpoints.save(CHECKPOINT, json.loads(json.dumps(memory.saved())))
        workers, schedulers = MemoryWorkers(), MemorySchedulers()
        for worker in self.live:
            await workers.announce(worker)
        now = self.clock.now()
        await schedulers.announce(
            a_scheduler(
                ticked_at=self.turned_at,
                alive_until=now + LEASE,
                hand_off_seconds=HAND_OFF_SECONDS,
                turnovers=json.loads(json.dumps(memory.saved_turnovers())),
                start_rates=dict.fromkeys(USE_CASES, 1.0),
            )
        )
        operations = OperationsService(
            self.config,
            self.store,
            MemoryOverview(self.store),
            workers=workers,
            schedulers=schedulers,
            checkpoints=self.checkpoints,
            statistics=MemoryStatistics(self.store),
            history=MemoryHistory(self.store),
            clock=self.clock,
            settings=SchedulerSettings(window_min=WINDOW_MIN),
        )
        pending = [j for j in await all_jobs(self.store) if j.status is JobStatus.PENDING]
        return {job.id: (job, await operations.explain(job.id)) for job in pending}


async def play(config: SimpleLimits, workers: Sequence[WorkerInfo], story: Sequence[Step]) -> None:
    """Explain all jobs before every turn, and hold what was said against what it did."""
    on = Play(config, workers)
    for step in [*story, ("turn", None)]:
        if step[0] != "turn":
            await on.do(step)
            continue
        explained = await on.explained()
        dispatched = await on.turn()
        leased = {handoff.job_id for handoff in dispatched.handoffs}
        expired = {candidate.id for candidate in dispatched.expired}
        said = {job_id: each.next_turn for job_id, (_, each) in explained.items()}
        assert {job_id for job_id, each in said.items() if each is NextTurn.STARTS} == leased
        assert {job_id for job_id, each in said.items() if each is NextTurn.EXPIRES} == expired
        for job, each in explained.values():
            holds(on, job, each)


def holds(on: Play, job: Job, explained: Explanation) -> None:
    """Hold what is told besides against what there is."""
    codes = [reason.code for reason in explained.reasons]
    now, use_case = on.clock.now(), on.config.use_case_configs.get(job.use_case)
    for code in codes:
        event(code.value)
    assert codes
    assert len(set(codes)) == len(codes)
    assert explained.sentence == explained.reasons[0].sentence
    assert json.loads(json.dumps([dict(r.data) for r in explained.reasons])) is not None
    assert (Why.NOT_DUE in codes) == (job.run_at > now)
    assert (Why.UNKNOWN_USE_CASE in codes) == (use_case is None)
    assert (explained.next_turn is None) == (job.run_at > now or use_case is None)
    receiving = [worker for worker in on.live if job.queue in worker.queues]
    assert (Why.NO_WORKER in codes) == (not receiving)
    knows = any(each.types is None or job.type in each.types for each in receiving)
    assert (Why.NO_HANDLER in codes) == (bool(receiving) and not knows)
    quota = on.config.per_tenant_quotas.get(job.tenant_id, TenantQuota())
    assert (Why.TENANT_PAUSED in codes) == (quota.max_running == 0)
    assert (Why.USE_CASE_PAUSED in codes) == (use_case is not None and not use_case.max_concurrent)
    if explained.next_turn is NextTurn.WAITS:
        assert set(codes) - {Why.LATE, Why.NO_WORKER, Why.NO_HANDLER}
        assert Why.STARTS not in codes
    estimate = explained.estimate
    assert (estimate is None) == (explained.next_turn is NextTurn.EXPIRES)
    if estimate is not None and estimate.start_at is not None:
        assert estimate.start_at >= max(now, job.run_at)


@settings(max_examples=200, phases=set(Phase_) - {Phase_.explain})
@given(
    st.fixed_dictionaries(dict.fromkeys(USE_CASES, configs)),
    quotas,
    fleets,
    st.lists(steps, min_size=6, max_size=20),
    st.booleans(),
)
def test_what_explain_says_is_what_the_next_turn_does(
    use_cases: dict[str, UseCaseConfig],
    per_tenant_quotas: dict[str, TenantQuota],
    workers: list[WorkerInfo],
    story: list[Step],
    is_attended: bool,
) -> None:
    """It starts what was said to start, buries what was said to expire, and leaves the rest;
    and every other reason that is told holds.
    """
    config = SimpleLimits(use_case_configs=use_cases, per_tenant_quotas=per_tenant_quotas)

    asyncio.run(play(config, workers if is_attended else workers[1:], story))


backlogs = st.tuples(
    st.just("add"),
    st.lists(
        st.fixed_dictionaries(
            {
                "tenant_id": st.sampled_from(TENANTS),
                "use_case": st.sampled_from(USE_CASES),
                "type": st.just("a"),
                "priority": st.just(0),
                "delay_tolerance": st.sampled_from([3_600, 3_600, 30]).map(
                    lambda seconds: timedelta(seconds=seconds)
                ),
                "due_in": st.just(0),
            }
        ),
        min_size=12,
        max_size=2 * JOBS_MAX,
    ),
)
rounds = st.tuples(st.integers(1, 3), st.sampled_from([0.5, 2.0, 5.0]), st.integers(0, 2)).map(
    lambda each: [("turn", None), ("claim", each[0]), ("pass", each[1]), ("end", each[2])]
)


@settings(max_examples=60, phases=set(Phase_) - {Phase_.explain})
@given(
    st.fixed_dictionaries(
        dict.fromkeys(
            USE_CASES,
            st.builds(UseCaseConfig, max_concurrent=st.sampled_from([2, 3, 50])),
        )
    ),
    st.dictionaries(
        st.sampled_from(TENANTS), st.builds(TenantQuota, weight=st.sampled_from([1.0, 3.0]))
    ),
    st.integers(2, 4),
    backlogs,
    st.lists(rounds, min_size=3, max_size=6),
)
def test_what_explain_says_holds_while_tenants_contend(
    use_cases: dict[str, UseCaseConfig],
    per_tenant_quotas: dict[str, TenantQuota],
    slots: int,
    backlog: Step,
    story: list[list[Step]],
) -> None:
    """Turn after turn, by who has had how much, as the scheduler saved it."""
    config = SimpleLimits(use_case_configs=use_cases, per_tenant_quotas=per_tenant_quotas)
    workers = [a_worker(queues=USE_CASES, slots=slots)]

    asyncio.run(play(config, workers, [backlog, *[step for each in story for step in each]]))
