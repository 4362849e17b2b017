"""How a program is run: on which loop, and how garbage is looked for."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from unittest import mock

import pytest
from dependency_injector import providers

from async_jobs.application.handling.registry import JobContext, running_job
from async_jobs.application.scheduling.noticing import LOOK_SECONDS
from async_jobs.domain.errors import ConfigurationError
from async_jobs.domain.facts import LoopBlocked
from async_jobs.entrypoints.programs.blocked import LoopWatch
from async_jobs.entrypoints.programs.garbage import THRESHOLDS
from async_jobs.entrypoints.programs.loops import execute
from async_jobs.entrypoints.programs.processes import run_async, stopping_on_signals
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.memory import memory_container
from async_jobs.testing.builders import a_job
from async_jobs.testing.contracts.scenes import added
from tests.unit.application.stage import Stage


async def collector() -> tuple[tuple[int, int, int], int]:
    """Return what makes the collector look, and how much it leaves alone."""
    return gc.get_threshold(), gc.get_freeze_count()


async def fail() -> None:
    """Raise something."""
    raise ValueError("boom")


def test_garbage_is_looked_for_seldom_by_count() -> None:
    """And what is loaded is left alone. Afterwards all is as it was: see test_memory for size."""
    before = gc.get_threshold(), gc.get_freeze_count()

    thresholds, frozen = run_async(collector())

    assert thresholds == THRESHOLDS != before[0]
    assert frozen > before[1]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_a_program_that_fails_leaves_the_collector_as_it_was() -> None:
    """The error goes through."""
    before = gc.get_threshold(), gc.get_freeze_count()

    with pytest.raises(ValueError, match="boom"):
        run_async(fail())

    assert (gc.get_threshold(), gc.get_freeze_count()) == before


async def test_a_system_without_signals_is_told_at_the_start() -> None:
    """Windows has none on its event loops; an empty NotImplementedError says nothing."""
    loop = asyncio.get_running_loop()
    refusing = mock.patch.object(type(loop), "add_signal_handler", side_effect=NotImplementedError)

    told = pytest.raises(ConfigurationError, match=r"runs on Linux and macOS; on .* in WSL")
    with refusing, told, stopping_on_signals(logging.getLogger("async_jobs")):
        pass


async def test_a_task_that_a_handler_made_is_known_for_the_handlers() -> None:
    """Since Python 3.12, which lets others see its context; before it is only its place."""
    stage = Stage()
    worker = stage.worker()
    watch = LoopWatch(worker, stage.telemetry, stage.clock)
    context = JobContext.of(replace(a_job(), type="greet"), threading.Event())

    async def block() -> None:
        watch.tell(3.0)

    running_job.set(context)
    await asyncio.create_task(block())

    (fact,) = stage.telemetry.of(LoopBlocked)
    assert fact.type == ("greet" if sys.version_info >= (3, 12) else None)
    assert fact.blocked_for == timedelta(seconds=3)
    assert fact.places[-1].endswith(".block")


async def test_a_worker_that_runs_tells_of_a_missing_scheduler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As long as it runs, and no longer."""
    stage = Stage()
    await added(stage.memory)
    logger = logging.getLogger("test_a_worker_that_runs")
    container = memory_container(AsyncJobsConfig(db_dsn="postgresql:///"), logger)
    container.clock.override(providers.Object(stage.clock))
    container.store.override(providers.Object(stage.memory))
    stop = asyncio.Event()
    running = asyncio.create_task(execute(container, stage.worker(), stop))

    await stage.elapse(3 * LOOK_SECONDS, step_seconds=LOOK_SECONDS / 2)
    told = [record.message for record in caplog.records]
    stop.set()
    await stage.seconds_until_done(running, at_most=60)

    assert told == ["scheduler_missing"]
    assert len(asyncio.all_tasks()) == 1
