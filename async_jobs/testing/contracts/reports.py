"""The contract of `Reports`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.tallies import (
    PLACES,
    SIZE,
    Batch,
    Dimension,
    Group,
    bucket_of,
    floor_of,
)
from async_jobs.ports.reports import Reports
from async_jobs.ports.tallies import Tallies
from async_jobs.testing.builders import SimpleLimits
from async_jobs.testing.clocks import NOW, ManualClock

MINUTE = timedelta(minutes=1)
EARLIER = floor_of(NOW, MINUTE) - timedelta(hours=2)
CONFIGURED = SimpleLimits(use_case_configs={"mail": UseCaseConfig(), "post": UseCaseConfig()})
DURATIONS = ("start_latency_p50", "start_latency_p95", "run_time_p50", "run_time_p95")


def counted(*used: float, **counts: int) -> list[int]:
    """Return a tally of first starts that used so much of their tolerance, and of counts."""
    sums = [0] * SIZE
    for share in used:
        sums[bucket_of("tolerance_used", share)] += 1
    for name, count in counts.items():
        sums[PLACES[name]] = count
    return sums


async def given(tallies: Tallies, *counts: tuple[datetime, str, str, str, list[int]]) -> None:
    """Add what processes have counted."""
    sums = {Group(*each[:4]): each[4] for each in counts}
    await tallies.add(Batch("one", 1, sums), at=NOW)


async def given_some(tallies: Tallies) -> None:
    """Add two use cases of two tenants, a day and two hours ago."""
    await given(
        tallies,
        (EARLIER, "mail", "acme", "send", counted(0.2, 1.0, 1.4, unstarted=1, enqueued=4)),
        (EARLIER, "mail", "bolt", "call", counted(0.5)),
        (EARLIER + MINUTE, "post", "acme", "send", counted(100.5, dead=1, attempts_failed=3)),
        (EARLIER - timedelta(days=1), "mail", "", "send", counted(2.0, 3.0)),
    )


class ReportsContract:
    """Everything `Reports` promises, RP-1 to RP-3.

    Subclass it as `TestMyReports` and override the fixtures. `reports` is over `tallies`, and
    `CONFIGURED` is configured.
    """

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of the reports."""
        return ManualClock()

    @pytest.fixture
    async def tallies(self) -> Tallies:
        """What processes have counted, empty."""
        raise NotImplementedError("override the fixture `tallies`")

    @pytest.fixture
    async def reports(self, tallies: Tallies, clock: ManualClock) -> Reports:
        """The port under test."""
        raise NotImplementedError("override the fixture `reports`")

    async def test_rp_1_attainment_is_the_share_of_what_was_promised(
        self, reports: Reports, tallies: Tallies
    ) -> None:
        """Of first starts and of what expired unstarted; lately, and by use case."""
        await given_some(tallies)

        report = await reports.attainment()

        mail, post = report.rows
        assert (report.at, report.since, report.until) == (NOW, NOW - timedelta(days=1), NOW)
        assert (report.step_seconds, report.by) == (None, (Dimension.USE_CASE,))
        assert (mail.use_case, mail.tenant_id, mail.type) == ("mail", None, None)
        assert (mail.on_time, mail.late, mail.unstarted, mail.enqueued) == (3, 1, 1, 4)
        assert mail.attainment == 3 / 5
        assert (post.use_case, post.attainment, post.dead) == ("post", 0, 1)
        assert post.attempts["failed"] == 3
        assert not any(getattr(mail, name) for name in DURATIONS)

    async def test_rp_1_shares_of_tolerance_are_told_out_of_buckets(
        self, reports: Reports, tallies: Tallies
    ) -> None:
        """As a straight line within one; beyond the last one it is that bound."""
        await given(tallies, (EARLIER, "mail", "", "send", counted(*[0.8] * 10, *[500.0] * 10)))

        (row,) = (await reports.attainment()).rows

        assert (row.tolerance_used_p50, row.tolerance_used_p95) == (0.9, 100.0)

    async def test_rp_1_what_former_versions_counted_is_told(
        self, reports: Reports, tallies: Tallies
    ) -> None:
        """They did not know all of the numbers."""
        await given(tallies, (EARLIER, "mail", "", "send", [3]))

        (row,) = (await reports.attainment()).rows

        assert (row.enqueued, row.unstarted, row.attainment) == (3, 0, None)

    async def test_rp_1_of_nothing_nothing_is_told(self, reports: Reports) -> None:
        """No share of no jobs."""
        assert (await reports.attainment()).rows == ()

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({"by": ()}, [(None, None, None, 3)]),
            ({"by": ("type", "tenant_id")}, [(None, "acme", "send", 2), (None, "bolt", "call", 1)]),
            ({"use_case": "post"}, [("post", None, None, 0)]),
            ({"type": "call"}, [("mail", None, None, 1)]),
            ({"until": EARLIER + MINUTE}, [("mail", None, None, 3)]),
            ({"since": EARLIER + MINUTE}, [("post", None, None, 0)]),
            ({"since": EARLIER + MINUTE * 1.5}, [("post", None, None, 0)]),
        ],
    )
    async def test_rp_1_what_is_asked_for_is_told(
        self, reports: Reports, tallies: Tallies, asked: dict[str, Any], expected: list[Any]
    ) -> None:
        """And apart by what is asked for."""
        await given_some(tallies)

        rows = (await reports.attainment(**asked)).rows

        assert [(r.use_case, r.tenant_id, r.type, r.on_time) for r in rows] == expected

    async def test_rp_1_steps_tell_when_it_was(self, reports: Reports, tallies: Tallies) -> None:
        """Each by its beginning, in the order of time; others are the tenant None."""
        await given_some(tallies)

        report = await reports.attainment(
            since=NOW - timedelta(hours=47), step=timedelta(hours=1), by=("tenant_id",)
        )

        assert report.step_seconds == 3_600
        assert [(row.starting, row.tenant_id, row.late) for row in report.rows] == [
            (floor_of(EARLIER - timedelta(days=1), timedelta(hours=1)), None, 2),
            (floor_of(EARLIER, timedelta(hours=1)), "acme", 2),
            (floor_of(EARLIER, timedelta(hours=1)), "bolt", 0),
        ]

    async def test_rp_1_long_ago_it_is_told_by_whole_hours(
        self, reports: Reports, tallies: Tallies
    ) -> None:
        """Of which the report tells."""
        at = floor_of(NOW - timedelta(days=3), timedelta(hours=1))
        await given(tallies, (at + MINUTE, "mail", "", "send", counted(0.2)))
        await tallies.roll_up(NOW - timedelta(days=2), limit=10)

        report = await reports.attainment(since=at + timedelta(minutes=59))

        assert report.since == at
        assert [row.on_time for row in report.rows] == [1]

    @pytest.mark.parametrize(
        ("tenants", "expected"), [(["acme"], {"mail": 2, "post": 0}), (["nobody"], {})]
    )
    async def test_rp_2_only_ones_own_jobs_are_told(
        self, reports: Reports, tallies: Tallies, tenants: list[str], expected: dict[str, int]
    ) -> None:
        """Nothing of others, not even together."""
        await given_some(tallies)

        report = await reports.attainment(tenants=tenants, since=NOW - timedelta(hours=40))

        assert {row.use_case: row.on_time for row in report.rows} == expected

    @pytest.mark.parametrize(
        ("field", "asked"),
        [
            ("since", {"since": NOW}),
            ("since", {"since": NOW.replace(tzinfo=None)}),
            ("until", {"until": NOW.replace(tzinfo=None)}),
            ("since", {"since": datetime.min.replace(tzinfo=UTC)}),
            ("until", {"since": NOW, "until": datetime.max.replace(tzinfo=UTC)}),
            ("step", {"step": timedelta(seconds=90)}),
            ("step", {"step": timedelta(minutes=1)}),
            ("use_case", {"use_case": ""}),
            ("type", {"type": "x" * 201}),
            ("tenants", {"tenants": []}),
            ("by", {"by": ("colour",)}),
            ("by", {"by": "type"}),
        ],
    )
    async def test_rp_3_what_cannot_be_asked_is_refused(
        self, reports: Reports, field: str, asked: dict[str, Any]
    ) -> None:
        """By the name of the argument."""
        with pytest.raises(InvalidJobError, match=field):
            await reports.attainment(**asked)

    async def test_rp_3_a_use_case_nobody_knows_is_refused(
        self, reports: Reports, tallies: Tallies
    ) -> None:
        """With the known ones; one that was configured once is told of as long as it is kept."""
        former = EARLIER, "former", "acme", "send", counted(0.2)
        await given(tallies, former)

        with pytest.raises(InvalidJobError, match=r"use_case.*not configured; known: mail, post"):
            await reports.attainment(use_case="unheard")
        told = await reports.attainment(use_case="former")
        nothing = await reports.attainment(use_case="mail")

        assert [row.use_case for row in told.rows] == ["former"]
        assert nothing.rows == ()
