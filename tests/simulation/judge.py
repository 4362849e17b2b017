"""The judge: holds every committed change against the rules, and trusts nobody.

It keeps its own copy of every row and knows of the system only what it sees: which process wrote
what, which handlers really execute, and what time it really is. The rules are written down here a
second time, apart from the domain's; their numbers are those of `docs/reliability.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Set
from datetime import datetime, timedelta
from uuid import UUID

from async_jobs.application.handling.registry import JobContext
from async_jobs.domain.audit import Operation
from async_jobs.domain.controls import Control
from async_jobs.domain.job import Job, Payload
from async_jobs.domain.limits import UNLIMITED, Limits
from tests.simulation.changes import CRASHES_MAX, SUSPECT_MIN, Changes
from tests.simulation.ledger import CANCELLED, ENDED, PENDING, RUNNING, Ledger
from tests.simulation.orders import Orders
from tests.simulation.records import (
    SECRET,
    Execution,
    Node,
    Terms,
    Totals,
    Trace,
    Violation,
    is_alone,
    short,
)
from tests.simulation.rulings import Rulings
from tests.simulation.turns import Turns


class Judge:
    """Checks every change at the moment of its commit.

    Args:
        limits: what the system was configured with.
        terms: the durations it was configured with.
        seconds: the true time of the simulation.
        now: the same as an instant, by the database's clock.
        on_violation: told of the first rule that was broken; the simulation ends then.
        trace: told of everything.

    Attributes:
        totals: what was checked.
    """

    def __init__(
        self,
        limits: Limits,
        terms: Terms,
        *,
        seconds: Callable[[], float],
        now: Callable[[], datetime],
        on_violation: Callable[[Violation], None],
        trace: Trace,
    ) -> None:
        self._limits = limits
        self._terms = terms
        self._retention = timedelta(seconds=terms.retention)
        self._seconds = seconds
        self.now = now
        self._trace = trace
        self.totals = Totals()
        self._ledger = Ledger()
        self._rulings = Rulings(trace, on_violation)
        self._require = self._rulings.require
        self._orders = Orders(limits, seconds=seconds, now=now)
        self._changes = Changes(
            limits,
            terms,
            self._ledger,
            self._orders,
            self._rulings,
            self.totals,
            seconds=seconds,
            now=now,
        )
        self._turns = Turns(limits, self._ledger, self._orders, self._rulings, self.totals)

    def violated(self, rule: str, what: str) -> None:
        """Say that a rule was broken."""
        self._rulings.violated(rule, what)

    def require(self, holds: bool, rule: str, what: str) -> None:
        """Say that a rule was broken unless it holds."""
        self._require(holds, rule, what)

    # --- rows ---

    def stored(self, after: Job, by: Node) -> None:
        """Take note of a row as it was just written."""
        before = self._ledger.write(after)
        slack = timedelta(seconds=by.clock_error)
        self._require(
            after.updated_at <= self.now() + slack,
            "S15",
            f"{by.name} writes of {after.updated_at}, which is {after.updated_at - self.now()}"
            " ahead",
        )
        self._require(after.attempts <= after.max_attempts, "S6", "more attempts than allowed")
        self._require(after.crashes <= CRASHES_MAX, "S6", "more crashes than allowed")
        kind = self._changes.kind_of(before, after, by)
        self.totals.transitions[kind] += 1
        self._check_key(after)
        self._require(SECRET not in (after.last_error or ""), "S19", "an error tells")
        where = (
            "" if after.lease_expires_at is None else f" until {after.lease_expires_at:%H:%M:%S}"
        )
        self._trace.note(
            by.name,
            f"{kind} {short(after.id)} lease {after.lease_seq} attempt {after.attempts}{where}",
        )

    def forgotten(self, job_id: UUID, by: Node, *, committed: bool) -> None:
        """Take note of a row that is gone."""
        row = self._ledger.strike(job_id)
        if not committed:
            self.totals.transitions["rolled back"] += 1
            self._trace.note(by.name, f"rolled back {short(job_id)}")
            return
        finished, slack = row.finished_at, timedelta(seconds=by.clock_error)
        self._require(row.status in ENDED, "S1", f"a {row.status} job was forgotten")
        self._require(
            finished is not None and finished + self._retention <= self.now() + slack,
            "S1",
            "a job was forgotten before its retention was over",
        )
        self._ledger.forget(job_id)
        self.totals.transitions["purged"] += 1
        self._trace.note(by.name, f"purged {short(job_id)}")

    def _check_key(self, row: Job) -> None:
        if row.dedupe_key is None:
            return
        key = (row.tenant_id, row.dedupe_key)
        holder = self._ledger.keys.get(key)
        if row.status in ENDED:
            if holder == row.id:
                del self._ledger.keys[key]
            return
        self._require(holder in (None, row.id), "S13", f"two live jobs have the key {key}")
        self._ledger.keys[key] = row.id

    def spoiled(self, job_id: UUID) -> None:
        """Take note of a row that cannot be read any more."""
        self._ledger.unreadable.add(job_id)

    # --- executions ---

    def began(self, context: JobContext, payload: Payload, node: Node, *, obedient: bool) -> None:
        """Take note of a handler that begins, and of what it was given."""
        job_id, seq = context.job_id, context.lease_seq
        self.totals.executions += 1
        self._trace.note(node.name, f"began {short(job_id)} lease {seq}")
        lease = self._ledger.leases.get((job_id, seq))
        if lease is None:
            if job_id not in self._ledger.forgotten:
                self.violated("S3", "a lease is executed that nobody gave")
            return
        lease.executions += 1
        self._require(lease.executions == 1, "S3", "a lease is executed twice")
        self._require(lease.claimed_by is node, "S3", f"{node.name} executes another's lease")
        self._ledger.executing[job_id, seq] = Execution(node, self._seconds(), obedient)
        mine = self._ledger.executing_in(node)
        self._require(mine <= self._terms.slots, "S9", f"{node.name} executes {mine} at once")
        self._check_apart(job_id, node)
        row = self._ledger.rows[job_id]
        given = (context.tenant_id, context.use_case, context.type, payload)
        told = given == (row.tenant_id, row.use_case, row.type, row.payload)
        self._require(told, "S17", "a handler was given another job's contents")
        if row.status is RUNNING and row.lease_seq == seq:
            slack = timedelta(seconds=node.clock_error)
            self._require(row.run_at <= self.now() + slack, "S15", "started before it was due")
            self._require(row.attempts == context.attempt, "S6", "told of another attempt")
        else:
            excused = node.has_stood_since(lease.claimed_at)
            self._require(excused, "S9", f"{node.name} began what it had lost")

    def _check_apart(self, job_id: UUID, node: Node) -> None:
        """S20: who was in two workers that died executes with nobody beside it.

        But for handlers that disobey: they have been given up, and may never end.
        """
        self.totals.bounds["S20"] += self._ledger.rows[job_id].crashes >= SUSPECT_MIN
        beside = self._ledger.executing_jobs(node)
        suspects = [each for each in beside if self._ledger.rows[each].crashes >= SUSPECT_MIN]
        told = f"{node.name} executes {short(job_id)} beside others, and a suspect is among them"
        self._require(len(beside) <= 1 or not suspects, "S20", told)

    def ended(self, job_id: UUID, seq: int, node: Node) -> None:
        """Take note of a handler that ends."""
        self._ledger.executing.pop((job_id, seq), None)
        self._trace.note(node.name, f"ended {short(job_id)} lease {seq}")

    def concluded(self, job_id: UUID, seq: int, verdict: str, pause: float) -> None:
        """Take note of what a handler came to; what disobeys may have been given up before."""
        execution = self._ledger.executing.get((job_id, seq))
        lease = self._ledger.leases.get((job_id, seq))
        if lease is not None and execution is not None and execution.obedient:
            lease.verdict = verdict
            lease.pause = self._seconds() + pause if verdict == "snooze" else pause

    @property
    def busy(self) -> list[Node]:
        """The processes that execute something just now."""
        executing = self._ledger.executing.values()
        return list({id(each.node): each.node for each in executing}.values())

    # --- order ---

    def ordered(self, operation: Operation, standing: Collection[Control]) -> None:
        """Take note of an order, and of all that stands since."""
        self._trace.note(operation.actor, f"{operation.action} {operation.scope}")
        self._orders.given(standing)

    def turn_taken(self, by: Node) -> None:
        """Take note of a process that takes a turn."""
        self._orders.turn_taken(by)

    def chosen(
        self, leased: Collection[Job], seen: Collection[Job], at: datetime, by: Node
    ) -> None:
        """S14, S21, L5: hold a turn's leases against what was ready, visible and due then.

        Args:
            leased: what the turn leased, as it was before.
            seen: every job that was ready.
            at: the instant of the turn.
            by: who took it.
        """
        before = {row.id: row for row in seen}
        self._turns.took([before.get(row.id, row) for row in leased], seen, at, by)

    def is_paused(self, row: Job) -> bool:
        """Tell whether operators let a job wait just now."""
        return self._orders.is_paused(row)

    def sound(self, slots: int | None) -> None:
        """Take note of how many slots there are, None while anything is in trouble."""
        if slots is None:
            self._turns.trouble()
        self._turns.slots = slots

    # --- what clients were told ---

    def acknowledged(self, job_id: UUID, tenant: str) -> None:
        """Take note of a job that a client was told is safe."""
        row = self._ledger.rows.get(job_id)
        self._require(
            row is None or row.tenant_id == tenant, "S16", "another tenant's job was told"
        )
        self.totals.acknowledged += 1
        self._ledger.promised.add(job_id)
        known = job_id in self._ledger.rows or job_id in self._ledger.forgotten
        self._require(known, "S1", f"{short(job_id)} was acknowledged and is not there")

    def disowned(self, job_id: UUID) -> None:
        """Take note of a job that was rolled back by its own client."""
        self._require(
            job_id not in self._ledger.rows, "S1", f"{short(job_id)} outlived its transaction"
        )

    def is_cancelled(self, job_id: UUID, seq: int) -> bool:
        """Tell whether a job whose lease had a number is cancelled, is to be, or has gone on."""
        row = self._ledger.rows.get(job_id)
        if row is None or row.lease_seq > seq:
            return True
        return row.cancel_requested or row.status is CANCELLED

    def promised_to(self, tenant: str) -> set[UUID]:
        """Return the jobs of a tenant that were acknowledged and are there."""
        own = self._ledger.rows_that(lambda row: row.tenant_id == tenant)
        return {row.id for row in own} & self._ledger.promised

    # --- what stands at a time ---

    def row(self, job_id: UUID) -> Job | None:
        """Return a row as it stands, if it is there."""
        return self._ledger.rows.get(job_id)

    def rows_that(self, is_meant: Callable[[Job], bool]) -> list[Job]:
        """Return some of the rows, in the order in which they were added."""
        return self._ledger.rows_that(is_meant)

    @property
    def unfinished(self) -> list[Job]:
        """The live jobs that can be read."""
        return self._ledger.unfinished

    @property
    def crowded(self) -> bool:
        """Whether more jobs are ready than any worker has slots."""
        return self._ledger.has_ready(more_than=self._terms.slots, now=self.now())

    @property
    def unreadable(self) -> Set[UUID]:
        """The rows that cannot be read any more."""
        return self._ledger.unreadable

    def dispatched_at(self, use_case: str) -> float:
        """Return when a job of a use case was last leased or buried; 0 for never."""
        return self._ledger.dispatched_at.get(use_case, 0.0)

    def overdue(self, seconds: float, *, unreadable: bool) -> Job | None:
        """Return a job whose lease has been over for so long, and that can be read or cannot."""
        limit = self.now() - timedelta(seconds=seconds)
        for row in self._ledger.rows.values():
            end = row.lease_expires_at
            if end is None or (row.id in self._ledger.unreadable) is not unreadable:
                continue
            if end < limit:
                return row
        return None

    def unheard(self, seconds: float) -> Job | None:
        """Return a job that executes on although its cancellation was asked for so long ago."""
        for row in self._ledger.rows.values():
            if not row.cancel_requested or row.status is not RUNNING or is_alone(row):
                continue
            lease = self._ledger.lease_of(row)
            at, node = lease.cancelled_at, lease.claimed_by
            if at is None or node is None or at > self._seconds() - seconds:
                continue
            if node.is_well_since(at):
                return row
        return None

    def stranded(self, node: Node) -> Job | None:
        """Return a job that a worker that has left in peace still holds."""
        for row in self._ledger.rows.values():
            if row.status is not RUNNING or row.started_at is None or row.id in self.unreadable:
                continue  # what nobody can read nobody can give back
            lease = self._ledger.lease_of(row)
            if lease.claimed_by is node and node.troubled_at < lease.claimed_at:
                return row
        return None

    def idle_use_cases(self, slots: int | None, window_min: int) -> set[str]:
        """Return the use cases that have a job to lease just now, with room for it everywhere.

        Args:
            slots: how many slots there are for all queues at least; None if no worker is there.
            window_min: how many hand-offs a queue may hold then.
        """
        now, limits = self.now(), self._orders.in_force()
        running = [row for row in self._ledger.rows.values() if row.status is RUNNING]
        unclaimed = Counter(row.queue for row in running if row.started_at is None)
        idle, unreadable = set[str](), self._ledger.unreadable
        for row in self._ledger.rows.values():
            if row.status is not PENDING or row.use_case in idle:
                continue
            if row.run_at > now or row.id in unreadable or self._orders.is_paused(row):
                continue
            cap = limits.use_case_configs[row.use_case].max_concurrent
            quota = limits.per_tenant_quotas.get(row.tenant_id, UNLIMITED).max_running
            if (
                self._ledger.running[row.use_case] < cap
                and (quota is None or self._ledger.tenant_running[row.tenant_id] < quota)
                and (unclaimed[row.queue] < window_min if slots is None else len(running) < slots)
            ):
                idle.add(row.use_case)
        return idle

    def conclude(self) -> None:
        """Check what must hold when everything has come to rest."""
        lost = self._ledger.promised - self._ledger.rows.keys() - self._ledger.forgotten
        self._require(not lost, "S1", f"{len(lost)} acknowledged jobs are lost")
        taken = [row for row in self.unfinished if row.status is RUNNING]
        self._require(not taken, "L4", f"{len(taken)} slots stay taken")
