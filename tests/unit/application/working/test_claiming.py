"""From deliveries to claimed jobs: a lease is consumed once, whatever the transport does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from async_jobs.application.working.claiming import TRIES_MAX, Claimer
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import DeadlineMissed, JobStarted, PoisonDropped
from async_jobs.domain.job import HandOff, Job, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    HandOffFailed,
    JobEvent,
    Leased,
)
from async_jobs.ports.queue import Delivery
from async_jobs.testing.builders import a_handoff, later
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.contracts.scenes import added, happened, in_phase, race
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import Stage, handoff_of, quiet


def claimer(
    stage: Stage, worker_id: str = "worker-1", knows: Callable[[str], bool] = lambda type: True
) -> Claimer:
    """Return the claimer of a worker."""
    return Claimer(
        worker_id,
        stage.store,
        clock=stage.clock,
        chance=stage.chance,
        telemetry=stage.telemetry,
        lease_seconds=45,
        knows=knows,
    )


def deliveries(*handoffs: HandOff) -> list[Delivery]:
    """Return one delivery each."""
    return [Delivery(f"receipt-{i}", handoff) for i, handoff in enumerate(handoffs)]


def bare(job: Job) -> HandOff:
    """Return what somebody puts on a lane by hand: the job's id alone."""
    return HandOff(job.id, None, job.tenant_id)


async def claim(stage: Stage, *handoffs: HandOff, worker_id: str = "worker-1") -> list[UUID]:
    """Claim a batch of deliveries; returns the jobs claimed."""
    jobs = await claimer(stage, worker_id).claim("notifications", deliveries(*handoffs))
    return [job.id for job in jobs]


async def handed_off(stage: Stage) -> Job:
    """Add a job that waits for a worker until its lease is over in a minute."""
    return await in_phase(stage.memory, Phase.HANDED_OFF)


# --- What a claim does -----------------------------------------------------------------------


async def test_a_claim_begins_the_attempt(stage: Stage) -> None:
    """The attempt is charged, and the lease lasts as long as this worker's leases do."""
    job = await handed_off(stage)
    stage.clock.advance(5)

    (claimed,) = await claimer(stage).claim("notifications", deliveries(handoff_of(job)))

    assert claimed == await stage.job(job)
    assert (claimed.phase, claimed.attempts) == (Phase.CLAIMED, 1)
    assert (claimed.worker_id, claimed.started_at) == ("worker-1", later(5))
    assert claimed.lease_expires_at == later(50)


async def test_a_claim_is_told_with_its_latency(stage: Stage) -> None:
    """From `run_at` and against the deadline."""
    job = await handed_off(stage)
    stage.clock.advance(5)

    await claim(stage, handoff_of(job))

    (fact,) = stage.telemetry.of(JobStarted)
    assert (fact.job_id, fact.worker_id, fact.attempt) == (job.id, "worker-1", 1)
    assert fact.start_latency == timedelta(seconds=5)
    assert fact.late_by == timedelta(seconds=-55)


async def test_a_late_start_is_told(stage: Stage) -> None:
    """By how much the deadline was missed."""
    job = await in_phase(stage.memory, Phase.HANDED_OFF, deadline_at=later(3))
    stage.clock.advance(5)

    await claim(stage, handoff_of(job))

    (fact,) = stage.telemetry.of(DeadlineMissed)
    assert (fact.started, fact.late_by) == (True, timedelta(seconds=2))


async def test_what_a_worker_has_no_handler_for_does_not_start(stage: Stage) -> None:
    """It is claimed, late as it may be, and put off: a worker that has one starts it."""
    job = await in_phase(stage.memory, Phase.HANDED_OFF, deadline_at=later(3))
    stage.clock.advance(5)

    claimed = await claimer(stage, knows=lambda type: False).claim(
        "lane", deliveries(handoff_of(job))
    )

    assert [each.id for each in claimed] == [job.id]
    assert not stage.telemetry.of(JobStarted) + stage.telemetry.of(DeadlineMissed)


async def test_a_batch_is_claimed_in_the_order_of_its_deliveries(stage: Stage) -> None:
    """In one call, whatever its size."""
    jobs = [await handed_off(stage) for _ in range(5)]
    order = [jobs[i] for i in (3, 0, 4, 1, 2)]

    claimed = await claim(stage, *map(handoff_of, order))

    assert claimed == [job.id for job in order]
    assert stage.store.calls == {"claim": 1}


async def test_nothing_is_asked_for_an_empty_batch(stage: Stage) -> None:
    """Most receives bring nothing."""
    assert await claim(stage) == []
    assert not stage.store.calls


