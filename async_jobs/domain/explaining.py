"""From what was read to an explanation: of a job in every phase, and when it may start."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from async_jobs.domain.crashes import CRASHES_MAX, crash_error, is_hopeless
from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.explain import Estimate, Explanation, Finding, NextTurn, Why
from async_jobs.domain.fairness import standing
from async_jobs.domain.job import TERMINAL, Job, JobStatus, Phase
from async_jobs.domain.limits import UNLIMITED
from async_jobs.domain.outlook import Counted
from async_jobs.domain.patience import NO_HANDLER
from async_jobs.domain.reasons import (
    Scene,
    Turned,
    behind,
    contest_of,
    count_of,
    late,
    of_limits,
    of_schedulers,
    of_verdict,
    of_workers,
    paused,
    tenant_full,
    tenant_paused,
    told,
    unknown_use_case,
    use_case_full,
    use_case_paused,
    window_full,
)
from async_jobs.domain.scheduling import Blocked, Reason

_FIRST: Final = (
    Why.NOT_DUE,
    Why.UNKNOWN_USE_CASE,
    Why.EXPIRES,
    Why.USE_CASE_PAUSED,
    Why.TENANT_PAUSED,
    Why.PAUSED,
    Why.NO_SCHEDULER,
    Why.NO_WORKER,
    Why.NO_HANDLER,
    Why.TRANSPORTS_DIFFER,
    Why.TRANSPORT_REFUSED,
)
"""What matters more than what the next turn says, in this order."""
_STOPS: Final = frozenset(_FIRST) - {Why.NOT_DUE, Why.EXPIRES, Why.TRANSPORT_REFUSED}
"""As long as one of these holds, nobody knows when a job starts."""
ERROR_CHARACTERS: Final = 200
AHEAD_SECONDS_MAX: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job that is due stands.

    Attributes:
        ahead: how many jobs of its own tenant and use case are shown before it; None while it is
            not shown yet.
        shown: whether the turn looked at it.
    """

    ahead: Counted | None
    shown: bool


