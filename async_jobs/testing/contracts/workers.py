"""The contract of `Workers`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import a_worker, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import race


class WorkersContract:
    """Everything `Workers` promises, WK-1 to WK-3.

    Subclass it as `TestMyWorkers` and override the fixture `workers`.
    """

    @pytest.fixture
    async def workers(self) -> Workers:
        """The register under test, empty."""
        raise NotImplementedError("override the fixture `workers`")

    async def test_wk_1_live_returns_workers_as_they_announced_themselves(
        self, workers: Workers
    ) -> None:
        """Every field of them, ordered by id."""
        announced = [
            a_worker(
                worker_id=f"worker {i}'\"é",
                queues=tuple(f"queue {j}" for j in range(i)),
                slots=i,
                busy=i // 2,
                host="ip-10-0-0-1.internal",
                version="1.2.3+dirty",
                seen_at=later(0.000_001 * i),
                alive_until=later(60.000_001),
                run_times={f"type {j}'\"é": 0.1 * j for j in range(i)},
                transport="sqs" * (i % 2),
                types=None if i == 0 else tuple(f"type {j}'\"é" for j in range(1, i)),
            )
            for i in range(5)
        ]
        for worker in (announced[i] for i in (3, 0, 4, 2, 1)):
            await workers.announce(worker)

        assert list(await workers.live(NOW)) == announced

    async def test_wk_1_a_worker_is_alive_until_its_instant(self, workers: Workers) -> None:
        """Before `alive_until`, and not at it."""
        worker = a_worker(alive_until=later(10))
        await workers.announce(worker)

        assert list(await workers.live(later(9.999_999))) == [worker]
        assert list(await workers.live(later(10))) == []

    async def test_wk_1_nobody_is_alive_at_first(self, workers: Workers) -> None:
        """An empty register has an empty answer."""
        assert list(await workers.live(NOW)) == []

    async def test_wk_2_an_announcement_replaces_the_last_one(self, workers: Workers) -> None:
        """Slots in use and run times change, and the worker lives on."""
        worker = a_worker(busy=0, alive_until=later(10))
        await workers.announce(worker)
        renewed = replace(worker, busy=7, queues=("reports",), alive_until=later(20))
        renewed = replace(renewed, run_times={"send_email": 1 / 3})

        await workers.announce(renewed)

        assert list(await workers.live(later(15))) == [renewed]

    async def test_wk_2_a_worker_that_was_gone_may_come_back(self, workers: Workers) -> None:
        """It was silent for too long, or had withdrawn."""
        worker = a_worker(alive_until=later(10))
        await workers.announce(worker)
        assert list(await workers.live(later(100))) == []

        back = replace(worker, alive_until=later(200))
        await workers.announce(back)
        assert list(await workers.live(later(100))) == [back]

    async def test_wk_2_racing_announcements_do_not_disturb_each_other(
        self, workers: Workers
    ) -> None:
        """Twenty workers at once, each twice: one entry each."""
        announced = [a_worker(worker_id=f"worker-{i:02}") for i in range(20)]

        await race(*(workers.announce(worker) for worker in announced * 2))

        assert list(await workers.live(NOW)) == announced

    async def test_wk_3_a_withdrawn_worker_is_gone(self, workers: Workers) -> None:
        """The others stay; doing it again, or for a stranger, is harmless."""
        worker, other = a_worker(), a_worker()
        await workers.announce(worker)
        await workers.announce(other)

        for worker_id in (worker.worker_id, worker.worker_id, "nobody"):
            await workers.withdraw(worker_id)

        assert list(await workers.live(NOW)) == [other]
