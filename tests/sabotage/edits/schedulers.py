"""Bugs in the scheduler and the dispatch, and in the service."""

from __future__ import annotations

from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.in_force import InForce
from async_jobs.application.operating.steering import SteeringService
from async_jobs.application.own_loops import OwnLoops
from async_jobs.application.scheduling.chores.pausing import Pausing
from async_jobs.application.scheduling.chores.purging import Purging
from async_jobs.application.scheduling.chores.reaping import Reaping
from async_jobs.application.scheduling.dispatcher import Dispatcher
from async_jobs.application.scheduling.handing_off import Sender
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.domain import slots, surveying
from async_jobs.domain.controls import effective
from async_jobs.domain.dispatching import TurnView
from async_jobs.domain.running import Running
from async_jobs.domain.slots import Slots, share_slots
from tests.sabotage.edits.patches import Edit, bug

CONTROLS = (
    bug(
        "controls_read_once",
        "A scheduler that has read the controls does not see that they changed.",
        Edit(InForce.knows, "version == self._version", "self._version is not None"),
        breaks="CT-4",
    ),
    bug(
        "controls_without_end",
        "A control goes on after its end.",
        Edit(effective, "if control.stands(now)", "if control.scope"),
        breaks="CT-1",
    ),
    bug(
        "pauses_left_to_limits",
        "A turn leases what a pause covers that no limit expresses.",
        Edit(TurnView._without_paused, "if not self._pauses:", "if True:"),
        breaks="S21",
    ),
    bug(
        "held_for_good",
        "What a pause has hidden is not looked for when the pause has ended.",
        Edit(Pausing.is_due, "if stands != self._walked_by:", "if stands == ():"),
        breaks="UP-4",
    ),
    bug(
        "quota_as_it_was_at_the_start",
        "An enqueue does not ask whether the limits have changed.",
        Edit(JobService._time, "await self._config.refresh(patience=patience)", "pass"),
        breaks="JS-3",
    ),
    bug(
        "limits_of_nobody",
        "A status says of every limit that it is the environment's.",
        Edit(surveying._limit_from, "None if control is None else control.id", "None"),
        breaks="OP-6",
    ),
    bug(
        "audit_without_before",
        "The audit does not tell what stood before.",
        Edit(SteeringService._operation, "described(before)", "None"),
        breaks="SE-5",
    ),
)
COUNTS = (
    bug(
        "hand_offs_not_counted",
        "Only claimed jobs count as running, so that hand-offs under way break the cap.",
        Edit(Running._count, "running = claimed + unclaimed", "running = claimed"),
        breaks="S8",
    ),
    bug(
        "tenant_counted_per_use_case",
        "A tenant may run as much as it is allowed to in every use case.",
        Edit(
            TurnView._select,
            "tenant_running=self._running.of_tenants",
            "tenant_running=self._running.of_use_cases[use_case]",
        ),
        Edit(Slots._rooms, "quota.max_running - self._running.of_tenants[tenant]", "1_000"),
        breaks="S8",
    ),
    bug(
        "tenant_of_another_scheduler",
        "A limited tenant that another scheduler leases for just now is leased for as well.",
        Edit(Dispatcher._rounds, "limited - turn.tenants", "frozenset()"),
        breaks="S8",
    ),
    bug(
        "one_use_case_forgets_another",
        "In one turn, what a use case took of a tenant's limit is not seen by the next.",
        Edit(share_slots, "left[candidate.tenant_id] -= 1", "pass"),
        Edit(Slots.share, "self._running.of_tenants[candidate.tenant_id] += 1", "pass"),
        Edit(slots._within, "counts[tenant] <= room", "counts[tenant] >= 0"),
        breaks="S8",
    ),
)

HAND_OFFS = (
    bug(
        "refused_hand_offs_left",
        "What the transport refused is not taken back.",
        Edit(Sender.send, "    if failed:", "    if not self:"),
        breaks="L3",
    ),
    bug(
        "unanswered_hand_offs_left",
        "A hand-off that the transport did not answer for counts as sent.",
        Edit(Sender._send_to, 'Sent(h, "the transport gave no answer")', "Sent(h)"),
        breaks="L3",
    ),
    bug(
        "later_lease_taken_back",
        "A hand-off that failed takes back whatever lease the job has by then.",
        Edit(
            Sender._take_back,
            "and job.lease_seq == errors[job.id].handoff.lease_seq",
            "",
        ),
        breaks="S4",
    ),
    bug(
        "signals_only",
        "A scheduler that misses a signal sleeps on.",
        Edit(Scheduler._pause_seconds, "pause = self._settings.interval_seconds", "pause = 1e9"),
        breaks="L3",
    ),
    bug(
        "bad_use_case_stops_all",
        "A use case whose dispatch fails ends the tick for all of them.",
        Edit(
            Dispatcher.dispatch,
            "except Exception as error:",
            "except Exception as error:\n                raise",
        ),
        breaks="S18",
    ),
)

HOUSEKEEPING = (
    bug(
        "nobody_reaps",
        "The scheduler leaves it to others to end leases that are over.",
        Edit(
            Scheduler._tick,
            "if self._reaping.is_due(at):",
            "if self._reaping.is_due(at) and not self:",
        ),
        breaks="L1",
    ),
    bug(
        "reaps_once",
        "A reap that met its bound is not repeated, and the next one never comes.",
        Edit(Reaping.reap, "over = await", "self._due_at = 1e18; over = await"),
        breaks="L1",
    ),
    bug(
        "retention_of_an_hour_ago",
        "Finished jobs are forgotten while they have to be kept.",
        Edit(
            Purging._kept_since,
            "- timedelta(seconds=retention)",
            "- timedelta(seconds=retention / 2)",
        ),
        breaks="S1",
    ),
)

SERVICE = (
    bug(
        "acknowledged_before_the_commit",
        "An enqueue is answered before the store has answered.",
        Edit(
            JobService._add,
            "return await self._store.add(jobs, limits, within=within, apart=apart)",
            "from async_jobs.ports.store import Added\n"
            "        adding = __import__('asyncio').ensure_future("
            "self._store.add(jobs, limits, within=within))\n"
            "        adding.add_done_callback(lambda done: done.cancelled() or done.exception())\n"
            "        return [Added(job.id) for job in jobs]",
        ),
        breaks="S1",
    ),
    bug(
        "id_not_kept",
        "An enqueue that is repeated gets another id, and creates another job.",
        Edit(
            JobService._new_job,
            "job = new_job(request,",
            "from dataclasses import replace\n"
            "        request = replace(request, id=None)\n"
            "        job = new_job(request,",
        ),
        breaks="JS-10",
    ),
    bug(
        "cancel_that_lost_says_done",
        "A cancel that met another change says that it took effect.",
        Edit(JobService.cancel_job, "if after is not None:", "if True:"),
        breaks="S4",
    ),
    bug(
        "anybody_may_cancel",
        "A cancel does not ask whose the job is.",
        Edit(
            JobService.cancel_job,
            "await self.get_job(job_id, tenant_id=tenant_id)",
            "await self.get_job(job_id)",
        ),
        breaks="S16",
    ),
    bug(
        "lost_lease_counts_in_own_loops",
        "A loop of one's own may end whatever lease the job has by then.",
        Edit(
            OwnLoops._conclude,
            "if not _still_holds(known, job):",
            "if known.started_at is None:",
        ),
        breaks="S4",
    ),
)

BUGS = (*CONTROLS, *COUNTS, *HAND_OFFS, *HOUSEKEEPING, *SERVICE)
