"""Bugs in workers: claiming, executing, renewing, settling and stopping."""

from __future__ import annotations

from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.application.working.attempt import Attempt
from async_jobs.application.working.claiming import Claimer
from async_jobs.application.working.draining import drain
from async_jobs.application.working.queue_receiving import QueueReceiver
from async_jobs.application.working.renewal import Renewals
from async_jobs.application.working.room import Room, Share
from async_jobs.application.working.settlement import Settler
from async_jobs.application.working.slots import Slots
from async_jobs.application.working.watchdog import Watchdog
from async_jobs.application.working.worker import Worker
from async_jobs.domain import patience
from tests.sabotage.edits.patches import Edit, bug

CLAIMS = (
    bug(
        "starts_without_a_handler",
        "A claim counts as a start although the worker has no handler for the job.",
        Edit(Claimer._tell, "and self._knows(job.type)", ""),
        breaks="S17",
    ),
    bug(
        "stale_hand_off_claims",
        "A hand-off of a former lease claims the present one.",
        Edit(
            MemoryJobStore.claim_at_once,
            "handoff.lease_seq not in (None, row.lease_seq)",
            "not handoff",
        ),
        breaks="S3",
    ),
    bug(
        "executes_what_it_did_not_claim",
        "After a reply was lost, a worker executes whatever somebody has claimed.",
        Edit(
            Claimer._claimed_unheard,
            "and job.worker_id == self._worker_id\n            and job.started_at in instants",
            "",
        ),
        breaks="S3",
    ),
    bug(
        "claim_not_repeated",
        "A claim whose reply was lost is given up.",
        Edit(Claimer._patiently, "len(instants) == TRIES_MAX", "instants"),
        breaks="S5",
    ),
    bug(
        "claim_that_went_unheard_forgotten",
        "A claim that took effect is repeated, and what it claimed the first time is left lying.",
        Edit(Claimer._patiently, "len(instants) > 1", "not instants"),
        breaks="S5",
    ),
    bug(
        "claim_repeated_as_of_old",
        "A claim is repeated as of the instant of the first try, whatever is over meanwhile.",
        Edit(
            Claimer._patiently,
            "now = self._now()\n            instants.add(now)",
            "now = min(instants, default=self._clock.now())\n"
            "            instants.add(now if now not in instants else self._now())",
        ),
        breaks="S3",
    ),
    bug(
        "claims_of_one_instant",
        "Two claims of a worker in one instant cannot be told apart, and both count.",
        Edit(Claimer._now, "now <= self._latest", "now is None"),
        breaks="S3",
    ),
    bug(
        "ack_before_claim",
        "A message is taken off the queue before its lease was claimed.",
        Edit(
            QueueReceiver._claimed,
            "jobs = await self._intake.claimer.claim(self.name, deliveries)",
            "await self._queue.ack(deliveries)\n                "
            "jobs = await self._intake.claimer.claim(self.name, deliveries)",
        ),
        breaks="JQ-1",
    ),
    bug(
        "poison_ends_the_worker",
        "A message that is no hand-off ends the worker that receives it.",
        Edit(
            Claimer._wanted,
            "            continue",
            "            raise ValueError(delivery.problem)",
        ),
        breaks="S18",
    ),
)

EXECUTIONS = (
    bug(
        "executes_after_the_lease",
        "A prefetched job is executed although its lease ended while it waited.",
        Edit(Worker._execute, "self._clock.monotonic() >= attempt.held_until", "not attempt"),
        breaks="S9",
    ),
    bug(
        "lost_lease_stops_nobody",
        "A handler goes on whose lease could not be renewed.",
        Edit(Watchdog.stop_if_lost, "if lease_end is not None and", "if lease_end is None and"),
        breaks="S9",
    ),
    bug(
        "lease_taken_away_stops_nobody",
        "A worker that learns that a lease is somebody else's lets its handler go on.",
        Edit(
            Worker._stop_from_any_thread,
            "attempt.stop(reason, at=self._clock.monotonic())",
            "reason is not StopReason.LEASE_LOST and "
            "attempt.stop(reason, at=self._clock.monotonic())",
        ),
        Edit(Watchdog.stop_if_lost, "if lease_end is not None and", "if lease_end is None and"),
        breaks="S9",
    ),
    bug(
        "no_timeout",
        "A handler may run for ever.",
        Edit(
            Watchdog._look_at,
            "now - attempt.began_at > attempt.timeout_seconds",
            "attempt.timeout_seconds < 0",
        ),
        breaks="L4",
    ),
    bug(
        "cancel_reaches_no_handler",
        "A handler whose cancellation was asked for runs to its end.",
        Edit(Attempt.stop, "self._cancellation.set()\n", "return\n"),
        breaks="S9",
    ),
    bug(
        "bystander_ends_unknown_types",
        "A worker that does not know a job's type makes the job dead.",
        Edit(
            patience.without_handler,
            "Snoozed(now + min(delay, wait_max - waited), why=NO_HANDLER, started=False)",
            'Rejected("unknown type")',
        ),
        breaks="S17",
    ),
    bug(
        "room_never_given_back",
        "A receive keeps its places reserved when it is over.",
        Edit(Share.give_back, "self.reserved = 0", "pass"),
        breaks="L3",
    ),
    bug(
        "empty_lane_keeps_places",
        "A queue that waits for its first message keeps what it asked for from a full one.",
        Edit(
            QueueReceiver._deliveries,
            "if self._share.full and not self._share.alone:\n            "
            "letting_go = asyncio.create_task(self._let_go())\n        else:\n            "
            "self._share.give_back()",
            "pass",
        ),
        breaks="L3",
    ),
    bug(
        "lane_that_gave_back_asks_last",
        "A queue whose messages found no place asks for one behind all others, every time.",
        Edit(QueueReceiver._receive, "self._gave_back = bool(left)", "left and None"),
        Edit(QueueReceiver._receive, "self._gave_back or len(deliveries)", "len(deliveries)"),
        breaks="L3",
    ),
    bug(
        "first_lane_takes_all",
        "Of two full queues the one that asks first has all places.",
        Edit(Room._part, "// full", "// 1"),
        breaks="L3",
    ),
    bug(
        "claims_what_found_no_place",
        "What comes when others have taken the places is claimed all the same.",
        Edit(
            QueueReceiver._claim,
            "if not places:\n                break",
            "places = places or len(left)",
        ),
        breaks="S9",
    ),
)

