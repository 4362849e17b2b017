"""Bugs in adapters: the store and its turns in memory, and the database's clock."""

from __future__ import annotations

from async_jobs.adapters.memory.history import MemoryHistory
from async_jobs.adapters.memory.leases import MemoryLeases
from async_jobs.adapters.memory.overview import MemoryLook
from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.adapters.memory.rows import MemoryRows
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.transaction import MemoryTransaction
from async_jobs.adapters.memory.turn import MemoryTurn
from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.domain import effects, fingerprints, history, history_days, lifecycle
from async_jobs.domain.lifecycle import LeaseExpired
from tests.sabotage.edits.patches import Edit, bug, transitions

FENCES = (
    bug(
        "no_fence",
        "A save overwrites whatever is there.",
        Edit(lifecycle.holds, "row.lease_seq == fence.lease_seq", "True or fence"),
        breaks="S4",
    ),
    bug(
        "fence_without_the_number",
        "A save compares the phase alone.",
        Edit(lifecycle.holds, "row.lease_seq == fence.lease_seq", "True"),
        breaks="S4",
    ),
    bug(
        "fence_without_the_phase",
        "A save compares the number alone, so that a lease is claimed by whoever comes.",
        Edit(lifecycle.holds, "and row.phase is fence.phase", ""),
        breaks="S3",
    ),
    bug(
        "fence_dropped_from_outcomes",
        "A success is saved whatever became of its lease.",
        Edit(MemoryJobStore.succeed, " or row.lease_seq != lease_seq", ""),
        Edit(
            lifecycle.holds,
            "row.lease_seq == fence.lease_seq",
            'change.job.status == "succeeded" or row.lease_seq == fence.lease_seq',
        ),
        breaks="S4",
    ),
    bug(
        "fence_dropped_from_renewals",
        "A renewal is saved whatever became of its lease.",
        Edit(
            lifecycle.holds,
            "row.lease_seq == fence.lease_seq",
            'fence.lease_expires_at and change.job.status == "running"'
            " or row.lease_seq == fence.lease_seq",
        ),
        breaks="S4",
    ),
    bug(
        "fence_dropped_from_reaps",
        "A reap is saved whatever became of its lease.",
        Edit(
            lifecycle.holds,
            "row.lease_seq == fence.lease_seq",
            'fence.lease_expires_at and change.job.status != "running"'
            " or row.lease_seq == fence.lease_seq",
        ),
        breaks="S4",
    ),
    bug(
        "repeated_save_says_lost",
        "A save whose reply was lost says that it lost when it is repeated.",
        Edit(MemoryJobStore.save, "{row.id} if row == change.job else set()", "set()"),
        breaks="S5",
    ),
    bug(
        "reaper_ignores_renewals",
        "A job that was claimed a minute ago is taken for dead, however often it was renewed.",
        Edit(
            MemoryJobStore.expired,
            "row.lease_expires_at <= now",
            "((row.started_at or row.lease_expires_at)"
            " + __import__('datetime').timedelta(seconds=60 if row.started_at else 0) <= now)",
        ),
        *transitions(LeaseExpired, only=()),
        breaks="S4",
    ),
)

SLOTS = (
    bug(
        "turn_without_its_lock",
        "Two schedulers count and lease for one use case at once.",
        Edit(MemoryJobStore.turn, "held = wanted - self._turns_held", "held = wanted"),
        breaks="S8",
    ),
    bug(
        "count_in_the_locks_statement",
        "A turn waits for the one before it, and counts by what it saw before it waited.",
        Edit(
            MemoryJobStore.turn,
            "held = wanted - self._turns_held",
            "seen = self.visible(JobStatus.RUNNING)\n"
            "        for _ in range(200):\n"
            "            if wanted & self._turns_held:\n"
            "                await __import__('asyncio').sleep(0.005)\n"
            "        held = wanted - self._turns_held",
        ),
        Edit(
            MemoryJobStore.turn,
            "rows=self.visible,",
            "rows=lambda status: seen if status is JobStatus.RUNNING else self.visible(status),",
        ),
        breaks="S8",
    ),
    bug(
        "slot_freed_by_the_request",
        "A job to be cancelled counts no longer, though its handler still runs.",
        Edit(
            MemoryTurn.running,
            "alike = row.use_case",
            "if row.cancel_requested:\n                continue\n            alike = row.use_case",
        ),
        breaks="S8",
    ),
    bug(
        "slot_released_twice",
        "Whoever ends a lease ends the next one of the job as well, if it is under way.",
        Edit(
            lifecycle.holds,
            "row.lease_seq == fence.lease_seq",
            "row.lease_seq in (fence.lease_seq, fence.lease_seq + 1)",
        ),
        breaks="S10",
    ),
    bug(
        "hand_offs_not_counted_by_the_store",
        "The store counts what workers have claimed, and no more.",
        Edit(MemoryTurn.running, "claimed[alike], unclaimed[alike]", "claimed[alike], 0"),
        breaks="S8",
    ),
    bug(
        "failed_turn_leases",
        "A turn that ends in an error has leased all the same.",
        Edit(
            MemoryJobStore.turn,
            "    turn.end()",
            "    [self._put(job) for job in turn.leased()]; turn.end()",
        ),
        breaks="LS-3",
    ),
)

