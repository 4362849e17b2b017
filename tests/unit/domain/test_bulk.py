"""Bulk operations: what becomes of each job, how far an operation is, and what is refused."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_jobs.domain.bulk import (
    BULK_MAX,
    STATUSES,
    TOKEN_LASTS,
    Amendment,
    Batch,
    BulkAction,
    BulkOperation,
    BulkState,
    Changed,
    Deleted,
    Skipped,
    after_batch,
    check_bulk,
    check_maximum,
    check_token,
    decide,
    statuses_of,
    stopped,
    token_of,
)
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import JobQuery, query_record_of
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.lifecycle import Cancelled, CancelRequested, advance
from async_jobs.testing.builders import an_id
from tests.unit.domain.builders import (
    NOW,
    after,
    cancelled,
    claimed,
    dead,
    flagged,
    handed_off,
    pending,
    succeeded,
)

JOBS: list[Job] = [
    pending(),
    pending(run_at=after(60), deadline_at=after(90), attempts=2),
    handed_off(),
    claimed(),
    flagged(),
    succeeded(),
    dead(),
    cancelled(),
]
AMENDMENTS = {
    BulkAction.RESCHEDULE: Amendment(run_at=after(600)),
    BulkAction.PRIORITISE: Amendment(priority=9),
    BulkAction.TOLERATE: Amendment(delay_tolerance=timedelta(hours=1)),
}
ASKED = [each for each in BulkAction if each is not BulkAction.UNDO]


def an_operation(action: BulkAction = BulkAction.RETRY, **overrides: Any) -> BulkOperation:
    """Return an operation that has just begun."""
    defaults: dict[str, Any] = {
        "id": an_id(),
        "action": action,
        "criteria": JobQuery(),
        "amendment": AMENDMENTS.get(action, Amendment()),
        "maximum": 100,
        "matched": 10,
        "actor": "ada",
        "address": "",
        "reason": "the provider is back",
        "created_at": NOW,
        "due_at": NOW,
    }
    return BulkOperation(**(defaults | overrides))


# --- One job ---------------------------------------------------------------------------------


@pytest.mark.parametrize("action", BulkAction)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.phase.value)
def test_an_action_changes_the_jobs_it_is_for(action: BulkAction, job: Job) -> None:
    """By the lifecycle's own event, and no job that the lifecycle would refuse."""
    criteria = JobQuery(statuses=STATUSES[action])
    decision = decide(an_operation(action, criteria=criteria), job, now=NOW)

    possible = job.status in STATUSES[action] and job.phase.value != "cancelling"
    if action is BulkAction.DELETE:
        assert isinstance(decision, Skipped if job.status is JobStatus.RUNNING else Deleted)
    elif possible:
        assert isinstance(decision, Changed)
        assert decision.change.job == advance(job, decision.event, now=NOW)
        assert decision.change.fence.lease_seq == job.lease_seq
    else:
        assert isinstance(decision, Skipped)


def test_a_running_job_is_asked_to_stop_and_a_waiting_one_ends() -> None:
    """As when they are cancelled one by one."""
    decisions = [
        decide(an_operation(BulkAction.CANCEL), job, now=NOW) for job in (claimed(), pending())
    ]

    events = [each.event for each in decisions if isinstance(each, Changed)]
    assert events == [CancelRequested(), Cancelled()]


def test_what_does_not_match_any_more_is_skipped() -> None:
    """What came later, and what another tenant has, were never meant."""
    operation = an_operation(BulkAction.CANCEL, criteria=JobQuery(tenant_id="acme"))
    mine = pending(tenant_id="acme", created_at=NOW)

    assert isinstance(decide(operation, mine, now=NOW), Changed)
    others = (pending(tenant_id="bolt"), mine.after(created_at=after(1)))
    for other in others:
        assert isinstance(decide(operation, other, now=NOW), Skipped)


def test_an_undo_gives_back_what_the_job_had() -> None:
    """It waits as it did: its attempts, its instants, its priority; under a new lease number."""
    before = pending(attempts=2, run_at=after(60), deadline_at=after(90), priority=4)
    gone = advance(before, Cancelled(), now=after(1))

    decision = decide(an_operation(BulkAction.UNDO), gone, now=after(2))

    assert isinstance(decision, Changed)
    wanted = before.after(lease_seq=before.lease_seq + 1, updated_at=after(2))
    assert decision.change.job == wanted


def test_retries_spare_what_was_cancelled_on_purpose() -> None:
    """Unless the filter names that status."""
    assert statuses_of(BulkAction.RETRY, JobQuery()) == {JobStatus.DEAD}
    named = JobQuery(statuses=frozenset({JobStatus.CANCELLED}))
    assert statuses_of(BulkAction.RETRY, named) == {JobStatus.CANCELLED}


# --- An operation ----------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=12),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_an_operation_adds_up_and_ends_once(
    batches: list[tuple[int, int, int]], maximum: int, last: int
) -> None:
    """By the last job or the maximum, whichever comes first; its sums are those of the batches."""
    operation = an_operation(maximum=maximum)
    sums = [0, 0, 0]
    for number, counts in enumerate(batches, 1):
        if operation.state is not BulkState.RUNNING:
            break
        sums = [old + new for old, new in zip(sums, counts, strict=True)]
        batch = Batch(*counts, cursor=UUID(int=1000 - number), is_last=number == last)
        operation = after_batch(operation, batch, now=after(number), pause=timedelta(seconds=1))
        assert [operation.done, operation.skipped, operation.failed] == sums
        assert operation.cursor == UUID(int=1000 - number)
        over = number == last or sum(sums) >= maximum
        assert (operation.state is BulkState.FINISHED) == over
        assert operation.ended_at == (after(number) if over else None)
        assert operation.due_at == after(number + 1)
        assert operation.left == max(0, maximum - sum(sums))


