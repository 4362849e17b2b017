"""Forged lives of jobs, each of which breaks one rule, and a court in which to tell them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from async_jobs import JobContext, TenantQuota, UseCaseConfig
from async_jobs.domain.controls import Scope
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import AttemptError, Job, JobStatus
from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    Claimed,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Retried,
    Snoozed,
    Succeeded,
    advance,
)
from async_jobs.testing.builders import SimpleLimits, a_control, a_job, an_operation
from async_jobs.testing.clocks import NOW
from tests.simulation.judge import Judge
from tests.simulation.loop import Process
from tests.simulation.records import SECRET, Node, Terms, Trace, Violation

LIMITS = SimpleLimits(
    use_case_configs={
        "notifications": UseCaseConfig(max_concurrent=2),
        "reminders": UseCaseConfig(late_policy=LatePolicy.EXPIRE),
    },
    per_tenant_quotas={"limited": TenantQuota(max_pending_jobs=2, max_running=1)},
)


class Court:
    """A judge, a few processes, and time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.broken: list[Violation] = []
        self.api, self.scheduler, self.worker, self.other = (
            Node(Process(name), role)
            for name, role in (
                ("api", "api"),
                ("scheduler", "scheduler"),
                ("worker", "worker"),
                ("other", "worker"),
            )
        )
        self.judge = Judge(
            LIMITS,
            Terms(retention=100),
            seconds=lambda: self.seconds,
            now=self.now,
            on_violation=self.broken.append,
            trace=Trace(lambda: self.seconds),
        )

    def now(self) -> Any:
        return NOW + timedelta(seconds=self.seconds)

    def until(self, seconds: float = 30) -> Any:
        return self.now() + timedelta(seconds=seconds)

    def add(self, **fields: Any) -> Job:
        job = a_job(created_at=self.now(), updated_at=self.now(), **fields)
        self.judge.stored(job, self.api)
        return job

    def happens(self, job: Job, event: JobEvent, by: Node, **changes: Any) -> Job:
        """Let an event happen as the domain has it, but for what is changed."""
        after = replace(advance(job, event, now=self.now()), **changes)
        self.judge.stored(after, by)
        return after

    def leased(self, **fields: Any) -> Job:
        return self.happens(self.add(**fields), Leased(self.until()), self.scheduler)

    def claimed(self, **fields: Any) -> Job:
        return self.happens(self.leased(**fields), Claimed("w", self.until()), self.worker)

    def executed(self, **fields: Any) -> Job:
        job = self.claimed(**fields)
        self.begins(job, self.worker)
        self.judge.ended(job.id, job.lease_seq, self.worker)
        return job

    def begins(self, job: Job, node: Node, **changes: Any) -> None:
        """Let a handler begin with what the job holds, but for what is changed."""
        context = replace(JobContext.of(job, threading.Event()), **changes)
        self.judge.began(context, job.payload, node, obedient=True)

    def ended(self, **fields: Any) -> Job:
        return self.happens(self.executed(**fields), Succeeded(), self.worker)


def lost(court: Court) -> None:
    court.judge.acknowledged(a_job().id, "acme")


def forgotten_alive(court: Court) -> None:
    court.judge.forgotten(court.add().id, court.scheduler, committed=True)


def forgotten_early(court: Court) -> None:
    court.judge.forgotten(court.ended().id, court.scheduler, committed=True)


def number_reset(court: Court) -> None:
    job = court.happens(court.executed(), Failed("x"), court.worker)
    court.seconds = 1_000
    court.happens(job, Leased(court.until()), court.scheduler, lease_seq=1)


def revived_under_the_old_number(court: Court) -> None:
    job = court.happens(court.add(), Cancelled(), court.api)
    court.happens(job, Retried(), court.api, lease_seq=job.lease_seq)


def claimed_twice(court: Court) -> None:
    job = court.leased()
    court.happens(job, Claimed("w", court.until()), court.worker)
    court.judge.stored(job, court.worker)
    court.happens(job, Claimed("v", court.until()), court.other)


