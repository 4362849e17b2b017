"""Handlers whose children end by signals, and such that leave behind what does not end."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

from async_jobs import JobContext, job_registry
from async_jobs.domain.job import Payload
from async_jobs.host import SystemClock
from tests.programs import handlers_for_tests as handlers

os.setpgid(0, 0)  # so that a test may signal the worker's whole group, which is not its own

hold = handlers.hold
_fork = multiprocessing.get_context("fork")
_kept: list[object] = []


def _wait_for_ever() -> None:
    threading.Event().wait()


@job_registry.handler("terminate_a_child")
def terminate_a_child(context: JobContext, payload: Payload) -> list[int | None]:
    """As a time limit for a library does."""
    children = [_fork.Process(target=_wait_for_ever) for _ in range(5)]
    for child in children:
        child.start()
        child.terminate()
        child.join()
    return [child.exitcode for child in children]


@job_registry.handler("use_a_pool")
def use_a_pool(context: JobContext, payload: Payload) -> list[int]:
    """Leaving the block terminates the pool's processes."""
    with _fork.Pool(2) as pool:
        return pool.map(abs, [-1, -2])


@job_registry.handler("keep_a_pool")
def keep_a_pool(context: JobContext, payload: Payload) -> int:
    """Its children are in the worker's group, and idle when a signal comes to all of it."""
    pool = ProcessPoolExecutor(2, mp_context=_fork)
    _kept.append(pool)
    return pool.submit(abs, -1).result()


@job_registry.handler("leave_a_thread_of_the_loop")
async def leave_a_thread_of_the_loop(context: JobContext, payload: Payload) -> None:
    _kept.append(asyncio.create_task(asyncio.to_thread(_wait_for_ever)))
    await SystemClock().sleep(0)


@job_registry.handler("leave_a_thread")
async def leave_a_thread(context: JobContext, payload: Payload) -> None:
    threading.Thread(target=_wait_for_ever, daemon=False).start()


@job_registry.handler("leave_a_task")
async def leave_a_task(context: JobContext, payload: Payload) -> None:
    async def swallow() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    _kept.append(asyncio.create_task(swallow()))
    await SystemClock().sleep(0)


@job_registry.handler("ignore_signals")
async def ignore_signals(context: JobContext, payload: Payload) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