def test_what_has_ended_is_not_stopped() -> None:
    """Whoever stops it later finds it as it ended."""
    running = an_operation()
    over = after_batch(running, Batch(1, 0, 0, None, True), now=NOW, pause=timedelta(0))

    assert stopped(running, now=NOW).state is BulkState.CANCELLED
    assert stopped(over, now=after(1)) == over


# --- What is asked for -----------------------------------------------------------------------

RUNNING = JobQuery(statuses=frozenset({JobStatus.RUNNING}))
ACME = JobQuery(tenant_id="acme")


@pytest.mark.parametrize(
    ("action", "criteria", "amendment", "field"),
    [
        (BulkAction.CANCEL, JobQuery(), Amendment(), "filter"),
        (BulkAction.CANCEL, JobQuery(tenant_id=""), Amendment(), "tenant_id"),
        (BulkAction.CANCEL, JobQuery(payload_text="ada"), Amendment(), "payload_text"),
        (BulkAction.RETRY, RUNNING, Amendment(), "statuses"),
        (BulkAction.UNDO, ACME, Amendment(), "action"),
        (BulkAction.RESCHEDULE, ACME, Amendment(), "run_at"),
        (BulkAction.RESCHEDULE, ACME, Amendment(run_at=NOW.replace(tzinfo=None)), "run_at"),
        (BulkAction.RESCHEDULE, ACME, Amendment(run_at=after(367 * 86_400)), "run_at"),
        (BulkAction.PRIORITISE, ACME, Amendment(priority=2**15), "priority"),
        (BulkAction.PRIORITISE, ACME, Amendment(priority=1, run_at=NOW), "run_at"),
        (
            BulkAction.TOLERATE,
            ACME,
            Amendment(delay_tolerance=timedelta(days=31)),
            "delay_tolerance",
        ),
        (BulkAction.RETRY, ACME, Amendment(priority=1), "priority"),
    ],
)
def test_what_is_out_of_bounds_is_refused(
    action: BulkAction, criteria: JobQuery, amendment: Amendment, field: str
) -> None:
    """With the field."""
    with pytest.raises(InvalidJobError) as refused:
        check_bulk(action, criteria, amendment, all_jobs=False, now=NOW)

    assert refused.value.field == field


def test_all_jobs_have_to_be_asked_for() -> None:
    """By saying so."""
    given = Amendment()

    assert check_bulk(BulkAction.CANCEL, JobQuery(), given, all_jobs=True, now=NOW) == given


def test_a_start_in_the_past_is_now() -> None:
    """As of an enqueue."""
    asked = Amendment(run_at=after(-60))

    kept = check_bulk(BulkAction.RESCHEDULE, ACME, asked, all_jobs=False, now=NOW)

    assert kept == Amendment(run_at=NOW)
    assert Amendment.of_json(kept.as_json()) == kept


@pytest.mark.parametrize("maximum", [0, BULK_MAX + 1, True, "7", None])
def test_a_maximum_has_bounds(maximum: object) -> None:
    """And is an integer."""
    with pytest.raises(InvalidJobError, match="max"):
        check_maximum(maximum)


@pytest.mark.parametrize("action", ASKED)
def test_a_token_is_for_just_what_was_seen(action: BulkAction) -> None:
    """The same action, filter, values and count, until it expires; in any process."""
    amendment = AMENDMENTS.get(action, Amendment())
    token = token_of(action, ACME, amendment, 17, until=NOW + TOKEN_LASTS)

    seen = check_token(token, action, ACME, amendment, now=NOW)

    assert (seen.jobs, seen.until) == (17, NOW + TOKEN_LASTS)
    others: list[tuple[object, BulkAction, JobQuery, Amendment, datetime]] = [
        (token.replace(".17.", ".18."), action, ACME, amendment, NOW),
        (token, BulkAction.UNDO, ACME, amendment, NOW),
        (token, action, JobQuery(tenant_id="bolt"), amendment, NOW),
        (token, action, ACME, Amendment(priority=1), NOW),
        (token, action, ACME, amendment, NOW + TOKEN_LASTS),
        (token[:-1], action, ACME, amendment, NOW),
        ("..", action, ACME, amendment, NOW),
        (None, action, ACME, amendment, NOW),
    ]
    for given_token, for_action, criteria, values, now in others:
        with pytest.raises(InvalidJobError, match="token"):
            check_token(given_token, for_action, criteria, values, now=now)


@pytest.mark.parametrize(
    "head", ["", "x.1", "1", "1.", "1.-1", "1.x", "1.1.1", "1.99999999", "9999999999.1", "1.\u0661"]
)
def test_a_token_that_somebody_made_up_is_refused(head: str) -> None:
    """Its digest is no secret: what it is of has to be a time and a count nevertheless."""
    told = json.dumps([head, BulkAction.CANCEL, query_record_of(ACME), {}], sort_keys=True)
    made_up = f"{head}.{sha256(told.encode()).hexdigest()[:32]}"

    with pytest.raises(InvalidJobError, match="token"):
        check_token(made_up, BulkAction.CANCEL, ACME, Amendment(), now=NOW)