def claimed_after_its_end(court: Court) -> None:
    job = court.leased()
    after = advance(job, Claimed("w", court.until()), now=court.now())
    court.seconds = 40
    court.judge.stored(replace(after, updated_at=court.now()), court.worker)


def executed_twice(court: Court) -> None:
    job = court.executed()
    court.begins(job, court.worker)


def executed_by_another(court: Court) -> None:
    job = court.claimed()
    court.begins(job, court.other)


def settled_by_another(court: Court) -> None:
    court.happens(court.executed(), Succeeded(), court.other)


def renewed_by_another(court: Court) -> None:
    court.happens(court.claimed(), Renewed(court.until(60)), court.other)


def renewed_after_its_end(court: Court) -> None:
    job = court.claimed()
    after = advance(job, Renewed(court.until(90)), now=court.now())
    court.seconds = 40
    court.judge.stored(replace(after, updated_at=court.now()), court.worker)


def reaped_alive(court: Court) -> None:
    job = court.claimed()
    court.happens(replace(job, lease_expires_at=court.now()), LeaseExpired(), court.scheduler)


def charged_unclaimed(court: Court) -> None:
    court.happens(court.leased(), HandOffFailed("x"), court.scheduler, attempts=1)


def claimed_for_nothing(court: Court) -> None:
    court.happens(court.leased(), Claimed("w", court.until()), court.worker, attempts=0)


def too_many_attempts(court: Court) -> None:
    court.happens(court.leased(), Claimed("w", court.until()), court.worker, attempts=6)


def released_and_charged(court: Court) -> None:
    court.happens(court.claimed(), Released(), court.worker, attempts=1)


def crashed_and_charged(court: Court) -> None:
    job = court.claimed()
    court.seconds = 31
    court.happens(job, LeaseExpired(), court.scheduler, attempts=1)


def crashed_uncounted(court: Court) -> None:
    job = court.claimed()
    court.seconds = 31
    court.happens(job, LeaseExpired(), court.scheduler, crashes=0)


def crashed_again_uncounted(court: Court) -> None:
    job = court.executed(crashes=2)
    court.seconds = 31
    court.happens(job, LeaseExpired(), court.scheduler, crashes=2)


def crashed_for_ever(court: Court) -> None:
    job = court.claimed(crashes=4)
    court.seconds = 31
    pending = {"status": JobStatus.PENDING, "finished_at": None}
    court.happens(job, LeaseExpired(), court.scheduler, **pending)


def crashed_back_at_once(court: Court) -> None:
    job = court.claimed()
    court.seconds = 31
    court.happens(job, LeaseExpired(), court.scheduler, run_at=court.now())


def failed_as_a_crash(court: Court) -> None:
    court.happens(court.executed(), Failed("x"), court.worker, crashes=1)


def revived_with_its_crashes(court: Court) -> None:
    job = court.happens(court.add(crashes=3), Cancelled(), court.api)
    court.happens(job, Retried(), court.api, crashes=3)


def suspect_beside_others(court: Court) -> None:
    court.begins(court.claimed(), court.worker)
    court.begins(court.claimed(crashes=2), court.worker)


def others_beside_a_suspect(court: Court) -> None:
    court.begins(court.claimed(crashes=2), court.worker)
    court.begins(court.claimed(), court.worker)


def failed_for_nothing(court: Court) -> None:
    court.happens(court.executed(), Failed("x"), court.worker, attempts=0)


def told_of_nothing(court: Court) -> None:
    court.happens(court.claimed(), Succeeded(), court.worker)


def ended_again(court: Court) -> None:
    court.judge.stored(replace(court.ended(), status=JobStatus.DEAD), court.worker)


def revived_by_a_worker(court: Court) -> None:
    job = court.happens(court.add(), Cancelled(), court.api)
    court.happens(job, Retried(), court.worker)


def beyond_the_cap(court: Court) -> None:
    for _ in range(3):
        court.leased()


def beyond_the_tenants_cap(court: Court) -> None:
    for _ in range(2):
        court.leased(tenant_id="limited")


def beyond_the_quota(court: Court) -> None:
    for _ in range(3):
        court.add(tenant_id="limited")


