"""Bugs in what is summed, kept and reported."""

from __future__ import annotations

from async_jobs.adapters.memory.tallies import MemoryTallies
from async_jobs.application.operating.reporting import ReportsService
from async_jobs.application.tallying import Tallying
from async_jobs.domain import tallies
from async_jobs.domain.tallies import TallyQuery
from tests.sabotage.edits.patches import Edit, bug

BUGS = (
    bug(
        "tallies_replace",
        "What is added takes the place of what was there.",
        Edit(MemoryTallies.add, "added(self._minutes.get(group, ()), sums)", "list(sums)"),
        breaks="TL-1",
    ),
    bug(
        "batch_counts_twice",
        "A batch that is repeated is added again.",
        Edit(
            MemoryTallies.add,
            "batch.number <= self._batches.get(batch.source, -1)",
            "not batch.sums",
        ),
        breaks="TL-2",
    ),
    bug(
        "tallies_of_any_type",
        "Whoever asks for one type is told of all.",
        Edit(TallyQuery.groups, "or self.type not in (None, group.type)", ""),
        breaks="TL-3",
    ),
    bug(
        "hour_replaced",
        "The last minute of an hour takes the place of the others.",
        Edit(
            MemoryTallies.roll_up,
            "added(self._hours.get(hour, ()), self._minutes.pop(minute))",
            "self._minutes.pop(minute)",
        ),
        breaks="TL-4",
    ),
    bug(
        "hour_dropped_early",
        "An hour that begins at the instant is dropped as well.",
        Edit(MemoryTallies.forget, "each.starting < before", "each.starting <= before"),
        breaks="TL-5",
    ),
    bug(
        "rolls_up_all_at_once",
        "However many minutes there are, one call takes them all.",
        Edit(MemoryTallies.roll_up, "[:limit]", ""),
        breaks="TL-6",
    ),
    bug(
        "survivors_only",
        "Attainment leaves out what never started.",
        Edit(tallies._attained, 'sum(starts) + of["unstarted"]', "sum(starts)"),
        breaks="RP-1",
    ),
    bug(
        "report_of_all_tenants",
        "Who asks within tenants is told of all.",
        Edit(ReportsService.attainment, "tenants=tenants,", "tenants=None,"),
        breaks="RP-2",
    ),
    bug(
        "step_of_any_length",
        "A step that is no whole minutes is taken.",
        Edit(tallies.query_of, "step < MINUTE or step % MINUTE", "step < MINUTE"),
        breaks="RP-3",
    ),
    bug(
        "use_case_nobody_knows_reported",
        "Of a use case that nobody configured there is an empty report.",
        Edit(ReportsService.attainment, "if use_case not in configs:", "if use_case is None:"),
        breaks="RP-3",
    ),
    bug(
        "unheard_batch_dropped",
        "A batch that nobody answered is not repeated.",
        Edit(Tallying.flush, "self._left or self._counted.take()", "self._counted.take()"),
        breaks="RP-1",
    ),
)
