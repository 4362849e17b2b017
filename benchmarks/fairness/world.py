"""Traces and what came of them. All times are whole milliseconds from the beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
TICK = SECOND
"""The longest pause of a scheduler, and the unit in which delays by others are told."""


class Work(NamedTuple):
    """One job of a trace.

    Attributes:
        due: when it may start.
        tolerance: how much later a start is still on time.
        length: how long it holds a slot.
        tenant, use_case: whose and what it is.
        kind: the group in which it is measured, and the type that it is enqueued with.
        enqueued: when it is handed in, at `due` or before.
        priority: within its tenant.
    """

    due: int
    tolerance: int
    length: int
    tenant: str
    use_case: str
    kind: str
    enqueued: int
    priority: int = 0

    @property
    def deadline(self) -> int:
        """The last instant at which a first start is on time."""
        return self.due + self.tolerance


class UseCase(NamedTuple):
    """Limits of a use case: capacity, lane, and late policy (None: the default one)."""

    cap: int
    queue: str | None = None
    late: str | None = None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Who wants what when, and what there is to run it.

    Attributes:
        name: what it is called in tables.
        slots: of all workers together.
        workers: among how many processes the slots are divided.
        use_cases: by name.
        work: in order of enqueueing.
        weights, max_running: of the tenants that have any.
        horizon: the run stops here; None to run until everything is done.
        counts_until: only jobs due before it count; None for all.
        fails: tells whether the attempt of a job fails; None if nothing does.
        pause: how long a failed attempt waits for the next one.
    """

    name: str
    slots: int
    use_cases: Mapping[str, UseCase]
    work: list[Work] = field(repr=False)
    workers: int = 1
    weights: Mapping[str, float] = field(default_factory=dict)
    max_running: Mapping[str, int] = field(default_factory=dict)
    horizon: int | None = None
    counts_until: int | None = None
    fails: Callable[[int, int], bool] | None = None
    pause: Callable[[int, int], int] = lambda index, attempt: 0

    def queue_of(self, use_case: str) -> str:
        """Return the lane that carries a use case's hand-offs."""
        return self.use_cases[use_case].queue or use_case

    def with_late(self, late: str) -> Trace:
        """Return the same trace under another late policy."""
        changed = {name: each._replace(late=late) for name, each in self.use_cases.items()}
        return replace(self, use_cases=changed)

    @property
    def tenants(self) -> list[str]:
        """Everybody who wants anything, by name."""
        return sorted({each.tenant for each in self.work})

    @property
    def load(self) -> float:
        """How many slots are wanted on average between the first job and the last."""
        dues = [each.due for each in self.work]
        return sum(each.length for each in self.work) / max(1, max(dues) - min(dues))


class Span(NamedTuple):
    """A slot was held from `start` on, for an attempt of the job of a number in the trace."""

    start: int
    number: int
    attempt: int


@dataclass(kw_only=True)
class Ran:
    """What a scheduler made of a trace.

    Attributes:
        trace: what it was.
        first: the first start of each job, None if it never started.
        spans: every start.
        ran_out: leases that no worker claimed in time.
        turns: how often the scheduler ticked.
    """

    trace: Trace
    first: list[int | None] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    ran_out: int = 0
    turns: int = 0

    def __post_init__(self) -> None:
        self.first = [None] * len(self.trace.work)

    def start(self, index: int, attempt: int, at: int) -> None:
        """Note that an attempt started."""
        if self.first[index] is None:
            self.first[index] = at
        self.spans.append(Span(at, index, attempt))

    @property
    def end(self) -> int:
        """When the run was over."""
        if self.trace.horizon is not None:
            return self.trace.horizon
        return max((span.start for span in self.spans), default=0)

    def length(self, span: Span) -> int:
        """Return how long a slot was held."""
        return self.trace.work[span.number].length

    def fingerprint(self) -> str:
        """Return what two runs have in common only if they did the same."""
        return hashlib.sha256(repr(self.spans).encode()).hexdigest()[:16]
