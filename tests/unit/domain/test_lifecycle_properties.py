"""What holds in every state that a job can reach, by random walks through its life."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.bounds import ERRORS_KEPT_MAX
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import LASTING, TERMINAL, Job, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    TRANSITIONS,
    Amended,
    Cancelled,
    CancelRequested,
    Change,
    Claimed,
    Expired,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Restored,
    Retried,
    SetAside,
    Snoozed,
    Succeeded,
    advance,
    change,
)
from tests.unit.domain.builders import NOW, pending

# What leads on into the life of a job, rather than to an early end.
DEEPER = (Leased, Claimed, CancelRequested)


class Step(NamedTuple):
    """One step of a walk: the job before, the event, the job after."""

    before: Job
    event: JobEvent
    after: Job
    now: datetime


def possible_events(now: datetime, seconds: int, draw: float) -> list[JobEvent]:
    """Return one event of each kind, and more where a field decides what happens."""
    soon = now + timedelta(seconds=seconds)
    return [
        Leased(soon),
        HandOffFailed("the queue is gone"),
        Claimed("worker-1", soon),
        Renewed(soon),
        Succeeded({"sent": 1}),
        Failed("boom", draw=draw),
        Failed("busy", retry_after=timedelta(seconds=seconds - 60)),
        Rejected("never"),
        Snoozed(soon),
        Snoozed(now - timedelta(seconds=seconds)),
        Released(),
        CancelRequested(),
        Cancelled(),
        LeaseExpired(draw=draw),
        SetAside(soon),
        Expired(),
        Retried(),
        Amended(run_at=soon, delay_tolerance=timedelta(seconds=seconds), priority=seconds),
        Restored(),
    ]


def legal_steps(job: Job, now: datetime, seconds: int, draw: float) -> list[Step]:
    """Return every step that the job can take now."""
    steps: list[Step] = []
    for event in possible_events(now, seconds, draw):
        if (job.phase, type(event)) in TRANSITIONS:
            with suppress(IllegalTransition):
                steps.append(Step(job, event, advance(job, event, now=now), now))
    return steps


@st.composite
def walks(draw: st.DrawFn) -> list[Step]:
    """Draw a job's life: at each step any legal event, after some time.

    Events that lead deeper are taken three times as often as each of the others. One drawn seed,
    stretched by a hash, makes all choices: that is quick and spreads evenly.
    """
    job = new_job(draw(st.integers(0, 3 * 4 * 90 - 1)))
    length = draw(st.integers(10, 30))
    seed = draw(st.integers(0, 2**32 - 1))
    choices = hashlib.shake_128(seed.to_bytes(4)).digest(2 * length)
    now = NOW
    walk: list[Step] = []
    for choice, times in zip(choices[::2], choices[1::2], strict=True):
        wait_seconds, seconds = divmod(times, 16)
        now += timedelta(seconds=2 * wait_seconds)
        steps = legal_steps(job, now, 6 * seconds, draw=times / 256)
        steps += [step for step in steps if isinstance(step.event, DEEPER)] * 2
        if not steps:
            break
        walk.append(steps[choice % len(steps)])
        job = walk[-1].after
    return walk


def new_job(number: int) -> Job:
    """Return a job that nothing has happened to yet; `number` chooses its settings."""
    number, curve = divmod(number, 3)
    number, max_attempts = divmod(number, 4)
    number, tolerance_seconds = divmod(number, 90)
    policy = BackoffPolicy(
        type=list(BackoffType)[curve], base_delay_seconds=7, max_delay_seconds=50, jitter=0.5
    )
    tolerance = timedelta(seconds=tolerance_seconds)
    return pending(
        backoff_policy=policy,
        max_attempts=max_attempts + 1,
        run_at=NOW,
        delay_tolerance=tolerance,
        deadline_at=NOW + tolerance,
        attempts=0,
        last_error=None,
        enqueue_failed=False,
        lease_seq=0,
        dispatches=0,
        crashes=0,
        errors=(),
    )


def reached(steps: list[Step]) -> Iterator[Job]:
    """Yield every job of a walk."""
    yield steps[0].before
    yield from (step.after for step in steps)


@given(walks())
def test_the_deadline_is_always_run_at_plus_tolerance(steps: list[Step]) -> None:
    """`deadline_at == run_at + delay_tolerance` in every reachable state."""
    for job in reached(steps):
        assert job.deadline_at == job.run_at + job.delay_tolerance


@given(walks())
def test_the_lease_number_never_falls(steps: list[Step]) -> None:
    """`lease_seq` grows by one at a lease and at an operator's retry, and stays otherwise."""
    for before, event, after, _ in steps:
        assert after.lease_seq - before.lease_seq == isinstance(
            event, Leased | Retried | Amended | Restored
        )


