"""The columns of the jobs table: which a statement reads, and which it writes, in what order.

Each has the name of the field that it holds. Beside them there is `lane`, the place of a pending
job in the ready indexes: none before it is due, then 0, and 1 once it was sidelined. Statements
name what they read by a placeholder, which is filled in when they are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Final

from async_jobs.domain.job import CHANGING, LASTING, Job
from async_jobs.domain.scheduling import Candidate

JOB: Final = tuple(each.name for each in fields(Job))
_OF_NEW_ONES: Final = ("run_at", "delay_tolerance", "deadline_at", "priority")
NEW: Final = tuple(name for name in JOB if name in LASTING or name in _OF_NEW_ONES)
"""What is written of a new job; the others follow from these, or are those of any new job."""
SAVED: Final = (*CHANGING, "lane")
"""What is written of a job that something happened to."""
KNOWN_AT_CLAIM: Final = (
    "status",
    "lease_expires_at",
    "updated_at",
    "started_at",
    "worker_id",
    "cancel_requested",
    "dispatches",
)
"""What all jobs of one claim have in common, so that its answer leaves it out."""
CANDIDATE: Final = Candidate._fields[:-1]
"""What is read of a job that may be leased, in this order; what is shown is due."""
JSON: Final = frozenset({"payload", "backoff_policy", "errors", "headers", "result", "labels"})


def _read(names: Sequence[str]) -> str:
    """Return columns of `jobs AS j` as a statement lists them; JSON is read as its text."""
    return ", ".join(f"j.{name}{'::text' * (name in JSON)}" for name in names)


def _read_as_candidate(name: str) -> str:
    if name == "tolerance_seconds":
        return "date_part('epoch', j.delay_tolerance) AS tolerance_seconds"
    return f"j.{name}"


PLACEHOLDERS: Final[Mapping[str, str]] = {
    "{job_columns}": _read(JOB),
    "{candidate_columns}": ", ".join(map(_read_as_candidate, CANDIDATE)),
    "{claimed_columns}": _read([name for name in JOB if name not in KNOWN_AT_CLAIM]),
}
