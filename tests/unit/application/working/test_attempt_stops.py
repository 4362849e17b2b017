"""How one attempt is made to stop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from async_jobs.application.handling.registry import JobContext
from async_jobs.application.working.attempt import StopReason
from async_jobs.domain.lifecycle import (
    Cancelled,
    Failed,
    JobEvent,
    Released,
    Succeeded,
)
from async_jobs.testing.clocks import let_others_run
from tests.unit.application.stage import until
from tests.unit.application.working.attempts import Attempts, attempt_of

STOPS: list[tuple[StopReason, JobEvent | None]] = [
    (StopReason.CANCELLED, Cancelled()),
    (StopReason.TIMED_OUT, Failed("timed out after 900 s")),
    (StopReason.SHUTDOWN, Released()),
    (StopReason.LEASE_LOST, None),
]
each_stop = pytest.mark.parametrize(("reason", "event"), STOPS, ids=[str(r) for r, _ in STOPS])


def without_places(event: JobEvent | None) -> JobEvent | None:
    """Return what happened, without where a timeout found the handler."""
    return replace(event, places=()) if isinstance(event, Failed) else event


@each_stop
async def test_an_async_handler_is_cancelled(
    run: Attempts, reason: StopReason, event: JobEvent | None
) -> None:
    """Each reason means something else for the job; a lost lease means nothing any more."""
    cancelled: list[bool] = []

    async def handler(ctx: JobContext, payload: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(ctx.cancelled)

    attempt = attempt_of(handler)
    running = asyncio.create_task(run(attempt))
    await let_others_run(5)
    attempt.stop(reason, at=1.0)

    assert without_places(await running) == event
    assert cancelled == [True]
    assert (attempt.stop_reason, attempt.stopped_at) == (reason, 1.0)


@each_stop
async def test_a_sync_handler_is_told_and_stops_itself(
    run: Attempts, reason: StopReason, event: JobEvent | None
) -> None:
    """A thread cannot be cancelled."""
    started = threading.Event()

    def handler(ctx: JobContext, payload: Any) -> None:
        started.set()
        while True:
            ctx.check_cancelled()

    attempt = attempt_of(handler)
    running = asyncio.create_task(run(attempt))
    await until(started.is_set)
    attempt.stop(reason, at=1.0)

    stopped = await running
    assert without_places(stopped) == event
    if isinstance(stopped, Failed):
        assert [place.rpartition(".")[2] for place in stopped.places][-1] == "handler"
        assert isinstance(attempt.error, TimeoutError)


@each_stop
async def test_an_attempt_stopped_before_its_start_never_starts(
    run: Attempts, reason: StopReason, event: JobEvent | None
) -> None:
    """It waited for a slot when it was told."""
    ran: list[JobContext] = []

    async def handler(ctx: JobContext, payload: Any) -> None:
        ran.append(ctx)

    attempt = attempt_of(handler)
    attempt.stop(reason, at=1.0)

    assert await run(attempt) == event
    assert ran == []


async def test_only_the_first_reason_counts(run: Attempts) -> None:
    """A handler that timed out and does not stop is not released by a shutdown."""
    attempt = attempt_of(lambda ctx, payload: None)

    attempt.stop(StopReason.TIMED_OUT, at=1.0)
    attempt.stop(StopReason.SHUTDOWN, at=2.0)

    assert (attempt.stop_reason, attempt.stopped_at) == (StopReason.TIMED_OUT, 1.0)
    assert await run(attempt) == Failed("timed out after 900 s")


@pytest.mark.parametrize("reason", list(StopReason))
async def test_a_handler_that_finishes_all_the_same_has_succeeded(
    run: Attempts, reason: StopReason
) -> None:
    """The work is done; whether it still counts, the fence decides."""

    async def handler(ctx: JobContext, payload: Any) -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "done"

    attempt = attempt_of(handler)
    running = asyncio.create_task(run(attempt))
    await let_others_run(5)
    attempt.stop(reason, at=1.0)

    assert await running == Succeeded("done")


@pytest.mark.parametrize(
    ("reason", "event"),
    [(StopReason.CANCELLED, Cancelled()), (StopReason.LEASE_LOST, None)],
)
async def test_a_handler_that_breaks_while_it_stops_has_stopped(
    run: Attempts, reason: StopReason, event: JobEvent | None
) -> None:
    """Its error is about the stop, not about the job."""

    async def handler(ctx: JobContext, payload: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("the connection broke") from None

    attempt = attempt_of(handler)
    running = asyncio.create_task(run(attempt))
    await let_others_run(5)
    attempt.stop(reason, at=1.0)

    assert await running == event


async def test_a_stopped_slot_is_good_for_the_next_job(run: Attempts) -> None:
    """The cancellation was the attempt's, not the slot's."""
    ended: list[JobEvent | None] = []

    async def endless(ctx: JobContext, payload: Any) -> None:
        await asyncio.Event().wait()

    async def brief(ctx: JobContext, payload: Any) -> str:
        await let_others_run(3)
        async with asyncio.timeout(30):
            await let_others_run(3)
        return "done"

    attempt = attempt_of(endless)

    async def slot() -> None:
        ended.append(await run(attempt))
        ended.append(await run.of(brief))

    task = asyncio.create_task(slot())
    await let_others_run(5)
    attempt.stop(StopReason.CANCELLED, at=1.0)
    await task

    assert ended == [Cancelled(), Succeeded("done")]
    assert task.cancelling() == 0


async def test_a_stop_after_the_end_cancels_nobody(run: Attempts) -> None:
    """The slot is at work on something else by then."""

    async def handler(ctx: JobContext, payload: Any) -> str:
        return "done"

    attempt = attempt_of(handler)
    event = await run(attempt)

    attempt.stop(StopReason.CANCELLED, at=1.0)
    await let_others_run(3)

    assert event == Succeeded("done")
