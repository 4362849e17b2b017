"""The reasons for which a job waits, each as a sentence with its data. Pure over what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from async_jobs.domain.controls import Control, Effective
from async_jobs.domain.dispatching import Round, RunningCount, Seen, TurnView
from async_jobs.domain.explain import Finding, NextTurn, Why
from async_jobs.domain.fairness import Contest, ServiceMemory, standing
from async_jobs.domain.job import Job
from async_jobs.domain.limits import UNLIMITED, Limits
from async_jobs.domain.pools import Fleet
from async_jobs.domain.presence import SchedulerInfo, WorkerInfo
from async_jobs.domain.scheduling import Blocked, Candidate, Reason
from async_jobs.domain.troubles import differing, is_unknown

TOP_TENANTS: Final = 5
WORKERS_NAMED: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Who is there, and who asks.

    Attributes:
        workers: the live ones.
        schedulers: all that are known, who ticked last first.
        base: the limits of the environment, where controls change some in `config`.
        holds: from which controls the limits of `config` are, and what else is paused.
        tenants: those whose names may be told; None for all, and for those of processes too.
    """

    now: datetime
    config: Limits
    workers: Sequence[WorkerInfo]
    schedulers: Sequence[SchedulerInfo]
    tenants: frozenset[str] | None = None
    base: Limits | None = None
    holds: Effective | None = None

    @property
    def live_schedulers(self) -> list[SchedulerInfo]:
        """Those that count as alive."""
        return [each for each in self.schedulers if each.is_alive(self.now)]

    def start_rate(self, use_case: str) -> float | None:
        """Return how many jobs of a use case started in a second lately; None if none did."""
        rates = [each.start_rates.get(use_case, 0.0) for each in self.live_schedulers]
        return sum(rates) or None

    def concerns(self, control: Control) -> bool:
        """Tell whether a control may apply to jobs of whoever asks."""
        return self.tenants is None or control.scope.tenant_id in (None, *self.tenants)

    def named(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the greatest counts by tenant, of those that may be named."""
        told = {
            t: n for t, n in counts.items() if n and (self.tenants is None or t in self.tenants)
        }
        top = sorted(told.items(), key=lambda each: (-each[1], each[0]))[:TOP_TENANTS]
        return dict(top)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """What a turn would make of what was read.

    Attributes:
        memory: what tenants have had, as the turn leaves it.
        seen: what it looked at.
    """

    counts: Sequence[RunningCount]
    fleet: Fleet
    memory: ServiceMemory
    view: TurnView
    seen: Mapping[str, Seen]
    round: Round

    def running(self, use_case: str) -> Counter[str]:
        """Return the running jobs of a use case, by tenant."""
        of_tenants: Counter[str] = Counter()
        for each in self.counts:
            if each.use_case == use_case:
                of_tenants[each.tenant_id] += each.claimed + each.unclaimed
        return of_tenants

    def running_of(self, tenant: str) -> int:
        """Return how many jobs of a tenant run, over all use cases."""
        return sum(c.claimed + c.unclaimed for c in self.counts if c.tenant_id == tenant)

    def unclaimed(self, queue: str) -> int:
        """Return how many hand-offs for a queue nobody has claimed."""
        return sum(each.unclaimed for each in self.counts if each.queue == queue)

    def verdict(self, job_id: UUID) -> tuple[NextTurn, Blocked | None]:
        """Return what the turn does with a job that it looked at, and why it leaves it."""
        if any(candidate.id == job_id for _, candidate in self.round.chosen):
            return NextTurn.STARTS, None
        if any(candidate.id == job_id for candidate in self.round.expired):
            return NextTurn.EXPIRES, None
        return NextTurn.WAITS, self.round.blocked.get(job_id)


def told(at: datetime) -> str:
    """Return an instant in words."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


# --- who is there --------------------------------------------------------------------------------


def of_schedulers(scene: Scene) -> Iterator[Finding]:
    """Say that nobody ticks, if that is so."""
    if scene.live_schedulers:
        return
    if not scene.schedulers:
        sentence = "No scheduler has ever ticked here: start `async-jobs scheduler`."
        yield Finding(code=Why.NO_SCHEDULER, sentence=sentence, data={"ticked_at": None})
        return
    at = scene.schedulers[0].ticked_at
    silent = max(0, round((scene.now - at).total_seconds()))
    yield Finding(
        code=Why.NO_SCHEDULER,
        sentence=f"No scheduler has ticked for {silent} s, since {told(at)}:"
        " start `async-jobs scheduler`.",
        data={"ticked_at": _iso(at), "silent_seconds": silent},
    )


def of_workers(scene: Scene, queue: str, type_: str) -> Iterator[Finding]:
    """Say why no live worker would run jobs of a type on a queue."""
    receiving = [worker for worker in scene.workers if queue in worker.queues]
    if any(queue in each.closed for each in scene.live_schedulers):
        yield Finding(
            code=Why.TRANSPORT_REFUSED,
            sentence=f"The transport of the queue {queue!r} accepted nothing lately, so that it is"
            " left alone for a while: see what the schedulers log.",
            data={"queue": queue},
        )
    if not receiving:
        yield Finding(
            code=Why.NO_WORKER,
            sentence=f"No live worker receives the queue {queue!r}: start"
            f" `async-jobs worker --queue {queue}`.",
            data={"queue": queue, "workers": 0},
        )
        return
    if is_unknown(type_, queue, receiving):
        yield Finding(
            code=Why.NO_HANDLER,
            sentence=f"No live worker of the queue {queue!r} ({len(receiving)} there) has a"
            f" handler for the type {type_!r}: deploy one that has.",
            data={"queue": queue, "type": type_, "workers": len(receiving)},
        )
    sent_by = {each.transport for each in scene.live_schedulers if each.transport}
    received_by = {worker.transport for worker in receiving if worker.transport}
    if sent_by and received_by and not sent_by & received_by:
        yield Finding(
            code=Why.TRANSPORTS_DIFFER,
            sentence=f"Schedulers hand off by {_listed(sent_by)}, and the workers of the queue"
            f" {queue!r} receive by {_listed(received_by)}: set ASYNC_JOBS_QUEUE_BACKEND to the"
            " same everywhere.",
            data={"schedulers": sorted(sent_by), "workers": sorted(received_by)},
        )


def of_limits(scene: Scene, use_case: str) -> Iterator[Finding]:
    """Say that a turn may decide otherwise, by limits that are not those of this process."""
    for scheduler in scene.live_schedulers:
        names = differing(scene.base or scene.config, scheduler)
        if names is None or (names and use_case not in names):
            continue
        data: dict[str, Any] = {"use_case": use_case}
        who = "A scheduler"
        if scene.tenants is None:
            who = f"The scheduler {scheduler.scheduler_id} on {scheduler.host}"
            data |= {"scheduler_id": scheduler.scheduler_id, "host": scheduler.host}
        yield Finding(
            code=Why.LIMITS_DIFFER,
            sentence=f"{who} keeps other limits than this process, which may tell wrongly what a"
            " turn does: give all processes the same ASYNC_JOBS_ settings.",
            data=data,
        )
        return


def unknown_use_case(scene: Scene, use_case: str) -> Finding:
    """Say that nobody schedules a use case, as far as this process knows."""
    means = "is not configured, so that no scheduler looks at it: add it to ASYNC_JOBS_USE_CASES"
    if any(use_case in scheduler.limits for scheduler in scene.live_schedulers):
        means = "is not configured in this process, and in a scheduler it is: give all processes"
        means += " the same ASYNC_JOBS_USE_CASES"
    return Finding(
        code=Why.UNKNOWN_USE_CASE,
        sentence=f"The use case {use_case!r} {means}.",
        data={"use_case": use_case, "known": sorted(scene.config.use_case_configs)},
    )


# --- what the turn says --------------------------------------------------------------------------


def of_verdict(
    scene: Scene, turned: Turned, job: Job | Candidate, use_case: str, why: Blocked
) -> Finding:
    """Say why the next turn leaves a job."""
    tenant, queue = job.tenant_id, job.queue
    match why.reason:
        case Reason.BEHIND:
            return behind(tenant, why.ahead)
        case Reason.FAIR_SHARE:
            return fair_share(scene, turned, use_case, tenant, queue)
        case Reason.TENANT_FULL:
            return tenant_full(scene, turned, tenant)
        case Reason.PAUSED:
            if scene.config.use_case_configs[use_case].max_concurrent == 0:
                return use_case_paused(scene, use_case)
            if scene.holds and (pause := scene.holds.pause_of(use_case, job)):
                return paused(scene, pause)
            return tenant_paused(scene, tenant)
        case Reason.USE_CASE_FULL:
            return use_case_full(scene, turned, use_case)
        case _:
            return window_full(scene, turned, queue)


def behind(tenant: str, ahead: int, *, at_least: bool = False) -> Finding:
    """Say how many jobs of the same tenant go first."""
    jobs = f"at least {ahead} jobs" if at_least else count_of(ahead, "job")
    verb = "go" if at_least else _verb(ahead, "go", "goes")
    return Finding(
        code=Why.BEHIND,
        sentence=f"{jobs.capitalize()} of its own tenant {verb} before it.",
        data={"tenant_id": tenant, "ahead": ahead, "at_least": at_least},
    )


def use_case_paused(scene: Scene, use_case: str) -> Finding:
    """Say that the use case may run nothing, and by whom."""
    order, data = _ordered(scene, "use_case", use_case, "max_concurrent")
    return Finding(
        code=Why.USE_CASE_PAUSED,
        sentence=f"The use case {use_case!r} is paused{order or ': its max_concurrent is 0.'}",
        data={"use_case": use_case, "limit": 0, **data},
    )


def tenant_paused(scene: Scene, tenant: str) -> Finding:
    """Say that the tenant may run nothing, and by whom."""
    order, data = _ordered(scene, "tenant_id", tenant, "max_running")
    return Finding(
        code=Why.TENANT_PAUSED,
        sentence=f"The tenant {tenant!r} is paused{order or ': its max_running is 0.'}",
        data={"tenant_id": tenant, "limit": 0, **data},
    )


def paused(scene: Scene, pause: Control) -> Finding:
    """Say that a pause covers the job, and by whom."""
    order, data = _told_of(scene, pause)
    return Finding(
        code=Why.PAUSED,
        sentence=f"It is paused, like all of {pause.scope}{order}",
        data={"scope": pause.scope.names, **data},
    )


def pause_told(scene: Scene, pause: Control) -> Finding:
    """Say what a pause covers, and by whom, of no job in particular."""
    order, data = _told_of(scene, pause)
    return Finding(
        code=Why.PAUSED,
        sentence=f"All of {pause.scope} is paused{order}",
        data={"scope": pause.scope.names, **data},
    )


def _ordered(scene: Scene, kind: str, name: str, limit: str) -> tuple[str, dict[str, Any]]:
    """Return whose order a limit is, for a sentence and as data; nothing for the environment's."""
    holds = scene.holds
    control = None if holds is None else holds.by_control.get((kind, name, limit))
    return ("", {}) if control is None else _told_of(scene, control)


def _told_of(scene: Scene, control: Control) -> tuple[str, dict[str, Any]]:
    until = "until it is resumed" if control.until is None else f"until {told(control.until)}"
    data: dict[str, Any] = {
        "control_id": str(control.id),
        "since": _iso(control.since),
        "until": _iso(control.until),
    }
    who = ""
    if scene.tenants is None or control.scope.tenant_id in scene.tenants:
        # Who works here, and what they write to each other, is not for tenants.
        who = f" by {control.actor!r} ({control.reason})"
        data |= {"actor": control.actor, "reason": control.reason}
    return f"{who} since {told(control.since)}, {until}.", data


def use_case_full(scene: Scene, turned: Turned, use_case: str) -> Finding:
    """Say how much of a use case runs, and whose."""
    limit = scene.config.use_case_configs[use_case].max_concurrent
    running = turned.running(use_case)
    tenants = scene.named(running)
    whose = ", ".join(f"{n} of {tenant!r}" for tenant, n in tenants.items())
    free = limit - running.total()
    state = "is full" if free <= 0 else f"has room for {free} more, and others go first"
    return Finding(
        code=Why.USE_CASE_FULL,
        sentence=f"The use case {use_case!r} {state}: {running.total()} of {limit} jobs run"
        + (f", {whose}." if whose else "."),
        data={
            "use_case": use_case,
            "limit": limit,
            "running": running.total(),
            "top_tenants": tenants,
        },
    )


def tenant_full(scene: Scene, turned: Turned, tenant: str) -> Finding:
    """Say how much of a tenant runs."""
    limit = scene.config.per_tenant_quotas.get(tenant, UNLIMITED).max_running
    running = turned.running_of(tenant)
    free = (limit or 0) - running
    state = "is full" if free <= 0 else f"may run {free} more, and others of its jobs go first"
    return Finding(
        code=Why.TENANT_FULL,
        sentence=f"The tenant {tenant!r} {state}: {running} of {limit} jobs run (max_running).",
        data={"tenant_id": tenant, "limit": limit, "running": running},
    )


def window_full(scene: Scene, turned: Turned, queue: str) -> Finding:
    """Say what the slots for a queue are taken by."""
    receiving = [worker for worker in scene.workers if queue in worker.queues]
    slots, busy = sum(w.slots for w in receiving), sum(w.busy for w in receiving)
    unclaimed = turned.unclaimed(queue)
    data: dict[str, Any] = {
        "queue": queue,
        "workers": len(receiving),
        "slots": slots,
        "busy": busy,
        "unclaimed": unclaimed,
    }
    if scene.tenants is None:
        data["worker_ids"] = [worker.worker_id for worker in receiving[:WORKERS_NAMED]]
    else:
        del data["busy"], data["unclaimed"]
    if not receiving:
        begun = f"{count_of(unclaimed, 'hand-off')} for the queue {queue!r} "
        begun += f"{_verb(unclaimed, 'wait')} for a worker"
        sentence = f"{begun}, and no more are sent until one comes."
    else:
        workers = count_of(len(receiving), "live worker")
        sentence = (
            f"No slot is free for the queue {queue!r}: {workers} with {count_of(slots, 'slot')}"
        )
        sentence += f" {_verb(len(receiving), 'receive')} it"
        if scene.tenants is None:
            sentence += f", {busy} busy, and {count_of(unclaimed, 'hand-off')} not claimed yet"
        sentence += "."
    return Finding(code=Why.WINDOW_FULL, sentence=sentence, data=data)


def contest_of(turned: Turned, use_case: str, tenant: str, queue: str) -> Contest:
    """Return the contest that a tenant waits in: for the capacity, or else for the slots."""
    contest = turned.memory.use_case(use_case)
    if tenant in contest.waiting:
        return contest
    return turned.memory.pool(turned.fleet.pool_of(queue).queues)


def fair_share(scene: Scene, turned: Turned, use_case: str, tenant: str, queue: str) -> Finding:
    """Say how the tenant stands beside others that wait for the same."""
    contest = contest_of(turned, use_case, tenant, queue)
    stands = standing(contest, tenant, scene.config.per_tenant_quotas)
    own = contest.time_of(tenant)
    before = sum(contest.time_of(each) < own for each in contest.waiting if each != tenant)
    running = turned.running_of(tenant)
    share, others = float(stands.share), contest.waiting | {tenant}
    return Finding(
        code=Why.FAIR_SHARE,
        sentence=f"It is the turn of other tenants: its own is due {share:.0%} while"
        f" {count_of(len(others), 'tenant')} wait, runs {count_of(running, 'job')},"
        f" and has had {stands.service_seconds:.0f} slot-seconds more than who had the least;"
        f" {before} had less.",
        data={
            "share": share,
            "running": running,
            "service_seconds": stands.service_seconds,
            "tenants_before": before,
            "tenants_waiting": len(others),
        },
    )


def late(job: Job, scene: Scene) -> Finding:
    """Say that a job missed its deadline, and what that means in its use case."""
    policy = scene.config.use_case_configs[job.use_case].late_policy
    by = (scene.now - job.deadline_at).total_seconds()
    means = {
        "run": "it goes before what can still be on time",
        "sideline": "it goes behind what presses, and before what can wait",
        "expire": "the next turn ends it as dead",
    }[policy.value]
    return Finding(
        code=Why.LATE,
        sentence=f"It is late by {by:.0f} s, and {means} (late_policy {policy.value}).",
        data={
            "deadline_at": _iso(job.deadline_at),
            "late_by_seconds": by,
            "late_policy": policy.value,
        },
    )


def count_of(n: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _verb(n: int, verb: str, third: str = "") -> str:
    return (third or f"{verb}s") if n == 1 else verb


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