ADMISSION = (
    bug(
        "quota_without_its_lock",
        "Two enqueues count the same pending jobs, and both find room.",
        Edit(MemoryTransaction.lock_tenants, "sorted(set(tenants) - self._held.keys())", "()"),
        Edit(MemoryJobStore._add, "JobStatus.PENDING, hidden=True", "JobStatus.PENDING"),
        breaks="S12",
    ),
    bug(
        "dedupe_forgets_running_jobs",
        "A dedupe key is free again as soon as its job runs.",
        Edit(MemoryJobStore._put, "if job.status in LIVE:", "if job.status is JobStatus.PENDING:"),
        breaks="S13",
    ),
    bug(
        "dedupe_forgets_at_revival",
        "A retry brings a job back though its key was taken meanwhile.",
        Edit(MemoryJobStore._key_taken, "job.status in LIVE and", "not job and"),
        breaks="S13",
    ),
    bug(
        "rollback_leaves_rows",
        "What was added in a transaction that was rolled back is there.",
        Edit(MemoryJobStore.transaction, "self._forget(job_id)", "pass"),
        breaks="S1",
    ),
    bug(
        "id_taken_twice",
        "An id that comes a second time replaces the job it names.",
        Edit(
            MemoryJobStore._judge,
            "known is not None and known.tenant_id == job.tenant_id",
            "not job",
        ),
        Edit(MemoryJobStore._judge, "if known is not None:", "if not job:"),
        breaks="JS-10",
    ),
)

READING = (
    bug(
        "starts_before_its_time",
        "A job is shown to the schedulers before it is due.",
        Edit(MemoryTurn.heads, "row.run_at <= now", "True"),
        breaks="S15",
    ),
    bug(
        "returned_jobs_never_shown",
        "A job that comes back for another attempt is never looked at again.",
        Edit(MemoryTurn.heads, "row.run_at <= now", "row.run_at <= now and not row.attempts"),
        breaks="L4",
    ),
    bug(
        "promote_forgets_the_next",
        "Nobody is told when the next job comes due.",
        Edit(
            MemoryJobStore.promote,
            "min((row.run_at for row in pending if row.run_at > now), default=None)",
            "None",
        ),
        breaks="UP-2",
    ),
    bug(
        "purge_of_live_rows",
        "A job that was created long ago is forgotten, finished or not.",
        Edit(
            MemoryJobStore.purge,
            "if row.status in TERMINAL\n            and row.use_case",
            "if row.use_case",
        ),
        Edit(MemoryJobStore.purge, "(row.finished_at, row.id)", "(row.created_at, row.id)"),
        Edit(
            MemoryJobStore.purge,
            "and row.finished_at is not None\n            and row.finished_at < before",
            "and row.created_at < before",
        ),
        breaks="S1",
    ),
    bug(
        "retention_from_creation",
        "A finished job is forgotten by the time of its creation.",
        Edit(MemoryJobStore.purge, "and row.finished_at < before", "and row.created_at < before"),
        breaks="S1",
    ),
    bug(
        "pagination_skips",
        "A page begins behind the job that the one before named as the next.",
        Edit(MemoryJobStore.find, "page[-1].id if", "matching[limit].id if"),
        breaks="JS-5",
    ),
    bug(
        "foreign_tenant_visible",
        "Anybody who knows an id sees the job.",
        Edit(MemoryJobStore.get, "tenant_id is None or row.tenant_id == tenant_id", "row"),
        breaks="S16",
    ),
    bug(
        "bad_row_hides_the_rest",
        "What comes behind an unreadable row is not seen.",
        Edit(
            MemoryJobStore._readable,
            'self._unreadable(row.id, "corrupt")',
            'self._unreadable(row.id, "corrupt")\n                return',
        ),
        breaks="S18",
    ),
)

