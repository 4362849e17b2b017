"""What the programs of the peers share. Standard library only, Python 3.11 or newer.

A peer is a module beside this one that ends with `main(ThePeer)`, run as

    python -m benchmarks.fairness.peers.<name> setup | work | play

`play` enqueues the jobs of a script at their instants and waits for them; it prints a line of JSON.
Settings come from the environment: `BENCH_DSN`, `BENCH_REDIS`, `BENCH_RUN_DIR` (where handlers
leave their marks), `PLAY_SCRIPT` (a file) and `PLAY_RULE`: `plain`, the order in which jobs come;
or `priority`, static priorities by tolerance, if the peer has any.

Instants are `time.monotonic()`, which every process of a host agrees on.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

WARM_UP_JOBS = 8
WARM_UP_SECONDS = 60.0
LEAD_SECONDS = 0.2
POLL_SECONDS = 0.02
PLAIN, PRIORITY = "plain", "priority"


class Part(NamedTuple):
    """A job of a script, in seconds; the higher its priority, the sooner by static priority."""

    number: int
    at: float
    seconds: float
    tenant: str
    tolerance: float
    priority: int

    @property
    def payload(self) -> dict[str, Any]:
        """What the handler needs."""
        return {"n": self.number, "s": self.seconds}


class Script(NamedTuple):
    """What is played: jobs in order of their instants, and how many run at once."""

    slots: int
    parts: list[Part]
    seconds_max: float


class Peer:
    """One system."""

    async def setup(self) -> None:
        """Prepare an empty database."""

    async def open(self) -> None:
        """Connect, to enqueue."""

    async def enqueue(self, parts: Sequence[Part]) -> None:
        """Enqueue jobs that come at one instant."""
        raise NotImplementedError

    async def close(self) -> None:
        """Undo `open`."""

    async def work(self, slots: int) -> None:
        """Execute so many jobs at once until SIGTERM; each calls `execute` with its payload."""
        raise NotImplementedError


def by_priority() -> bool:
    """Tell whether jobs are to be given static priorities."""
    return os.environ.get("PLAY_RULE") == PRIORITY


def dsn() -> str:
    """Return the address of the database."""
    return os.environ["BENCH_DSN"]


def redis_url() -> str:
    """Return the address of the Redis server."""
    return os.environ["BENCH_REDIS"]


def script() -> Script:
    """Return what is played."""
    slots, parts, seconds_max = json.loads(Path(os.environ["PLAY_SCRIPT"]).read_text("utf-8"))
    return Script(slots, [Part(*part) for part in parts], seconds_max)


# --- what handlers do ---------------------------------------------------------------------------


def mark(payload: Mapping[str, Any]) -> float:
    """Note that a job has started; return how long it takes."""
    line = f"{payload['n']} {time.monotonic()}\n".encode()
    path = Path(os.environ["BENCH_RUN_DIR"]) / f"{os.getpid()}.marks"
    with path.open("ab", buffering=0) as file:
        file.write(line)
    return float(payload["s"])


async def execute(payload: Mapping[str, Any]) -> None:
    """Be a job: hold a slot for its time."""
    await asyncio.sleep(mark(payload))


def marks(directory: Path) -> dict[int, float]:
    """Return when each job started first."""
    starts: dict[int, float] = {}
    for path in directory.glob("*.marks"):
        for line in path.read_text("ascii").splitlines():
            number, at = line.split()
            starts[int(number)] = min(float(at), starts.get(int(number), float(at)))
    return starts


# --- the commands -------------------------------------------------------------------------------


async def play(peer: Peer) -> dict[str, Any]:
    """Enqueue the jobs at their instants, once warm-up jobs have shown that somebody works."""
    played, directory = script(), Path(os.environ["BENCH_RUN_DIR"])
    await peer.open()
    first = len(played.parts)
    warm_up = [Part(first + n, 0.0, 0.01, "warm-up", 1.0, 0) for n in range(WARM_UP_JOBS)]
    for part in warm_up:
        await peer.enqueue([part])
    await _until(lambda: len(marks(directory)) >= WARM_UP_JOBS, WARM_UP_SECONDS)
    began = time.monotonic() + LEAD_SECONDS
    for at, parts in groupby(played.parts, key=lambda part: part.at):
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        await peer.enqueue(list(parts))
    everything = len(played.parts) + WARM_UP_JOBS
    ended = await _until(lambda: len(marks(directory)) >= everything, played.seconds_max)
    await peer.close()
    return {"began": began, "ended": ended}


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def main(make: Callable[[], Peer], also: Mapping[str, Callable[[], object]] | None = None) -> None:
    """Run a peer's program.

    Args:
        make: makes the peer.
        also: further programs of the peer, by command.
    """
    command = sys.argv[1]
    if also and command in also:
        also[command]()
        return
    peer = make()
    if command == "setup":
        asyncio.run(peer.setup())
        print(json.dumps({"ready": True}), flush=True)
    elif command == "work":
        asyncio.run(peer.work(script().slots))
    else:
        print(json.dumps(asyncio.run(play(peer))), flush=True)
