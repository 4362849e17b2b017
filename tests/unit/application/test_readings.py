"""What is told for metrics alone: of whom it is told, and that nobody else hears of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.domain.errors import QuotaExceededError, Unavailable
from async_jobs.domain.job import EnqueueJobRequest
from async_jobs.domain.limits import TenantQuota
from async_jobs.domain.readings import (
    JobDuplicate,
    QuotaRefused,
    Reading,
    SchedulerTicked,
    SlotsTaken,
)
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits
from async_jobs.testing.contracts.scenes import added
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import Runs, Stage

DEDUPED = EnqueueJobRequest(
    tenant_id="acme", use_case="notifications", type="send_email", payload={}, dedupe_key="once"
)
LIMITED = SimpleLimits(per_tenant_quotas={"acme": TenantQuota(max_pending_jobs=1)})


def measuring(stage: Stage) -> Stage:
    stage.telemetry = RecordingTelemetry(readings=True)
    return stage


async def test_a_tick_tells_when_it_ended_and_what_it_leased() -> None:
    """Each of them, also if there was nothing to do."""
    stage = measuring(Stage())
    await added(stage.memory)
    scheduler = stage.scheduler()

    await scheduler.tick()
    await scheduler.tick()

    told = stage.telemetry.of(SchedulerTicked)
    assert [(each.at, each.took, each.leased) for each in told] == [
        (stage.clock.now(), timedelta(0), 1),
        (stage.clock.now(), timedelta(0), 0),
    ]


async def test_a_tick_that_fails_is_none() -> None:
    """So that a scheduler that does nothing is seen by the age of its last one."""
    stage = measuring(Stage())
    stage.store.before("turn", unavailable)

    with pytest.raises(Unavailable):
        await stage.scheduler().tick()

    assert stage.telemetry.of(SchedulerTicked) == []


async def test_a_worker_tells_of_its_slots_with_every_heartbeat() -> None:
    """Those that are taken among all."""
    stage, runs = measuring(Stage()), Runs()
    stage.registry.register("send_email", runs)
    worker = stage.worker(slots=3)

    async with stage.running(worker):
        await stage.handed_off()
        await stage.elapse(10)
        runs.may_end.set()

    told = stage.telemetry.of(SlotsTaken)
    assert {(each.queues, each.slots) for each in told} == {(("notifications",), 3)}
    assert [each.taken for each in told[:2]] == [0, 1]


@pytest.mark.parametrize("many", [False, True])
async def test_an_enqueue_that_found_its_job_is_told(many: bool) -> None:
    """Once for each job that was there already."""
    stage = measuring(Stage())
    service = stage.service()

    if many:
        await service.enqueue_many([DEDUPED, DEDUPED])
    else:
        await service.enqueue(DEDUPED)
        await service.enqueue(DEDUPED)

    (told,) = stage.telemetry.of(JobDuplicate)
    assert (told.tenant_id, told.use_case, told.type) == ("acme", "notifications", "send_email")


async def test_an_enqueue_beyond_the_quota_is_told() -> None:
    """Of which tenant and use case it was."""
    stage = measuring(Stage(LIMITED))
    service = stage.service()
    request = EnqueueJobRequest(
        tenant_id="acme", use_case="notifications", type="send_email", payload={}
    )
    await service.enqueue(request)

    with pytest.raises(QuotaExceededError):
        await service.enqueue(request)

    (told,) = stage.telemetry.of(QuotaRefused)
    assert (told.tenant_id, told.use_case) == ("acme", "notifications")


async def test_whoever_wants_no_readings_is_told_none() -> None:
    """They are not even made."""
    stage = Stage(LIMITED)
    service = stage.service()
    await service.enqueue(DEDUPED)
    await service.enqueue(DEDUPED)
    await stage.scheduler().tick()

    assert not [fact for fact in stage.telemetry.facts if isinstance(fact, Reading)]