# --- A lease is consumed once ----------------------------------------------------------------


async def test_duplicates_in_one_batch_are_claimed_once(stage: Stage) -> None:
    """The transport delivered the hand-off three times at once."""
    job = await handed_off(stage)

    assert await claim(stage, *[handoff_of(job)] * 3) == [job.id]
    assert (await stage.job(job)).attempts == 1


async def test_a_duplicate_in_a_later_batch_claims_nothing(stage: Stage) -> None:
    """Not even by the worker that claimed it, in the same instant."""
    job = await handed_off(stage)
    first = await claim(stage, handoff_of(job))

    again = await claim(stage, handoff_of(job))

    assert (first, again) == ([job.id], [])
    assert len(stage.telemetry.of(JobStarted)) == 1


async def test_of_many_workers_one_claims(stage: Stage) -> None:
    """Each received the same hand-off at the same time."""
    job = await handed_off(stage)

    answers = await race(
        *(claim(stage, handoff_of(job), worker_id=f"worker-{i}") for i in range(8))
    )

    assert sorted(map(len, answers)) == [0] * 7 + [1]
    assert (await stage.job(job)).attempts == 1
    assert len(stage.telemetry.of(JobStarted)) == 1


@pytest.mark.parametrize(
    "events",
    [
        (Cancelled(),),
        (HandOffFailed("throttled"),),
        (HandOffFailed("throttled"), Leased(later(60))),
    ],
    ids=["cancelled", "taken back", "leased again"],
)
async def test_a_stale_hand_off_claims_nothing(stage: Stage, events: tuple[JobEvent, ...]) -> None:
    """Its lease is over, whatever came after it."""
    job = await handed_off(stage)
    after = await happened(stage.memory, job, *events)

    assert await claim(stage, handoff_of(job)) == []
    assert await stage.job(job) == after
    assert stage.telemetry.facts == []


async def test_a_lease_that_is_over_cannot_be_claimed(stage: Stage) -> None:
    """Although nobody has reaped it yet."""
    job = await handed_off(stage)
    stage.clock.advance(60)

    assert await claim(stage, handoff_of(job)) == []
    assert await stage.job(job) == job


async def test_a_hand_off_of_no_job_claims_nothing(stage: Stage) -> None:
    """The job was forgotten, or never was."""
    job = await handed_off(stage)

    assert await claim(stage, a_handoff(), handoff_of(job)) == [job.id]


async def test_a_number_that_was_never_given_out_claims_nothing(stage: Stage) -> None:
    """A hand-off is a hint; the database knows the leases."""
    job = await handed_off(stage)

    assert await claim(stage, handoff_of(job)._replace(lease_seq=99)) == []


async def test_a_job_that_was_cancelled_in_between_costs_the_others_nothing(stage: Stage) -> None:
    """It was handed off when it was received."""
    jobs = [await handed_off(stage) for _ in range(3)]

    async def cancel() -> None:
        await happened(stage.memory, jobs[1], Cancelled())

    stage.store.before("claim", cancel)

    claimed = await claim(stage, *map(handoff_of, jobs))

    assert claimed == [jobs[0].id, jobs[2].id]
    assert [fact.job_id for fact in stage.telemetry.of(JobStarted)] == claimed


# --- Bare ids and poison ---------------------------------------------------------------------


async def test_a_bare_id_stands_for_the_current_lease(stage: Stage) -> None:
    """Whatever its number."""
    job = await happened(
        stage.memory, await handed_off(stage), HandOffFailed("throttled"), Leased(later(60))
    )

    assert (job.lease_seq, await claim(stage, bare(job))) == (2, [job.id])


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.CLAIMED, Phase.SUCCEEDED])
async def test_a_bare_id_without_a_waiting_lease_claims_nothing(stage: Stage, phase: Phase) -> None:
    """Putting an id on a lane makes nobody run a job that is not handed off."""
    job = await in_phase(stage.memory, phase)

    assert await claim(stage, bare(job)) == []
    assert await stage.job(job) == job


@pytest.mark.parametrize("bare_first", [True, False])
async def test_a_stale_hand_off_does_not_hide_a_bare_id(stage: Stage, bare_first: bool) -> None:
    """Both arrive in one batch, and the bare id means the lease that is waiting."""
    stale = await handed_off(stage)
    job = await happened(stage.memory, stale, HandOffFailed("throttled"), Leased(later(60)))
    batch = [bare(job), handoff_of(stale)]

    claimed = await claim(stage, *(batch if bare_first else batch[::-1]))

    assert claimed == [job.id]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_the_newest_of_several_hand_offs_counts(stage: Stage, newest_first: bool) -> None:
    """The stale one of the same batch does not hide it."""
    stale = await handed_off(stage)
    job = await happened(stage.memory, stale, HandOffFailed("throttled"), Leased(later(60)))
    batch = [handoff_of(job), handoff_of(stale)]

    claimed = await claim(stage, *(batch if newest_first else batch[::-1]))

    assert claimed == [job.id]