@given(walks())
def test_attempts_stay_within_their_bounds(steps: list[Step]) -> None:
    """No walk charges more than `max_attempts` or refunds below zero."""
    for job in reached(steps):
        assert 0 <= job.attempts <= job.max_attempts


@given(walks())
def test_crashes_are_counted_apart_and_bounded(steps: list[Step]) -> None:
    """Only a claimed lease that ran out adds one, and refunds its attempt; the fifth is the end.

    Setting a row aside counts no last one.
    """
    for before, event, after, _ in steps:
        assert 0 <= after.crashes <= 5
        assert after.crashes < 5 or after.status is JobStatus.DEAD or isinstance(event, Cancelled)
        if isinstance(event, LeaseExpired) and before.started_at is not None:
            assert after.crashes == before.crashes + 1
            assert after.attempts == before.attempts - 1
        elif isinstance(event, SetAside) and before.started_at is not None:
            assert after.crashes == min(before.crashes + 1, 4)
            assert after.attempts == before.attempts - 1
        else:
            assert after.crashes == (0 if isinstance(event, Retried) else before.crashes)


@given(walks())
def test_a_finished_job_only_comes_back_by_a_retry(steps: list[Step]) -> None:
    """Succeeded, dead and cancelled are final, but for an operator and never for successes."""
    for before, event, after, _ in steps:
        if before.status in TERMINAL:
            assert isinstance(event, Retried | Restored)
            assert before.status is not JobStatus.SUCCEEDED
            assert after.phase is Phase.PENDING


@given(walks())
def test_only_a_running_job_holds_a_lease(steps: list[Step]) -> None:
    """`lease_expires_at` is set exactly while running; start and worker never while pending."""
    for job in reached(steps):
        assert (job.lease_expires_at is not None) == (job.status is JobStatus.RUNNING)
        assert (job.started_at is None) == (job.worker_id is None)
        assert job.started_at is None or job.status is not JobStatus.PENDING


@given(walks())
def test_finished_at_is_set_exactly_while_finished(steps: list[Step]) -> None:
    """A terminal job says since when; no other job has a `finished_at`."""
    for job in reached(steps):
        assert (job.finished_at is not None) == (job.status in TERMINAL)


@given(walks())
def test_the_history_is_bounded_and_only_failures_enter_it(steps: list[Step]) -> None:
    """At most twenty errors are kept, and an event adds one at most, at the end."""
    for before, event, after, now in steps:
        assert len(after.errors) <= ERRORS_KEPT_MAX
        if after.errors != before.errors:
            assert isinstance(event, Failed | Rejected | LeaseExpired | Expired)
            assert after.errors[:-1] == before.errors
            assert after.errors[-1].at == now


@given(walks())
def test_what_was_asked_for_never_changes(steps: list[Step]) -> None:
    """No event touches what the application enqueued; `updated_at` tells of each event."""
    first = steps[0].before
    for _, _, after, now in steps:
        assert all(getattr(after, name) == getattr(first, name) for name in LASTING)
        assert after.updated_at == now


@given(walks(), st.integers(0, 90))
def test_of_two_writers_who_read_the_same_job_the_second_fails(
    steps: list[Step], seconds: int
) -> None:
    """Whichever change is applied first, the other's fence no longer matches.

    Two exceptions lose nothing: a renewal moves only the lease's end, so a change that does
    not depend on that end still applies; and a repeated cancel request says nothing new.
    """
    for job, _, _, now in steps:
        events = [step.event for step in legal_steps(job, now, seconds, draw=0.0)]
        changes = [(event, change(job, event, now=now)) for event in events]
        for first, winner in changes:
            for second, loser in changes:
                expected = may_both_apply(job, first, second, winner.job)
                assert matches(loser, winner.job) == expected


def may_both_apply(job: Job, first: JobEvent, second: JobEvent, stored: Job) -> bool:
    """Tell whether the second writer loses nothing by not having seen the first's change."""
    if isinstance(first, Renewed):
        about_the_end = isinstance(second, Renewed | LeaseExpired | SetAside)
        return not about_the_end or stored.lease_expires_at == job.lease_expires_at
    return isinstance(first, CancelRequested) and job.cancel_requested


def matches(attempt: Change, stored: Job) -> bool:
    """Compare as every store does."""
    fence = attempt.fence
    return (
        fence.lease_seq == stored.lease_seq
        and fence.phase is stored.phase
        and fence.lease_expires_at in (None, stored.lease_expires_at)
        and fence.worker_id in (None, stored.worker_id)
    )
