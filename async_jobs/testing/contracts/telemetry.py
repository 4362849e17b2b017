"""The contract of `Telemetry`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias

import pytest

from async_jobs.domain import facts, lifecycle, readings, reporting
from async_jobs.domain.backlog import QueueLoad, TenantShare, UseCaseLoad
from async_jobs.domain.facts import Fact
from async_jobs.domain.job import Job, Phase
from async_jobs.ports.telemetry import Telemetry
from async_jobs.testing.builders import a_job, an_id, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.events import EVENTS, instant_of
from async_jobs.testing.contracts.scenes import PATHS

Emitted: TypeAlias = Callable[[], str]
"""Returns everything that has left through the telemetry so far, as text."""

SECRET = "hunter2"
HOSTILE = ["", "\u0000", "\ud800", "%s %d {} {0}", "\n\r\x1b[31m", "x" * 100_000, "💥\u2028"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SomethingNew(Fact):
    """A fact that no telemetry has heard of."""

    what: object


class TelemetryContract:
    """Everything `Telemetry` promises, TM-1 to TM-3.

    Subclass it as `TestMyTelemetry` and override the fixtures `telemetry`, `broken` and
    `emitted`.
    """

    @pytest.fixture
    def telemetry(self) -> Telemetry:
        """The telemetry under test."""
        raise NotImplementedError("override the fixture `telemetry`")

    @pytest.fixture
    def broken(self) -> Telemetry:
        """One whose other end fails whenever something is sent there."""
        raise NotImplementedError("override the fixture `broken`")

    @pytest.fixture
    def emitted(self, telemetry: Telemetry) -> Emitted:
        """Returns everything that has left through `telemetry` so far, as text."""
        raise NotImplementedError("override the fixture `emitted`")

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_tm_1_record_bears_any_fact(self, telemetry: Telemetry, text: str) -> None:
        """Every kind there is, with whatever text in it."""
        for fact in every_fact(text):
            telemetry.record(fact)

    def test_tm_1_record_bears_facts_it_does_not_know(self, telemetry: Telemetry) -> None:
        """The library may learn to tell more than an adapter has heard of."""
        telemetry.record(Fact(at=NOW))
        telemetry.record(SomethingNew(at=NOW, what=object()))
        telemetry.record(SomethingNew(at=NOW, what=Unprintable()))

    def test_tm_1_record_survives_a_broken_other_end(self, broken: Telemetry) -> None:
        """A full disk or a lost collector stops no job."""
        for fact in every_fact("text"):
            broken.record(fact)

    def test_tm_1_record_bears_a_flood(self, telemetry: Telemetry) -> None:
        """It never waits until the other end has kept up."""
        fact = facts.JobsPurged(at=NOW, use_case="notifications", count=1)
        for _ in range(1_000):
            telemetry.record(fact)

    def test_tm_2_no_payload_no_result_and_no_secret_leaves(
        self, telemetry: Telemetry, emitted: Emitted
    ) -> None:
        """What a job carried stays with it, and so does an error text that may quote it."""
        for fact in facts_of_every_event():
            telemetry.record(fact)

        assert SECRET not in emitted()

    def test_tm_3_what_is_not_wanted_would_not_leave(
        self, telemetry: Telemetry, emitted: Emitted
    ) -> None:
        """Whoever asks first loses nothing."""
        facts_there_are = every_fact("text")
        assert facts_there_are
        for fact in facts_there_are:
            before = emitted()
            telemetry.record(fact)

            assert telemetry.wants(type(fact)) or emitted() == before


class Unprintable:
    """Something that cannot even be shown."""

    def __repr__(self) -> str:
        raise ValueError("unprintable")

    __str__ = __repr__


def facts_of_every_event() -> list[Fact]:
    """Return what is told of every event, of a job that is full of secrets."""
    told: list[Fact] = []
    secretive = a_job(
        payload={"password": SECRET, SECRET: [SECRET]},
        headers={"authorization": SECRET},
        deadline_at=later(30),
    )
    for phase, event in EVENTS:
        before = brought_to(phase, secretive)
        happens, at = with_secrets(event), instant_of(event)
        told += reporting.tell(before, happens, lifecycle.advance(before, happens, now=at), at=at)
    return told


def with_secrets(event: lifecycle.JobEvent) -> lifecycle.JobEvent:
    """Return the event as it looks when a handler quotes what it was given."""
    match event:
        case lifecycle.Succeeded():
            return lifecycle.Succeeded({"token": SECRET})
        case lifecycle.Failed() | lifecycle.Rejected() | lifecycle.HandOffFailed():
            return replace(event, error=f"ValueError: no such user: {SECRET}")
        case _:
            return event


def brought_to(phase: Phase, job: Job) -> Job:
    """Return the job as it stands in a phase."""
    for event in PATHS[phase]:
        job = lifecycle.advance(job, event, now=NOW)
    return job


def every_fact(text: str) -> list[Fact]:
    """Return one fact of every kind, with `text` wherever text may be."""
    job = replace(a_job(), tenant_id=text, use_case=text, type=text)
    ids: Any = reporting.job_ids(job, at=NOW)
    second = timedelta(seconds=1)
    return [
        facts.JobEnqueued(run_at=NOW, deadline_at=NOW, **ids),
        facts.JobLeased(
            at=NOW, job_id=job.id, tenant_id=text, use_case=text, lease_seq=1, queue=text
        ),
        facts.JobHandOffFailed(error=text, **ids),
        facts.JobStarted(worker_id=text, start_latency=second, late_by=-second, **ids),
        facts.DeadlineMissed(late_by=second, started=True, **ids),
        facts.JobSucceeded(ran_for=second, **ids),
        facts.ResultLeftOut(problem=text, **ids),
        facts.JobFailed(error=text, retry_at=NOW, places=(text,), **ids),
        facts.JobDied(error=text, places=(text,), **ids),
        facts.JobSnoozed(until=NOW, **ids),
        facts.JobReleased(**ids),
        facts.JobCancelRequested(**ids),
        facts.JobCancelled(**ids),
        facts.JobRetried(**ids),
        facts.LeaseExpired(claimed=True, worker_id=None, crashes=1, **ids),
        facts.StaleOutcomeDropped(outcome=text, **ids),
        facts.HandlerMissing(**ids),
        facts.HandlerStuck(reason=text, **ids),
        facts.LoopBlocked(blocked_for=second, places=(text,), **ids),
        facts.LoopBlocked(at=NOW, blocked_for=second),
        facts.PoisonDropped(at=NOW, queue=text, problem=text),
        facts.RowUnreadable(at=NOW, job_id=None, problem=text),
        facts.RowUnreadable(at=NOW, job_id=an_id(), problem=text),
        facts.RowUnwritable(at=NOW, job_id=an_id(), problem=text),
        facts.ChoreSkipped(at=NOW, chore=text, error=text),
        facts.UseCaseSkipped(at=NOW, use_case=text, error=text),
        facts.JobsPurged(at=NOW, use_case=text, count=0),
        facts.QueueUnattended(at=NOW, queue=text),
        facts.QueueUnfed(at=NOW, queue=text),
        facts.TransportsDiffer(at=NOW, queue=text, scheduler=text, worker=text),
        facts.TypeUnattended(at=NOW, queue=text, type=text),
        facts.LimitsDiffer(at=NOW, scheduler_id=text, host=text, use_cases=(text,)),
        facts.UseCaseUnknown(at=NOW, use_case=text),
        facts.UseCasePaused(at=NOW, use_case=text),
        facts.SchedulerMissing(at=NOW, ticked_at=None),
        facts.SchedulerMissing(at=NOW, ticked_at=NOW),
        readings.JobDuplicate(at=NOW, tenant_id=text, use_case=text, type=text),
        readings.QuotaRefused(at=NOW, tenant_id=text, use_case=text),
        readings.SchedulerTicked(at=NOW, took=second, leased=1),
        readings.SlotsTaken(at=NOW, queues=(text, text), slots=2, taken=1),
        readings.BacklogSurveyed(
            at=NOW,
            use_cases=(UseCaseLoad(text, 1, 2, 3, 4.0, 5, 4, 3, 2.0, 1.0),),
            queues=(QueueLoad(text, 1, 2, 3, 4, 5.0),),
        ),
        readings.SharesSurveyed(
            at=NOW,
            capacity=(TenantShare(text, text, 0.5, 1.0),),
            slots=(TenantShare(text, text, 1.0, 0.5),),
        ),
    ]
