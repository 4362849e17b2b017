"""The verdict finds each violation in a forged ledger: a check that cannot fail shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from tests.kills.book import Book, Execution, Plan
from tests.kills.ledger import Change, Final
from tests.kills.verdict import Broken, Expiry, Limits, Replay, Verdict

JOB, OTHER, THIRD = (UUID(int=number) for number in (1, 2, 3))
LIMITS = Limits(caps={"mail": 1}, tenant_caps={"acme": 1}, quotas={"acme": 1})
LEASE_END = 20.0

ADDED = Change(
    operation="INSERT",
    job_id=JOB,
    tenant_id="acme",
    use_case="mail",
    dedupe_key=None,
    status="pending",
    lease_seq=0,
    attempts=0,
    crashes=0,
    max_attempts=3,
    dispatches=0,
    at=10.0,
    run_at=10.0,
    lease_end=None,
    is_claimed=False,
    worker_id=None,
    cancel_requested=False,
    enqueue_failed=False,
    last_error=None,
    result_seq=None,
)
LEASED = ADDED._replace(
    operation="UPDATE", status="running", lease_seq=1, at=11.0, lease_end=LEASE_END
)
CLAIMED = LEASED._replace(is_claimed=True, worker_id="w", attempts=1, at=12.0)
RENEWED = CLAIMED._replace(lease_end=LEASE_END + 1, at=13.0)
_UNLEASED: dict[str, Any] = {"lease_end": None, "is_claimed": False, "worker_id": None}
SUCCEEDED = CLAIMED._replace(status="succeeded", result_seq=1, at=14.0, **_UNLEASED)
EXPIRED = CLAIMED._replace(
    status="pending",
    attempts=0,
    crashes=1,
    last_error="lease expired",
    at=20.1,
    **_UNLEASED,
)
DEAD = CLAIMED._replace(status="dead", last_error="no", at=14.0, **_UNLEASED)
RETRIED = DEAD._replace(status="pending", lease_seq=2, attempts=0, at=15.0)

BEGAN = Execution("began", JOB, attempt=1, lease_seq=1, process="7-a", at=1.0)
RETURNED = BEGAN._replace(what="returned", at=2.0)


@dataclass
class Story:
    """What a ledger, the rows, a book and a record tell; a good one unless it is forged."""

    commits: list[list[Change]] = field(
        default_factory=lambda: [[ADDED], [LEASED], [CLAIMED], [RENEWED], [SUCCEEDED]]
    )
    final: list[Final] | None = None
    executions: list[Execution] = field(default_factory=lambda: [BEGAN, RETURNED])
    book: Book = field(
        default_factory=lambda: Book(planned={JOB: Plan("acme", "succeeded")}, acknowledged={JOB})
    )
    strays: int = 0

    def judged(self) -> Verdict:
        replay = Replay(LIMITS, self.book)
        for changes in self.commits:
            replay.commit(changes)
        return replay.finish(self._rows(), self.executions, strays=self.strays)

    def broken(self) -> set[Broken]:
        return {violation.broken for violation in self.judged().violations}

    def _rows(self) -> dict[UUID, Final]:
        if self.final is not None:
            return {row.job_id: row for row in self.final}
        last = {change.job_id: change for changes in self.commits for change in changes}
        return {
            job_id: Final(job_id, c.status, c.lease_seq, c.attempts, c.crashes, c.result_seq)
            for job_id, c in last.items()
            if c.operation != "DELETE"
        }

    def also(self, *jobs: UUID, end: str = "succeeded") -> Story:
        """Let somebody have asked for further jobs."""
        for job_id in jobs:
            self.book.planned[job_id] = Plan("acme", end)
        return self


def story(*changes: Change | list[Change], end: str = "succeeded") -> Story:
    """Return a story of these commits in which only they may be wrong."""
    commits = [each if isinstance(each, list) else [each] for each in changes]
    executions = [line for line in (BEGAN, RETURNED) if [CLAIMED] in commits]
    told = Story(commits=commits, executions=executions)
    told.book.planned[JOB] = Plan("acme", end)
    return told


def as_of(job_id: UUID, changes: Sequence[Change], **fields: Any) -> list[Change]:
    """Return the same changes of another job."""
    return [change._replace(job_id=job_id, **fields) for change in changes]


# --- what is right ------------------------------------------------------------------------------


def test_a_good_story_is_found_good() -> None:
    """All that is allowed to happen, and nothing is found."""
    again = [
        EXPIRED._replace(run_at=20.1),
        LEASED._replace(lease_seq=2, crashes=1, last_error="lease expired", at=21.0, run_at=20.1),
    ]
    claimed = again[1]._replace(is_claimed=True, worker_id="v", attempts=1, at=22.0)
    flagged = claimed._replace(cancel_requested=True, at=23.0)
    cancelled = flagged._replace(status="cancelled", at=24.0, **_UNLEASED)
    retried = cancelled._replace(
        status="pending", lease_seq=3, attempts=0, crashes=0, cancel_requested=False, at=25.0
    )
    leased = retried._replace(status="running", lease_seq=4, lease_end=30.0, at=26.0)
    unsent = leased._replace(status="pending", lease_end=None, enqueue_failed=True, at=27.0)
    ended = unsent._replace(status="cancelled", at=28.0)
    changes = (ADDED, LEASED, CLAIMED, *again, claimed, flagged, cancelled, retried)
    told = story(*changes, leased, unsent, ended)
    told.book.cancel_tries[JOB], told.book.retry_tries[JOB] = 2, 1

    verdict = told.judged()

    assert not verdict.violations
    assert verdict.expiries == [Expiry(JOB, 1, True, LEASE_END, 20.1)]
    assert verdict.events == {
        "added": 1,
        "leased": 3,
        "claimed": 2,
        "expired": 1,
        "cancel requested": 1,
        "cancelled": 2,
        "retried": 1,
        "hand-off failed": 1,
    }
    assert verdict.most_running == {"mail": 1, "acme": 1}


def test_the_usual_story_is_found_good() -> None:
    """The forged ones differ from it in one thing each."""
    verdict = Story().judged()

    assert not verdict.violations
    assert (verdict.jobs, verdict.executions, verdict.commits) == (1, 1, 5)


# --- what is wrong ------------------------------------------------------------------------------


def _lost() -> Story:
    told = Story()
    told.book.acknowledged.add(OTHER)
    return told


def _unseen() -> Story:
    told = Story()
    told.book.missing.add(JOB)
    return told


def _invented() -> Story:
    told = Story()
    told.book.planned.clear()
    return told


def _refused() -> Story:
    told = Story()
    told.book.refused.add(JOB)
    return told


def _uncancelled() -> Story:
    told = Story()
    told.book.cancelled.add(JOB)
    return told


def _retried_once_too_often() -> Story:
    again = [
        DEAD._replace(lease_seq=3, at=18.0),
        RETRIED._replace(lease_seq=4, at=19.0),
    ]
    lease = [
        LEASED._replace(lease_seq=3, last_error="no", at=16.0),
        CLAIMED._replace(lease_seq=3, last_error="no", at=17.0),
    ]
    ended = again[1]._replace(status="cancelled")
    told = story(ADDED, LEASED, CLAIMED, DEAD, RETRIED, *lease, *again, ended)
    told.book.retry_tries[JOB], told.book.cancel_tries[JOB] = 1, 1
    return told


def _two_at_once(**fields: Any) -> Story:
    others = as_of(OTHER, [ADDED, LEASED], **fields)
    return story(ADDED, LEASED, *others).also(OTHER)


FORGED: dict[str, tuple[Broken, Callable[[], Story]]] = {
    "an acknowledged job is missing": (Broken.LOST, _lost),
    "a client did not see its job": (Broken.LOST, _unseen),
    "a row is deleted": (
        Broken.DELETED,
        lambda: story(ADDED, ADDED._replace(operation="DELETE")),
    ),
    "nobody asked for the job": (Broken.INVENTED, _invented),
    "the job was refused": (Broken.REFUSED, _refused),
    "a lease without a new number": (
        Broken.NUMBER,
        lambda: story(ADDED, LEASED._replace(lease_seq=0)),
    ),
    "a lease that skips a number": (
        Broken.NUMBER,
        lambda: story(ADDED, LEASED._replace(lease_seq=2)),
    ),
    "a renewal under a new number": (
        Broken.NUMBER,
        lambda: story(ADDED, LEASED, CLAIMED, RENEWED._replace(lease_seq=2)),
    ),
    "a retry under the old number": (
        Broken.NUMBER,
        lambda: story(ADDED, LEASED, CLAIMED, DEAD, RETRIED._replace(lease_seq=1)),
    ),
    "a lease is claimed twice": (
        Broken.TWO_CLAIMS,
        lambda: story(
            ADDED,
            LEASED,
            CLAIMED,
            LEASED._replace(attempts=1),
            CLAIMED._replace(attempts=2, worker_id="v"),
        ),
    ),
    "an execution without a claim": (
        Broken.STRAY_EXECUTION,
        lambda: Story(executions=[BEGAN, RETURNED, BEGAN._replace(lease_seq=2)]),
    ),
    "an execution of another attempt": (
        Broken.STRAY_EXECUTION,
        lambda: Story(executions=[BEGAN._replace(attempt=2), RETURNED]),
    ),
    "one worker in two processes": (
        Broken.STRAY_EXECUTION,
        lambda: Story(
            commits=[
                *Story().commits,
                *([change] for change in as_of(OTHER, [ADDED, LEASED, CLAIMED, SUCCEEDED])),
            ],
            executions=[
                BEGAN,
                RETURNED,
                BEGAN._replace(job_id=OTHER, process="8-b"),
                RETURNED._replace(job_id=OTHER, process="8-b"),
            ],
        ).also(OTHER),
    ),
    "two executions of one lease": (
        Broken.TWO_EXECUTIONS,
        lambda: Story(executions=[BEGAN, RETURNED, BEGAN]),
    ),
    "a lease ends twice": (
        Broken.TWO_ENDS,
        lambda: story(ADDED, LEASED, CLAIMED, EXPIRED, LEASED, EXPIRED),
    ),
    "a lease is reaped alive": (
        Broken.REAPED_ALIVE,
        lambda: story(ADDED, LEASED, CLAIMED, EXPIRED._replace(at=19.9)),
    ),
    "the result of another lease": (
        Broken.FOREIGN_RESULT,
        lambda: story(ADDED, LEASED, CLAIMED, SUCCEEDED._replace(result_seq=7)),
    ),
    "a lease charges an attempt": (
        Broken.ATTEMPTS,
        lambda: story(ADDED, LEASED._replace(attempts=1)),
    ),
    "a claim charges none": (
        Broken.ATTEMPTS,
        lambda: story(ADDED, LEASED, CLAIMED._replace(attempts=0)),
    ),
    "an unclaimed lease gives an attempt back": (
        Broken.ATTEMPTS,
        lambda: story(
            ADDED, LEASED, LEASED._replace(status="pending", lease_end=None, attempts=-1, at=21.0)
        ),
    ),
    "one attempt too many": (
        Broken.ATTEMPTS,
        lambda: story(
            ADDED._replace(max_attempts=0),
            LEASED._replace(max_attempts=0),
            CLAIMED._replace(max_attempts=0),
        ),
    ),
    "a retry that keeps the attempts": (
        Broken.ATTEMPTS,
        lambda: story(ADDED, LEASED, CLAIMED, DEAD, RETRIED._replace(attempts=1)),
    ),
    "a crash charges an attempt": (
        Broken.ATTEMPTS,
        lambda: story(ADDED, LEASED, CLAIMED, EXPIRED._replace(attempts=1)),
    ),
    "a success counts a crash": (
        Broken.CRASHES,
        lambda: story(ADDED, LEASED, CLAIMED, SUCCEEDED._replace(crashes=1, attempts=0)),
    ),
    "a crash too many": (
        Broken.CRASHES,
        lambda: story(
            ADDED._replace(crashes=4),
            LEASED._replace(crashes=4),
            CLAIMED._replace(crashes=4),
            EXPIRED._replace(crashes=5),
        ),
    ),
    "a success is undone": (
        Broken.REVIVED,
        lambda: story(ADDED, LEASED, CLAIMED, SUCCEEDED, EXPIRED),
    ),
    "the dead come back unasked": (
        Broken.REVIVED,
        lambda: story(ADDED, LEASED, CLAIMED, DEAD, RETRIED),
    ),
    "the dead come back once too often": (Broken.REVIVED, _retried_once_too_often),
    "one job too many runs": (Broken.CAP, lambda: _two_at_once(tenant_id="beta")),
    "one job of a tenant too many runs": (Broken.TENANT_CAP, _two_at_once),
    "one job too many waits": (
        Broken.QUOTA,
        lambda: story(ADDED, *as_of(OTHER, [ADDED])).also(OTHER),
    ),
    "two jobs have one key": (
        Broken.TWINS,
        lambda: story(ADDED._replace(dedupe_key="k"), *as_of(OTHER, [ADDED], dedupe_key="k")).also(
            OTHER
        ),
    ),
    "a lease before its time": (
        Broken.EARLY,
        lambda: story(ADDED._replace(run_at=11.5), LEASED._replace(run_at=11.5)),
    ),
    "a claim before its time": (
        Broken.EARLY,
        lambda: story(ADDED, LEASED, CLAIMED._replace(run_at=12.5)),
    ),
    "a job begins half way": (
        Broken.ILLEGAL,
        lambda: story(LEASED._replace(operation="INSERT")),
    ),
    "a pending job succeeds": (
        Broken.ILLEGAL,
        lambda: story(ADDED, ADDED._replace(status="succeeded")),
    ),
    "an unclaimed job succeeds": (
        Broken.ILLEGAL,
        lambda: story(ADDED, LEASED, LEASED._replace(status="succeeded", lease_end=None)),
    ),
    "a claim changes hands": (
        Broken.ILLEGAL,
        lambda: story(ADDED, LEASED, CLAIMED, CLAIMED._replace(worker_id="v")),
    ),
    "an executed job is cancelled unasked": (
        Broken.ILLEGAL,
        lambda: story(ADDED, LEASED, CLAIMED, CLAIMED._replace(status="cancelled", **_UNLEASED)),
    ),
    "a cancel request is forgotten": (
        Broken.ILLEGAL,
        lambda: story(
            ADDED,
            LEASED,
            CLAIMED,
            CLAIMED._replace(cancel_requested=True),
            EXPIRED._replace(cancel_requested=True),
        ),
    ),
    "a job succeeds twice": (
        Broken.TWO_SUCCESSES,
        lambda: story(ADDED, LEASED, CLAIMED, SUCCEEDED, CLAIMED, SUCCEEDED),
    ),
    "a success without an execution": (Broken.EMPTY_SUCCESS, lambda: Story(executions=[])),
    "a success of an execution that was stopped": (
        Broken.EMPTY_SUCCESS,
        lambda: Story(executions=[BEGAN, RETURNED._replace(what="stopped")]),
    ),
    "a job waits for ever": (Broken.NOT_ENDED, lambda: story(ADDED)),
    "a job runs for ever": (Broken.NOT_ENDED, lambda: story(ADDED, LEASED, CLAIMED)),
    "a job ends otherwise": (
        Broken.WRONG_END,
        lambda: story(ADDED, LEASED, CLAIMED, DEAD),
    ),
    "a cancelled job ends otherwise": (Broken.WRONG_END, _uncancelled),
    "a row that the audit does not know": (
        Broken.GAP,
        lambda: Story(
            final=[Final(JOB, "succeeded", 1, 1, 0, 1), Final(OTHER, "succeeded", 1, 1, 0, 1)]
        ).also(OTHER),
    ),
    "a row that the audit ends otherwise": (
        Broken.GAP,
        lambda: Story(final=[Final(JOB, "succeeded", 2, 1, 0, 1)]),
    ),
    "a row that is gone without a trace": (Broken.GAP, lambda: Story(final=[])),
    "a change of no known commit": (Broken.GAP, lambda: Story(strays=1)),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_violation_is_found(name: str) -> None:
    """Each of them, in a story that is good but for it."""
    broken, forge = FORGED[name]

    assert broken in forge().broken()


def test_every_promise_has_been_seen_to_break() -> None:
    """No kind of violation is left that no forged story shows."""
    assert {broken for broken, _ in FORGED.values()} == set(Broken)


def test_within_a_commit_nobody_sees_more_than_may_run() -> None:
    """One transaction may end a lease and begin another one, in any order."""
    other = as_of(OTHER, [ADDED, LEASED])
    told = story(ADDED, LEASED, CLAIMED, [other[0]], [other[1], SUCCEEDED]).also(OTHER)

    assert Broken.CAP not in told.broken()
    assert Broken.CAP in story(ADDED, LEASED, CLAIMED, *other, SUCCEEDED).also(OTHER).broken()


def test_a_lease_is_over_for_others_once_it_is_there() -> None:
    """Whoever leases in a transaction that takes longer than the lease is late himself."""
    late = LEASED._replace(committed_at=LEASE_END + 5)
    unclaimed = LEASED._replace(status="pending", lease_end=None, dispatches=1, at=LEASE_END + 6)

    (expiry,) = story(ADDED, late, unclaimed).judged().expiries

    assert expiry == Expiry(JOB, 1, False, LEASE_END + 5, LEASE_END + 6)


def test_jobs_that_come_back_do_not_count_as_new_ones() -> None:
    """Quotas limit admission only."""
    told = story(ADDED, LEASED, CLAIMED, EXPIRED, *as_of(OTHER, [ADDED])).also(OTHER)

    assert Broken.QUOTA not in told.broken()


@pytest.mark.parametrize(
    ("died", "overlaps"),
    [({}, 1), ({"7-a": 3.0}, 0), ({"7-a": 7.0}, 1)],
    ids=["it lives", "it had died", "it died later"],
)
def test_executions_overlap_while_the_first_one_lives(
    died: dict[str, float], overlaps: int
) -> None:
    """A process that was killed executes nothing any more, although it never said so."""
    second = BEGAN._replace(attempt=2, lease_seq=2, process="8-b", at=5.0)
    replay = Replay(LIMITS, Story().book)

    verdict = replay.finish({}, [BEGAN, second], died=died)

    assert verdict.overlaps == overlaps
