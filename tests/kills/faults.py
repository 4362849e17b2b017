"""What is done to the system besides killing its programs. Each fault ends healed."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import asyncpg

from async_jobs.adapters.postgres.embedded import StopMode
from async_jobs.host import SystemClock
from async_jobs.testing.clocks import ManualChance
from tests.kills.arena import LEASE_SECONDS, NAME, Arena, Kind, Post
from tests.kills.recovery import outage
from tests.kit.harness import eventually

DOWN_SECONDS_MAX = 1.5
READ_ONLY_SECONDS = 1.5
STALL_SECONDS = 0.5
EXHAUSTED_SECONDS = 2.0
SILENT_SECONDS = LEASE_SECONDS + 1.5
"""Longer than a lease, so that the work goes to somebody else meanwhile."""

clock = SystemClock()


class Fault(StrEnum):
    """The faults, by what happens."""

    RESTART_FAST = "postgres restarts, fast"
    RESTART_IMMEDIATE = "postgres crashes and restarts"
    READ_ONLY = "postgres is read-only for a while"
    STALL = "postgres stalls for 500 ms"
    EXHAUSTED = "postgres has no connection left for a while"
    SILENT_THEN_LATE = "connections half open, then resumed"
    SILENT_THEN_RESET = "connections half open, then reset"
    FROZEN_WORKER = "a worker stands still for longer than its leases"
    FROZEN_SCHEDULER = "a scheduler stands still for longer than its leases"


Cause: TypeAlias = Callable[[Arena, ManualChance], Awaitable[None]]


async def cause(fault: Fault, arena: Arena, chance: ManualChance) -> None:
    """Let a fault happen and pass."""
    arena.journal.note(f"begins: {fault}")
    await _CAUSES[fault](arena, chance)
    arena.journal.note(f"is over: {fault}")
    arena.journal.faults[fault] += 1


# --- the database -------------------------------------------------------------------------------


async def _restart(arena: Arena, chance: ManualChance, mode: StopMode) -> None:
    since = clock.now().timestamp()
    postmaster = arena.postgres.pid
    os.kill(postmaster, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
    await clock.sleep(DOWN_SECONDS_MAX * chance.uniform())
    await asyncio.to_thread(arena.postgres.restart, mode)
    assert arena.postgres.pid != postmaster
    await _is_over(arena, since)


async def _restart_fast(arena: Arena, chance: ManualChance) -> None:
    await _restart(arena, chance, "fast")


async def _restart_immediate(arena: Arena, chance: ManualChance) -> None:
    await _restart(arena, chance, "immediate")


async def _is_over(arena: Arena, since: float) -> None:
    """Wait until the database answers, and note for how long it had not."""

    async def answers() -> bool:
        return await arena.ask("SELECT 1") is not None

    await eventually(answers, "the database answers again")
    arena.journal.outages.append(outage(since, clock.now().timestamp()))


async def _read_only(arena: Arena, chance: ManualChance) -> None:
    since = clock.now().timestamp()
    await _set_read_only(arena, "on")
    await _end_sessions(arena)
    await clock.sleep(READ_ONLY_SECONDS)
    await _set_read_only(arena, "off")
    await _end_sessions(arena)
    await _is_over(arena, since)


async def _set_read_only(arena: Arena, value: str) -> None:
    await arena.pool.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    await arena.pool.execute("SELECT pg_reload_conf()")


async def _end_sessions(arena: Arena) -> None:
    """End every session but our own, as a failover does."""
    await arena.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND application_name <> $1",
        NAME,
    )


async def _stall(arena: Arena, chance: ManualChance) -> None:
    since = clock.now().timestamp()
    processes = _processes_of(arena.postgres.pid)
    try:
        for pid in processes:
            _signal(pid, signal.SIGSTOP)
        await clock.sleep(STALL_SECONDS)
    finally:
        for pid in processes:
            _signal(pid, signal.SIGCONT)
    await _is_over(arena, since)


def _processes_of(postmaster: int) -> list[int]:
    """Return the postmaster and its children."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text("ascii")
    return [postmaster, *map(int, children.split())]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a session that has ended meanwhile
        os.kill(pid, number)


async def _exhaust(arena: Arena, chance: ManualChance) -> None:
    since = clock.now().timestamp()
    taken: list[asyncpg.Connection] = []
    try:
        until = math.inf
        # Whenever a program lets go of a connection, that one is taken, too.
        while clock.monotonic() < until:
            try:
                taken.append(await asyncpg.connect(arena.postgres.dsn))
            except asyncpg.TooManyConnectionsError:
                until = min(until, clock.monotonic() + EXHAUSTED_SECONDS)
                await clock.sleep(0.05)
    finally:
        for connection in taken:
            connection.terminate()
    await _is_over(arena, since)


# --- the line -----------------------------------------------------------------------------------


async def _fall_silent(arena: Arena, heal: Callable[[], None]) -> None:
    far = [post for post in arena.posts if post.is_far]
    for post in far:
        arena.serves(post, False)

    async def is_used() -> bool:
        return arena.line.fall_silent() > 0

    try:
        await eventually(is_used, "somebody uses the line")
        await clock.sleep(SILENT_SECONDS)
    finally:
        heal()
    for post in far:
        if post.is_alive and post.is_up:
            arena.serves(post, True)


async def _silent_then_late(arena: Arena, chance: ManualChance) -> None:
    await _fall_silent(arena, arena.line.resume)


async def _silent_then_reset(arena: Arena, chance: ManualChance) -> None:
    await _fall_silent(arena, arena.line.reset)


# --- programs -----------------------------------------------------------------------------------


async def _freeze(arena: Arena, chance: ManualChance, kind: Kind) -> None:
    """Stop a program, and let it go on when its leases are somebody else's."""
    posts = [post for post in arena.posts if post.kind is kind]

    async def one_is_up() -> Post | None:
        up = [post for post in posts if post.is_up and post.is_alive]
        return up[int(len(up) * chance.uniform())] if up else None

    post = await eventually(one_is_up, f"a {kind} is up")
    assert post is not None
    assert post.program is not None
    program = post.program
    post.is_held = True
    serves_before = post.serves_since is not None
    arena.serves(post, False)
    try:
        program.send_signal(signal.SIGSTOP)
        await clock.sleep(SILENT_SECONDS)
    finally:
        program.send_signal(signal.SIGCONT)
        post.is_held = False
    if serves_before and post.program is program and post.is_alive:
        arena.serves(post, True)


async def _freeze_worker(arena: Arena, chance: ManualChance) -> None:
    await _freeze(arena, chance, Kind.WORKER)


async def _freeze_scheduler(arena: Arena, chance: ManualChance) -> None:
    await _freeze(arena, chance, Kind.SCHEDULER)


_CAUSES: dict[Fault, Cause] = {
    Fault.RESTART_FAST: _restart_fast,
    Fault.RESTART_IMMEDIATE: _restart_immediate,
    Fault.READ_ONLY: _read_only,
    Fault.STALL: _stall,
    Fault.EXHAUSTED: _exhaust,
    Fault.SILENT_THEN_LATE: _silent_then_late,
    Fault.SILENT_THEN_RESET: _silent_then_reset,
    Fault.FROZEN_WORKER: _freeze_worker,
    Fault.FROZEN_SCHEDULER: _freeze_scheduler,
}
