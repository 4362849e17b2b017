"""The contract of `Operations`, the second driving port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias

import pytest

from async_jobs.domain.errors import InvalidJobError, JobNotFoundError
from async_jobs.domain.explain import Explanation, NextTurn, Status, Why
from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import Failed, LeaseExpired, Snoozed
from async_jobs.domain.troubles import digest_of, limits_of
from async_jobs.ports.operations import Operations
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.store import Store
from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import a_job, a_scheduler, a_worker, an_id, later
from async_jobs.testing.clocks import NOW, ManualClock
from async_jobs.testing.contracts.jobs import KIT_LIMITS
from async_jobs.testing.contracts.scenes import (
    PATHS,
    added,
    all_jobs,
    happened,
    in_phase,
    soon,
    stored,
)
from async_jobs.testing.contracts.standing import StandingContract
from async_jobs.testing.contracts.timelines import TimelineContract

Arrive: TypeAlias = Callable[[], Awaitable[None]]
OWN = {"limits": limits_of(KIT_LIMITS), "settings": digest_of(KIT_LIMITS)}
"""What a scheduler announces that keeps the same limits."""


def codes(explained: Explanation) -> list[Why]:
    """Return the reasons' codes, in order."""
    return [reason.code for reason in explained.reasons]


def warned(status: Status) -> dict[str, Any]:
    """Return the warnings' data by their codes."""
    return {warning.code: warning.data for warning in status.warnings}


