"""The contract of `History`."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from async_jobs.domain.events import (
    Claimed,
    Failed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Retried,
    Snoozed,
    Succeeded,
)
from async_jobs.domain.history import AttemptRecord, Outcome
from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import change
from async_jobs.ports.history import History
from async_jobs.ports.store import Store
from async_jobs.testing.builders import later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import (
    UNTIL,
    Corrupt,
    happened,
    in_phase,
    race,
)

DAY = timedelta(days=1)
MUCH = 2**40
PLACES = ("/app/mail.py:7 in send", "/app/mail.py:3 in handle — „äöü“ 💥")


async def recorded(store: Store, *, at: datetime = NOW) -> AttemptRecord:
    """Let an attempt of a new job fail at an instant; returns its record."""
    job = await in_phase(store, Phase.CLAIMED)
    step = change(job, Failed("ValueError: no 'x' in 7", places=PLACES), now=at)
    assert (await store.save([step])).ids == {job.id}
    assert step.record is not None
    return step.record


class HistoryContract:
    """Everything `History` promises, HI-1 to HI-6.

    Subclass it as `TestMyHistory` and override the fixtures.
    """

    @pytest.fixture
    async def store(self) -> Store:
        """A store without jobs, which has kept no record so far and made no room for any."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def history(self, store: Store) -> History:
        """The history under test, of what `store` keeps."""
        raise NotImplementedError("override the fixture `history`")

    @pytest.fixture
    async def other_history(self, history: History) -> History:
        """The same through a client of its own; one that lives in a process returns itself."""
        raise NotImplementedError("override the fixture `other_history`")

    @pytest.fixture
    async def corrupt(self) -> Corrupt:
        """Makes the stored row of a job unreadable, behind the store's back."""
        raise NotImplementedError("override the fixture `corrupt`")

    @pytest.mark.parametrize(
        "event",
        [
            Succeeded({"sent": True}),
            Failed("ValueError: no 'x' in 7", places=PLACES),
            Failed("\0\ud800", places=("\0\ud800:1 in f",)),
            Rejected("no such address"),
            Snoozed(later(90)),
            Released(),
            LeaseExpired(),
        ],
        ids=lambda event: type(event).__name__,
    )
    async def test_hi_1_a_record_is_read_back_as_it_was_given(
        self, store: Store, history: History, event: JobEvent
    ) -> None:
        """To the microsecond, whatever its texts are; also of what is ordinary, if it is given."""
        job = await in_phase(store, Phase.CLAIMED)
        step = change(job, event, now=later(60.000_001), all_are_kept=True)
        assert step.record is not None

        assert (await store.save([step])).ids == {job.id}
        assert list(await history.attempts(job.id, limit=10)) == [step.record]

    async def test_hi_1_a_change_that_loses_has_no_record(
        self, store: Store, history: History
    ) -> None:
        """Of two outcomes of a lease, the one that was applied is told of; once, if repeated."""
        job = await in_phase(store, Phase.CLAIMED)
        wins, loses = (change(job, Failed(text), now=later(1)) for text in ("wins", "loses"))

        await store.save([wins])
        await store.save([loses])
        assert (await store.save([wins])).ids == {job.id}  # its reply was lost

        assert list(await history.attempts(job.id, limit=10)) == [wins.record]

    async def test_hi_1_what_is_ordinary_leaves_none(self, store: Store, history: History) -> None:
        """A job that succeeds at once, by whichever call."""
        job = await in_phase(store, Phase.SUCCEEDED)
        snoozed = await in_phase(store, Phase.CLAIMED)
        await happened(store, snoozed, Snoozed(later(90)))

        for each in (job, snoozed):
            assert not await history.attempts(each.id, limit=10)

    async def test_hi_1_a_record_outlives_its_job(self, store: Store, history: History) -> None:
        """What is forgotten by its retention is still told of."""
        job = await in_phase(store, Phase.DEAD)
        assert await store.purge(job.use_case, before=later(10**6), limit=10) == 1

        (record,) = await history.attempts(job.id, limit=10)
        assert (record.outcome, record.error) == (Outcome.REJECTED, "no such address")

    async def test_hi_2_a_jobs_records_come_in_their_order(
        self, store: Store, history: History
    ) -> None:
        """Of that job alone, the latest ones, over days and an operator's retry."""
        job, other = await in_phase(store, Phase.DEAD), await in_phase(store, Phase.DEAD)
        for day in range(1, 4):
            at = NOW + day * DAY
            job = await happened(store, job, Retried(), now=at)
            job = await happened(store, job, Leased(at + DAY), now=at)
            job = await happened(store, job, Claimed("worker-2", at + DAY), now=at)
            job = await happened(store, job, Rejected(f"day {day}"), now=at + DAY / 2)

        told = [each.error for each in await history.attempts(job.id, limit=4)]

        assert told == [None, "day 2", None, "day 3"]
        assert len(await history.attempts(job.id, limit=100)) == 7
        assert len(await history.attempts(other.id, limit=100)) == 1

    async def test_hi_3_what_is_set_aside_is_told_of(
        self, store: Store, history: History, corrupt: Corrupt
    ) -> None:
        """Who had it, and until when."""
        job = await in_phase(store, Phase.CLAIMED)
        await corrupt(job.id)
        assert await store.set_aside(UNTIL, until=later(360), limit=10) == 1

        (record,) = await history.attempts(job.id, limit=10)

        assert record == AttemptRecord(
            job_id=job.id,
            tenant_id=job.tenant_id,
            use_case=job.use_case,
            type=job.type,
            attempt=1,
            lease_seq=1,
            worker_id="worker-1",
            started_at=NOW,
            ended_at=UNTIL,
            outcome=Outcome.SET_ASIDE,
        )

    async def test_hi_4_nothing_is_lost_while_nobody_tidies(
        self, store: Store, history: History
    ) -> None:
        """For three days, and on the day on which it begins again."""
        await history.tidy(NOW, days=14, bytes_max=MUCH)
        late = [await recorded(store, at=NOW + day * DAY) for day in range(8)]

        await history.tidy(NOW + 7 * DAY, days=14, bytes_max=MUCH)
        late += [await recorded(store, at=NOW + day * DAY) for day in range(7, 11)]

        for each in late:
            assert list(await history.attempts(each.job_id, limit=10)) == [each]

    async def test_hi_4_what_came_without_room_is_forgotten_in_time(
        self, store: Store, history: History
    ) -> None:
        """When the last of it is old enough."""
        late = [await recorded(store, at=NOW + day * DAY) for day in (0, 3)]
        await history.tidy(NOW + 3 * DAY, days=14, bytes_max=MUCH)
        kept = await recorded(store, at=NOW + 5 * DAY)

        await history.tidy(NOW + 18 * DAY, days=14, bytes_max=MUCH)

        for each in late:
            assert not await history.attempts(each.job_id, limit=10)
        assert list(await history.attempts(kept.job_id, limit=10)) == [kept]

    async def test_hi_5_days_are_forgotten_when_they_are_old_enough(
        self, store: Store, history: History
    ) -> None:
        """Whole ones, by the day in UTC on which the attempts ended."""
        kept = {}
        for day in range(4):
            await history.tidy(NOW + day * DAY, days=14, bytes_max=MUCH)
            kept[day] = await recorded(store, at=NOW + day * DAY)

        tidied = await history.tidy(NOW + 4 * DAY, days=2, bytes_max=MUCH)

        assert tidied.dropped == 2
        for day, each in kept.items():
            found = await history.attempts(each.job_id, limit=10)
            assert list(found) == ([each] if day >= 2 else [])

    async def test_hi_5_too_much_goes_by_age_and_never_today(
        self, store: Store, history: History
    ) -> None:
        """However few bytes are to be kept."""
        kept = []
        for day in range(3):
            await history.tidy(NOW + day * DAY, days=14, bytes_max=MUCH)
            kept.append(await recorded(store, at=NOW + day * DAY))

        await history.tidy(NOW + 2 * DAY, days=14, bytes_max=0)

        for each in kept[:2]:
            assert not await history.attempts(each.job_id, limit=10)
        assert list(await history.attempts(kept[2].job_id, limit=10)) == [kept[2]]

    async def test_hi_6_several_may_tidy_at_once(
        self, store: Store, history: History, other_history: History
    ) -> None:
        """While attempts end: all of these are there, and what is old is gone."""
        await history.tidy(NOW - DAY, days=14, bytes_max=MUCH)
        old = [await recorded(store, at=NOW + day * DAY) for day in range(2)]
        now = NOW + 20 * DAY

        async def failing() -> list[AttemptRecord]:
            return [await recorded(store, at=now) for _ in range(5)]

        tidying = [each.tidy(now, days=14, bytes_max=MUCH) for each in (history, other_history)]
        new, *_ = await race(asyncio.ensure_future(failing()), *map(asyncio.ensure_future, tidying))
        await history.tidy(now, days=14, bytes_max=MUCH)

        assert isinstance(new, list)
        for each in new:
            assert list(await history.attempts(each.job_id, limit=10)) == [each]
        for each in old:
            assert not await history.attempts(each.job_id, limit=10)
