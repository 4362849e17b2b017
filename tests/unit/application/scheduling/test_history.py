"""The history is tidied by schedulers, at intervals; whatever fails about it harms nothing."""

from __future__ import annotations

from async_jobs.adapters.memory.history import MemoryHistory
from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.application.scheduling.chores.keeping_history import HISTORY_SECONDS, KeepingHistory
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.history import Outcome
from async_jobs.domain.job import Phase
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.testing.builders import a_request
from async_jobs.testing.contracts.scenes import in_phase
from async_jobs.testing.system import memory_system
from tests.unit.application.stage import Stage


async def test_old_days_are_forgotten_by_the_settings() -> None:
    """At the first opportunity, and then at intervals."""
    stage = Stage()
    job = await in_phase(stage.memory, Phase.DEAD)
    history = MemoryHistory(stage.memory)
    chore = KeepingHistory(history, SchedulerSettings(history_days=2), clock=stage.clock)

    assert chore.is_due(0)
    assert not chore.is_due(HISTORY_SECONDS - 1)
    await chore.tidy()
    assert await history.attempts(job.id, limit=1)
    stage.clock.advance(3 * 86_400)
    assert chore.is_due(HISTORY_SECONDS)
    await chore.tidy()

    assert not await history.attempts(job.id, limit=1)


async def test_a_use_case_may_record_all_attempts() -> None:
    """A success is told of by a record then, and by the job's row as ever."""
    registry = JobRegistry()

    @registry.handler("send_email")
    async def send(ctx: JobContext, payload: dict[str, object]) -> None:
        pass

    for history, outcomes in (("all", [Outcome.SUCCEEDED]), ("unusual", [])):
        config = UseCaseConfig(history=history)  # type: ignore[arg-type]
        system = memory_system(use_cases={"notifications": config}, registry=registry)
        job_id = (await system.service.enqueue(a_request())).job_id

        await system.run_until_idle(raise_errors=True)

        records = await MemoryHistory(system.store).attempts(job_id, limit=10)
        job = await system.service.get_job(job_id)
        assert [each.outcome for each in records] == outcomes
        assert (job.phase, job.worker_id) == (Phase.SUCCEEDED, "worker-1")
