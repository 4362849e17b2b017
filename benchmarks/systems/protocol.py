"""What the program of every measured system shares. Standard library only, Python 3.11 or newer.

A system is a module beside this one that ends with `main(TheSystem)`. It is run from the root of
the repository, so that no module here hides the package it is named after:

    python -m benchmarks.systems.<name> setup
    python -m benchmarks.systems.<name> enqueue-one 3000
    python -m benchmarks.systems.<name> enqueue-concurrently 6400 32
    python -m benchmarks.systems.<name> bulk 50000 [--capped]
    python -m benchmarks.systems.<name> work [--capped]
    python -m benchmarks.systems.<name> latency 200 50
    python -m benchmarks.systems.<name> remaining
    python -m benchmarks.systems.<name> until-empty 50000 120

Each prints one line of JSON; `work` prints none and runs until SIGTERM, and `until-empty` prints
a line when it begins to watch, one when nothing remains, and its verdict. Settings come from the
environment: `BENCH_DSN` (a new, empty database), `BENCH_REDIS`, `BENCH_RUN_DIR` (a new, empty
directory where handlers leave their marks), `BENCH_JOBS` (how many jobs there will be at most)
and `BENCH_SETTINGS` (JSON, over the module's own).

Instants are `time.monotonic()`, which every process of a host agrees on.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.systems.marks import POLL_SECONDS, Marks, until_executed

T = TypeVar("T")
Payload = dict[str, Any]

PAD = "x" * 170
WARM_UP_JOBS = 20
CONNECTIONS_MAX = 32
DEFAULT_JOBS = 100_000
PR_SET_PDEATHSIG = 1


class System:
    """One system under measurement.

    Attributes:
        capped: whether concurrency is to be limited, by the system's own means.
    """

    def __init__(self) -> None:
        self.capped = False

    async def setup(self) -> None:
        """Prepare an empty database, or flush the Redis database, once."""

    async def open(self, pool: int) -> None:
        """Connect, with at most `pool` connections, for everything but `setup` and `work`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Undo `open`."""
        raise NotImplementedError

    async def enqueue(self, payload: Payload) -> None:
        """Enqueue one job; return when it is as durable as the system makes it."""
        raise NotImplementedError

    async def bulk(self, n: int, cap: bool) -> None:
        """Enqueue the jobs numbered from 0 to n - 1, by the system's fastest call."""
        raise NotImplementedError

    async def work(self) -> None:
        """Execute jobs until SIGTERM. The handler calls `done(payload)` and nothing else."""
        raise NotImplementedError

    async def remaining(self) -> int:
        """Return how many jobs have no durable outcome yet."""
        raise NotImplementedError

    async def verify(self, jobs: int) -> str | None:
        """Say what is wrong with the stored outcomes once nothing remains; None if nothing is."""
        return None


# --- settings -----------------------------------------------------------------------------------


def dsn() -> str:
    """Return the address of the database."""
    return os.environ["BENCH_DSN"]


def redis_url() -> str:
    """Return the address of the Redis server."""
    return os.environ["BENCH_REDIS"]


def run_dir() -> Path:
    """Return where handlers leave their marks."""
    return Path(os.environ["BENCH_RUN_DIR"])


def jobs_max() -> int:
    """Return how many jobs there will be at most."""
    return int(os.environ.get("BENCH_JOBS") or DEFAULT_JOBS)