def executing_on(court: Court) -> None:
    job = court.claimed()
    court.begins(job, court.worker)
    court.seconds = 40
    court.happens(job, LeaseExpired(), court.scheduler)


def begun_too_late(court: Court) -> None:
    job = court.claimed()
    court.seconds = 40
    court.happens(job, LeaseExpired(), court.scheduler)
    court.begins(job, court.worker)


def kept_its_lease(court: Court) -> None:
    court.happens(court.executed(), Succeeded(), court.worker, lease_expires_at=court.until())


def two_of_a_key(court: Court) -> None:
    for _ in range(2):
        court.add(dedupe_key="daily")


def left_behind(court: Court) -> None:
    urgent, other = court.add(deadline_at=court.until(1)), court.add(deadline_at=court.until(9))
    court.judge.chosen([other], [urgent, other], court.now(), court.scheduler)


def leased_although_paused(court: Court) -> None:
    job = court.add()
    control = a_control(scope=Scope(type=job.type))
    court.judge.ordered(an_operation(control), [control])
    court.seconds = 1
    court.judge.turn_taken(court.scheduler)
    court.seconds = 5
    court.judge.turn_taken(court.scheduler)
    court.judge.chosen([job], [job], court.now(), court.scheduler)


def more_than_was_ordered(court: Court) -> None:
    control = a_control(scope=Scope(use_case="notifications"), limits={"max_concurrent": 1})
    court.judge.ordered(an_operation(control), [control])
    court.seconds = 1
    court.judge.turn_taken(court.scheduler)
    court.leased()
    court.leased()


def before_it_is_due(court: Court) -> None:
    job = court.add(run_at=court.until(10))
    court.happens(job, Leased(court.until()), court.scheduler)


def from_the_future(court: Court) -> None:
    job = court.add()
    court.judge.stored(replace(advance(job, Cancelled(), now=court.until(5))), court.api)


def pending_although_cancelled(court: Court) -> None:
    job = court.happens(court.executed(), CancelRequested(), court.api)
    failure = AttemptError(attempt=1, at=court.now(), error="x")
    changes = {"status": JobStatus.PENDING, "finished_at": None, "errors": (failure,)}
    court.happens(job, Failed("x"), court.worker, **changes)


def never_listed(court: Court) -> None:
    court.judge.stored(replace(court.add(), status=JobStatus.SUCCEEDED), court.worker)


def buried_alive(court: Court) -> None:
    court.judge.stored(replace(court.add(), status=JobStatus.DEAD), court.scheduler)


def leased_too_late(court: Court) -> None:
    job = court.add(use_case="reminders", deadline_at=court.until(1))
    court.seconds = 5
    court.happens(job, Leased(court.until()), court.scheduler)


def leased_for_too_long(court: Court) -> None:
    court.happens(court.add(), Leased(court.until(61)), court.scheduler)


def claimed_for_too_long(court: Court) -> None:
    court.happens(court.leased(), Claimed("w", court.until(61)), court.worker)


def reaped_too_late(court: Court) -> None:
    job = court.claimed()
    court.worker.leaving = True
    court.scheduler.stood_at = -1_000.0
    court.scheduler.troubled_at = -1_000.0
    court.seconds = 50
    court.happens(job, LeaseExpired(), court.scheduler)


def lost_for_no_reason(court: Court) -> None:
    job = court.claimed()
    court.worker.troubled_at = court.worker.stood_at = -1.0
    court.seconds = 31
    court.happens(job, LeaseExpired(), court.scheduler)


def cancelled_unasked(court: Court) -> None:
    court.happens(court.add(), Cancelled(), court.scheduler)


def another_payload(court: Court) -> None:
    court.happens(court.leased(), Claimed("w", court.until()), court.worker, payload={})


def another_promise(court: Court) -> None:
    deadline = court.until(10)
    court.happens(court.executed(), Failed("x"), court.worker, first_deadline_at=deadline)


def another_first_start(court: Court) -> None:
    court.happens(court.executed(), Failed("x"), court.worker, first_started_at=court.until(10))


def another_attempt(court: Court) -> None:
    court.begins(court.claimed(), court.worker, attempt=2)


