"""From what was read to an answer about many jobs: why they wait, and what there is to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from async_jobs.domain import facts
from async_jobs.domain.dispatching import RunningCount
from async_jobs.domain.explain import (
    Finding,
    NextTurn,
    QueueStatus,
    StandingControl,
    Status,
    UseCaseStatus,
    Waiting,
    WaitingReason,
    Warned,
    Why,
)
from async_jobs.domain.limits import queue_of
from async_jobs.domain.outlook import Counted, together
from async_jobs.domain.reasons import (
    Scene,
    Turned,
    of_limits,
    of_schedulers,
    of_verdict,
    of_workers,
    pause_told,
    unknown_use_case,
)
from async_jobs.domain.scheduling import Candidate

_CHANGE: Final[Mapping[Why, str]] = {
    Why.STARTS: "nothing: the next turn starts them",
    Why.EXPIRES: "nothing can: the next turn ends them as dead",
    Why.BEHIND: "the jobs of the same tenants before them have to start",
    Why.FAIR_SHARE: "other tenants have had less; more slots or capacity serve all of them sooner",
    Why.USE_CASE_FULL: "jobs of the use case have to end, or its max_concurrent has to be raised",
    Why.TENANT_FULL: "jobs of the tenant have to end, or its max_running has to be raised",
    Why.WINDOW_FULL: "slots have to become free, or more workers have to come",
    Why.USE_CASE_PAUSED: "the use case's max_concurrent has to be above 0",
    Why.TENANT_PAUSED: "the tenant's max_running has to be above 0",
    Why.PAUSED: "the pause has to be ended",
    Why.UNKNOWN_USE_CASE: "the use case has to be in ASYNC_JOBS_USE_CASES of all processes",
    Why.NO_SCHEDULER: "a scheduler has to run",
    Why.NO_WORKER: "a worker of the queue has to run",
    Why.NO_HANDLER: "a worker that has the handler has to run",
    Why.TRANSPORTS_DIFFER: "schedulers and workers have to use the same transport",
    Why.LIMITS_DIFFER: "all processes have to have the same ASYNC_JOBS_ settings",
    Why.TRANSPORT_REFUSED: "the transport has to accept hand-offs again",
}
_CONTROLLED: Final = "the control has to be ended: `async-jobs controls` lists it"
PAUSES_TOLD_MAX: Final = 3
_TELL_LITTLE: Final = frozenset({Why.BEHIND, Why.STARTS, Why.LIMITS_DIFFER})
"""What is not the first to be told, if there is anything else."""


def waiting(
    scene: Scene,
    turned: Turned,
    pending: Mapping[str, Counted],
    *,
    use_case: str | None,
    tenant_id: str | None,
) -> Waiting:
    """Say why the jobs of a use case or a tenant wait.

    Args:
        scene: who is there.
        turned: what the next turn does.
        pending: how many wait, by use case.
        use_case, tenant_id: whose jobs; at least one of them.
    """
    jobs = [
        (name, candidate)
        for name, seen in turned.seen.items()
        if use_case in (None, name)
        for candidate in seen.known
        if tenant_id in (None, candidate.tenant_id)
    ]
    looked = [seen for name, seen in turned.seen.items() if use_case in (None, name)]
    whole = all(seen.whole for seen in looked)
    counted = together(pending.values())
    is_known = pending.keys() <= scene.config.use_case_configs.keys()
    reasons = sorted(
        [*_reasons(scene, turned, jobs), *_of_no_use_case(scene, pending)],
        key=lambda each: (-each.jobs, each.code),
    )
    return Waiting(
        at=scene.now,
        use_case=use_case,
        tenant_id=tenant_id,
        pending=counted.jobs,
        at_least=counted.at_least,
        looked_at=len(jobs),
        whole=whole,
        sentence=_in_words(
            scene,
            counted,
            len(jobs) if whole and is_known else None,
            reasons,
            _paused(scene, use_case, tenant_id, bool(reasons)),
        ),
        reasons=tuple(reasons),
    )


def _paused(scene: Scene, use_case: str | None, tenant_id: str | None, has_reasons: bool) -> str:
    """Return what is paused, in sentences that go after others.

    Schedulers hide from turns what a pause covers; of what limits of zero keep back, reasons tell.
    """
    if scene.holds is None:
        return ""
    pauses = scene.holds.pauses if has_reasons else scene.holds.standing_pauses
    told = [each for each in pauses if each.scope.may_cover(use_case, tenant_id)]
    return "".join(f" {pause_told(scene, each).sentence}" for each in told[:PAUSES_TOLD_MAX])


def _in_words(
    scene: Scene,
    pending: Counted,
    due: int | None,
    reasons: Sequence[WaitingReason],
    paused: str,
) -> str:
    """Return what matters most; `due` is how many are, if that is known."""
    if not pending.jobs:
        return "No job waits."
    begun = _pending_in_words(pending)
    if not reasons:
        for finding in of_schedulers(scene):
            # What has come due since nobody ticks, no turn would be shown.
            return f"{begun}. {finding.sentence}"
        if paused:
            none = "none of them can" if pending.jobs > 1 else "it cannot"
            return f"{begun}; {none} start now.{paused}"
        none = "none of them is" if pending.jobs > 1 else "it is not"
        return (
            f"{begun}; {none} due. `async-jobs jobs explain` tells of one what put it off, and"
            " `async-jobs status` who is missing."
        )
    if due is not None and due >= pending.jobs:
        paused = ""  # they are looked at, and have reasons
    elif due is not None and not paused:
        begun += f", {due:,} of them due" if pending.jobs > 1 else ""
    # What the first job of a tenant waits for, those behind it wait for as well.
    telling = (each for each in reasons if each.code not in _TELL_LITTLE)
    return f"{begun}. {next(telling, reasons[0]).sentence}{paused}"


def _of_no_use_case(scene: Scene, pending: Mapping[str, Counted]) -> Iterator[WaitingReason]:
    """Say of jobs at which no turn looks that this is so."""
    counts = {
        name: counted.jobs
        for name, counted in sorted(pending.items())
        if counted.jobs and name not in scene.config.use_case_configs
    }
    if counts:
        finding = unknown_use_case(scene, max(counts, key=lambda name: counts[name]))
        yield WaitingReason(
            code=finding.code,
            jobs=sum(counts.values()),
            sentence=finding.sentence,
            change=_CHANGE[finding.code],
            data=finding.data,
        )


def _pending_in_words(pending: Counted) -> str:
    more = "+" if pending.at_least else ""
    verb = "job waits" if pending == (1, False) else "jobs wait"
    return f"{pending.jobs:,}{more} {verb}"


def _reasons(
    scene: Scene, turned: Turned, jobs: Iterable[tuple[str, Candidate]]
) -> Iterator[WaitingReason]:
    counts: Counter[Why] = Counter()
    findings: dict[Why, Finding] = {}
    structural: dict[tuple[str, str, str], list[Finding]] = {}
    for use_case, candidate in jobs:
        kind = use_case, candidate.queue, candidate.type
        if kind not in structural:
            structural[kind] = [
                *of_schedulers(scene),
                *of_workers(scene, candidate.queue, candidate.type),
                *of_limits(scene, use_case),
            ]
        for finding in (*structural[kind], _of_turn(scene, turned, use_case, candidate)):
            counts[finding.code] += 1
            findings.setdefault(finding.code, finding)
    for code, count in counts.items():
        finding = findings[code]
        yield WaitingReason(
            code=code,
            jobs=count,
            sentence=finding.sentence,
            change=_CONTROLLED if _is_ordered(finding) else _CHANGE[code],
            data=finding.data,
        )


def _is_ordered(finding: Finding) -> bool:
    """Tell whether it is so by order of an operator, whatever the environment says."""
    return "control_id" in finding.data


def _of_turn(scene: Scene, turned: Turned, use_case: str, candidate: Candidate) -> Finding:
    next_turn, why = turned.verdict(candidate.id)
    if next_turn is NextTurn.STARTS:
        return Finding(code=Why.STARTS, sentence="The next turn starts them.")
    if next_turn is NextTurn.EXPIRES or why is None:
        return Finding(code=Why.EXPIRES, sentence="They are late, and the next turn ends them.")
    finding = of_verdict(scene, turned, candidate, use_case, why)
    if finding.code is Why.BEHIND:
        # Of many, the number of one of them says nothing.
        return Finding(code=Why.BEHIND, sentence="Jobs of their own tenants go before them.")
    return finding


# --- who is there --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What was counted.

    Attributes:
        counts: what runs.
        pending: what waits, by use case.
        stored: the use cases that jobs are stored of.
        types: the queues and types of some that wait.
    """

    counts: Collection[RunningCount]
    pending: Mapping[str, Counted]
    stored: Collection[str] = ()
    types: Collection[tuple[str, str]] = ()


