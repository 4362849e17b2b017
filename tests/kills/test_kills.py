"""The whole system while its programs are killed and its database is maltreated.

Real processes on a real, durable Postgres, under load over HTTP. A keeper starts anew whatever
dies. Everything that the promises say is then held against the database's own account of every
commit, the clients' book, and the record that the handlers kept. The long run is
`python -m tests.kills`.
"""

from __future__ import annotations

from pathlib import Path

from tests.kills.arena import CAPS, LIMITS, TICK_SECONDS
from tests.kills.campaign import Plan, Report, a_campaign, failpoints_on
from tests.kills.faults import Fault

SEED = 20_261
LATE_SECONDS = TICK_SECONDS + 20.0
"""One tick, and what a machine that is busy with other tests may add to it. The long run tells
the figures of a machine that has nothing else to do."""


async def _campaign(plan: Plan, directory: Path, sqs_endpoint: str | None = None) -> Report:
    async with a_campaign(plan, directory, sqs_endpoint=sqs_endpoint) as campaign:
        return await campaign.run(lambda what: None)


def _hold(report: Report, plan: Plan, *, sqs: bool = False) -> None:
    """Hold a campaign to its plan, and the system to its promises."""
    journal, verdict, book = report.journal, report.verdict, report.book
    assert [str(violation) for violation in verdict.violations] == []
    assert journal.tracebacks == []
    assert report.after_claims.worst < LATE_SECONDS
    assert report.after_hand_offs.worst < LATE_SECONDS

    assert journal.kills.total() == plan.kills
    assert all(journal.deaths[name] >= plan.deaths for name in failpoints_on(sqs=sqs))
    assert journal.faults == {name: count for name, count in plan.faults.items() if count}

    # It was no system at rest: work was done, and work was lost and done again.
    assert book.acknowledged
    assert verdict.jobs >= len(book.acknowledged)
    assert verdict.executions >= verdict.events["succeeded"] > 0
    assert verdict.expiries
    assert all(0 < verdict.most_running[name] <= LIMITS.caps[name] for name in CAPS)


async def test_kills_break_no_promise(tmp_path: Path) -> None:
    """Any program dies at any time, and at each failpoint, in the middle of its work."""
    plan = Plan(kills=24, deaths=2, faults={}, seed=SEED)

    report = await _campaign(plan, tmp_path)

    _hold(report, plan)


async def test_faults_of_the_database_break_no_promise(tmp_path: Path) -> None:
    """It restarts, crashes, stalls, turns read-only, or is out of reach; programs stand still."""
    faults = dict.fromkeys(Fault, 1) | {Fault.RESTART_FAST: 2, Fault.RESTART_IMMEDIATE: 2}
    plan = Plan(kills=6, deaths=0, faults=faults, seed=SEED + 10)

    report = await _campaign(plan, tmp_path)

    _hold(report, plan)


async def test_kills_break_no_promise_on_sqs(sqs_endpoint: str, tmp_path: Path) -> None:
    """Hand-offs outlive the database's crashes, and come late, twice, or to the dead."""
    faults = {Fault.RESTART_IMMEDIATE: 1, Fault.FROZEN_WORKER: 1}
    plan = Plan(kills=8, deaths=1, faults=faults, seed=SEED + 20)

    report = await _campaign(plan, tmp_path, sqs_endpoint)

    _hold(report, plan, sqs=True)