def anothers_contents(court: Court) -> None:
    court.begins(court.claimed(), court.worker, tenant_id="zoo")


def more_than_its_slots(court: Court) -> None:
    for use_case in ("notifications", "notifications", "reminders", "reminders"):
        court.begins(court.claimed(use_case=use_case), court.worker)


def came_to(verdict: str, event: JobEvent) -> Callable[[Court], None]:
    """Return a story of a handler that came to one thing, and of another that was stored."""

    def told(court: Court) -> None:
        job = court.claimed()
        court.begins(job, court.worker)
        court.judge.concluded(job.id, job.lease_seq, verdict, 20.0)
        court.judge.ended(job.id, job.lease_seq, court.worker)
        court.happens(job, event, court.worker)

    return told


def another_tenants(court: Court) -> None:
    court.judge.acknowledged(court.add(tenant_id="zoo").id, "acme")


def error_with_a_secret(court: Court) -> None:
    court.happens(court.executed(), Failed(f"cannot send {SECRET}"), court.worker)


def keeps_its_slot(court: Court) -> None:
    court.leased()
    court.judge.conclude()


FORGED: tuple[tuple[Callable[[Court], None], str], ...] = (
    (lost, "S1"),
    (forgotten_alive, "S1"),
    (forgotten_early, "S1"),
    (number_reset, "S2"),
    (revived_under_the_old_number, "S2"),
    (claimed_twice, "S3"),
    (claimed_after_its_end, "S3"),
    (executed_twice, "S3"),
    (executed_by_another, "S3"),
    (settled_by_another, "S4"),
    (renewed_by_another, "S4"),
    (renewed_after_its_end, "S4"),
    (reaped_alive, "S4"),
    (charged_unclaimed, "S6"),
    (claimed_for_nothing, "S6"),
    (too_many_attempts, "S6"),
    (released_and_charged, "S6"),
    (failed_for_nothing, "S6"),
    (crashed_and_charged, "S6"),
    (crashed_uncounted, "S6"),
    (crashed_again_uncounted, "S6"),
    (crashed_for_ever, "S6"),
    (crashed_back_at_once, "S17"),
    (failed_as_a_crash, "S6"),
    (revived_with_its_crashes, "S6"),
    (suspect_beside_others, "S20"),
    (others_beside_a_suspect, "S20"),
    (told_of_nothing, "S17"),
    (ended_again, "S7"),
    (revived_by_a_worker, "S7"),
    (beyond_the_cap, "S8"),
    (beyond_the_tenants_cap, "S8"),
    (executing_on, "S9"),
    (begun_too_late, "S9"),
    (kept_its_lease, "S10"),
    (beyond_the_quota, "S12"),
    (two_of_a_key, "S13"),
    (left_behind, "S14"),
    (leased_although_paused, "S21"),
    (more_than_was_ordered, "S8"),
    (before_it_is_due, "S15"),
    (from_the_future, "S15"),
    (pending_although_cancelled, "S17"),
    (never_listed, "S17"),
    (buried_alive, "S17"),
    (leased_too_late, "S17"),
    (leased_for_too_long, "L2"),
    (claimed_for_too_long, "L1"),
    (reaped_too_late, "L1"),
    (lost_for_no_reason, "S4"),
    (cancelled_unasked, "S17"),
    (another_payload, "S17"),
    (another_promise, "S17"),
    (another_first_start, "S17"),
    (another_attempt, "S6"),
    (anothers_contents, "S17"),
    (more_than_its_slots, "S9"),
    (came_to("succeed", Rejected("x")), "S17"),
    (came_to("succeed", Succeeded("x")), "S17"),
    (came_to("reject", Failed("x")), "S17"),
    (came_to("fail", Succeeded()), "S17"),
    (came_to("fail", Failed("x", timedelta(0))), "S17"),
    (came_to("retry_after", Failed("x", timedelta(seconds=1))), "S17"),
    (came_to("snooze", Snoozed(NOW)), "S17"),
    (another_tenants, "S16"),
    (error_with_a_secret, "S19"),
    (keeps_its_slot, "L4"),
)
"""Each with the rule that it breaks."""