RENEWALS = (
    bug(
        "renews_what_it_lost",
        "A worker renews a lease under whatever number it finds.",
        Edit(Renewals._look_why, "not _same_lease(job, attempt.job)", "job.started_at is None"),
        breaks="S4",
    ),
    bug(
        "one_loss_ends_all_renewals",
        "When one lease is lost, all others of the worker are no longer renewed.",
        Edit(
            Renewals.renew,
            "await self._look_why(store, clock, lost)",
            "await self._look_why(store, clock, lost); self._attempts.clear()",
        ),
        breaks="L4",
    ),
    bug(
        "renewals_never_come",
        "A lease is as long as it was at the claim.",
        Edit(Renewals.add, "self._attempts[attempt.job.id] = attempt", "pass"),
        breaks="L4",
    ),
    bug(
        "cancel_request_never_learned",
        "A renewal that finds its job to be cancelled goes on.",
        Edit(Renewals._look_why, "if job.phase is Phase.CANCELLING:", "if job.phase is None:"),
        breaks="L4",
    ),
)

SETTLEMENTS = (
    bug(
        "outcome_repeated_without_its_fence",
        "An outcome that lost its comparison is saved again under the number it finds.",
        Edit(Settler._still_ours, "and job.lease_seq == attempt.job.lease_seq", ""),
        breaks="S4",
    ),
    bug(
        "outcome_dropped_when_unavailable",
        "An outcome is given up when the store does not answer at once.",
        Edit(Settler._patiently, "failures += 1", "return None"),
        breaks="S5",
    ),
    bug(
        "outcome_lost_to_a_cancel_request",
        "An outcome that met a cancel request is dropped, and the job stays as it is.",
        Edit(Settler._still_ours, "job is not None", "job is None"),
        breaks="S17",
    ),
    bug(
        "group_mixes_lives_of_a_job",
        "Two outcomes of one job in one group: the later one hides the earlier.",
        Edit(Settler._next_group, "and attempt.job.id not in group", ""),
        breaks="S4",
    ),
)

SHUTDOWN = (
    bug(
        "stop_strands_deliveries",
        "A worker that is told to stop keeps what its open receive brings.",
        Edit(QueueReceiver._receive, "await self._queue.release(left)", "pass"),
        breaks="L6",
    ),
    bug(
        "stop_strands_claims",
        "A worker that is told to stop forgets what it claimed and did not start.",
        Edit(drain, "conclude(attempt, lifecycle.Released())", "pass"),
        breaks="L6",
    ),
    bug(
        "drain_without_a_bound",
        "A worker that is told to stop waits until its handlers are done.",
        Edit(drain, "until - clock.monotonic()", "1e9"),
        breaks="L6",
    ),
    bug(
        "failed_claim_strands_deliveries",
        "Deliveries whose claim failed are not given back.",
        Edit(
            QueueReceiver._claimed,
            "await self._queue.release(deliveries)\n                raise",
            "raise",
        ),
        breaks="L2",
    ),
)

SUSPECTS = (
    bug(
        "suspect_beside_others",
        "A suspect begins although others run.",
        Edit(
            Slots.fill,
            "all(each.settled for each in self._running) and self._is_alone(suspect)",
            "suspect",
        ),
        breaks="S20",
    ),
    bug(
        "others_beside_a_suspect",
        "What comes while a suspect waits begins together with it.",
        Edit(Slots.add, "if self._suspect is not None:", "if not attempts:"),
        breaks="S20",
    ),
    bug(
        "received_beside_a_suspect",
        "A worker receives on while a suspect has it for itself.",
        Edit(Worker._in_hand, "self._slots.is_open and not", "not"),
        breaks="S20",
    ),
    bug(
        "suspect_before_the_outcomes",
        "A suspect begins before the outcomes of the others are saved.",
        Edit(Worker._is_alone, "self._renewals.holds_only(attempt)", "True"),
        breaks="S20",
    ),
    bug(
        "suspect_waits_for_ever",
        "A suspect waits for as long as anything runs, and nothing else begins.",
        Edit(Watchdog._look_at_waiting, "now - suspect.waits_since < delay", "now"),
        breaks="L3",
    ),
    bug(
        "stuck_suspect_keeps_its_worker",
        "A suspect that does not stop keeps the worker for itself.",
        Edit(Watchdog.abandon, "self._slots.let_go(attempt)", "pass"),
        breaks="L3",
    ),
)

BUGS = (*CLAIMS, *EXECUTIONS, *SUSPECTS, *RENEWALS, *SETTLEMENTS, *SHUTDOWN)
