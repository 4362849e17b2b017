"""The judge: holds every committed change against the rules, and trusts nobody.

It keeps its own copy of every row and knows of the system only what it sees: which process wrote
what, which handlers really execute, and what time it really is. The rules are written down here a
second time, apart from the domain's; their numbers are those of `docs/reliability.md`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from async_jobs.application.registry import JobContext
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import Job, JobStatus, Payload
from async_jobs.domain.limits import UNLIMITED, Limits
from tests.simulation.loop import Process

PENDING, RUNNING = JobStatus.PENDING, JobStatus.RUNNING
SUCCEEDED, DEAD, CANCELLED = JobStatus.SUCCEEDED, JobStatus.DEAD, JobStatus.CANCELLED
ENDED = (SUCCEEDED, DEAD, CANCELLED)
SECRET = "the-contents-of-a-payload"
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
)
"""What nothing that happens to a job ever changes."""
OWN_LOOP = "own-loop"
"""What the names of workers begin with whose executions nobody tells the judge of."""


class Violation(Exception):
    """A rule was broken."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(rule, what)
        self.rule = rule
        self.what = what

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


@dataclass(eq=False)
class Node:
    """A process and what excuses it.

    Attributes:
        role: api, scheduler or worker.
        clock_error: by how many seconds its clock may be wrong, as it could measure it.
        stood_at: when it last stood still, in seconds of the simulation.
        troubled_at: until when anything last went wrong for it.
        leaving: it was told to stop, or has ended.
    """

    process: Process
    role: str
    clock_error: float = 0.0
    stood_at: float = -1.0
    troubled_at: float = 0.0
    leaving: bool = False

    @property
    def name(self) -> str:
        return self.process.name

    def has_trouble(self, until: float) -> None:
        """Take note that something goes wrong for it, up to an instant."""
        self.troubled_at = max(self.troubled_at, until)

    def has_stood_since(self, at: float) -> bool:
        return self.process.standing > 0 or self.stood_at >= at

    def is_well_since(self, at: float) -> bool:
        """Tell whether nothing whatever has happened to it."""
        alive = not (self.process.dead or self.leaving)
        return alive and self.troubled_at < at and not self.has_stood_since(at)


@dataclass
class Lease:
    """One lease of a job: who claimed it when, how often it was executed and ended, when
    somebody asked for its cancellation, and what an obedient handler came to."""

    claimed_by: Node | None = None
    claimed_at: float = 0.0
    executions: int = 0
    endings: int = 0
    cancelled_at: float | None = None
    verdict: str | None = None
    pause: float = 0.0


@dataclass
class Execution:
    """A handler that executes."""

    node: Node
    began_at: float
    obedient: bool


class Trace:
    """What happened, line by line: a running hash of all, the last lines themselves."""

    def __init__(self, kept: int | None = 200) -> None:
        self._hash = hashlib.blake2b(digest_size=8)
        self.lines: deque[str] = deque(maxlen=kept)
        self.length = 0

    def note(self, at: float, who: str, what: str) -> None:
        line = f"{at:12.4f}  {who:14}  {what}"
        self._hash.update(line.encode())
        self.lines.append(line)
        self.length += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


