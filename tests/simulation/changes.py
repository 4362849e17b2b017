"""The rules about changes: what may become of a row, through whom, when, and under which lease."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.limits import UNLIMITED, Limits
from async_jobs.domain.patience import NO_HANDLER
from tests.simulation.ledger import CANCELLED, DEAD, ENDED, PENDING, SUCCEEDED, Ledger
from tests.simulation.orders import Orders
from tests.simulation.records import Lease, Node, Terms, Totals, is_alone, short
from tests.simulation.rulings import Rulings

FIXED = (
    "tenant_id",
    "use_case",
    "type",
    "payload",
    "queue",
    "priority",
    "dedupe_key",
    "max_attempts",
    "created_at",
    "headers",
    "first_deadline",
)
"""What nothing that happens to a job ever changes."""
SUSPECT_MIN, CRASHES_MAX = 2, 5
COUNTING_CRASHES = ("reaped claimed", "set aside", "retried")
"""What may change the crashes, and is held to how."""


class Changes:
    """Holds every change of a row against the rules.

    Args:
        ledger: what has been seen, this change included.
        orders: what operators have ordered.
        rulings: told of what is wrong.
        totals: where checked bounds are counted.
        seconds, now: the true time, in seconds of the simulation and by the database's clock.
    """

    def __init__(
        self,
        limits: Limits,
        terms: Terms,
        ledger: Ledger,
        orders: Orders,
        rulings: Rulings,
        totals: Totals,
        *,
        seconds: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._limits = limits
        self._terms = terms
        self._ledger = ledger
        self._orders = orders
        self._require = rulings.require
        self._violated = rulings.violated
        self._totals = totals
        self._seconds = seconds
        self._now = now

    def kind_of(self, before: Job | None, after: Job, by: Node) -> str:
        """Return what a change was, having held it against the rules."""
        if before is None:
            return self._added(after)
        changed = [name for name in FIXED if getattr(before, name) != getattr(after, name)]
        self._require(not changed, "S17", f"{', '.join(changed)} changed")
        self._require(after.lease_seq >= before.lease_seq, "S2", "a lease number went back")
        first = before.first_started_at
        known = after.first_started_at in ((None, before.started_at) if first is None else (first,))
        self._require(known, "S17", f"its first start was {first}, and is {after.first_started_at}")
        kind = self._kind_of_change(before, after, by)
        if kind not in COUNTING_CRASHES:
            told = f"{kind}, and {after.crashes - before.crashes} crashes"
            self._require(after.crashes == before.crashes, "S6", told)
        return kind

    def _kind_of_change(self, before: Job, after: Job, by: Node) -> str:
        match before.status, after.status:
            case (JobStatus.PENDING, JobStatus.RUNNING):
                return self._leased(before, after, by)
            case (JobStatus.RUNNING, JobStatus.RUNNING):
                if before.started_at is None:
                    return self._claimed(before, after, by)
                return self._kept(before, after, by)
            case (JobStatus.RUNNING, _):
                return self._ended(before, after, by)
            case (JobStatus.PENDING, JobStatus.CANCELLED):
                self._same_lease(before, after)
                self._require(by.role == "api", "S17", f"{by.name} cancelled it unasked")
                return "cancelled pending"
            case (JobStatus.PENDING, JobStatus.DEAD):
                return self._buried(before, after)
            case (JobStatus.DEAD | JobStatus.CANCELLED, JobStatus.PENDING):
                return self._retried(before, after, by)
            case _:
                rule = "S7" if before.status in ENDED else "S17"
                self._violated(rule, f"{before.status} became {after.status}")
                return "illegal"

    def _added(self, after: Job) -> str:
        limit = self._limits.per_tenant_quotas.get(after.tenant_id, UNLIMITED).max_pending_jobs
        self._require(after.status is PENDING and not after.lease_seq, "S17", "added otherwise")
        pending = self._ledger.pending[after.tenant_id]
        self._require(
            limit is None or pending <= limit,
            "S12",
            f"{pending} pending jobs of {after.tenant_id}, {limit} allowed",
        )
        return "added"

    def _leased(self, before: Job, after: Job, by: Node) -> str:
        known = self._orders.known_to(by)
        cap = self._orders.most_running(after.use_case, known)
        limit = self._orders.most_of_tenant(after.tenant_id, known)
        running = self._ledger.running[after.use_case]
        mine = self._ledger.tenant_running[after.tenant_id]
        self._require(running <= cap, "S8", f"{running} run of {after.use_case}, {cap} allowed")
        self._require(
            limit is None or mine <= limit,
            "S8",
            f"{mine} run of {after.tenant_id}, {limit} allowed",
        )
        self._require(after.lease_seq == before.lease_seq + 1, "S2", "a lease without a new number")
        self._require(after.started_at is None, "S17", "leased and claimed at once")
        self._require(after.attempts == before.attempts, "S6", "a lease charged an attempt")
        self._require(before.run_at <= after.updated_at, "S15", "leased before it was due")
        buried = is_buried(before, self._limits, after.updated_at)
        self._require(not buried, "S17", "leased although it is too late for it to run")
        self._check_length(after, self._terms.dispatch, "L2", alone=by.role == "api")
        self._ledger.dispatched_at[after.use_case] = self._seconds()
        self._ledger.give_lease(after)
        return "leased"

    def _claimed(self, before: Job, after: Job, by: Node) -> str:
        lease = self._ledger.lease_of(after)
        self._same_lease(before, after)
        self._require(after.started_at is not None, "S17", "running unclaimed became the same")
        self._require(lease.claimed_by is None, "S3", "a lease was claimed twice")
        self._require(after.attempts == before.attempts + 1, "S6", "a claim charged no attempt")
        end = before.lease_expires_at
        self._require(
            end is not None and after.updated_at < end, "S3", "a lease was claimed after its end"
        )
        self._check_length(after, self._terms.lease, "L1", alone=is_alone(after))
        lease.claimed_by, lease.claimed_at = by, self._seconds()
        return "claimed"

    def _check_length(self, after: Job, longest: float, rule: str, *, alone: bool) -> None:
        """A lease that is too long is found out about too late."""
        end = after.lease_expires_at
        told = after.updated_at + timedelta(seconds=longest)
        self._require(alone or (end is not None and end <= told), rule, "the lease is too long")

    def _kept(self, before: Job, after: Job, by: Node) -> str:
        self._same_lease(before, after)
        self._require(after.attempts == before.attempts, "S6", "the attempts changed")
        self._require(after.started_at == before.started_at, "S17", "claimed a second time")
        if after.cancel_requested != before.cancel_requested:
            self._require(after.cancel_requested, "S17", "a cancel request was forgotten")
            self._ledger.lease_of(after).cancelled_at = self._seconds()
            return "cancel requested"
        end = before.lease_expires_at
        self._require(
            self._ledger.lease_of(after).claimed_by is by,
            "S4",
            f"renewed by {by.name}, who has no lease",
        )
        self._require(
            end is not None and after.updated_at < end, "S4", "a lease was renewed after its end"
        )
        self._check_length(after, self._terms.lease, "L1", alone=False)
        return "renewed"

    def _ended(self, before: Job, after: Job, by: Node) -> str:
        lease = self._ledger.lease_of(before)
        lease.endings += 1
        self._same_lease(before, after)
        self._require(lease.endings == 1, "S10", "a lease ended twice")
        self._require(after.lease_expires_at is None, "S10", "it ended and kept its lease")
        if self._is_set_aside(before, after, by):
            return "set aside"
        self._require(
            after.status is not PENDING or not before.cancel_requested,
            "S17",
            "a job whose cancellation was asked for is pending again",
        )
        if lease.claimed_by is None:
            return self._ended_unclaimed(before, after, by)
        asked = before.cancel_requested or after.status is not CANCELLED
        self._require(asked, "S17", f"{by.name} cancelled it unasked")
        if lease.claimed_by is by:
            self._check_execution(before, since=None)
            self._check_outcome(before, after, lease)
            self._check_verdict(before, after, lease)
            return f"settled {after.status}"
        self._check_execution(before, since=self._end_of(before) - self._terms.margin)
        self._check_reaped(before, after, by, f"{by.name} ended what {lease.claimed_by.name} does")
        self._check_crash(before, after, lease)
        self._require(after.status is not SUCCEEDED, "S4", f"{by.name} told of another's success")
        needless = lease.claimed_by.is_well_since(lease.claimed_at) and not is_alone(before)
        self._require(not needless, "S4", f"{lease.claimed_by.name} lost a lease for no reason")
        return "reaped claimed"

    def _is_set_aside(self, before: Job, after: Job, by: Node) -> bool:
        """Tell whether a scheduler gave back a row that cannot be read, and check how."""
        if (
            before.id not in self._ledger.unreadable
            or by.role != "scheduler"
            or after.status in ENDED
        ):
            return False
        if after.run_at <= after.updated_at or after.errors != before.errors:
            return False  # reaped by somebody who had read it before
        over = before.lease_expires_at is not None and before.lease_expires_at <= after.updated_at
        self._require(over, "S4", "an unreadable row was set aside before its time")
        self._check_execution(before, since=self._end_of(before) - self._terms.margin)
        claimed = before.started_at is not None
        charged = min(before.attempts - claimed, before.max_attempts - 1)
        self._require(after.attempts == charged, "S6", "setting aside charged an attempt")
        crashes = min(before.crashes + claimed, CRASHES_MAX - 1)
        self._require(after.crashes == crashes, "S6", "set aside with another count of crashes")
        return True

    def _check_crash(self, before: Job, after: Job, lease: Lease) -> None:
        """Who was in a worker that died is charged no attempt, but a crash, and five are the end.

        It comes back after its backoff, by how often that has happened. A suspect that had not
        begun is charged nothing, where that is known.
        """
        self._require(after.attempts == before.attempts - 1, "S6", "a crash charged an attempt")
        if after.crashes == before.crashes >= SUSPECT_MIN:
            self._require(not lease.executions, "S6", "a crash of what was executed is not counted")
            return
        self._require(after.crashes == before.crashes + 1, "S6", "a crash was not counted")
        again = CANCELLED if before.cancel_requested else PENDING
        end = DEAD if after.crashes >= CRASHES_MAX else again
        self._require(after.status is end, "S6", f"{after.status} after {after.crashes} crashes")
        if after.status is PENDING:
            policy = before.backoff_policy
            delay = policy.base_delay_seconds * 2 ** (after.crashes - 1)
            delay = min(delay, policy.max_delay_seconds)
            seconds = (after.run_at - after.updated_at).total_seconds()
            in_time = delay * (1 - policy.jitter) - 0.001 <= seconds <= delay + 0.001
            self._require(in_time, "S17", f"back {seconds:.1f} s after a crash, not {delay:.1f} s")

    def _check_outcome(self, before: Job, after: Job, lease: Lease) -> None:
        """What was done is charged, what was given back is not, and nobody tells of nothing.

        That there is no handler for a job is no failure of it, though its history tells.
        """
        refunded = before.attempts - after.attempts
        noted = after.status is not DEAD and after.last_error == NO_HANDLER
        failed = after.errors != before.errors and (not noted or lease.executions > 0)
        if after.status is PENDING:
            self._require(refunded == (0 if failed else 1), "S6", f"refunded {refunded} attempts")
        elif after.status is not CANCELLED:
            self._require(not refunded, "S6", f"{after.status}, and refunded {refunded} attempts")
        tells = after.status in (SUCCEEDED, DEAD) or failed
        self._require(
            is_alone(before) or not tells or lease.executions > 0,
            "S17",
            f"{lease.claimed_by and lease.claimed_by.name} tells of what it never executed",
        )

    def _check_verdict(self, before: Job, after: Job, lease: Lease) -> None:
        """What is stored is what the handler came to, and it comes again when it should."""
        seconds = (after.run_at - after.updated_at).total_seconds()
        last = before.attempts >= before.max_attempts
        again = CANCELLED if before.cancel_requested else PENDING
        match lease.verdict:
            case "succeed":
                told = after.status is SUCCEEDED and after.result == {"done": str(after.id)}
            case "reject":
                told = after.status is DEAD
            case "fail":
                policy = before.backoff_policy
                delay = policy.base_delay_seconds * 2 ** (before.attempts - 1)
                delay = min(delay, policy.max_delay_seconds) * (1 - policy.jitter)
                told = after.status is (DEAD if last else again)
                told = told and (after.status is not PENDING or seconds >= delay - 0.001)
            case "retry_after":
                told = after.status is (DEAD if last else again)
                told = told and (after.status is not PENDING or abs(seconds - lease.pause) < 0.001)
            case "snooze":
                told = after.status is again
                due = self._seconds() + (after.run_at - self._now()).total_seconds()
                slack = 2 * (lease.claimed_by.clock_error if lease.claimed_by else 0.0)
                told = told and (after.status is not PENDING or due >= lease.pause - slack)
            case _:
                return
        self._require(told, "S17", f"the handler came to {lease.verdict}, stored is {after.status}")

    def _end_of(self, row: Job) -> float:
        """Return when a lease ends, in seconds of the simulation."""
        assert row.lease_expires_at is not None
        return self._seconds() + (row.lease_expires_at - self._now()).total_seconds()

    def _ended_unclaimed(self, before: Job, after: Job, by: Node) -> str:
        self._require(after.attempts == before.attempts, "S6", "an unclaimed lease was charged")
        if after.status is CANCELLED:
            asked = by.role == "api" or before.cancel_requested
            self._require(asked, "S17", f"{by.name} cancelled it unasked")
            return "cancelled handed off"
        self._require(after.status is PENDING, "S17", f"unclaimed, and {after.status} at once")
        if after.enqueue_failed:
            return "taken back"
        self._check_reaped(before, after, by, "an unclaimed lease ended before its time")
        return "reaped unclaimed"

    def _check_reaped(self, before: Job, after: Job, by: Node, what: str) -> None:
        end = before.lease_expires_at
        self._require(end is not None and end <= after.updated_at, "S4", what)
        over_at = self._end_of(before)
        if before.id not in self._ledger.unreadable and by.is_well_since(
            over_at - self._terms.reap
        ):
            self._totals.bounds["L1" if before.started_at else "L2"] += 1
            late = self._seconds() - over_at
            self._require(late <= self._terms.reap, "L1", f"reaped {late:.1f} s after its end")

    def _check_execution(self, before: Job, *, since: float | None) -> None:
        """S9: whoever obeys has stopped before its lease is somebody else's.

        Who stood still after an instant is excused; or at any time since it began.
        """
        execution = self._ledger.executing.get((before.id, before.lease_seq))
        if execution is None or execution.node.process.dead or not execution.obedient:
            return
        self._require(
            execution.node.has_stood_since(execution.began_at if since is None else since),
            "S9",
            f"{execution.node.name} still executes {short(before.id)}, whose lease has ended",
        )

    def _buried(self, before: Job, after: Job) -> str:
        self._same_lease(before, after)
        self._ledger.dispatched_at[after.use_case] = self._seconds()
        policy = self._limits.use_case_configs[after.use_case].late_policy
        late = before.deadline_at < after.updated_at
        self._require(policy is LatePolicy.EXPIRE and late, "S17", "buried without being late")
        return "expired"

    def _retried(self, before: Job, after: Job, by: Node) -> str:
        self._require(by.role == "api", "S7", f"{by.name} revived a job that had ended")
        self._require(after.lease_seq > before.lease_seq, "S2", "another life under the old number")
        told = "another life without its attempts"
        self._require(after.attempts == after.crashes == 0, "S6", told)
        return "retried"

    def _same_lease(self, before: Job, after: Job) -> None:
        self._require(after.lease_seq == before.lease_seq, "S2", "a number changed without a lease")


def is_buried(row: Job, limits: Limits, at: datetime) -> bool:
    """Tell whether a pending job is too late to be run at all."""
    policy = limits.use_case_configs[row.use_case].late_policy
    return policy is LatePolicy.EXPIRE and row.deadline_at < at
