"""What an explanation says is what the rules do."""

from __future__ import annotations

from datetime import timedelta

from async_jobs.domain.candidates import Ranking
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.reasons import Scene, late
from async_jobs.testing.builders import SimpleLimits, a_job, a_use_case, candidate_of, later
from async_jobs.testing.clocks import NOW


def test_a_late_job_is_said_to_go_where_it_is_ranked() -> None:
    """Behind what presses, and before what can wait."""
    hour = timedelta(hours=1)
    is_late = a_job(deadline_at=later(-5))
    presses = a_job(run_at=later(60) - hour, delay_tolerance=hour)
    can_wait = a_job(run_at=later(3_500) - hour, delay_tolerance=hour)
    policy = LatePolicy.SIDELINE
    configs = {is_late.use_case: a_use_case(late_policy=policy)}
    config = SimpleLimits(use_case_configs=configs, per_tenant_quotas={})

    jobs = candidate_of(can_wait), candidate_of(is_late), candidate_of(presses)
    ranked = [each[-1].id for each in sorted(Ranking(policy, NOW).ranked(jobs))]
    said = late(is_late, Scene(now=NOW, config=config, workers=(), schedulers=()))

    assert ranked == [presses.id, is_late.id, can_wait.id]
    assert "it goes behind what presses, and before what can wait" in said.sentence
