"""What is known of a simulation: who takes part, what happened, and what it was set up with."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from async_jobs.domain.job import Job
from tests.simulation.loop import Process

SECRET = "the-contents-of-a-payload"
OWN_LOOP = "own-loop"
"""What the names of workers begin with whose executions nobody tells the judge of."""


class Violation(Exception):
    """A rule was broken."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(rule, what)
        self.rule = rule
        self.what = what

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


@dataclass(eq=False)
class Node:
    """A process and what excuses it.

    Attributes:
        role: api, scheduler or worker.
        clock_error: by how many seconds its clock may be wrong, as it could measure it.
        stood_at: when it last stood still, in seconds of the simulation.
        troubled_at: until when anything last went wrong for it.
        leaving: it was told to stop, or has ended.
    """

    process: Process
    role: str
    clock_error: float = 0.0
    stood_at: float = -1.0
    troubled_at: float = 0.0
    leaving: bool = False

    @property
    def name(self) -> str:
        return self.process.name

    def has_trouble(self, until: float) -> None:
        """Take note that something goes wrong for it, up to an instant."""
        self.troubled_at = max(self.troubled_at, until)

    def has_stood_since(self, at: float) -> bool:
        return self.process.standing > 0 or self.stood_at >= at

    def is_well_since(self, at: float) -> bool:
        """Tell whether nothing whatever has happened to it."""
        alive = not (self.process.dead or self.leaving)
        return alive and self.troubled_at < at and not self.has_stood_since(at)


@dataclass
class Lease:
    """One lease of a job: who claimed it when, how often it was executed and ended, when
    somebody asked for its cancellation, and what an obedient handler came to."""

    claimed_by: Node | None = None
    claimed_at: float = 0.0
    executions: int = 0
    endings: int = 0
    cancelled_at: float | None = None
    verdict: str | None = None
    pause: float = 0.0


@dataclass
class Execution:
    """A handler that executes."""

    node: Node
    began_at: float
    obedient: bool


class Trace:
    """What happened, line by line: a running hash of all, the last lines themselves.

    Args:
        seconds: the true time of the simulation.
        kept: how many of the last lines to keep; None for all.
    """

    def __init__(self, seconds: Callable[[], float], kept: int | None = 200) -> None:
        self._seconds = seconds
        self._hash = hashlib.blake2b(digest_size=8)
        self.lines: deque[str] = deque(maxlen=kept)
        self.length = 0

    def note(self, who: str, what: str) -> None:
        """Write down that something happens just now."""
        line = f"{self._seconds():12.4f}  {who:14}  {what}"
        self._hash.update(line.encode())
        self.lines.append(line)
        self.length += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


@dataclass
class Totals:
    """What was checked."""

    transitions: Counter[str] = field(default_factory=Counter)
    executions: int = 0
    acknowledged: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    bounds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Totals) -> None:
        self.transitions += other.transitions
        self.executions += other.executions
        self.acknowledged += other.acknowledged
        self.faults += other.faults
        self.bounds += other.bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the system was set up with, in simulated seconds.

    Attributes:
        retention: how long finished jobs have to be kept.
        dispatch, lease: how long unclaimed and claimed leases last at most.
        margin: how long before the end of its lease an obedient handler is stopped.
        reap: how long after its end a lease is reaped at most, where nothing goes wrong.
        slots: how many handlers a worker executes at most.
    """

    retention: float
    dispatch: float = 60.0
    lease: float = 60.0
    margin: float = 6.0
    reap: float = 15.0
    slots: int = 3


def is_alone(row: Job) -> bool:
    """Tell whether it is executed by somebody who renews nothing and tells the judge nothing."""
    return (row.worker_id or "").startswith(OWN_LOOP)


def short(job_id: UUID) -> str:
    """Return enough of an id to tell jobs apart."""
    return job_id.hex[-6:]
