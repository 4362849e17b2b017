"""Signals that end programs: what is drained, what is given back, and that it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from async_jobs import (
    JobStatus,
)
from tests.kit.harness import answer, eventually, free_port
from tests.programs.systems import System, a_system, is_once


async def test_sigterm_while_busy_releases_what_does_not_finish(
    database_dsn: str, tmp_path: Path
) -> None:
    """Both programs exit 0 soon, and no attempt is charged for what was stopped."""
    drain = {"ASYNC_JOBS_DRAIN_TIMEOUT_SECONDS": "0.5", "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": "1"}
    async with a_system(database_dsn, tmp_path, drain) as system:
        await system.enqueue("hold", 4)
        await system.enqueue("hold_in_a_thread", 3)
        scheduler, worker = system.scheduler(), system.worker()
        await system.have_begun(7)
        scheduler.terminate()
        worker.terminate()
        codes = [await scheduler.ended(seconds=30), await worker.ended(seconds=30)]
        stopped = await system.jobs()

        system.open_gate()
        system.scheduler()
        system.worker()
        await system.become(succeeded=7)
        finished = await system.jobs()

    assert codes == [0, 0]
    assert [(job.status, job.attempts) for job in stopped] == [(JobStatus.PENDING, 0)] * 7
    assert [job.attempts for job in finished] == [1] * 7
    assert is_once(system.began())


async def test_sigterm_gives_handlers_time_to_finish(system: System) -> None:
    """It says how many; their outcomes are kept, and nothing new is begun meanwhile."""
    await system.enqueue("hold", 8)
    system.scheduler()
    worker = system.worker()
    await system.have_begun(8)
    worker.terminate()
    await worker.has_logged("stopping")
    await system.enqueue("succeed", 1)
    system.open_gate()

    code = await worker.ended(seconds=30)

    assert code == 0
    (draining,) = worker.logged("draining")
    assert (draining["jobs"], draining["up_to_seconds"]) == (8, 25)
    assert draining["note"] == "a second signal ends it at once"
    assert (await system.statuses())["succeeded"] == 8
    assert len(system.began()) == 8


async def test_a_second_sigterm_exits_at_once(system: System) -> None:
    """Whoever sends it does not want to wait for handlers."""
    await system.enqueue("hold")
    system.scheduler()
    worker = system.worker()
    await system.have_begun(1)
    worker.terminate()
    await worker.has_logged("stopping")

    async def ends() -> bool:
        worker.terminate()  # once more, for one right behind the first is the same one
        return worker.process.poll() is not None

    await eventually(ends, "the end of the worker", seconds=15)
    assert await worker.ended() == 128 + 15


LINGERING = ("--handlers", "tests.programs.handlers_that_linger")


@pytest.mark.parametrize("type", ["terminate_a_child", "use_a_pool"])
async def test_what_ends_a_child_ends_no_worker(system: System, type: str) -> None:
    """A forked child has signals of its own; and it is gone afterwards."""
    job_ids = await system.enqueue(type, 3, max_attempts=1)
    system.scheduler()
    worker = system.worker(*LINGERING)
    await system.become(succeeded=3)
    results = [(await system.service.get_job(job_id)).result for job_id in job_ids]
    worker.terminate()
    code = await worker.ended()

    assert results == [[-15] * 5 if type == "terminate_a_child" else [1, 2]] * 3
    assert [line["signal"] for line in worker.logged("stopping")] == ["SIGTERM"]
    assert code == 0


async def test_a_signal_to_the_whole_group_drains(system: System) -> None:
    """As systemd and Ctrl-C send it: the children end, and the worker finishes its jobs."""
    await system.enqueue("keep_a_pool")
    system.scheduler()
    worker = system.worker(*LINGERING)
    await system.become(succeeded=1)
    await system.enqueue("hold", 2)
    await system.have_begun(2)
    os.killpg(worker.process.pid, signal.SIGTERM)
    await worker.has_logged("stopping")
    system.open_gate()
    code = await worker.ended()

    assert code == 0
    assert await system.statuses() == {"succeeded": 3}


@pytest.mark.parametrize(
    "type",
    ["leave_a_thread_of_the_loop", "leave_a_thread", "leave_a_task", "ignore_signals"],
)
async def test_nothing_that_a_handler_left_keeps_a_worker(system: System, type: str) -> None:
    """It has stopped, so its process ends as well, and says 0."""
    await system.enqueue(type)
    system.scheduler()
    worker = system.worker(*LINGERING, ASYNC_JOBS_DRAIN_TIMEOUT_SECONDS="1")
    await system.become(succeeded=1)
    if type == "ignore_signals":
        await worker.has_logged("signal_handler_restored")
    worker.terminate()
    code = await worker.ended(seconds=20)

    assert code == 0
    assert worker.logged("worker_stopped")


async def test_a_handler_that_blocks_the_loop_for_good_is_a_crash(
    database_dsn: str, tmp_path: Path
) -> None:
    """Nothing stops it, and its lease is renewed: its worker ends, and the job is charged."""
    settings = {"ASYNC_JOBS_JOB_TIMEOUT_SECONDS": "0.5", "ASYNC_JOBS_LEASE_DURATION_SECONDS": "1"}
    async with a_system(database_dsn, tmp_path, settings) as system:
        (job_id,) = await system.enqueue("hold_the_event_loop")
        system.scheduler()
        worker = system.worker()
        code = await worker.ended()

        async def charged() -> bool:
            return (await system.service.get_job(job_id)).crashes == 1

        await eventually(charged, "a crash")

    assert code == 1
    (told,) = worker.logged("exiting_beside_a_blocked_loop")
    assert "the handler of 'hold_the_event_loop'" in told["problem"]


async def test_sigterm_ends_a_worker_whose_loop_is_blocked(system: System) -> None:
    """Not at once, for the handler may yet return; and its job is charged with the crash."""
    await system.enqueue("hold_the_event_loop")
    system.scheduler()
    worker = system.worker(ASYNC_JOBS_DRAIN_TIMEOUT_SECONDS="0")
    await system.have_begun(1)
    worker.terminate()

    assert await worker.ended(seconds=30) == 1
    (told,) = worker.logged("exiting_by_force")
    assert "the handler of 'hold_the_event_loop'" in told["problem"]


async def test_a_worker_lives_while_a_handler_blocks_its_loop(system: System) -> None:
    """Its leases are renewed all the while, so nobody may take it for dead.

    Which handler it is, and where in the code, is told in the log, and instead of readiness.
    """
    (job_id,) = await system.enqueue("hold_the_event_loop")
    system.scheduler()
    port = free_port()
    worker = system.worker("--health-port", str(port))
    await worker.has_logged("loop_blocked")
    live = await asyncio.to_thread(answer, port, "/health/live")
    status, ready = await asyncio.to_thread(answer, port, "/health/ready")
    system.open_gate()
    await system.become(succeeded=1)
    worker.terminate()
    code = await worker.ended()
    (told,) = worker.logged("loop_blocked")

    assert live == (200, {"status": "live"})
    assert (status, ready["status"]) == (503, "not ready")
    assert ready["problem"].startswith("the handler of 'hold_the_event_loop' has blocked the event")
    assert "handlers_for_tests.py" in ready["problem"]
    assert (told["job_id"], told["type"]) == (str(job_id), "hold_the_event_loop")
    assert told["blocked_for"] >= 3
    assert any("handlers_for_tests.py" in place for place in told["places"])
    assert told["places"][-1].endswith(" in hold_the_event_loop")
    assert code == 0


async def test_a_second_signal_ends_a_worker_whose_loop_is_blocked(system: System) -> None:
    """At once as well, for the loop need not hear of it."""
    await system.enqueue("hold_the_event_loop")
    system.scheduler()
    worker = system.worker()
    await system.have_begun(1)

    async def ends() -> bool:
        worker.terminate()  # again and again, for one right behind the first is the same one
        return worker.process.poll() is not None

    await eventually(ends, "the end of the worker", seconds=15)
    assert await worker.ended() == 128 + 15