class OperationsContract(TimelineContract, StandingContract):
    """Everything `Operations` promises, OP-1 to OP-8.

    Subclass it as `TestMyOperations` and override the fixtures `store`, `workers`, `schedulers`,
    `controls` and `operations`. Whatever stands between them, the operations are made with
    `KIT_LIMITS` and live by the fixture `clock`.
    """

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of `operations`."""
        return ManualClock()

    @pytest.fixture
    async def store(self) -> Store:
        """Where the jobs are kept."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def workers(self) -> Workers:
        """Where workers announce themselves."""
        raise NotImplementedError("override the fixture `workers`")

    @pytest.fixture
    async def schedulers(self) -> Schedulers:
        """Where schedulers announce themselves."""
        raise NotImplementedError("override the fixture `schedulers`")

    @pytest.fixture
    async def operations(
        self, store: Store, workers: Workers, schedulers: Schedulers, clock: ManualClock
    ) -> Operations:
        """The port under test, over the others, made with `KIT_LIMITS` and `clock`."""
        raise NotImplementedError("override the fixture `operations`")

    @pytest.fixture
    def live(self, workers: Workers, schedulers: Schedulers) -> Arrive:
        """Lets somebody schedule, and somebody work."""

        async def arrive() -> None:
            await schedulers.announce(
                a_scheduler(
                    scheduler_id="scheduler-1",
                    host="host-s",
                    leads=("notifications",),
                    start_rates={"notifications": 2.0},
                    **OWN,
                )
            )
            await workers.announce(
                a_worker(
                    worker_id="worker-1",
                    host="host-w",
                    queues=("notifications", "slow"),
                    slots=1,
                    types=("send_email",),
                )
            )

        return arrive

    @pytest.mark.parametrize("phase", list(PATHS))
    async def test_op_1_a_job_is_explained_in_every_phase(
        self, operations: Operations, live: Arrive, store: Store, phase: Phase
    ) -> None:
        """Its names, a sentence, and at least one reason with its data."""
        await live()
        job = await in_phase(store, phase)

        explained = await operations.explain(job.id)

        code = {
            Phase.PENDING: Why.STARTS,
            Phase.HANDED_OFF: Why.HANDED_OFF,
            Phase.CLAIMED: Why.RUNNING,
            Phase.CANCELLING: Why.RUNNING,
        }.get(phase, Why.FINISHED)
        told = explained.job_id, explained.tenant_id, explained.use_case, explained.type
        assert told == (job.id, "acme", "notifications", "send_email")
        assert (explained.at, explained.phase) == (NOW, phase.value)
        assert codes(explained)[0] is code
        assert explained.sentence == explained.reasons[0].sentence
        assert (explained.next_turn, explained.estimate is not None) == (
            (NextTurn.STARTS, True) if phase is Phase.PENDING else (None, False)
        )
        assert (Why.CANCEL_REQUESTED in codes(explained)) is (phase is Phase.CANCELLING)

    async def test_op_1_what_runs_and_what_has_ended_says_where_and_why(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """The worker, its host, the lease; the end, the attempts and the last error."""
        await live()
        runs = await in_phase(store, Phase.CLAIMED)
        died = await in_phase(store, Phase.DEAD)

        where = (await operations.explain(runs.id)).reasons[0].data
        why = (await operations.explain(died.id)).reasons[0].data

        assert where == {
            "worker_id": "worker-1",
            "host": "host-w",
            "since": NOW.isoformat(),
            "lease_until": later(60).isoformat(),
            "attempt": 1,
            "cancel_requested": False,
        }
        assert (why["status"], why["finished_at"]) == ("dead", NOW.isoformat())
        assert (why["attempts"], why["last_error"]) == (1, "no such address")

    async def test_op_1_what_is_not_due_says_until_when_and_because_of_what(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """It was scheduled, failed, lost its worker, or was put off whatever happened before."""
        await live()
        scheduled = await added(store, run_at=later(90))
        failed = await in_phase(store, Phase.CLAIMED)
        failed = await happened(store, failed, Failed("refused"))
        crashed = await in_phase(store, Phase.CLAIMED)
        await happened(store, crashed, LeaseExpired(), now=later(60))
        put_off = await in_phase(store, Phase.CLAIMED)
        again = (Failed("refused", retry_after=timedelta()), *PATHS[Phase.CLAIMED])
        put_off = await happened(store, put_off, *again)
        await happened(store, put_off, Snoozed(later(300)), now=later(1))

        first = await operations.explain(scheduled.id)
        second = await operations.explain(failed.id)
        third = await operations.explain(crashed.id)
        fourth = await operations.explain(put_off.id)

        for explained in (first, second, third, fourth):
            assert codes(explained) == [Why.NOT_DUE]
        assert second.sentence.endswith(": refused.")
        assert third.reasons[0].data["cause"] == "worker_died"
        assert third.reasons[0].data["crashes"] == 1
        assert fourth.reasons[0].data["cause"] == "put_off"
        assert first.reasons[0].data["until"] == later(90).isoformat()
        assert first.reasons[0].data["cause"] == "scheduled"
        assert second.reasons[0].data["cause"] == "backoff"
        assert second.reasons[0].data["until"] == failed.run_at.isoformat()
        assert first.estimate is not None
        assert first.estimate.start_at == later(90)
        assert first.next_turn is second.next_turn is None

    async def test_op_1_what_a_dead_worker_ran_says_what_becomes_of_it(
        self, operations: Operations, store: Store
    ) -> None:
        """It does not run as well: once its lease is over it is tried again, or what was asked."""
        runs = await in_phase(store, Phase.CLAIMED)
        stops = await in_phase(store, Phase.CANCELLING)

        again, ends = [await operations.explain(job.id) for job in (runs, stops)]

        assert codes(again) == [Why.WORKER_GONE]
        assert codes(ends) == [Why.WORKER_GONE, Why.CANCEL_REQUESTED]
        assert again.reasons[0].data["since"] == NOW.isoformat()
        assert again.sentence.endswith("and then it is tried again.")
        assert ends.sentence.endswith("and then it is cancelled.")

    async def test_op_1_a_missing_or_foreign_job_is_not_found(
        self, operations: Operations, store: Store
    ) -> None:
        """The two look the same."""
        job = await added(store)
        for job_id, tenant in ((an_id(), None), (job.id, "bolt")):
            with pytest.raises(JobNotFoundError):
                await operations.explain(job_id, tenant_id=tenant)

        assert (await operations.explain(job.id, tenant_id="acme")).job_id == job.id

    async def test_op_2_it_says_which_jobs_the_next_turn_starts(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """One slot is free: one job starts, and the others say what they wait for."""
        await live()
        jobs = [a_job(tenant_id=f"tenant {i % 2}", deadline_at=later(60 + i)) for i in range(6)]
        await stored(store, *jobs)

        explained = [await operations.explain(job.id) for job in jobs]

        assert [each.next_turn for each in explained] == [NextTurn.STARTS] + [NextTurn.WAITS] * 5
        assert Why.WINDOW_FULL in codes(explained[1])
        assert codes(explained[4])[0] is Why.BEHIND
        assert explained[4].reasons[0].data["ahead"] == 1
        assert explained[1].estimate is not None
        assert explained[1].estimate.start_at is not None
        assert explained[1].estimate.start_at > NOW
        assert explained[1].estimate.starts_per_second == 2.0

    async def test_op_2_what_keeps_everything_waiting_comes_first(
        self, operations: Operations, store: Store, workers: Workers, schedulers: Schedulers
    ) -> None:
        """Nobody schedules, nobody receives the queue, nobody knows the type."""
        job = await added(store)

        assert codes(await operations.explain(job.id))[:2] == [Why.NO_SCHEDULER, Why.NO_WORKER]
        await schedulers.announce(a_scheduler(transport="sqs", **OWN))
        assert codes(await operations.explain(job.id))[0] is Why.NO_WORKER
        worker = a_worker(types=("resize",), transport="postgres")
        await workers.announce(worker)
        explained = await operations.explain(job.id)
        assert codes(explained)[:2] == [Why.NO_HANDLER, Why.TRANSPORTS_DIFFER]
        assert explained.estimate is not None
        assert explained.estimate.start_at is None
        await workers.announce(replace(worker, types=None, transport=""))
        assert codes(await operations.explain(job.id)) == [Why.STARTS]

    async def test_op_2_a_use_case_that_nobody_configured_is_told(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """No turn looks at it."""
        await live()
        job = await added(store, use_case="unheard")

        explained = await operations.explain(job.id)

        assert codes(explained)[0] is Why.UNKNOWN_USE_CASE
        assert explained.next_turn is None
        of_tenant = await operations.explain_waiting(tenant_id="acme")
        assert [(each.code, each.jobs) for each in of_tenant.reasons] == [(codes(explained)[0], 1)]

    async def test_op_3_within_tenants_no_other_name_is_told(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """Whatever keeps the jobs waiting: neither tenants nor hosts nor schedulers."""
        await live()
        for _ in range(12):
            await in_phase(store, Phase.CLAIMED, tenant_id="secretive", type="hidden")
        await stored(store, *(a_job(tenant_id="secretive", type="hidden") for _ in range(9)))
        await added(store, tenant_id="secretive", use_case="veiled")
        await added(store, tenant_id="secretive", type="hidden", run_at=later(600))
        waits = await added(store)
        runs = await in_phase(store, Phase.CLAIMED)

        answers = [
            await operations.explain(waits.id, tenant_id="acme"),
            await operations.explain(runs.id, tenant_id="acme"),
            await operations.explain_waiting(tenant_id="acme"),
            await operations.explain_waiting(tenant_id="acme", use_case="notifications"),
            status := await operations.status(tenants=["acme", "bolt"]),
        ]

        for name in ("secretive", "hidden", "veiled", "host-", "scheduler-1"):
            assert name not in repr(answers)
        assert (status.workers, status.schedulers) == ((), ())
        (use_case,) = (each for each in status.use_cases if each.use_case == "notifications")
        assert (use_case.pending, use_case.running) == (1, 1)

    async def test_op_4_asking_changes_nothing(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """However often."""
        await live()
        for phase in PATHS:
            await in_phase(store, phase)
        before = await all_jobs(store)

        for job in before:
            await operations.explain(job.id)
        await operations.explain_waiting(use_case="notifications")
        await operations.status()

        assert await all_jobs(store) == before

    async def test_op_4_it_is_answered_while_others_dispatch(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """Who holds all turns is not waited for."""
        await live()
        job = await added(store)
        async with store.turn(list(KIT_LIMITS.use_case_configs), ["acme", "limited"]):
            explained = await soon(operations.explain(job.id))
            status = await soon(operations.status())
            await soon(operations.explain_waiting(tenant_id="acme"))

        assert explained.next_turn is NextTurn.STARTS
        assert status.at == NOW

    async def test_op_5_what_waits_is_counted_by_reason(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """Of a use case, of a tenant, of both; with what would have to change."""
        await live()
        await stored(store, *(a_job(deadline_at=later(60 + i)) for i in range(4)))
        await added(store, run_at=later(90))
        await added(store, tenant_id="bolt", deadline_at=later(90))

        of_both = await operations.explain_waiting(use_case="notifications", tenant_id="acme")
        of_tenant = await operations.explain_waiting(tenant_id="bolt")
        of_use_case = await operations.explain_waiting(use_case="notifications")

        counts = {reason.code: reason.jobs for reason in of_both.reasons}
        assert counts == {Why.STARTS: 1, Why.WINDOW_FULL: 1, Why.BEHIND: 2}
        assert (of_both.pending, of_both.looked_at, of_both.whole) == (5, 4, True)
        assert (of_both.use_case, of_both.tenant_id) == ("notifications", "acme")
        assert of_both.sentence.startswith("5 jobs wait, 4 of them due. No slot is free")
        assert (of_tenant.pending, of_tenant.looked_at) == (1, 1)
        assert (of_use_case.pending, of_use_case.looked_at) == (6, 5)
        assert all(reason.change and reason.sentence for reason in of_use_case.reasons)

    async def test_op_5_a_question_about_nothing_known_is_refused(
        self, operations: Operations
    ) -> None:
        """With the field, and the use cases there are."""
        with pytest.raises(InvalidJobError, match="notifications") as caught:
            await operations.explain_waiting(use_case="unheard")
        assert caught.value.field == "use_case"
        with pytest.raises(InvalidJobError):
            await operations.explain_waiting()
        with pytest.raises(InvalidJobError, match="not a string"):
            await operations.status(tenants="acme")

    async def test_op_6_status_has_all_there_is(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """Use cases with their limits and counts, queues with their slots, and who lives."""
        await live()
        await in_phase(store, Phase.CLAIMED)
        await in_phase(store, Phase.HANDED_OFF)
        await stored(store, a_job(), a_job(run_at=later(90)), a_job(use_case="unheard"))

        status = await operations.status()

        use_cases = {each.use_case: each for each in status.use_cases}
        queues = {each.queue: each for each in status.queues}
        assert use_cases.keys() == {*KIT_LIMITS.use_case_configs, "unheard"}
        own = use_cases["notifications"]
        limit = KIT_LIMITS.use_case_configs["notifications"].max_concurrent
        assert (own.limit, own.running, own.unclaimed, own.pending) == (limit, 2, 1, 2)
        assert (own.at_least, own.starts_per_second) == (False, 2.0)
        assert (use_cases["unheard"].limit, use_cases["unheard"].pending) == (None, 1)
        slots = queues["notifications"]
        assert (slots.workers, slots.slots, slots.busy, slots.unclaimed) == (1, 1, 0, 1)
        assert queues["slow"].workers == 1
        assert [each.worker_id for each in status.workers] == ["worker-1"]
        assert status.workers[0].types == ("send_email",)
        assert [each.scheduler_id for each in status.schedulers] == ["scheduler-1"]
        assert status.schedulers[0].leads == ("notifications",)

    async def test_op_7_where_all_is_well_nothing_is_warned_of(
        self, operations: Operations, live: Arrive, store: Store
    ) -> None:
        """Jobs wait and run, and that is what they are for."""
        await live()
        await in_phase(store, Phase.CLAIMED)
        await added(store)

        assert (await operations.status()).warnings == ()

    async def test_op_7_each_trouble_is_one_sentence(
        self,
        operations: Operations,
        store: Store,
        workers: Workers,
        schedulers: Schedulers,
        clock: ManualClock,
    ) -> None:
        """Nobody schedules or works; then somebody does, and it does not fit."""
        await stored(store, job := a_job(), a_job(use_case="reports", queue="slow"))
        await added(store, use_case="unheard")
        await schedulers.announce(a_scheduler(**OWN))
        clock.advance(seconds=90)

        first = await operations.status()
        await schedulers.announce(
            a_scheduler(
                scheduler_id="scheduler-2",
                ticked_at=later(90),
                alive_until=later(180),
                limits=limits_of(KIT_LIMITS) | {"notifications": 1},
                settings="other",
            )
        )
        await workers.announce(
            a_worker(queues=("notifications", "typo"), types=("x",), alive_until=later(180))
        )
        await added(store, type="put_off", run_at=later(600))
        second = await operations.status()
        of_use_case = await operations.explain_waiting(use_case=job.use_case)

        assert codes(await operations.explain(job.id))[-1] is Why.LIMITS_DIFFER
        assert Why.LIMITS_DIFFER in {each.code for each in of_use_case.reasons}
        assert "No live worker of the queue" in of_use_case.sentence
        assert warned(first)["no_scheduler"]["silent_seconds"] == 90
        assert first.schedulers == ()
        assert {"queue_unattended", "use_case_unknown"} <= warned(first).keys()
        types = [w.data["type"] for w in second.warnings if w.code == "type_unattended"]
        assert types == ["put_off", "send_email"]
        assert warned(second) == {
            "queue_unattended": {"queue": "slow"},
            "queue_unfed": {"queue": "typo"},
            "type_unattended": {"queue": "notifications", "type": "send_email"},
            "use_case_unknown": {"use_case": "unheard"},
            "limits_differ": {
                "scheduler_id": "scheduler-2",
                "host": "localhost",
                "use_cases": ["notifications"],
            },
        }
        assert all(warning.sentence.endswith(".") for warning in second.warnings)
