"""Which rows are left alone because the database refused them, and how often that is told."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from async_jobs.adapters.postgres.apart import REMEMBERED, TOLD_AGAIN, TOLD_MAX, Apart
from async_jobs.domain.errors import StoreRefused
from async_jobs.domain.patience import REFUSED_PAUSE_MAX
from async_jobs.testing.builders import an_id, later

NO = StoreRefused("no", "RaiseError")


def an_apart() -> tuple[Apart, list[tuple[UUID, str]]]:
    told: list[tuple[UUID, str]] = []
    return Apart(lambda *row: told.append(row)), told


def test_a_row_is_left_alone_for_longer_each_time_and_told_of_once() -> None:
    """Refusals while it is left alone, as of what was under way, count as the same one."""
    apart, told = an_apart()
    row = an_id()

    for at, over in ((0, 2), (1, 2), (2, 6), (6, 14)):
        apart.tell(row, NO, at=later(at))
        assert apart.left_alone(later(over - 0.001)) == [row]
        assert apart.left_alone(later(over)) == []

    assert told == [(row, "RaiseError")]


def test_turns_leave_out_what_was_refused_as_a_pending_row_of_their_use_cases() -> None:
    """Not what is refused to other work, of which there may be much; nor for longer than that."""
    apart, _ = an_apart()
    mail, report, leased = an_id(), an_id(), an_id()
    apart.tell(mail, NO, at=later(0), pending_in="mail")
    apart.tell(report, NO, at=later(0), pending_in="report")
    apart.tell(leased, NO, at=later(0))
    apart.tell(mail, NO, at=later(1))  # to whom it is refused as well, it is pending all the same

    assert apart.not_ready(later(1), ["mail", "bulk"]) == [mail]
    assert apart.not_ready(later(1), ["mail", "report"]) == [report, mail]
    assert apart.not_ready(later(2), ["mail"]) == []
    assert apart.left_alone(later(1)) == [report, leased, mail]


def test_another_problem_is_told_too() -> None:
    """It may need another cure."""
    apart, told = an_apart()
    row = an_id()

    apart.tell(row, NO, at=later(0))
    apart.tell(row, StoreRefused("no", "CheckViolationError by theirs"), at=later(2))

    assert [problem for _, problem in told] == ["RaiseError", "CheckViolationError by theirs"]


def test_a_row_that_was_written_meanwhile_begins_anew() -> None:
    """Nothing was heard of it for longer than it was ever left alone."""
    apart, _ = an_apart()
    row = an_id()
    for at in (0, 2, 6):
        apart.tell(row, NO, at=later(at))
    long_after = 14 + REFUSED_PAUSE_MAX.total_seconds()

    apart.tell(row, NO, at=later(long_after))

    assert apart.left_alone(later(long_after + 2)) == []


def test_what_is_known_of_rows_is_bounded() -> None:
    """The ones told of last are kept."""
    apart, _ = an_apart()
    rows = [an_id() for _ in range(REMEMBERED + 1)]
    for row in rows:
        apart.tell(row, NO, at=later(0))

    assert apart.left_alone(later(1)) == rows[1:]
    assert apart.knows_any(rows[1:2])
    assert not apart.knows_any(rows[:1])


def test_of_one_problem_a_few_rows_are_told_of_in_an_hour() -> None:
    """However many have it; each other problem is told of for itself."""
    apart, told = an_apart()
    rows = [an_id() for _ in range(TOLD_MAX + 5)]
    for row in rows:
        apart.tell(row, NO, at=later(0))
    apart.tell(an_id(), StoreRefused("no", "CheckViolationError"), at=later(1))

    assert [row for row, problem in told if problem == "RaiseError"] == rows[:TOLD_MAX]
    assert told[TOLD_MAX] == (
        rows[TOLD_MAX],
        "RaiseError, as of more rows: no more is told for an hour",
    )
    assert told[TOLD_MAX + 1 :] == [(told[-1][0], "CheckViolationError")]


def test_a_problem_that_lasts_is_told_again_every_hour() -> None:
    """Of a row that is still refused then."""
    apart, told = an_apart()
    row = an_id()
    hour = TOLD_AGAIN.total_seconds()

    for at in (0, hour - 1, hour, hour + 1):
        apart.tell(row, NO, at=later(at))

    assert told == [(row, "RaiseError")] * 2


async def test_a_call_finds_out_about_so_many_refusals_and_no_more() -> None:
    """What is left is behind all that was tried."""
    apart, _ = an_apart()
    written: list[int] = []
    refused: list[int] = []

    async def write(some: Sequence[int]) -> Sequence[int]:
        if any(each % 2 for each in some):
            raise NO
        written.extend(some)
        return some

    done = await apart.write(
        range(20), write, refused=lambda row, _: refused.append(row), met_max=3
    )

    assert refused == [1, 3, 5]
    assert list(done) == written == [0, 2, 4]