def status(scene: Scene, census: Census, troubles: Iterable[facts.Fact]) -> Status:
    """Return who is there, what there is to do, and what to warn of."""
    tenants = scene.tenants
    counts = [c for c in census.counts if tenants is None or c.tenant_id in tenants]
    configs = scene.config.use_case_configs
    names = configs.keys() | {c.use_case for c in counts}
    names |= {name for name, counted in census.pending.items() if counted.jobs}
    queues = {queue_of(name, each) for name, each in configs.items()}
    queues |= {c.queue for c in counts}
    if tenants is None:
        queues |= {queue for worker in scene.workers for queue in worker.queues}
    return Status(
        at=scene.now,
        use_cases=tuple(_use_case(scene, census, counts, name) for name in sorted(names)),
        queues=tuple(_queue(scene, counts, queue) for queue in sorted(queues)),
        workers=tuple(scene.workers) if tenants is None else (),
        schedulers=tuple(scene.live_schedulers) if tenants is None else (),
        warnings=tuple(_warnings(scene, census, troubles)),
        controls=tuple(_standing(scene)),
    )


def _use_case(
    scene: Scene, census: Census, counts: Iterable[RunningCount], name: str
) -> UseCaseStatus:
    config = scene.config.use_case_configs.get(name)
    own = [c for c in counts if c.use_case == name]
    pending = census.pending.get(name, Counted(0))
    return UseCaseStatus(
        use_case=name,
        queue=None if config is None else queue_of(name, config),
        limit=None if config is None else config.max_concurrent,
        running=sum(c.claimed + c.unclaimed for c in own),
        unclaimed=sum(c.unclaimed for c in own),
        pending=pending.jobs,
        at_least=pending.at_least,
        starts_per_second=scene.start_rate(name) if scene.tenants is None else None,
        limit_from=_limit_from(scene, name),
    )


