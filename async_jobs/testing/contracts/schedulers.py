"""The contract of `Schedulers`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_jobs.ports.schedulers import Schedulers
from async_jobs.testing.builders import a_scheduler, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import race

DAY = 24 * 3600.0


class SchedulersContract:
    """Everything `Schedulers` promises, SR-1 to SR-4.

    Subclass it as `TestMySchedulers` and override the fixture `schedulers`.
    """

    @pytest.fixture
    async def schedulers(self) -> Schedulers:
        """The register under test, empty."""
        raise NotImplementedError("override the fixture `schedulers`")

    async def test_sr_1_schedulers_are_known_as_they_announced_themselves(
        self, schedulers: Schedulers
    ) -> None:
        """Every field of them; who ticked last comes first, alive or not."""
        assert list(await schedulers.known()) == []
        announced = [
            a_scheduler(
                scheduler_id=f"scheduler {i}'\"é",
                host="ip-10-0-0-1.internal",
                version="1.2.3+dirty",
                ticked_at=later(0.000_001 * i),
                tick_seconds=1 / 3,
                alive_until=later(60.000_001 - 60 * i),
                transport="sqs" * (i % 2),
                leads=tuple(f"use case {j}" for j in range(i)),
                limits={f"use case {j}'\"é": j for j in range(i)},
                settings="ab12" * (i % 2),
                start_rates={f"use case {j}": j / 7 for j in range(i)},
                hand_off_seconds=0.05 * i,
                turnovers={f"use case {j}": [j / 3, 2, 1, 0.5, None] for j in range(i)},
                closed=tuple(f"queue {j}" for j in range(i)),
            )
            for i in range(4)
        ]
        for scheduler in (announced[i] for i in (2, 0, 3, 1)):
            await schedulers.announce(scheduler)

        assert list(await schedulers.known()) == announced[::-1]

    async def test_sr_2_an_announcement_replaces_the_last_one(self, schedulers: Schedulers) -> None:
        """It ticks on, and holds another turn."""
        scheduler = a_scheduler(leads=("mail",))
        await schedulers.announce(scheduler)
        renewed = replace(scheduler, leads=("reports",), ticked_at=later(15))

        await schedulers.announce(renewed)

        assert list(await schedulers.known()) == [renewed]

    async def test_sr_2_racing_announcements_do_not_disturb_each_other(
        self, schedulers: Schedulers
    ) -> None:
        """Twenty schedulers at once, each twice: one entry each."""
        announced = [a_scheduler(scheduler_id=f"scheduler-{i:02}") for i in range(20)]

        await race(*(schedulers.announce(each) for each in announced * 2))

        assert list(await schedulers.known()) == announced

    async def test_sr_3_an_announcement_tells_of_the_others_alive(
        self, schedulers: Schedulers
    ) -> None:
        """At the instant of its tick, and not of itself."""
        alive = a_scheduler(alive_until=later(60))
        await schedulers.announce(a_scheduler(alive_until=later(30)))
        await schedulers.announce(alive)
        own = a_scheduler(ticked_at=later(30), alive_until=later(90))

        assert list(await schedulers.announce(own)) == [alive]
        assert list(await schedulers.announce(own)) == [alive]

    async def test_sr_4_who_is_gone_for_a_day_is_forgotten(self, schedulers: Schedulers) -> None:
        """When another one announces itself; who was there lately is still known."""
        long_ago = a_scheduler(alive_until=NOW)
        lately = a_scheduler(alive_until=later(60))
        await schedulers.announce(long_ago)
        await schedulers.announce(lately)
        new = a_scheduler(ticked_at=later(DAY + 30), alive_until=later(DAY + 90))

        await schedulers.announce(new)

        assert list(await schedulers.known()) == [new, lately]

    async def test_sr_4_the_last_one_is_remembered(self, schedulers: Schedulers) -> None:
        """Nobody forgets it who only asks."""
        last = a_scheduler(alive_until=later(-10 * DAY), ticked_at=later(-10 * DAY))
        await schedulers.announce(last)

        assert list(await schedulers.known()) == [last]