async def test_poison_is_told_and_hides_nothing(stage: Stage) -> None:
    """By its lane and its problem; the message itself may hold anything."""
    job = await handed_off(stage)
    batch = [
        Delivery("r1", None, "not JSON"),
        *deliveries(handoff_of(job)),
        Delivery("r2", None, "no job_id"),
    ]

    claimed = await claimer(stage).claim("notifications", batch)

    assert [each.id for each in claimed] == [job.id]
    assert stage.telemetry.of(PoisonDropped) == [
        PoisonDropped(at=later(0), queue="notifications", problem="not JSON"),
        PoisonDropped(at=later(0), queue="notifications", problem="no job_id"),
    ]


# --- A store that does not answer ------------------------------------------------------------


async def test_a_claim_whose_reply_was_lost_is_repeated_and_counts(stage: Stage) -> None:
    """The claim took effect; looking finds that it did."""
    job = await handed_off(stage)
    stage.store.after("claim", unavailable)

    claiming = race(claim(stage, handoff_of(job)), stage.elapse(2))
    claimed, _ = await claiming

    assert claimed == [job.id]
    assert (await stage.job(job)).attempts == 1
    assert len(stage.telemetry.of(JobStarted)) == 1


async def test_a_claim_that_did_not_get_through_is_tried_again(stage: Stage) -> None:
    """After a short pause."""
    job = await handed_off(stage)
    stage.store.before("claim", *[unavailable] * (TRIES_MAX - 1))

    claimed, _ = await race(claim(stage, handoff_of(job)), stage.elapse(8))

    assert claimed == [job.id]


async def test_a_lease_that_ends_between_two_tries_is_not_claimed(stage: Stage) -> None:
    """Each try is of its own instant."""
    job = await handed_off(stage)
    stage.clock.advance(59)
    stage.store.before("claim", unavailable, unavailable, unavailable)

    claimed, _ = await race(claim(stage, handoff_of(job)), stage.elapse(8))

    assert claimed == []
    assert await stage.job(job) == job


async def test_a_claim_is_given_up_after_a_few_tries(stage: Stage) -> None:
    """So that the deliveries can be given back to somebody who has a store."""
    job = await handed_off(stage)
    stage.store.before("claim", *[unavailable] * TRIES_MAX)

    with pytest.raises(Unavailable):
        await race(claim(stage, handoff_of(job)), stage.elapse(8))

    assert stage.store.calls["claim"] == TRIES_MAX
    assert stage.telemetry.facts == []


async def test_a_second_delivery_beside_a_claim_that_went_unheard_counts_once(
    stage: Stage,
) -> None:
    """Both are of this worker and of one instant by the clock, and are told apart all the same."""
    job = await handed_off(stage)
    stage.store.before("claim", let_others_run, let_others_run)
    stage.store.after("claim", unavailable, unavailable)
    one = claimer(stage)

    first, second, _ = await race(
        one.claim("notifications", deliveries(handoff_of(job))),
        one.claim("notifications", deliveries(handoff_of(job))),
        stage.elapse(2),
    )

    assert [each.id for each in (*(first or ()), *(second or ()))] == [job.id]
    assert len(stage.telemetry.of(JobStarted)) == 1


async def test_a_job_whose_claim_went_unheard_and_was_then_cancelled_runs_nowhere(
    stage: Stage,
) -> None:
    """The request came before the repetition: the lease runs out and the request is honoured."""
    job = await handed_off(stage)

    async def cancel_unheard() -> None:
        await happened(stage.memory, await stage.job(job), CancelRequested())
        await unavailable()

    stage.store.after("claim", cancel_unheard)

    claimed, _ = await race(claim(stage, handoff_of(job)), stage.elapse(2))
    stage.clock.advance(60)
    await stage.scheduler().tick()
    await quiet()

    assert claimed == []
    assert (await stage.job(job)).phase is Phase.CANCELLED


async def test_a_job_that_was_never_handed_off_cannot_be_claimed(stage: Stage) -> None:
    """Its number is known, but there is no lease."""
    job = await added(stage.memory)

    assert await claim(stage, HandOff(job.id, 0, job.tenant_id)) == []
