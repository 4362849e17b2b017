"""What the clients asked for and what they were told, by their own account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID


class Plan(NamedTuple):
    """A job as a client wants it, and how it is to end unless somebody cancels it."""

    tenant_id: str
    end: str


class Execution(NamedTuple):
    """A line of the handlers' record."""

    what: str
    job_id: UUID
    attempt: int
    lease_seq: int
    process: str
    at: float

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Execution:
        return cls(**{**line, "job_id": UUID(line["job_id"])})


@dataclass(slots=True)
class Book:
    """What was asked for, noted before asking; what was answered, noted after.

    Attributes:
        planned: every job that was ever sent.
        acknowledged: the ids that enqueues were answered with.
        refused: jobs that were turned away at the first try, so that none of it took effect.
        missing: jobs that a client asked about after they were acknowledged, and that were said
            not to exist.
        cancelled: jobs that were said to be cancelled.
        cancel_tries, retry_tries: how often each was asked for, answered or not.
    """

    planned: dict[UUID, Plan] = field(default_factory=dict)
    acknowledged: set[UUID] = field(default_factory=set)
    refused: set[UUID] = field(default_factory=set)
    missing: set[UUID] = field(default_factory=set)
    cancelled: set[UUID] = field(default_factory=set)
    cancel_tries: Counter[UUID] = field(default_factory=Counter)
    retry_tries: Counter[UUID] = field(default_factory=Counter)

    def ends(self, job_id: UUID) -> Iterable[str]:
        """Return how a job may end."""
        ends = {self.planned[job_id].end}
        if self.cancel_tries[job_id]:
            ends.add("cancelled")
        if job_id in self.cancelled and not self.retry_tries[job_id]:
            return {"cancelled"}
        return ends