TRANSPORT = (
    bug(
        "message_gone_at_receive",
        "A message is gone once it was received.",
        Edit(
            MemoryJobQueue._deliver,
            "message.visible_at = now + self._hidden_for",
            "message.visible_at = now + 10_000 * self._hidden_for",
        ),
        breaks="JQ-1",
    ),
    bug(
        "release_forgotten",
        "A released message waits for its visibility timeout.",
        Edit(MemoryJobQueue._settle, "message.visible_at = self._clock.now()", "pass"),
        breaks="JQ-5",
    ),
    bug(
        "signal_lost_between_waits",
        "A signal that comes while nobody waits is lost.",
        Edit(MemorySignal.notify, "self._missed.add(topic)", "pass"),
        breaks="SG-1",
    ),
)

TIME = (
    bug(
        "time_of_the_host",
        "Now is what the host's clock says.",
        Edit(
            PostgresClock.now,
            "now = self._origin + passed",
            "return self._host.now()",
        ),
        breaks="S15",
    ),
    bug(
        "time_counts_from_the_question",
        "The database's time counts from the moment at which it was asked for.",
        Edit(PostgresClock._measure, "sent + trip", "sent - trip"),
        breaks="S15",
    ),
)

LOOKING = (
    bug(
        "backlog_of_what_is_not_due",
        "What is scheduled for later is looked at as if it were due.",
        Edit(MemoryLook.backlog, "r.use_case == name and r.run_at <= now", "r.use_case == name"),
        breaks="OV-6",
    ),
    bug(
        "backlog_cut_anywhere",
        "Of a long backlog the jobs that can wait longest are looked at.",
        Edit(MemoryLook.backlog, "[\n                    :limit\n                ]", "[-limit:]"),
        breaks="OV-6",
    ),
)

HISTORY = (
    bug(
        "changes_without_records",
        "What an attempt ended by is forgotten.",
        Edit(MemoryRows._set, "if change.record is not None:", "if False:"),
        breaks="HI-1",
    ),
    bug(
        "successes_recorded",
        "A success leaves a record though its use case asks for none.",
        Edit(
            history.record_of, "outcome in _ORDINARY and not all_are_kept", "False and all_are_kept"
        ),
        breaks="HI-1",
    ),
    bug(
        "the_first_records_are_told",
        "Of a job with many records the oldest are told.",
        Edit(MemoryHistory.attempts, "records[-limit:]", "records[:limit]"),
        breaks="HI-2",
    ),
    bug(
        "set_aside_without_a_record",
        "A row that is set aside leaves no record.",
        Edit(
            MemoryLeases.set_aside,
            "self._set(set_aside(self._rows[job_id], now, until))",
            "self._put(set_aside(self._rows[job_id], now, until).job)",
        ),
        breaks="HI-3",
    ),
    bug(
        "room_for_a_day_that_has_begun",
        "A partition is made of a day on which attempts are ending already.",
        Edit(history_days.to_make, "days=n + 1", "days=n"),
        breaks="HI-4",
    ),
    bug(
        "today_is_forgotten",
        "Too much history costs today's records, too.",
        Edit(history_days.to_drop, "part.newest and part.newest < today(now)", "part.newest"),
        breaks="HI-5",
    ),
    bug(
        "history_grows_without_bound",
        "Only age makes history go.",
        Edit(history_days.to_drop, " or left > bytes_max", ""),
        breaks="HI-5",
    ),
    bug(
        "who_ran_it_is_forgotten",
        "A job that has ended does not say by whom it was run.",
        Edit(
            effects._finished,
            '"updated_at": now}',
            '"updated_at": now, "started_at": None, "worker_id": None}',
        ),
        breaks="OP-8",
    ),
    bug(
        "numbers_make_another_error",
        "Errors that differ in a number have different fingerprints.",
        Edit(
            fingerprints.without_values,
            "_VARIES.sub(VARYING, _QUOTED.sub(VARYING, first))",
            "_QUOTED.sub(VARYING, first)",
        ),
        breaks="HI-1",
    ),
)

BUGS = (*FENCES, *SLOTS, *ADMISSION, *READING, *TRANSPORT, *TIME, *LOOKING, *HISTORY)
