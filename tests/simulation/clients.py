"""Everybody who asks the system for something, and remembers what they were told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from async_jobs import EnqueueJobRequest, IllegalTransition, JobService, QuotaExceededError
from async_jobs.domain.errors import (
    AsyncJobsError,
    InvalidJobError,
    JobNotFoundError,
    Unavailable,
)
from async_jobs.domain.job import Enqueued, Job, JobStatus
from async_jobs.testing.clocks import ManualChance
from tests.simulation.dice import Dice
from tests.simulation.faults import Faults
from tests.simulation.handlers import IN_A_THREAD, KNOWN_BY_ALL, KNOWN_BY_SOME
from tests.simulation.judge import Judge
from tests.simulation.plan import Plan
from tests.simulation.records import OWN_LOOP, SECRET, short
from tests.simulation.remote import RemoteStore

STRANGER = "nobody-in-particular"


class _TurnedBack(Exception):
    """A client rolls its own transaction back."""


class Clients:
    """What clients do, one deed at a time.

    Args:
        ask: lets some api process do something; raises `Unavailable` when that process died.
        sleep: waits in simulated seconds.
    """

    def __init__(
        self,
        plan: Plan,
        judge: Judge,
        dice: Dice,
        *,
        ask: Callable[..., Awaitable[object]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._judge = judge
        self._dice = dice
        self._ask = ask
        self._sleep = sleep
        self._chance = ManualChance(plan.seed)
        self._known: list[tuple[UUID, str]] = []

    # --- asking for work ---

    def _requests(self, count: int) -> list[EnqueueJobRequest]:
        dice = self._dice
        tenant = f"tenant-{dice.whole(0, self._plan.tenants - 1)}"
        return [self._request(tenant) for _ in range(count)]

    def _request(self, tenant: str) -> EnqueueJobRequest:
        plan, dice, faults = self._plan, self._dice, self._plan.faults
        now = self._judge.now()
        type_of = KNOWN_BY_ALL
        if dice.happens(0.15):
            type_of = dice.pick([IN_A_THREAD, KNOWN_BY_SOME])
        key = f"key-{dice.whole(0, 3)}" if dice.happens(0.2) else None
        return EnqueueJobRequest(
            id=self._chance.uuid(now),
            tenant_id=tenant,
            use_case=f"use-case-{dice.whole(0, plan.use_cases - 1)}",
            type=type_of,
            payload={
                "acts": [self._act(faults) for _ in range(3)],
                "seconds": dice.pause(dice.pick([8, 8, 30])) * plan.scale,
                "secret": SECRET,
            },
            run_at=now + timedelta(seconds=dice.pause(60) * plan.scale)
            if dice.happens(0.2)
            else None,
            delay_tolerance=timedelta(seconds=dice.pause(60) * plan.scale)
            if dice.happens(0.5)
            else None,
            dedupe_key=key,
            priority=dice.whole(-1, 1) if dice.happens(0.3) else 0,
        )

    def _act(self, faults: Faults) -> str:
        dice = self._dice
        for act, probability in (
            ("hang", faults.hanging),
            ("stubborn", faults.stubborn),
            ("block", faults.blocking),
            ("die", faults.deadly),
        ):
            if dice.happens(probability):
                return act
        if dice.happens(0.7):
            return "succeed"
        return dice.pick(["fail", "fail", "retry_after", "reject", "snooze"])

    async def enqueue(self) -> None:
        """Ask for one job or a batch until told something."""
        count = self._dice.whole(2, 6) if self._dice.happens(0.15) else 1
        requests = self._requests(count)
        while True:
            try:
                told = await self._ask(lambda service, _: service.enqueue_many(requests))
            except Unavailable:
                await self._sleep(self._dice.pause(2.0) * self._plan.scale)
                continue
            except QuotaExceededError:
                return
            break
        assert isinstance(told, list)
        for request, each in zip(requests, told, strict=True):
            self._told(request, each)

    async def crowd(self) -> None:
        """Let more tenants want more than there is, by far; the last ones come late, for little.

        Whoever came first has the earlier deadlines, and nobody's presses.
        """
        scale, tenants = self._plan.scale, self._plan.crowd
        for number in range(tenants - 1):
            await self._join(f"crowd-{number}", 70 if number < 2 else 8, 14_400 + 60 * number)
        await self._sleep(10 * scale)
        await self._join(f"crowd-{tenants - 1}", 1, 28_800)

    async def _join(self, tenant: str, count: int, tolerance: float) -> None:
        scale = self._plan.scale
        requests = [
            replace(
                self._request(tenant),
                use_case="use-case-0",
                type=KNOWN_BY_ALL,
                payload={"acts": ["succeed"] * 3, "seconds": 15 * scale, "secret": SECRET},
                run_at=None,
                delay_tolerance=timedelta(seconds=tolerance * scale),
                dedupe_key=None,
                priority=0,
            )
            for _ in range(count)
        ]
        while True:
            try:
                await self._ask(lambda service, _: service.enqueue_many(requests))
            except Unavailable:
                await self._sleep(scale)
                continue
            return

    def _told(self, request: EnqueueJobRequest, told: Enqueued) -> None:
        """Hold an answer against what was asked."""
        row = self._judge.row(told.job_id)
        is_twin = row is None or row.dedupe_key == request.dedupe_key is not None
        own = told.job_id == request.id
        self._judge.require(own or (told.duplicate and is_twin), "S13", "told of another job")
        self._judge.acknowledged(told.job_id, request.tenant_id)
        self._known.append((told.job_id, request.tenant_id))

    async def enqueue_in_a_transaction(self) -> None:
        """Ask for a job within a transaction of one's own, and commit it or not."""
        (request,) = self._requests(1)
        commits = self._dice.happens(0.6)
        pause = self._dice.pause(1.0)

        async def asked(service: JobService, store: RemoteStore) -> Enqueued:
            async with store.transaction() as transaction:
                enqueued = await service.enqueue(request, connection=transaction)
                await self._sleep(pause)
                if not commits:
                    raise _TurnedBack(enqueued.duplicate)
            return enqueued

        try:
            told = await self._ask(asked)
        except _TurnedBack as back:
            if not back.args[0] and request.id is not None:
                await self._sleep(1.0)
                self._judge.disowned(request.id)
        except (Unavailable, QuotaExceededError):
            pass  # whether it was committed is not known, and nothing was promised
        else:
            assert isinstance(told, Enqueued)
            self._told(request, told)

    # --- looking after it ---

    async def interfere(self) -> None:
        """Do one thing that operators and curious tenants do."""
        if not self._known:
            return
        deed = self._dice.pick(
            [
                self._cancel,
                self._cancel,
                self._retry,
                self._look,
                self._pry,
                self._walk,
                self._steal,
            ]
        )
        job_id, tenant = self._target(deed)
        with suppress(Unavailable, IllegalTransition, JobNotFoundError):
            await deed(job_id, tenant)

    def _target(self, deed: Callable[[UUID, str], Awaitable[None]]) -> tuple[UUID, str]:
        """Choose a job, mostly one for which the deed means something."""
        rows: list[Job] = []
        if deed == self._cancel:
            rows = self._judge.rows_that(lambda row: row.started_at is not None)
        elif deed == self._retry:
            ended = (JobStatus.DEAD, JobStatus.CANCELLED)
            rows = self._judge.rows_that(lambda row: row.status in ended)
        if not rows or self._dice.happens(0.4):
            return self._dice.pick(self._known)
        row = self._dice.pick(rows)
        return row.id, row.tenant_id

    async def _cancel(self, job_id: UUID, tenant: str) -> None:
        job = await self._ask(lambda service, _: service.cancel_job(job_id, tenant_id=tenant))
        assert isinstance(job, Job)
        done = self._judge.is_cancelled(job_id, job.lease_seq)
        self._judge.require(done, "S17", "a job was told as cancelled, and is not")

    async def _steal(self, job_id: UUID, tenant: str) -> None:
        """S16: the id of another tenant's job cannot be had."""
        request = replace(self._request(STRANGER), id=job_id, dedupe_key=None)
        try:
            await self._ask(lambda service, _: service.enqueue(request))
        except InvalidJobError:
            return
        row = self._judge.row(job_id)
        taken = row is not None and row.tenant_id != STRANGER
        self._judge.require(not taken, "S16", f"a stranger was told of {short(job_id)}")

    async def _retry(self, job_id: UUID, tenant: str) -> None:
        await self._ask(lambda service, _: service.retry_job(job_id, tenant_id=tenant))

    async def _look(self, job_id: UUID, tenant: str) -> None:
        job = await self._ask(lambda service, _: service.get_job(job_id, tenant_id=tenant))
        assert isinstance(job, Job)
        owned = job.id == job_id and job.tenant_id == tenant
        self._judge.require(owned, "S16", "the wrong job was shown")

    async def _pry(self, job_id: UUID, tenant: str) -> None:
        """S16: for a stranger the job is not there, whatever is asked."""
        ask = self._dice.pick([JobService.get_job, JobService.cancel_job, JobService.retry_job])
        try:
            await self._ask(lambda service, _: ask(service, job_id, tenant_id=STRANGER))
        except JobNotFoundError:
            return
        self._judge.violated("S16", f"a stranger reached {short(job_id)}")

    async def _walk(self, job_id: UUID, tenant: str) -> None:
        """Every job that is there from the first page to the last is on one of the pages."""
        before = self._judge.promised_to(tenant)
        found: list[UUID] = []

        async def walked(service: JobService, _: RemoteStore) -> None:
            cursor = None
            while True:
                page = await service.list_jobs(tenant_id=tenant, limit=3, cursor=cursor)
                found.extend(job.id for job in page.jobs)
                own = all(job.tenant_id == tenant for job in page.jobs)
                self._judge.require(own, "S16", "a page shows another tenant's job")
                cursor = page.next_cursor
                if cursor is None:
                    return

        await self._ask(walked)
        there = before & self._judge.promised_to(tenant) - self._judge.unreadable
        self._judge.require(there <= set(found), "JS-5", "a page left out a job")
        self._judge.require(len(found) == len(set(found)), "JS-5", "a page repeated a job")

    # --- a team with a loop of its own ---

    async def own_loop(self) -> None:
        """Lease jobs, do them, and tell of them, without any worker."""
        use_case = f"use-case-{self._dice.whole(0, self._plan.use_cases - 1)}"
        name = f"{OWN_LOOP}-{self._dice.whole(0, 999_999)}"
        seconds = self._dice.pause(15) * self._plan.scale
        verdict = self._dice.pick(["succeeded", "retry", "dead"])

        async def worked(service: JobService, _: RemoteStore) -> None:
            jobs = await service.lease_jobs_for_use_case(
                use_case, worker_id=name, limit=3, lease_seconds=30 * self._plan.scale
            )
            await self._sleep(seconds)
            for job in jobs:
                try:
                    match verdict:
                        case "succeeded":
                            await service.mark_job_succeeded(job, {"done": True})
                        case "retry":
                            await service.mark_job_retry(job, "not this time")
                        case _:
                            await service.mark_job_dead(job, "never")
                except IllegalTransition:
                    pass  # the lease was lost

        with suppress(AsyncJobsError):
            await self._ask(worked)