def explanation(
    job: Job, scene: Scene, turned: Turned | None = None, place: Place | None = None
) -> Explanation:
    """Explain a job.

    Args:
        job: as it was stored.
        scene: who is there.
        turned: what the next turn does; for a job that is due, of a use case configured here.
        place: where it stands; with `turned`.
    """
    next_turn: NextTurn | None = None
    estimate: Estimate | None = None
    if job.status in TERMINAL:
        findings = [_finished(job)]
    elif job.status is JobStatus.RUNNING:
        findings = [*_running(job, scene)]
    else:
        findings, next_turn = _pending(job, scene, turned, place)
        findings = _in_order(findings)
        estimate = _estimate(job, scene, findings, turned, place, next_turn)
    return Explanation(
        at=scene.now,
        job_id=job.id,
        tenant_id=job.tenant_id,
        use_case=job.use_case,
        type=job.type,
        phase=job.phase.value,
        sentence=findings[0].sentence,
        reasons=tuple(findings),
        next_turn=next_turn,
        estimate=estimate,
    )


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Put first what matters most, each kind once."""
    once = {finding.code: finding for finding in reversed(list(findings))}
    ordered = reversed(list(once.values()))
    return sorted(ordered, key=lambda f: _FIRST.index(f.code) if f.code in _FIRST else len(_FIRST))


# --- what has ended, and what runs ---------------------------------------------------------------


def _finished(job: Job) -> Finding:
    at = job.finished_at or job.updated_at
    attempts = f"{job.attempts} of {job.max_attempts} attempts"
    error = _shortened(job.last_error)
    how = {
        JobStatus.SUCCEEDED: f"It succeeded at {told(at)}, after {attempts}.",
        JobStatus.CANCELLED: f"It was cancelled at {told(at)}.",
        JobStatus.DEAD: f"It is dead since {told(at)}, after {attempts}: {error}",
    }[job.status]
    return Finding(
        code=Why.FINISHED,
        sentence=how,
        data={
            "status": job.status.value,
            "finished_at": at.isoformat(),
            "attempts": job.attempts,
            "max_attempts": job.max_attempts,
            "crashes": job.crashes,
            "last_error": job.last_error,
        },
    )


def _shortened(error: str | None) -> str:
    """Return the first line of an error, for a sentence."""
    line = (error or "nobody said why").partition("\n")[0]
    return line if len(line) <= ERROR_CHARACTERS else f"{line[:ERROR_CHARACTERS]}…"


def _running(job: Job, scene: Scene) -> list[Finding]:
    until = job.lease_expires_at or job.updated_at
    is_over = until <= scene.now
    lease = f"its lease {'ended' if is_over else 'ends'} at {told(until)}"
    findings: list[Finding] = []
    if job.phase is Phase.HANDED_OFF:
        findings += of_schedulers(scene) if is_over else ()
        findings += of_workers(scene, job.queue, job.type)
        findings.append(
            Finding(
                code=Why.HANDED_OFF,
                sentence=f"It was handed off at {told(job.updated_at)} onto the queue"
                f" {job.queue!r}, and no worker has claimed it yet; {lease}.",
                data={
                    "queue": job.queue,
                    "since": job.updated_at.isoformat(),
                    "lease_until": until.isoformat(),
                    "dispatches": job.dispatches,
                },
            )
        )
    else:
        findings += _claimed(job, scene, lease, until)
    if is_over:
        findings.append(
            Finding(
                code=Why.LEASE_OVER,
                sentence=f"Its lease is over since {told(until)}: the next tick of a scheduler"
                " takes it back.",
                data={"lease_until": until.isoformat()},
            )
        )
    return findings


def _claimed(job: Job, scene: Scene, lease: str, until: datetime) -> Iterable[Finding]:
    since = job.started_at or job.updated_at
    worker = next((each for each in scene.workers if each.worker_id == job.worker_id), None)
    where = f"in the worker {job.worker_id}"
    if worker is not None and scene.tenants is None:
        where += f" on {worker.host}"
    data: dict[str, Any] = {
        "worker_id": job.worker_id,
        "since": since.isoformat(),
        "lease_until": until.isoformat(),
        "attempt": job.attempts,
        "cancel_requested": job.cancel_requested,
    }
    if worker is not None and scene.tenants is None:
        data["host"] = worker.host
    if worker is None:
        yield Finding(
            code=Why.WORKER_GONE,
            sentence=f"It was running {where} since {told(since)}, which no longer tells that it is"
            f" alive; {lease}, and then {_after_a_crash(job)}.",
            data=data,
        )
    else:
        yield Finding(
            code=Why.RUNNING,
            sentence=f"It runs {where} since {told(since)}; {lease} unless it is renewed.",
            data=data,
        )
    if job.cancel_requested:
        yield Finding(
            code=Why.CANCEL_REQUESTED,
            sentence="Its worker was asked to stop it.",
            data={"worker_id": job.worker_id},
        )


def _after_a_crash(job: Job) -> str:
    if is_hopeless(job.crashes + 1):
        return f"it is dead, for {job.crashes + 1} workers died with it"
    return "it is cancelled" if job.cancel_requested else "it is tried again"


# --- what waits ----------------------------------------------------------------------------------


def _pending(
    job: Job, scene: Scene, turned: Turned | None, place: Place | None
) -> tuple[list[Finding], NextTurn | None]:
    findings: list[Finding] = [*of_schedulers(scene), *of_workers(scene, job.queue, job.type)]
    config = scene.config.use_case_configs.get(job.use_case)
    if config is None:
        findings.insert(0, unknown_use_case(scene, job.use_case))
    elif config.max_concurrent == 0:
        findings.append(use_case_paused(scene, job.use_case))
    if scene.config.per_tenant_quotas.get(job.tenant_id, UNLIMITED).max_running == 0:
        findings.append(tenant_paused(scene, job.tenant_id))
    pause = None if scene.holds is None else scene.holds.pause_of(job.use_case, job)
    if pause is not None:
        findings.append(paused(scene, pause))
    if job.run_at > scene.now:
        return [_not_due(job), *findings], None
    if turned is None or place is None or config is None:
        return findings, None
    is_overdue = is_late(job.deadline_at, scene.now)
    next_turn, why = turned.verdict(job.id) if place.shown else (NextTurn.WAITS, None)
    if next_turn is NextTurn.WAITS and pause is None:
        findings += _of_turn(job, scene, turned, place, why)
    elif next_turn is NextTurn.STARTS:
        sentence = "The next turn of a scheduler starts it."
        findings.append(Finding(code=Why.STARTS, sentence=sentence))
    elif config.late_policy is LatePolicy.EXPIRE:
        sentence = f"It missed its deadline at {told(job.deadline_at)}, and the next turn ends it"
        data = {"deadline_at": job.deadline_at.isoformat()}
        findings.append(Finding(code=Why.EXPIRES, sentence=f"{sentence} as dead.", data=data))
    findings += [late(job, scene)] if is_overdue else ()
    return [*findings, *of_limits(scene, job.use_case)], next_turn


def _not_due(job: Job) -> Finding:
    first = job.lease_seq == 0
    since = job.created_at if first else job.updated_at
    data: dict[str, Any] = {"since": since.isoformat(), "until": job.run_at.isoformat()}
    # What put it off last is in its history, if that was a failure.
    last = job.errors[-1] if job.errors and job.errors[-1].at == job.updated_at else None
    if first:
        because, cause = "it was enqueued to start then", "scheduled"
    elif job.errors and job.errors[-1].error == NO_HANDLER:
        because, cause = "no worker that received it has a handler for its type", "no_handler"
    elif job.enqueue_failed:
        because, cause = f"its hand-off failed: {_shortened(job.last_error)}", "hand_off_failed"
    elif last is not None and job.crashes and last.error == crash_error(job.crashes):
        because = f"its worker died, {job.crashes} of {CRASHES_MAX} times at most"
        cause = "worker_died"
        data |= {"crashes": job.crashes, "crashes_max": CRASHES_MAX}
    elif last is not None:
        policy = job.backoff_policy
        because = f"attempt {job.attempts} of {job.max_attempts} failed, and the next one waits by"
        because += f" its backoff ({policy.type.value}, {policy.base_delay_seconds:g} s,"
        because += f" {policy.max_delay_seconds:g} s at most) or as its handler said:"
        because += f" {_shortened(last.error)}"
        cause = "backoff"
        data |= {
            "attempt": job.attempts,
            "max_attempts": job.max_attempts,
            "backoff": policy.type.value,
            "last_error": job.last_error,
        }
    else:
        because, cause = "it was put off", "put_off"
    sentence = f"It is not due until {told(job.run_at)}, since {told(since)}: {because}."
    return Finding(code=Why.NOT_DUE, sentence=sentence, data=data | {"cause": cause})


def _of_turn(
    job: Job, scene: Scene, turned: Turned, place: Place, why: Blocked | None
) -> Iterable[Finding]:
    """Say why the next turn leaves a job: what it says first, and then what holds besides."""
    if place.ahead is None and not place.shown:
        yield Finding(
            code=Why.COMING_DUE,
            sentence=f"It came due at {told(job.run_at)}, and the next tick of a scheduler shows"
            " it to turns.",
            data={"run_at": job.run_at.isoformat()},
        )
    elif why is None or why.reason is Reason.BEHIND:
        ahead, at_least = _ahead(place, why)
        yield behind(job.tenant_id, ahead, at_least=at_least)
        yield from _of_its_first(job, scene, turned)
    else:
        yield of_verdict(scene, turned, job, job.use_case, why)
    yield from _besides(job, scene, turned)


def _ahead(place: Place, why: Blocked | None) -> Counted:
    """Return how many jobs of its own tenant go before a job; the turn knows if it looked at it."""
    if why is not None:
        return Counted(why.ahead)
    return place.ahead or Counted(0)


def _of_its_first(job: Job, scene: Scene, turned: Turned) -> Iterable[Finding]:
    """Say why the first job of its tenant waits, which all others wait for."""
    seen = turned.seen.get(job.use_case)
    for candidate in seen.known if seen is not None else ():
        why = turned.round.blocked.get(candidate.id)
        if candidate.tenant_id == job.tenant_id and why and why.reason is not Reason.BEHIND:
            yield of_verdict(scene, turned, candidate, job.use_case, why)
            return


def _besides(job: Job, scene: Scene, turned: Turned) -> Iterable[Finding]:
    limit = scene.config.use_case_configs[job.use_case].max_concurrent
    if limit and turned.running(job.use_case).total() >= limit:
        yield use_case_full(scene, turned, job.use_case)
    most = scene.config.per_tenant_quotas.get(job.tenant_id, UNLIMITED).max_running
    if most and turned.running_of(job.tenant_id) >= most:
        yield tenant_full(scene, turned, job.tenant_id)
    if not turned.view.window(job.queue, job.use_case):
        yield window_full(scene, turned, job.queue)


# --- when it starts ------------------------------------------------------------------------------


def _estimate(
    job: Job,
    scene: Scene,
    findings: Sequence[Finding],
    turned: Turned | None,
    place: Place | None,
    next_turn: NextTurn | None,
) -> Estimate | None:
    """Return position ÷ the rate of starts lately, or that it is unknown."""
    rate = scene.start_rate(job.use_case)
    stops = [finding for finding in findings if finding.code in _STOPS]
    if next_turn is NextTurn.EXPIRES:
        return None
    if stops:
        basis = f"unknown as long as that holds: {stops[0].code.value}"
        return Estimate(starts_per_second=rate, basis=basis)
    if job.run_at > scene.now:
        basis = "not before it is due; what is due by then is not known"
        return Estimate(start_at=job.run_at, starts_per_second=rate, basis=basis)
    if next_turn is NextTurn.STARTS:
        basis = "the next turn starts it"
        return Estimate(start_at=scene.now, position=0, starts_per_second=rate, basis=basis)
    if turned is None or place is None:
        return Estimate(starts_per_second=rate, basis="unknown: nobody looked at its use case")
    why = turned.verdict(job.id)[1] if place.shown else None
    ahead, at_least = _ahead(place, why)
    contest = contest_of(turned, job.use_case, job.tenant_id, job.queue)
    share = standing(contest, job.tenant_id, scene.config.per_tenant_quotas).share
    position = math.ceil((ahead + 1) / share) - 1
    if rate is None:
        basis = "unknown: no job of its use case started lately"
        return Estimate(position=position, at_least=at_least, basis=basis)
    seconds = min((position + 1) / rate, AHEAD_SECONDS_MAX.total_seconds())
    return Estimate(
        start_at=scene.now + timedelta(seconds=seconds),
        position=position,
        at_least=at_least,
        starts_per_second=rate,
        basis=f"{count_of(position + 1, 'start')} at {rate:.3g} a second lately, its tenant's"
        f" share being {float(share):.0%}",
    )
