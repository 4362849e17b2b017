"""OperationsService: the driving port `Operations`, over what stores and registers tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from async_jobs.application.in_force import InForce
from async_jobs.application.operating.foreseeing import foreseen
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.bounds import check_name, check_names, check_uuid
from async_jobs.domain.dispatching import Seen
from async_jobs.domain.enqueue import unknown_name
from async_jobs.domain.errors import InvalidJobError, JobNotFoundError
from async_jobs.domain.explain import Explanation, Status, Waiting
from async_jobs.domain.explaining import Place, explanation
from async_jobs.domain.fairness import CONTESTED_WITHIN, ServiceMemory
from async_jobs.domain.history import RECORDS_TOLD_MAX
from async_jobs.domain.job import Job, JobStatus, UnreadableJob
from async_jobs.domain.limits import Limits, queue_of
from async_jobs.domain.outlook import COUNT_MAX, Counted, together
from async_jobs.domain.pools import Fleet
from async_jobs.domain.presence import fleet_of
from async_jobs.domain.reasons import Scene, Turned
from async_jobs.domain.scheduling import Candidate
from async_jobs.domain.surveying import Census, status, waiting
from async_jobs.domain.timeline import JobHistory, history_of
from async_jobs.domain.troubles import Findings, troubles
from async_jobs.ports.checkpoints import CHECKPOINT, Checkpoints
from async_jobs.ports.clock import Clock
from async_jobs.ports.controls import Controls
from async_jobs.ports.history import History
from async_jobs.ports.overview import Coming, Look, Overview
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.store import JobStore
from async_jobs.ports.workers import Workers

COUNTED_IN_ALL_MAX: Final = 100_000
"""So many jobs a status counts at most; each use case has an equal part of it."""
COMING_MAX: Final = 1_000
FAR: Final = timedelta(days=1_000)
"""No pending job has its deadline later than that."""


class OperationsService:
    """Implements `Operations`; see there for what each call promises.

    Args:
        config: the limits of this process; of schedulers with others, `status` warns.
        store: what is known of each job.
        overview: what a turn would see.
        workers, schedulers: who is there.
        checkpoints: what schedulers remember of who had how much.
        statistics: how much waits.
        controls: what operators ordered; None for nothing.
        history: what became of attempts.
        clock: the store's time.
        transport: what carries this process's hand-offs; empty leaves that out.
        settings: as the schedulers have them.
    """

    def __init__(
        self,
        config: Limits,
        store: JobStore,
        overview: Overview,
        *,
        workers: Workers,
        schedulers: Schedulers,
        checkpoints: Checkpoints,
        statistics: Statistics,
        history: History,
        clock: Clock,
        controls: Controls | None = None,
        transport: str = "",
        settings: SchedulerSettings | None = None,
    ) -> None:
        self._config = InForce(config, controls, clock=clock)
        self._store = store
        self._overview = overview
        self._workers = workers
        self._schedulers = schedulers
        self._checkpoints = checkpoints
        self._statistics = statistics
        self._history = history
        self._clock = clock
        self._transport = transport
        self._settings = settings or SchedulerSettings()

    # --- Operations ---

    async def explain(self, job_id: UUID, *, tenant_id: str | None = None) -> Explanation:
        """See `Operations`."""
        _check_names(tenant_id=tenant_id)
        check_uuid("job_id", job_id)
        await self._sync()
        job = await self._job(job_id, tenant_id)
        scene = await self._scene(None if tenant_id is None else {tenant_id})
        is_waiting = job.status is JobStatus.PENDING and job.run_at <= scene.now
        if not is_waiting or job.use_case not in self._config.use_case_configs:
            return explanation(job, scene)
        memory = await self._memory(scene)
        async with self._overview.looking(self._config.use_case_configs) as look:
            ahead = await look.ahead(job, self._config, scene.now, limit=COUNT_MAX)
            turned = await self._turned(look, scene, memory, job)
        seen = turned.seen.get(job.use_case, Seen())
        shown = any(each.id == job.id for each in seen.known)
        return explanation(job, scene, turned, Place(ahead=ahead, shown=shown))

    async def history(self, job_id: UUID, *, tenant_id: str | None = None) -> JobHistory:
        """See `Operations`."""
        _check_names(tenant_id=tenant_id)
        check_uuid("job_id", job_id)
        await self._clock.sync()
        # The records first: what becomes of the job meanwhile is told by the job.
        records = await self._history.attempts(job_id, limit=RECORDS_TOLD_MAX + 1)
        job = await self._job(job_id, tenant_id)
        cut = len(records) > RECORDS_TOLD_MAX
        told = records[-RECORDS_TOLD_MAX:]
        return history_of(job, told, at=self._clock.now(), cut=cut)

    async def explain_waiting(
        self, *, use_case: str | None = None, tenant_id: str | None = None
    ) -> Waiting:
        """See `Operations`."""
        _check_names(use_case=use_case, tenant_id=tenant_id)
        configs = self._config.use_case_configs
        if use_case is None and tenant_id is None:
            raise InvalidJobError("use_case", "is required, unless tenant_id is given")
        if use_case is not None and use_case not in configs:
            raise unknown_name("use_case", configs)
        await self._sync()
        scene = await self._scene(None if tenant_id is None else {tenant_id})
        memory = await self._memory(scene)
        asked = list(configs) if use_case is None else [use_case]
        async with self._overview.looking(configs) as look:
            turned = await foreseen(
                look,
                scene,
                self._fleet(scene),
                memory,
                use_cases=asked,
                tenant_id=tenant_id,
            )
            pending = await self._pending(look, asked, scene, limit=COUNT_MAX)
        asked_of = {name: each for name, each in pending.items() if use_case in (None, name)}
        return waiting(scene, turned, asked_of, use_case=use_case, tenant_id=tenant_id)

    async def status(self, *, tenants: Collection[str] | None = None) -> Status:
        """See `Operations`."""
        if tenants is not None:
            check_names("tenants", tenants)
        await self._sync()
        scene = await self._scene(tenants)
        configs = self._config.use_case_configs
        stored = await self._statistics.use_cases() if tenants is None else ()
        names = {*configs, *stored}
        limit = min(
            COUNT_MAX, max(100, COUNTED_IN_ALL_MAX // max(1, len(names), len(tenants or ())))
        )
        memory = await self._memory(scene)
        async with self._overview.looking(configs) as look:
            turned = await foreseen(look, scene, self._fleet(scene), memory, use_cases=configs)
            pending = await self._pending(look, names, scene, limit=limit)
            # What nobody knows a type of is put off again and again: it is hardly ever due.
            coming = await look.coming(scene.now, limit=COMING_MAX)
        census = Census(
            counts=turned.counts,
            pending=pending,
            stored=[name for name in stored if name in configs or pending[name].jobs],
            types=_types_of(turned, scene) | _types_among(coming, scene),
        )
        return status(scene, census, troubles(self._findings(scene, census)))

    # --- what is read ---

    async def _sync(self) -> None:
        await self._clock.sync()
        await self._config.refresh(within_seconds=0)

    async def _job(self, job_id: UUID, tenant_id: str | None) -> Job:
        unreadable: list[UnreadableJob] = []
        jobs = await self._store.get([job_id], tenant_id=tenant_id, unreadable=unreadable.append)
        if not jobs:
            why = unreadable[0].problem if unreadable else ""
            raise JobNotFoundError(job_id, unreadable=why)
        return jobs[0]

    async def _scene(self, tenants: Collection[str] | None) -> Scene:
        now = self._clock.now()
        return Scene(
            now=now,
            config=self._config,
            base=self._config.base,
            holds=self._config.holds,
            workers=await self._workers.live(now),
            schedulers=await self._schedulers.known(),
            tenants=None if tenants is None else frozenset(tenants),
        )

    async def _memory(self, scene: Scene) -> ServiceMemory:
        """Return what schedulers told last of who had how much."""
        memory = ServiceMemory(timedelta(seconds=self._settings.interval_seconds))
        live = scene.live_schedulers
        state = await self._checkpoints.load(CHECKPOINT)
        if state is not None:
            # It is saved only while somebody waits.
            since = live[0].ticked_at - CONTESTED_WITHIN if live else None
            memory.restore(state, counted_since=since)
        if live:
            memory.restore_turnovers(live[0].turnovers)
        return memory

    def _fleet(self, scene: Scene) -> Fleet:
        """Return the slots as the scheduler fills them that ticked last."""
        fleet = fleet_of(scene.workers, window_min=self._settings.window_min)
        live = scene.live_schedulers
        seconds = live[0].hand_off_seconds if live else self._settings.hand_off_seconds
        closed = frozenset(live[0].closed) if live else frozenset[str]()
        return replace(fleet, hand_off_seconds=seconds, closed=closed)

    async def _turned(self, look: Look, scene: Scene, memory: ServiceMemory, job: Job) -> Turned:
        return await foreseen(
            look,
            scene,
            self._fleet(scene),
            memory,
            use_cases=[job.use_case],
            tenant_id=job.tenant_id,
        )

    async def _pending(
        self, look: Look, use_cases: Collection[str], scene: Scene, *, limit: int
    ) -> Mapping[str, Counted]:
        if scene.tenants is None:
            return await self._statistics.due_by(use_cases, scene.now + FAR, limit=limit)
        of_tenants = await look.pending_of(sorted(scene.tenants), limit=limit)
        names = {name for counts in of_tenants.values() for name in counts}
        return {
            name: together(counts[name] for counts in of_tenants.values() if name in counts)
            for name in names
        }

    def _findings(self, scene: Scene, census: Census) -> Findings:
        configs = self._config.use_case_configs
        own = [c for c in census.counts if scene.tenants is None or c.tenant_id in scene.tenants]
        used = {c.queue for c in own if c.unclaimed} | {queue for queue, _ in census.types}
        used |= {
            queue_of(name, configs[name])
            for name, counted in census.pending.items()
            if counted.jobs and name in configs
        }
        return Findings(
            # What controls pause is no trouble, and schedulers announce what their settings say.
            config=self._config.base,
            workers=scene.workers,
            transport=self._transport,
            stored=census.stored,
            used=used,
            schedulers=scene.live_schedulers,
            types=census.types,
        )


def _types_of(turned: Turned, scene: Scene) -> set[tuple[str, str]]:
    """Return the queues and types of the jobs that were looked at."""
    return {
        (candidate.queue, candidate.type)
        for seen in turned.seen.values()
        for candidate in seen.known
        if _is_told(candidate, scene)
    }


def _types_among(coming: Collection[Coming], scene: Scene) -> set[tuple[str, str]]:
    return {(each.queue, each.type) for each in coming if _is_told(each, scene)}


def _is_told(job: Candidate | Coming, scene: Scene) -> bool:
    return scene.tenants is None or job.tenant_id in scene.tenants


def _check_names(**names: str | None) -> None:
    for field, name in names.items():
        if name is not None:
            check_name(field, name)