def settings(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's own settings, as far as `BENCH_SETTINGS` does not replace them."""
    return {**own, **json.loads(os.environ.get("BENCH_SETTINGS") or "{}")}


def payload(number: int, at: float = 0.0) -> Payload:
    """Return a payload of about 200 bytes.

    Args:
        number: the job's own, from 0.
        at: the instant of the call of enqueue where latency is measured, else 0.
    """
    return {"n": number, "t": at, "pad": PAD}


# --- what handlers leave behind -----------------------------------------------------------------


_marks: Marks | None = None


def done(payload: Mapping[str, Any]) -> None:
    """Note one execution: what every handler does, and all it does. Not for several threads."""
    global _marks
    if _marks is None or _marks.pid != os.getpid():  # a fork has marks of its own
        _marks = Marks(run_dir(), jobs_max())
    _marks.add(payload)


# --- the commands -------------------------------------------------------------------------------


async def _enqueue_one(system: System, jobs: int) -> dict[str, float]:
    await system.open(1)
    return await _enqueued(system, jobs, producers=1)


async def _enqueue_concurrently(system: System, jobs: int, producers: int) -> dict[str, float]:
    await system.open(min(producers, CONNECTIONS_MAX))
    return await _enqueued(system, jobs, producers)


async def _enqueued(system: System, jobs: int, producers: int) -> dict[str, float]:
    """Enqueue from so many producers at once.

    Jobs before that, which do not count, make sure that connections are open and statements
    prepared: a rate is asked for, not how long a process takes to start.
    """
    warm_up = producers * WARM_UP_JOBS
    taken: list[float] = []

    async def produce(numbers: Iterator[int]) -> None:
        for number in numbers:
            at = time.monotonic()
            await system.enqueue(payload(number))
            taken.append(time.monotonic() - at)

    async def all_produce(numbers: Iterator[int]) -> None:
        await asyncio.gather(*(produce(numbers) for _ in range(producers)))

    await all_produce(iter(range(jobs, jobs + warm_up)))
    taken.clear()
    began = time.monotonic()
    await all_produce(iter(range(jobs)))
    seconds = time.monotonic() - began
    stored = await system.remaining() - warm_up
    await system.close()
    return {"jobs": jobs, "seconds": seconds, "stored": stored, **percentiles(taken)}


async def _bulk(system: System, jobs: int) -> dict[str, float]:
    await system.open(4)
    began = time.monotonic()
    await system.bulk(jobs, system.capped)
    seconds = time.monotonic() - began
    await system.close()
    return {"jobs": jobs, "seconds": seconds}


async def _latency(system: System, jobs: int, interval_ms: float) -> dict[str, Any]:
    """Enqueue at fixed instants, so that a slow call does not thin out what follows it.

    Jobs before that, whose latency is not noted, make sure that everything is started.
    """
    await system.open(1)
    directory, interval = run_dir(), interval_ms / 1000
    for number in range(jobs, jobs + WARM_UP_JOBS):
        await system.enqueue(payload(number))
        await asyncio.sleep(interval)
    ready = await until_executed(directory, WARM_UP_JOBS, 60.0)
    began = time.monotonic()
    for number in range(jobs):
        await asyncio.sleep(max(0.0, began + number * interval - time.monotonic()))
        await system.enqueue(payload(number, time.monotonic()))
    ended = ready and await until_executed(directory, jobs + WARM_UP_JOBS, 30.0)
    await system.close()
    return {"jobs": jobs, "warm_up": WARM_UP_JOBS, "ended": ended}


async def _remaining(system: System) -> dict[str, int]:
    await system.open(1)
    left = await system.remaining()
    await system.close()
    return {"remaining": left}


async def _until_empty(system: System, jobs: int, seconds: float) -> dict[str, Any]:
    """Tell the instant when every outcome was durable, then what is wrong with them.

    Handlers are counted first, so that nothing is asked of the database meanwhile. Each of the
    three answers is a line of its own.
    """
    until = time.monotonic() + seconds
    await system.open(1)
    print(json.dumps({"watching": True}), flush=True)
    await until_executed(run_dir(), jobs, seconds)
    while (left := await system.remaining()) and time.monotonic() < until:
        await asyncio.sleep(POLL_SECONDS)
    at = time.monotonic()
    print(json.dumps({"remaining": left, "empty_at": at}), flush=True)
    problem = f"{left} jobs are left" if left else await system.verify(jobs)
    await system.close()
    return {"problem": problem}


async def _setup(system: System) -> dict[str, bool]:
    await system.setup()
    return {"ready": True}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "p50_ms": 1000 * ordered[round(0.50 * last)],
        "p99_ms": 1000 * ordered[round(0.99 * last)],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    takes_by_command: dict[str, dict[str, Callable[[str], Any]]] = {
        "setup": {},
        "enqueue-one": {"jobs": int},
        "enqueue-concurrently": {"jobs": int, "producers": int},
        "bulk": {"jobs": int},
        "work": {},
        "latency": {"jobs": int, "interval_ms": float},
        "remaining": {},
        "until-empty": {"jobs": int, "seconds": float},
    }
    for command, takes in takes_by_command.items():
        added = commands.add_parser(command)
        added.add_argument("--capped", action="store_true")
        for name, kind in takes.items():
            added.add_argument(name, type=kind)
    return parser


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def arguments() -> list[str]:
    """Return what follows the command."""
    return sys.argv[2:]


def end_with_the_parent() -> None:
    """Let the kernel end this program when the benchmark is killed; `exec` keeps the wish."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main(
    make: Callable[[], System], also: Mapping[str, Callable[[], object]] | None = None
) -> None:
    """Run a system's program: one command, its answers a line of JSON each.

    Args:
        make: makes the system.
        also: further programs of the system, by command; they read `sys.argv` themselves.
    """
    end_with_the_parent()
    if also and len(sys.argv) > 1 and sys.argv[1] in also:
        also[sys.argv[1]]()
        return
    given = vars(_parser().parse_args())
    command, capped = given.pop("command"), given.pop("capped")
    system = make()
    system.capped = capped
    if command == "work":
        run(system.work())
        return
    perform: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
        "setup": _setup,
        "enqueue-one": _enqueue_one,
        "enqueue-concurrently": _enqueue_concurrently,
        "bulk": _bulk,
        "latency": _latency,
        "remaining": _remaining,
        "until-empty": _until_empty,
    }
    print(json.dumps(run(perform[command](system, **given))), flush=True)