def _limit_from(scene: Scene, use_case: str) -> UUID | None:
    key = "use_case", use_case, "max_concurrent"
    control = None if scene.holds is None else scene.holds.by_control.get(key)
    return None if control is None else control.id


def _standing(scene: Scene) -> Iterator[StandingControl]:
    """Yield what may concern jobs of whoever asks."""
    for control in () if scene.holds is None else scene.holds.standing:
        if scene.concerns(control):
            # Who works here, and what they write to each other, is not for tenants.
            named = scene.tenants is None or control.scope.tenant_id is not None
            yield StandingControl(
                id=control.id,
                scope=control.scope.names,
                limits=control.limits,
                since=control.since,
                until=control.until,
                version=control.version,
                actor=control.actor if named else None,
                reason=control.reason if named else None,
            )


def _queue(scene: Scene, counts: Iterable[RunningCount], queue: str) -> QueueStatus:
    receiving = [worker for worker in scene.workers if queue in worker.queues]
    own = [c for c in counts if c.queue == queue]
    return QueueStatus(
        queue=queue,
        workers=len(receiving),
        slots=sum(worker.slots for worker in receiving),
        busy=(
            sum(worker.busy for worker in receiving)
            if scene.tenants is None
            else sum(c.claimed for c in own)
        ),
        unclaimed=sum(c.unclaimed for c in own),
    )


