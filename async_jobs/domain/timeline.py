"""The timeline of a job: what is known of its life, by the job and by the records of attempts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from async_jobs.domain.history import AttemptRecord, Outcome
from async_jobs.domain.job import AttemptError, Job, JobStatus, Phase
from async_jobs.domain.patience import NO_HANDLER


class Moment(StrEnum):
    """What happened to a job, or is to happen."""

    ENQUEUED = "enqueued"
    HANDED_OFF = "handed_off"
    """Its present lease was given, and nobody has claimed it yet."""
    STARTED = "started"
    ENDED = "ended"
    RETRIED = "retried"
    """An operator gave it another life."""
    RESTORED = "restored"
    """An operator took its cancellation back."""
    DUE = "due"
    """It may start from then on."""
    OTHER = "other"
    """One that a newer version tells of."""

    @classmethod
    def _missing_(cls, value: object) -> Moment:
        return cls.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One thing that happened to a job.

    Attributes:
        at: when.
        moment: what.
        attempt: how many attempts had been charged; None where none is told of.
        lease_seq: during which lease.
        worker_id: who had it.
        outcome: how the attempt, or the job, ended.
        ran_seconds: from its start until then.
        error: what the job says of it.
        fingerprint: the same for errors of one cause.
        traceback: places in the code, innermost first, a line each.
    """

    at: datetime
    moment: Moment
    attempt: int | None = None
    lease_seq: int | None = None
    worker_id: str | None = None
    outcome: Outcome | None = None
    ran_seconds: float | None = None
    error: str | None = None
    fingerprint: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHistory:
    """The answer about the life of one job.

    Attributes:
        at: when it was so.
        phase: as in the job's record.
        entries: in the order of time. Successes and snoozes of former attempts are among them only
            if the use case records all attempts.
        cut: there are more records than are told: the oldest are left out.
    """

    at: datetime
    job_id: UUID
    tenant_id: str
    use_case: str
    type: str
    phase: str
    entries: tuple[TimelineEntry, ...]
    cut: bool = False


_ENDS: Final = {
    JobStatus.SUCCEEDED: Outcome.SUCCEEDED,
    JobStatus.DEAD: Outcome.DEAD,
    JobStatus.CANCELLED: Outcome.CANCELLED,
}
_BY_OPERATORS: Final = {
    Outcome.RETRIED: Moment.RETRIED,
    Outcome.RESTORED: Moment.RESTORED,
}
_ORDER: Final = list(Moment)


def history_of(
    job: Job, records: Sequence[AttemptRecord], *, at: datetime, cut: bool = False
) -> JobHistory:
    """Return what is known of a job's life.

    Args:
        job: as it stands.
        records: those that are kept of it.
        at: now.
        cut: whether there are more.
    """
    entries = [*_of_records(records), *_of_errors(job, records), *_of_job(job, records)]
    entries.sort(key=lambda each: (each.at, each.lease_seq or 0, _ORDER.index(each.moment)))
    return JobHistory(
        at=at,
        job_id=job.id,
        tenant_id=job.tenant_id,
        use_case=job.use_case,
        type=job.type,
        phase=job.phase.value,
        entries=(TimelineEntry(at=job.created_at, moment=Moment.ENQUEUED), *entries),
        cut=cut,
    )


def _of_records(records: Sequence[AttemptRecord]) -> Iterator[TimelineEntry]:
    for each in records:
        if each.outcome in _BY_OPERATORS:
            yield TimelineEntry(at=each.ended_at, moment=_BY_OPERATORS[each.outcome])
            continue
        if each.started_at is not None:
            yield _start(each.started_at, each.attempt, each.lease_seq, each.worker_id)
        yield TimelineEntry(
            at=each.ended_at,
            moment=Moment.ENDED,
            attempt=each.attempt,
            lease_seq=each.lease_seq,
            worker_id=each.worker_id,
            outcome=each.outcome,
            ran_seconds=_seconds(each.started_at, each.ended_at),
            error=each.error,
            fingerprint=each.fingerprint,
            traceback=each.traceback,
        )


def _of_errors(job: Job, records: Sequence[AttemptRecord]) -> Iterator[TimelineEntry]:
    """Yield the failures that the job remembers and of which there is no record any more."""
    recorded = {(each.attempt, each.ended_at) for each in records}
    for each in job.errors:
        if (each.attempt, each.at) not in recorded:
            yield _failure(each)


def _failure(failed: AttemptError) -> TimelineEntry:
    error, *places = failed.error.split("\n  at ")
    return TimelineEntry(
        at=failed.at,
        moment=Moment.ENDED,
        attempt=failed.attempt,
        outcome=Outcome.SNOOZED if error == NO_HANDLER else Outcome.FAILED,
        error=error,
        traceback="\n".join(places) or None,
    )


def _of_job(job: Job, records: Sequence[AttemptRecord]) -> Iterator[TimelineEntry]:
    """Yield what the job itself tells: where it is, or how it ended if nothing else told."""
    match job.phase:
        case Phase.PENDING:
            yield TimelineEntry(at=job.run_at, moment=Moment.DUE)
        case Phase.HANDED_OFF:
            at, lease_seq = job.updated_at, job.lease_seq
            yield TimelineEntry(at=at, moment=Moment.HANDED_OFF, lease_seq=lease_seq)
        case Phase.CLAIMED | Phase.CANCELLING:
            assert job.started_at is not None, "it is claimed"
            yield _start(job.started_at, job.attempts, job.lease_seq, job.worker_id)
        case _:
            assert job.finished_at is not None, "it has ended"
            if any(each.ended_at == job.finished_at for each in records):
                return
            if job.started_at is not None:
                yield _start(job.started_at, job.attempts, job.lease_seq, job.worker_id)
            yield TimelineEntry(
                at=job.finished_at,
                moment=Moment.ENDED,
                attempt=job.attempts,
                lease_seq=job.lease_seq,
                worker_id=job.worker_id,
                outcome=_ENDS[job.status],
                ran_seconds=_seconds(job.started_at, job.finished_at),
                error=job.last_error if job.status is JobStatus.DEAD else None,
            )


def _start(at: datetime, attempt: int, lease_seq: int, worker_id: str | None) -> TimelineEntry:
    return TimelineEntry(
        at=at, moment=Moment.STARTED, attempt=attempt, lease_seq=lease_seq, worker_id=worker_id
    )


def _seconds(since: datetime | None, until: datetime) -> float | None:
    return None if since is None else (until - since).total_seconds()
