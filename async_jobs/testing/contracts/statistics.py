"""The contract of `Statistics`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.domain.job import Phase
from async_jobs.domain.outlook import Counted
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.store import Store
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import PATHS, added, in_phase, stored


class StatisticsContract:
    """Everything `Statistics` promises, ST-1 to ST-4.

    Subclass it as `TestMyStatistics` and override the fixtures `store` and `statistics`.
    """

    @pytest.fixture
    async def store(self) -> Store:
        """A store without jobs."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def statistics(self, store: Store) -> Statistics:
        """The statistics under test, of the jobs in `store`."""
        raise NotImplementedError("override the fixture `statistics`")

    async def test_st_1_what_has_to_start_by_an_instant_is_counted(
        self, statistics: Statistics, store: Store
    ) -> None:
        """By use case, on the instant itself too, whatever the tenant and the queue."""
        for index, seconds in enumerate((-5, 30, 60, 61)):
            await added(
                store, tenant_id=f"tenant {index}", run_at=later(-9), deadline_at=later(seconds)
            )
        await added(store, use_case="reports", queue="slow", deadline_at=later(1))

        counts = await statistics.due_by(["notifications", "reports", "none"], later(60), limit=10)

        assert counts == {
            "notifications": Counted(3),
            "reports": Counted(1),
            "none": Counted(0),
        }

    async def test_st_1_what_is_scheduled_counts_as_well(
        self, statistics: Statistics, store: Store
    ) -> None:
        """If its deadline is before the instant, not only its start; promoted or not."""
        for tolerance in (5, 20, 90):
            await added(store, run_at=later(40), delay_tolerance=timedelta(seconds=tolerance))

        before = await statistics.due_by(["notifications"], later(60), limit=10)
        await store.promote(later(40), limit=10)
        after = await statistics.due_by(["notifications"], later(60), limit=10)

        assert before == after == {"notifications": Counted(2)}

    async def test_st_1_late_jobs_that_were_put_aside_count(
        self, statistics: Statistics, store: Store
    ) -> None:
        """They have to start all the same."""
        await added(store, run_at=later(-90), deadline_at=later(-30))
        await added(store, deadline_at=later(30))
        await store.promote(NOW, limit=10, sidelined=["notifications"])

        counts = await statistics.due_by(["notifications"], later(60), limit=10)

        assert counts == {"notifications": Counted(2)}

    async def test_st_1_only_what_is_pending_waits(
        self, statistics: Statistics, store: Store
    ) -> None:
        """What was handed off, runs or has ended does not."""
        for phase in PATHS:
            await in_phase(store, phase)

        counts = await statistics.due_by(["notifications"], later(60), limit=10)

        assert PATHS[Phase.PENDING] == ()
        assert counts == {"notifications": Counted(1)}

    @pytest.mark.parametrize("run_at_seconds", [0, 30])
    async def test_st_2_no_count_is_more_than_the_limit(
        self, statistics: Statistics, store: Store, run_at_seconds: float
    ) -> None:
        """And it says that there may be more."""
        run_at = later(run_at_seconds)
        await stored(store, *(a_job(run_at=run_at, deadline_at=later(60)) for _ in range(7)))

        few = await statistics.due_by(["notifications"], later(60), limit=3)
        all_of_them = await statistics.due_by(["notifications"], later(60), limit=8)

        assert few == {"notifications": Counted(3, at_least=True)}
        assert all_of_them == {"notifications": Counted(7)}

    async def test_st_2_what_others_have_scheduled_hides_nothing_in_silence(
        self, statistics: Statistics, store: Store
    ) -> None:
        """Where so much comes due earlier that it is not seen, the count says so."""
        others = (
            a_job(use_case="reports", run_at=later(10), deadline_at=later(60)) for _ in range(5)
        )
        await stored(store, *others, a_job(run_at=later(20), deadline_at=later(60)))

        counts = await statistics.due_by(["notifications"], later(60), limit=5)

        count, at_least = counts["notifications"]
        assert count == 1 or (count == 0 and at_least)

    async def test_st_3_a_count_below_the_limit_is_exact(
        self, statistics: Statistics, store: Store
    ) -> None:
        """Whatever else is due by then, or becomes due afterwards."""
        await stored(
            store,
            *(a_job(deadline_at=later(60)) for _ in range(2)),
            *(a_job(run_at=later(20), deadline_at=later(60)) for _ in range(2)),
            *(a_job(use_case="reports", deadline_at=later(60)) for _ in range(9)),
            *(a_job(run_at=later(61), deadline_at=later(70)) for _ in range(9)),
        )

        counts = await statistics.due_by(["notifications", "reports"], later(60), limit=5)

        assert counts == {"notifications": Counted(4), "reports": Counted(5, at_least=True)}

    async def test_st_4_every_use_case_that_has_jobs_is_named(
        self, statistics: Statistics, store: Store
    ) -> None:
        """Of those that wait and of those that ended; each once, and no other."""
        assert not await statistics.use_cases()
        for use_case in ("reports", "a'\"é", "reports", "zebra"):
            await added(store, use_case=use_case)
        await in_phase(store, Phase.SUCCEEDED, use_case="done")
        await in_phase(store, Phase.CANCELLED, use_case="reports")

        named = await statistics.use_cases()

        assert sorted(named) == ["a'\"é", "done", "reports", "zebra"]