def _warnings(scene: Scene, census: Census, troubles: Iterable[facts.Fact]) -> Iterator[Warned]:
    waits = any(counted.jobs for counted in census.pending.values())
    for finding in of_schedulers(scene):
        if waits or scene.schedulers:
            yield Warned(code=finding.code.value, sentence=finding.sentence, data=finding.data)
    yield from _of_pauses(scene, census)
    seen: set[tuple[str, str]] = set()
    for trouble in troubles:
        warned = _warned(trouble)
        # Who works for others too is not named.
        is_told = scene.tenants is None or not isinstance(
            trouble, facts.UseCaseUnknown | facts.LimitsDiffer | facts.QueueUnfed
        )
        if warned is not None and is_told and (warned.code, warned.sentence) not in seen:
            seen.add((warned.code, warned.sentence))
            yield warned


def _of_pauses(scene: Scene, census: Census) -> Iterator[Warned]:
    """Say what operators pause of the use cases that have jobs waiting."""
    waiting_ = [name for name, counted in census.pending.items() if counted.jobs]
    for pause in () if scene.holds is None else scene.holds.standing_pauses:
        is_told = scene.concerns(pause)
        if is_told and any(pause.scope.may_cover(name, None) for name in waiting_):
            finding = pause_told(scene, pause)
            yield Warned(code=finding.code.value, sentence=finding.sentence, data=finding.data)


def _warned(trouble: facts.Fact) -> Warned | None:
    """Say what a trouble is, and what to do about it."""
    match trouble:
        case facts.QueueUnattended(queue=queue):
            sentence = f"Jobs wait in the queue {queue!r}, which no live worker receives: start"
            sentence += f" `async-jobs worker --queue {queue}`."
            return Warned(code="queue_unattended", sentence=sentence, data={"queue": queue})
        case facts.QueueUnfed(queue=queue):
            sentence = f"Live workers receive the queue {queue!r}, which no use case configured"
            sentence += " here feeds: check --queue and ASYNC_JOBS_USE_CASES for a misspelt name."
            return Warned(code="queue_unfed", sentence=sentence, data={"queue": queue})
        case facts.TypeUnattended(queue=queue, type=type_):
            sentence = f"Jobs of the type {type_!r} wait, and no live worker of the queue {queue!r}"
            sentence += " has a handler for it: deploy one that has."
            data = {"queue": queue, "type": type_}
            return Warned(code="type_unattended", sentence=sentence, data=data)
        case facts.TransportsDiffer(queue=queue, scheduler=sent_by, worker=received_by):
            sentence = f"Hand-offs for the queue {queue!r} are sent by {sent_by}, and live workers"
            sentence += f" receive it by {received_by}: set ASYNC_JOBS_QUEUE_BACKEND to the same"
            data = {"queue": queue, "scheduler": sent_by, "worker": received_by}
            return Warned(code="transports_differ", sentence=f"{sentence} everywhere.", data=data)
        case facts.UseCaseUnknown(use_case=name):
            sentence = f"Jobs are stored of the use case {name!r}, which is not configured here:"
            sentence += " add it to ASYNC_JOBS_USE_CASES, or they wait for ever."
            return Warned(code="use_case_unknown", sentence=sentence, data={"use_case": name})
        case facts.UseCasePaused(use_case=name):
            sentence = f"The use case {name!r} is paused: raise its max_concurrent above 0."
            return Warned(code="use_case_paused", sentence=sentence, data={"use_case": name})
        case facts.LimitsDiffer(scheduler_id=name, host=host, use_cases=names):
            what = f" of {', '.join(map(repr, names))}" if names else ""
            sentence = f"The scheduler {name} on {host} keeps other limits{what} than this process:"
            sentence += " give all processes the same ASYNC_JOBS_ settings."
            data_ = {"scheduler_id": name, "host": host, "use_cases": list(names)}
            return Warned(code="limits_differ", sentence=sentence, data=data_)
    return None
