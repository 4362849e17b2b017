"""Holds what happened against the promises, one commit after the other.

The rules are stated here a second time, in terms of rows, and on purpose not by calling the
package's own: what judges must not share a mistake with what is judged.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from tests.kills.book import Book, Execution
from tests.kills.ledger import Change, Final

LEASE_EXPIRED = "lease expired"
CRASHES_MAX = 5
NOBODY_DIED: Mapping[str, float] = MappingProxyType({})


class Broken(StrEnum):
    """The promises, by what it looks like when one is broken."""

    LOST = "S1: an acknowledged job does not exist"
    DELETED = "S1: a job was deleted"
    INVENTED = "S1: a job exists that nobody asked for"
    REFUSED = "S12: a job exists that was refused"
    NUMBER = "S2: the lease number did not grow by one with a lease, or grew without one"
    TWO_CLAIMS = "S3: a lease was claimed twice"
    STRAY_EXECUTION = "S3: a lease was executed that nobody had claimed"
    TWO_EXECUTIONS = "S3: a lease was executed twice"
    TWO_ENDS = "S4, S10: a lease ended twice"
    REAPED_ALIVE = "S4: a lease was ended as over before it was over"
    FOREIGN_RESULT = "S4: a result is of another lease than the one that it ended"
    ATTEMPTS = "S6: attempts above the maximum, or changed by what charges none"
    CRASHES = "S6: crashes above the maximum, or changed by what is none"
    REVIVED = "S7: a job that had ended came back unasked"
    CAP = "S8: more jobs of a use case ran than its capacity"
    TENANT_CAP = "S8: more jobs of a tenant ran than it may have"
    QUOTA = "S12: more new jobs of a tenant waited than it may have"
    TWINS = "S13: two live jobs have one dedupe key"
    EARLY = "S15: a job was started before its time"
    ILLEGAL = "S17: a transition that is not listed"
    TWO_SUCCESSES = "double-effective: a job succeeded twice"
    EMPTY_SUCCESS = "double-effective: a success that no execution had returned"
    NOT_ENDED = "L4: a job has not ended although the faults have"
    WRONG_END = "a job ended otherwise than planned"
    GAP = "evidence: the audit and the jobs do not agree"


class Limits(NamedTuple):
    """What may run and wait at most."""

    caps: Mapping[str, int]
    tenant_caps: Mapping[str, int]
    quotas: Mapping[str, int]


class Violation(NamedTuple):
    """One promise, broken once."""

    broken: Broken
    job_id: UUID | None
    told: str

    def __str__(self) -> str:
        return f"{self.broken.value}: {self.told} (job {self.job_id})"


class Expiry(NamedTuple):
    """A lease that ended because it was over.

    It could be ended from `lease_end` on. A lease can be over before it is there for others to
    see, when its transaction took that long: then from its commit on.
    """

    job_id: UUID
    lease_seq: int
    was_claimed: bool
    lease_end: float
    ended_at: float


@dataclass(slots=True)
class _Lease:
    claims: int = 0
    ends: int = 0
    attempt: int = 0
    worker_id: str | None = None
    ended_as: str = ""


@dataclass
class Verdict:
    """What was found, and how much was looked at."""

    violations: list[Violation] = field(default_factory=list)
    expiries: list[Expiry] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    most_running: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    jobs: int = 0
    executions: int = 0
    overlaps: int = 0
    """Executions that began while another one of the same job was still under way elsewhere.
    That is no violation: a process that was paused for longer than its lease does that."""


class Replay:
    """Goes through the commits in their order, then through the other accounts."""

    def __init__(self, limits: Limits, book: Book) -> None:
        self.verdict = Verdict()
        self._limits = limits
        self._book = book
        self._jobs: dict[UUID, Change] = {}
        self._leases: dict[tuple[UUID, int], _Lease] = defaultdict(_Lease)
        self._running: Counter[str] = Counter()
        self._tenant_running: Counter[str] = Counter()
        self._fresh: Counter[str] = Counter()
        self._keys: dict[tuple[str, str], set[UUID]] = defaultdict(set)
        self._retries: Counter[UUID] = Counter()
        self._successes: Counter[UUID] = Counter()

    def _find(self, broken: Broken, job_id: UUID | None, told: str) -> None:
        self.verdict.violations.append(Violation(broken, job_id, told))

    # --- commit by commit ---

    def commit(self, changes: Sequence[Change]) -> None:
        """Take the changes that one transaction made, in their order."""
        self.verdict.commits += 1
        for change in changes:
            before = self._jobs.get(change.job_id)
            if before is not None:
                self._count(before, -1)
            event = self._event(before, change)
            self.verdict.events[event] += 1
            if change.operation == "DELETE":
                self._jobs.pop(change.job_id, None)
                continue
            self._count(change, +1)
            self._jobs[change.job_id] = change
        # Only what a commit leaves behind was ever there for others to see.
        self._hold_to_limits(changes)

    def _count(self, change: Change, by: int) -> None:
        if change.status == "running":
            self._running[change.use_case] += by
            self._tenant_running[change.tenant_id] += by
        if change.status == "pending" and change.lease_seq == 0:
            self._fresh[change.tenant_id] += by
        if change.dedupe_key is not None and change.is_live:
            holders = self._keys[change.tenant_id, change.dedupe_key]
            (holders.add if by > 0 else holders.discard)(change.job_id)

    def _hold_to_limits(self, changes: Sequence[Change]) -> None:
        limits, last = self._limits, changes[-1].job_id
        for name in {change.use_case for change in changes}:
            count = self._running[name]
            self.verdict.most_running[name] = max(count, self.verdict.most_running[name])
            if count > limits.caps[name]:
                self._find(Broken.CAP, last, f"{count} of {name}")
        for name in {change.tenant_id for change in changes}:
            count, cap = self._tenant_running[name], limits.tenant_caps.get(name)
            self.verdict.most_running[name] = max(count, self.verdict.most_running[name])
            if cap is not None and count > cap:
                self._find(Broken.TENANT_CAP, last, f"{count} of {name}")
            # Jobs that came back for another attempt are not turned away, so the new ones count.
            count, quota = self._fresh[name], limits.quotas.get(name)
            if quota is not None and count > quota:
                self._find(Broken.QUOTA, last, f"{count} of {name}")
        for change in changes:
            if change.dedupe_key is not None:
                holders = self._keys[change.tenant_id, change.dedupe_key]
                if len(holders) > 1:
                    self._find(Broken.TWINS, change.job_id, f"{change.dedupe_key}: {holders}")

    # --- one change ---

    def _event(self, before: Change | None, after: Change) -> str:
        """Return what happened to a job; tells of all that is wrong with it."""
        if after.operation == "DELETE":
            self._find(Broken.DELETED, after.job_id, f"it was {after.status}")
            return "deleted"
        if before is None:
            return self._added(after)
        self._hold_numbers(before, after)
        match (before.status, after.status):
            case ("pending", "pending") if _is_alike(before, after):
                return "promoted"
            case ("pending", "running"):
                return self._leased(after)
            case ("pending", "cancelled"):
                return "cancelled"
            case ("running", "running"):
                return self._went_on(before, after)
            case ("running", _):
                return self._ended(before, after)
            case (("dead" | "cancelled"), "pending"):
                return self._retried(before, after)
            case (("succeeded" | "dead" | "cancelled"), _):
                self._find(Broken.REVIVED, after.job_id, f"{before.status} to {after.status}")
                return "revived"
            case _:
                return self._illegal(before, after)

    def _illegal(self, before: Change, after: Change) -> str:
        self._find(Broken.ILLEGAL, after.job_id, f"{before} to {after}")
        return "illegal"

    def _added(self, after: Change) -> str:
        is_new = (after.operation, after.status, after.lease_seq, after.attempts) == (
            "INSERT",
            "pending",
            0,
            0,
        )
        if not is_new:
            self._find(Broken.ILLEGAL, after.job_id, f"it began as {after}")
        return "added"

    def _hold_numbers(self, before: Change, after: Change) -> None:
        """Lease numbers and attempts move only by what may move them."""
        begins_lease = (before.status, after.status) == ("pending", "running")
        is_retried = not before.is_live and after.status == "pending"
        grown = after.lease_seq - before.lease_seq
        if grown != (1 if begins_lease or is_retried else 0):
            told = f"{before.lease_seq} to {after.lease_seq}, {before.status} to {after.status}"
            self._find(Broken.NUMBER, after.job_id, told)
        is_claim = before.status == after.status == "running" and (
            after.is_claimed and not before.is_claimed
        )
        charged = after.attempts - before.attempts
        refunds = before.status == "running" and before.is_claimed and after.status == "pending"
        crashed = after.crashes - before.crashes
        if is_retried:
            is_right = after.attempts == after.crashes == 0
        elif crashed:
            is_right = charged == -1
        elif is_claim:
            is_right = charged == 1
        else:
            is_right = charged == 0 or (refunds and charged == -1)
        if not is_right or not 0 <= after.attempts <= after.max_attempts:
            told = f"{before.attempts} to {after.attempts} of {after.max_attempts}"
            self._find(Broken.ATTEMPTS, after.job_id, told)
        ends = after.status != "running" and before.status == "running" and before.is_claimed
        expired = ends and (after.last_error or "").startswith(LEASE_EXPIRED)
        may_crash = expired or (ends and after.status == "cancelled")
        if not is_retried and (
            crashed not in ((0, 1) if may_crash else (0,))
            or after.crashes > CRASHES_MAX
            or (after.crashes == CRASHES_MAX and after.status not in ("dead", "cancelled"))
        ):
            told = f"{before.crashes} to {after.crashes} crashes, and {after.status}"
            self._find(Broken.CRASHES, after.job_id, told)

    def _leased(self, after: Change) -> str:
        self._hold_time(after)
        if after.is_claimed or after.lease_end is None:
            self._find(Broken.ILLEGAL, after.job_id, f"leased as {after}")
        return "leased"

    def _hold_time(self, after: Change) -> None:
        if after.at < after.run_at:
            told = f"{after.run_at - after.at:.6f} s"
            self._find(Broken.EARLY, after.job_id, told)

    def _went_on(self, before: Change, after: Change) -> str:
        if after.is_claimed and not before.is_claimed:
            self._hold_time(after)
            lease = self._leases[after.job_id, after.lease_seq]
            lease.claims += 1
            lease.attempt, lease.worker_id = after.attempts, after.worker_id
            if lease.claims > 1:
                self._find(Broken.TWO_CLAIMS, after.job_id, f"lease {after.lease_seq}")
            return "claimed"
        if before.is_claimed != after.is_claimed or before.worker_id != after.worker_id:
            return self._illegal(before, after)
        if after.cancel_requested and not before.cancel_requested and after.is_claimed:
            return "cancel requested"
        if before.lease_end != after.lease_end:
            return "renewed"
        return self._illegal(before, after)

    def _ended(self, before: Change, after: Change) -> str:
        lease = self._leases[before.job_id, before.lease_seq]
        lease.ends += 1
        lease.ended_as = after.status
        if lease.ends > 1:
            self._find(Broken.TWO_ENDS, after.job_id, f"lease {before.lease_seq}")
        match after.status:
            case "pending":
                return self._came_back(before, after)
            case "succeeded" if before.is_claimed:
                self._successes[after.job_id] += 1
                if self._successes[after.job_id] > 1:
                    self._find(Broken.TWO_SUCCESSES, after.job_id, f"lease {before.lease_seq}")
                if after.result_seq != before.lease_seq:
                    told = f"the result of lease {after.result_seq} ended {before.lease_seq}"
                    self._find(Broken.FOREIGN_RESULT, after.job_id, told)
                return "succeeded"
            case "dead" if before.is_claimed:
                if after.crashes > before.crashes:
                    self._expired(before, after)
                return "died"
            case "cancelled" if before.cancel_requested or not before.is_claimed:
                return "cancelled"
            case _:
                return self._illegal(before, after)

    def _came_back(self, before: Change, after: Change) -> str:
        if before.cancel_requested:
            # A cancel request outlives the attempt that it met.
            return self._illegal(before, after)
        if not before.is_claimed:
            if after.enqueue_failed:
                return "hand-off failed"
            self._expired(before, after)
            return "expired unclaimed"
        if after.crashes > before.crashes:
            self._expired(before, after)
            return "expired"
        if after.attempts < before.attempts:
            return "released"
        return "failed"

    def _expired(self, before: Change, after: Change) -> None:
        assert before.lease_end is not None
        since = max(before.lease_end, before.committed_at)
        expiry = Expiry(after.job_id, before.lease_seq, before.is_claimed, since, after.at)
        self.verdict.expiries.append(expiry)
        if after.at < before.lease_end:
            told = f"{before.lease_end - after.at:.6f} s too early"
            self._find(Broken.REAPED_ALIVE, after.job_id, told)

    def _retried(self, before: Change, after: Change) -> str:
        self._retries[after.job_id] += 1
        if self._retries[after.job_id] > self._book.retry_tries[after.job_id]:
            self._find(Broken.REVIVED, after.job_id, f"{before.status}, and nobody retried it")
        if after.cancel_requested or after.is_claimed:
            return self._illegal(before, after)
        return "retried"

    # --- the other accounts ---

    def finish(
        self,
        final: Mapping[UUID, Final],
        executions: Iterable[Execution],
        *,
        died: Mapping[str, float] = NOBODY_DIED,
        strays: int = 0,
    ) -> Verdict:
        """Compare with the rows at the end, with the clients' book and with the executions.

        Args:
            final: the rows.
            executions: the handlers' record, in the order in which it was written.
            died: when each process died that was killed, by the clock of the record.
            strays: changes of which no commit is known.
        """
        if strays:
            self._find(Broken.GAP, None, f"{strays} changes belong to no known commit")
        self._hold_to_rows(final)
        self._hold_to_book(final)
        self._hold_to_executions(executions, died)
        return self.verdict

    def _hold_to_rows(self, final: Mapping[UUID, Final]) -> None:
        self.verdict.jobs = len(final)
        for job_id in self._jobs.keys() ^ final.keys():
            self._find(Broken.GAP, job_id, "it is in one of the two only")
        for job_id in self._jobs.keys() & final.keys():
            last, row = self._jobs[job_id], final[job_id]
            replayed = (last.status, last.lease_seq, last.attempts, last.crashes, last.result_seq)
            if replayed != tuple(row)[1:]:
                self._find(Broken.GAP, job_id, f"{replayed} in the audit, {row} in the table")

    def _hold_to_book(self, final: Mapping[UUID, Final]) -> None:
        book = self._book
        for job_id in (book.acknowledged - final.keys()) | book.missing:
            self._find(Broken.LOST, job_id, f"{book.planned.get(job_id)}")
        for job_id in book.refused & final.keys():
            self._find(Broken.REFUSED, job_id, f"{book.planned.get(job_id)}")
        for job_id, row in final.items():
            if job_id not in book.planned:
                self._find(Broken.INVENTED, job_id, f"{row}")
            elif row.status in ("pending", "running"):
                self._find(Broken.NOT_ENDED, job_id, f"{row}")
            elif row.crashes == CRASHES_MAX and row.status == "dead":
                continue  # its workers were killed once too often
            elif row.status not in book.ends(job_id):
                self._find(Broken.WRONG_END, job_id, f"{row}, not {book.planned[job_id].end}")

    def _hold_to_executions(
        self, executions: Iterable[Execution], died: Mapping[str, float]
    ) -> None:
        began: dict[tuple[UUID, int], Execution] = {}
        under_way: dict[UUID, dict[int, str]] = defaultdict(dict)
        returned = set[tuple[UUID, int]]()
        processes: dict[str, str] = {}
        for line in executions:
            key = line.job_id, line.lease_seq
            if line.what != "began":
                under_way[line.job_id].pop(line.lease_seq, None)
                if line.what == "returned":
                    returned.add(key)
                continue
            self.verdict.executions += 1
            others = under_way[line.job_id].values()
            self.verdict.overlaps += any(died.get(p, math.inf) > line.at for p in others)
            under_way[line.job_id][line.lease_seq] = line.process
            if key in began:
                self._find(Broken.TWO_EXECUTIONS, line.job_id, f"{began[key]} and {line}")
            began[key] = line
            self._hold_to_claim(line, processes)
        for (job_id, lease_seq), lease in self._leases.items():
            if lease.ended_as == "succeeded" and (job_id, lease_seq) not in returned:
                self._find(Broken.EMPTY_SUCCESS, job_id, f"lease {lease_seq}")

    def _hold_to_claim(self, line: Execution, processes: dict[str, str]) -> None:
        """An execution belongs to a claim, made by the process that executes."""
        lease = self._leases.get((line.job_id, line.lease_seq))
        if lease is None or not lease.claims or lease.attempt != line.attempt:
            self._find(Broken.STRAY_EXECUTION, line.job_id, f"{line}")
            return
        worker_id = str(lease.worker_id)
        if processes.setdefault(worker_id, line.process) != line.process:
            told = f"{line}; the claim is of {processes[worker_id]}"
            self._find(Broken.STRAY_EXECUTION, line.job_id, told)


def _is_alike(before: Change, after: Change) -> bool:
    """Tell whether nothing that is audited changed: a scheduled job that came due."""
    same: dict[str, Any] = {"operation": "", "at": 0.0, "committed_at": 0.0}
    return before._replace(**same) == after._replace(**same)