@dataclass
class Totals:
    """What was checked."""

    transitions: Counter[str] = field(default_factory=Counter)
    executions: int = 0
    acknowledged: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    bounds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Totals) -> None:
        self.transitions += other.transitions
        self.executions += other.executions
        self.acknowledged += other.acknowledged
        self.faults += other.faults
        self.bounds += other.bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the system was set up with, in simulated seconds.

    Attributes:
        retention: how long finished jobs have to be kept.
        dispatch, lease: how long unclaimed and claimed leases last at most.
        margin: how long before the end of its lease an obedient handler is stopped.
        reap: how long after its end a lease is reaped at most, where nothing goes wrong.
        slots: how many handlers a worker executes at most.
    """

    retention: float
    dispatch: float = 60.0
    lease: float = 60.0
    margin: float = 6.0
    reap: float = 15.0
    slots: int = 3


class Judge:
    """Checks every change at the moment of its commit.

    Args:
        limits: what the system was configured with.
        terms: the durations it was configured with.
        seconds: the true time of the simulation.
        now: the same as an instant, by the database's clock.
        on_violation: told of the first rule that was broken; the simulation ends then.
        trace: told of everything.
        secret: what stands in payloads, and must not stand in errors.
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
        secret: str = SECRET,
    ) -> None:
        self._secret = secret
        self._limits = limits
        self._terms = terms
        self._retention = timedelta(seconds=terms.retention)
        self._seconds = seconds
        self.now = now
        self._on_violation = on_violation
        self._trace = trace
        self.rows: dict[UUID, Job] = {}
        self.live = 0
        self.totals = Totals()
        self._running: Counter[str] = Counter()
        self._tenant_running: Counter[str] = Counter()
        self._pending: Counter[str] = Counter()
        self._keys: dict[tuple[str, str], UUID] = {}
        self._leases: dict[tuple[UUID, int], Lease] = {}
        self._seqs: dict[UUID, list[int]] = {}
        self._executing: dict[tuple[UUID, int], Execution] = {}
        self.promised: set[UUID] = set()
        self._forgotten: set[UUID] = set()
        self.unreadable: set[UUID] = set()
        self.dispatched_at: dict[str, float] = {}

    def violated(self, rule: str, what: str) -> None:
        """Say that a rule was broken."""
        self._trace.note(self._seconds(), "judge", f"{rule} BROKEN: {what}")
        self._on_violation(Violation(rule, what))

    def require(self, holds: bool, rule: str, what: str) -> None:
        """Say that a rule was broken unless it holds."""
        if not holds:
            self.violated(rule, what)

    # --- rows ---

    def stored(self, after: Job, by: Node) -> None:
        """Take note of a row as it was just written."""
        before = self.rows.get(after.id)
        self.rows[after.id] = after
        slack = timedelta(seconds=by.clock_error)
        self.require(
            after.updated_at <= self.now() + slack,
            "S15",
            f"{by.name} writes of {after.updated_at}, which is {after.updated_at - self.now()}"
            " ahead",
        )
        self.require(after.attempts <= after.max_attempts, "S6", "more attempts than allowed")
        self._count(before, -1)
        self._count(after, +1)
        kind = self._kind(before, after, by)
        self.totals.transitions[kind] += 1
        self._check_key(after)
        self.require(self._secret not in (after.last_error or ""), "S19", "an error tells")
        where = (
            "" if after.lease_expires_at is None else f" until {after.lease_expires_at:%H:%M:%S}"
        )
        self._trace.note(
            self._seconds(),
            by.name,
            f"{kind} {short(after.id)} lease {after.lease_seq} attempt {after.attempts}{where}",
        )

    def forgotten(self, job_id: UUID, by: Node, *, committed: bool) -> None:
        """Take note of a row that is gone."""
        row = self.rows.pop(job_id)
        self._count(row, -1)
        key = (row.tenant_id, row.dedupe_key or "")
        if self._keys.get(key) == job_id:
            del self._keys[key]
        if not committed:
            self.totals.transitions["rolled back"] += 1
            self._trace.note(self._seconds(), by.name, f"rolled back {short(job_id)}")
            return
        finished, slack = row.finished_at, timedelta(seconds=by.clock_error)
        self.require(row.status in ENDED, "S1", f"a {row.status} job was forgotten")
        self.require(
            finished is not None and finished + self._retention <= self.now() + slack,
            "S1",
            "a job was forgotten before its retention was over",
        )
        self._forgotten.add(job_id)
        for seq in self._seqs.pop(job_id, []):
            self._leases.pop((job_id, seq), None)
        self.totals.transitions["purged"] += 1
        self._trace.note(self._seconds(), by.name, f"purged {short(job_id)}")

    def _count(self, row: Job | None, by: int) -> None:
        if row is None:
            return
        if row.status is PENDING:
            self._pending[row.tenant_id] += by
            self.live += by
        elif row.status is RUNNING:
            self._running[row.use_case] += by
            self._tenant_running[row.tenant_id] += by
            self.live += by

    def _check_key(self, row: Job) -> None:
        if row.dedupe_key is None:
            return
        key = (row.tenant_id, row.dedupe_key)
        holder = self._keys.get(key)
        if row.status in ENDED:
            if holder == row.id:
                del self._keys[key]
            return
        self.require(holder in (None, row.id), "S13", f"two live jobs have the key {key}")
        self._keys[key] = row.id

    # --- what a change was ---

    def _kind(self, before: Job | None, after: Job, by: Node) -> str:
        if before is None:
            return self._added(after)
        changed = [name for name in FIXED if getattr(before, name) != getattr(after, name)]
        self.require(not changed, "S17", f"{', '.join(changed)} changed")
        self.require(after.lease_seq >= before.lease_seq, "S2", "a lease number went back")
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
                self.require(by.role == "api", "S17", f"{by.name} cancelled it unasked")
                return "cancelled pending"
            case (JobStatus.PENDING, JobStatus.DEAD):
                return self._buried(before, after)
            case (JobStatus.DEAD | JobStatus.CANCELLED, JobStatus.PENDING):
                return self._retried(before, after, by)
            case _:
                rule = "S7" if before.status in ENDED else "S17"
                self.violated(rule, f"{before.status} became {after.status}")
                return "illegal"

    def _added(self, after: Job) -> str:
        limit = self._limits.per_tenant_quotas.get(after.tenant_id, UNLIMITED).max_pending_jobs
        self.require(after.status is PENDING and not after.lease_seq, "S17", "added otherwise")
        self.require(
            limit is None or self._pending[after.tenant_id] <= limit,
            "S12",
            f"{self._pending[after.tenant_id]} pending jobs of {after.tenant_id}, {limit} allowed",
        )
        return "added"

    def _leased(self, before: Job, after: Job, by: Node) -> str:
        cap = self._limits.use_case_configs[after.use_case].max_concurrent
        limit = self._limits.per_tenant_quotas.get(after.tenant_id, UNLIMITED).max_running
        running, mine = self._running[after.use_case], self._tenant_running[after.tenant_id]
        self.require(running <= cap, "S8", f"{running} run of {after.use_case}, {cap} allowed")
        self.require(
            limit is None or mine <= limit,
            "S8",
            f"{mine} run of {after.tenant_id}, {limit} allowed",
        )
        self.require(after.lease_seq == before.lease_seq + 1, "S2", "a lease without a new number")
        self.require(after.started_at is None, "S17", "leased and claimed at once")
        self.require(after.attempts == before.attempts, "S6", "a lease charged an attempt")
        self.require(before.run_at <= after.updated_at, "S15", "leased before it was due")
        buried = self._is_buried(before, after.updated_at)
        self.require(not buried, "S17", "leased although it is too late for it to run")
        self._check_length(after, self._terms.dispatch, "L2", alone=by.role == "api")
        self.dispatched_at[after.use_case] = self._seconds()
        self._leases[after.id, after.lease_seq] = Lease()
        self._seqs.setdefault(after.id, []).append(after.lease_seq)
        return "leased"

    def _claimed(self, before: Job, after: Job, by: Node) -> str:
        lease = self._leases[after.id, after.lease_seq]
        self._same_lease(before, after)
        self.require(after.started_at is not None, "S17", "running unclaimed became the same")
        self.require(lease.claimed_by is None, "S3", "a lease was claimed twice")
        self.require(after.attempts == before.attempts + 1, "S6", "a claim charged no attempt")
        end = before.lease_expires_at
        self.require(
            end is not None and after.updated_at < end, "S3", "a lease was claimed after its end"
        )
        self._check_length(after, self._terms.lease, "L1", alone=_is_alone(after))
        lease.claimed_by, lease.claimed_at = by, self._seconds()
        return "claimed"

    def _check_length(self, after: Job, longest: float, rule: str, *, alone: bool) -> None:
        """A lease that is too long is found out about too late."""
        end = after.lease_expires_at
        told = after.updated_at + timedelta(seconds=longest)
        self.require(alone or (end is not None and end <= told), rule, "the lease is too long")

    def _kept(self, before: Job, after: Job, by: Node) -> str:
        self._same_lease(before, after)
        self.require(after.attempts == before.attempts, "S6", "the attempts changed")
        self.require(after.started_at == before.started_at, "S17", "claimed a second time")
        if after.cancel_requested != before.cancel_requested:
            self.require(after.cancel_requested, "S17", "a cancel request was forgotten")
            self._leases[after.id, after.lease_seq].cancelled_at = self._seconds()
            return "cancel requested"
        end = before.lease_expires_at
        self.require(self._owner(after) is by, "S4", f"renewed by {by.name}, who has no lease")
        self.require(
            end is not None and after.updated_at < end, "S4", "a lease was renewed after its end"
        )
        self._check_length(after, self._terms.lease, "L1", alone=False)
        return "renewed"

    def _ended(self, before: Job, after: Job, by: Node) -> str:
        lease = self._leases[before.id, before.lease_seq]
        lease.endings += 1
        self._same_lease(before, after)
        self.require(lease.endings == 1, "S10", "a lease ended twice")
        self.require(after.lease_expires_at is None, "S10", "it ended and kept its lease")
        if self._is_set_aside(before, after, by):
            return "set aside"
        self.require(
            after.status is not PENDING or not before.cancel_requested,
            "S17",
            "a job whose cancellation was asked for is pending again",
        )
        if lease.claimed_by is None:
            return self._ended_unclaimed(before, after, by)
        asked = before.cancel_requested or after.status is not CANCELLED
        self.require(asked, "S17", f"{by.name} cancelled it unasked")
        if lease.claimed_by is by:
            self._check_execution(before, since=None)
            self._check_outcome(before, after, lease)
            self._check_verdict(before, after, lease)
            return f"settled {after.status}"
        self._check_execution(before, since=self._end_of(before) - self._terms.margin)
        self._check_reaped(before, after, by, f"{by.name} ended what {lease.claimed_by.name} does")
        self.require(after.attempts == before.attempts, "S6", "a reap changed the attempts")
        self.require(after.status is not SUCCEEDED, "S4", f"{by.name} told of another's success")
        needless = lease.claimed_by.is_well_since(lease.claimed_at) and not _is_alone(before)
        self.require(not needless, "S4", f"{lease.claimed_by.name} lost a lease for no reason")
        return "reaped claimed"

    def _is_set_aside(self, before: Job, after: Job, by: Node) -> bool:
        """Tell whether a scheduler gave back a row that cannot be read, and check how."""
        if before.id not in self.unreadable or by.role != "scheduler" or after.status in ENDED:
            return False
        if after.run_at <= after.updated_at or after.errors != before.errors:
            return False  # reaped by somebody who had read it before
        over = before.lease_expires_at is not None and before.lease_expires_at <= after.updated_at
        self.require(over, "S4", "an unreadable row was set aside before its time")
        self._check_execution(before, since=self._end_of(before) - self._terms.margin)
        charged = min(before.attempts, before.max_attempts - 1)
        self.require(after.attempts == charged, "S6", "setting aside changed the attempts")
        return True

    def _check_outcome(self, before: Job, after: Job, lease: Lease) -> None:
        """What was done is charged, what was given back is not, and nobody tells of nothing."""
        refunded = before.attempts - after.attempts
        failed = after.errors != before.errors
        if after.status is PENDING:
            self.require(refunded == (0 if failed else 1), "S6", f"refunded {refunded} attempts")
        elif after.status is not CANCELLED:
            self.require(not refunded, "S6", f"{after.status}, and refunded {refunded} attempts")
        tells = after.status in (SUCCEEDED, DEAD) or failed
        self.require(
            _is_alone(before) or not tells or lease.executions > 0,
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
                due = self._seconds() + (after.run_at - self.now()).total_seconds()
                slack = 2 * (lease.claimed_by.clock_error if lease.claimed_by else 0.0)
                told = told and (after.status is not PENDING or due >= lease.pause - slack)
            case _:
                return
        self.require(told, "S17", f"the handler came to {lease.verdict}, stored is {after.status}")

    def _end_of(self, row: Job) -> float:
        """Return when a lease ends, in seconds of the simulation."""
        assert row.lease_expires_at is not None
        return self._seconds() + (row.lease_expires_at - self.now()).total_seconds()

    def _ended_unclaimed(self, before: Job, after: Job, by: Node) -> str:
        self.require(after.attempts == before.attempts, "S6", "an unclaimed lease was charged")
        if after.status is CANCELLED:
            asked = by.role == "api" or before.cancel_requested
            self.require(asked, "S17", f"{by.name} cancelled it unasked")
            return "cancelled handed off"
        self.require(after.status is PENDING, "S17", f"unclaimed, and {after.status} at once")
        if after.enqueue_failed:
            return "taken back"
        self._check_reaped(before, after, by, "an unclaimed lease ended before its time")
        return "reaped unclaimed"

    def _check_reaped(self, before: Job, after: Job, by: Node, what: str) -> None:
        end = before.lease_expires_at
        self.require(end is not None and end <= after.updated_at, "S4", what)
        over_at = self._end_of(before)
        if before.id not in self.unreadable and by.is_well_since(over_at - self._terms.reap):
            self.totals.bounds["L1" if before.started_at else "L2"] += 1
            late = self._seconds() - over_at
            self.require(late <= self._terms.reap, "L1", f"reaped {late:.1f} s after its end")

    def _check_execution(self, before: Job, *, since: float | None) -> None:
        """S9: whoever obeys has stopped before its lease is somebody else's.

        Who stood still after an instant is excused; or at any time since it began.
        """
        execution = self._executing.get((before.id, before.lease_seq))
        if execution is None or execution.node.process.dead or not execution.obedient:
            return
        self.require(
            execution.node.has_stood_since(execution.began_at if since is None else since),
            "S9",
            f"{execution.node.name} still executes {short(before.id)}, whose lease has ended",
        )

    def _buried(self, before: Job, after: Job) -> str:
        self._same_lease(before, after)
        self.dispatched_at[after.use_case] = self._seconds()
        policy = self._limits.use_case_configs[after.use_case].late_policy
        late = before.deadline_at < after.updated_at
        self.require(policy is LatePolicy.EXPIRE and late, "S17", "buried without being late")
        return "expired"

    def _retried(self, before: Job, after: Job, by: Node) -> str:
        self.require(by.role == "api", "S7", f"{by.name} revived a job that had ended")
        self.require(after.lease_seq > before.lease_seq, "S2", "another life under the old number")
        self.require(after.attempts == 0, "S6", "another life without its attempts")
        return "retried"

    def _same_lease(self, before: Job, after: Job) -> None:
        self.require(after.lease_seq == before.lease_seq, "S2", "a number changed without a lease")

    def _owner(self, row: Job) -> Node | None:
        return self._leases[row.id, row.lease_seq].claimed_by

    # --- executions ---

    def began(self, context: JobContext, payload: Payload, node: Node, *, obedient: bool) -> None:
        """Take note of a handler that begins, and of what it was given."""
        job_id, seq = context.job_id, context.lease_seq
        self.totals.executions += 1
        self._trace.note(self._seconds(), node.name, f"began {short(job_id)} lease {seq}")
        lease = self._leases.get((job_id, seq))
        if lease is None:
            if job_id not in self._forgotten:
                self.violated("S3", "a lease is executed that nobody gave")
            return
        lease.executions += 1
        self.require(lease.executions == 1, "S3", "a lease is executed twice")
        self.require(lease.claimed_by is node, "S3", f"{node.name} executes another's lease")
        self._executing[job_id, seq] = Execution(node, self._seconds(), obedient)
        mine = self._executing_in(node)
        self.require(mine <= self._terms.slots, "S9", f"{node.name} executes {mine} at once")
        row = self.rows[job_id]
        given = (context.tenant_id, context.use_case, context.type, payload)
        told = given == (row.tenant_id, row.use_case, row.type, row.payload)
        self.require(told, "S17", "a handler was given another job's contents")
        if row.status is RUNNING and row.lease_seq == seq:
            slack = timedelta(seconds=node.clock_error)
            self.require(row.run_at <= self.now() + slack, "S15", "started before it was due")
            self.require(row.attempts == context.attempt, "S6", "told of another attempt")
        else:
            excused = node.has_stood_since(lease.claimed_at)
            self.require(excused, "S9", f"{node.name} began what it had lost")

    def ended(self, job_id: UUID, seq: int, node: Node) -> None:
        """Take note of a handler that ends."""
        self._executing.pop((job_id, seq), None)
        self._trace.note(self._seconds(), node.name, f"ended {short(job_id)} lease {seq}")

    def concluded(self, job_id: UUID, seq: int, verdict: str, pause: float) -> None:
        """Take note of what a handler came to; what disobeys may have been given up before."""
        execution = self._executing.get((job_id, seq))
        lease = self._leases.get((job_id, seq))
        if lease is not None and execution is not None and execution.obedient:
            lease.verdict = verdict
            lease.pause = self._seconds() + pause if verdict == "snooze" else pause

    def _executing_in(self, node: Node) -> int:
        return sum(e.node is node and e.obedient for e in self._executing.values())

    @property
    def busy(self) -> list[Node]:
        """The processes that execute something just now."""
        return list({id(e.node): e.node for e in self._executing.values()}.values())

    def is_cancelled(self, job_id: UUID, seq: int) -> bool:
        """Tell whether a job whose lease had a number is cancelled, is to be, or has gone on."""
        row = self.rows.get(job_id)
        if row is None or row.lease_seq > seq:
            return True
        return row.cancel_requested or row.status is CANCELLED

    # --- order ---

    def chosen(self, leased: Iterable[Job], seen: Iterable[Job], at: datetime) -> None:
        """S14: hold a turn's leases against what was ready, visible and due when it looked.

        Args:
            leased: what the turn leased, as it was before.
            seen: every job that was ready.
            at: the instant of the turn.
        """
        worst: dict[tuple[str, str, str], tuple[bool, int, datetime, UUID]] = {}
        taken = set()
        for row in leased:
            taken.add(row.id)
            lane = (row.tenant_id, row.use_case, row.queue)
            worst[lane] = max(worst.get(lane, self._rank(row, at)), self._rank(row, at))
        for row in seen:
            last = worst.get((row.tenant_id, row.use_case, row.queue))
            if last is None or row.id in taken or self._is_buried(row, at):
                continue
            now = self.rows.get(row.id)
            if now is not None and now.status is PENDING and now.lease_seq == row.lease_seq:
                self.require(self._rank(row, at) > last, "S14", f"{short(row.id)} was left behind")

    def _is_buried(self, row: Job, at: datetime) -> bool:
        policy = self._limits.use_case_configs[row.use_case].late_policy
        return policy is LatePolicy.EXPIRE and row.deadline_at < at

    def _rank(self, row: Job, at: datetime) -> tuple[bool, int, datetime, UUID]:
        policy = self._limits.use_case_configs[row.use_case].late_policy
        late = policy is LatePolicy.SIDELINE and row.deadline_at < at
        return (late, -row.priority, row.deadline_at, row.id)

    # --- what clients were told ---

    def acknowledged(self, job_id: UUID, tenant: str) -> None:
        """Take note of a job that a client was told is safe."""
        row = self.rows.get(job_id)
        self.require(row is None or row.tenant_id == tenant, "S16", "another tenant's job was told")
        self.totals.acknowledged += 1
        self.promised.add(job_id)
        known = job_id in self.rows or job_id in self._forgotten
        self.require(known, "S1", f"{short(job_id)} was acknowledged and is not there")

    def disowned(self, job_id: UUID) -> None:
        """Take note of a job that was rolled back by its own client."""
        self.require(job_id not in self.rows, "S1", f"{short(job_id)} outlived its transaction")

    # --- what stands at a time ---

    def overdue(self, seconds: float, *, unreadable: bool) -> Job | None:
        """Return a job whose lease has been over for so long, and that can be read or cannot."""
        limit = self.now() - timedelta(seconds=seconds)
        for row in self.rows.values():
            if row.lease_expires_at is None or (row.id in self.unreadable) is not unreadable:
                continue
            if row.lease_expires_at < limit:
                return row
        return None

    def unheard(self, seconds: float) -> Job | None:
        """Return a job that executes on although its cancellation was asked for so long ago."""
        for row in self.rows.values():
            if not row.cancel_requested or row.status is not RUNNING or _is_alone(row):
                continue
            lease = self._leases[row.id, row.lease_seq]
            at, node = lease.cancelled_at, lease.claimed_by
            if at is None or node is None or at > self._seconds() - seconds:
                continue
            if node.is_well_since(at):
                return row
        return None

    def stranded(self, node: Node) -> Job | None:
        """Return a job that a worker that has left in peace still holds."""
        for row in self.rows.values():
            if row.status is not RUNNING or row.started_at is None:
                continue
            lease = self._leases[row.id, row.lease_seq]
            if lease.claimed_by is node and node.troubled_at < lease.claimed_at:
                return row
        return None

    def idle_use_cases(self, window_min: int) -> set[str]:
        """Return the use cases that have a job to lease just now, with room for it everywhere."""
        now = self.now()
        unclaimed = Counter(
            row.queue
            for row in self.rows.values()
            if row.status is RUNNING and row.started_at is None
        )
        idle = set()
        for row in self.rows.values():
            if row.status is not PENDING or row.run_at > now or row.id in self.unreadable:
                continue
            cap = self._limits.use_case_configs[row.use_case].max_concurrent
            quota = self._limits.per_tenant_quotas.get(row.tenant_id, UNLIMITED).max_running
            if (
                self._running[row.use_case] < cap
                and (quota is None or self._tenant_running[row.tenant_id] < quota)
                and unclaimed[row.queue] < window_min
            ):
                idle.add(row.use_case)
        return idle

    @property
    def unfinished(self) -> list[Job]:
        """The live jobs that can be read."""
        return [
            row
            for row in self.rows.values()
            if row.status not in ENDED and row.id not in self.unreadable
        ]

    def conclude(self) -> None:
        """Check what must hold when everything has come to rest."""
        lost = self.promised - self.rows.keys() - self._forgotten
        self.require(not lost, "S1", f"{len(lost)} acknowledged jobs are lost")
        taken = [row for row in self.unfinished if row.status is RUNNING]
        self.require(not taken, "L4", f"{len(taken)} slots stay taken")


def _is_alone(row: Job) -> bool:
    """Tell whether it is executed by somebody who renews nothing and tells the judge nothing."""
    return (row.worker_id or "").startswith(OWN_LOOP)


def short(job_id: UUID) -> str:
    """Return enough of an id to tell jobs apart."""
    return job_id.hex[-6:]
