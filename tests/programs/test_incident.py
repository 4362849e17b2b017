"""An incident from its beginning to its end, as an operator lives through it, with real processes.

A deployment breaks one type of jobs. The operator finds out by the command line and over HTTP,
pauses the type, deploys a fix, retries what failed, and resumes. Whatever else the system does has
to notice nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from async_jobs import (
    Action,
    AsyncJobsHttpClient,
    EnqueueJobRequest,
    JobStatus,
    Moment,
    Why,
)
from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from async_jobs.entrypoints.settings.tokens import new_token
from tests.kit.harness import eventually, free_port
from tests.programs.handlers_for_tests import BAD, DEPLOYMENT_VARIABLE
from tests.programs.systems import LOGGED, QUICKLY, System, a_system

BROKEN, SOUND = "send_receipt", "succeed"
TENANTS = ("acme", "beta")
EACH = 10
"""So many jobs of a type are enqueued for each tenant at a time."""
WHY_PAUSED, WHY_RETRIED, WHY_RESUMED = "no template", "their template is back", "fixed by 1.4.2"


class Operator:
    """Somebody with a token of her own, a terminal and an HTTP client."""

    def __init__(self, system: System, client: AsyncJobsHttpClient, port: int, token: str) -> None:
        self.client = client
        self._system = system
        self._settings = {TOKEN_VARIABLE: token}
        self._there = ("--url", f"http://127.0.0.1:{port}")

    async def types(self, *arguments: str) -> str:
        """Run a command of the terminal against the API; returns what it printed."""
        program = await self._system.programs.run(*arguments, *self._there, settings=self._settings)
        assert program.process.returncode == 0, program.stderr
        return program.stdout

    async def asks(self, *arguments: str) -> Any:
        """Run a command that answers in JSON."""
        return json.loads(await self.types(*arguments, "--json"))

    async def retries(self, error_group: str) -> dict[str, Any]:
        """Give all dead jobs of an error another life; returns what became of that."""
        what = ("bulk", "retry", "--type", BROKEN, "--error-group", error_group)
        why = ("--reason", WHY_RETRIED, "--actor", "ada", "--yes", "--json")
        program = await self._system.programs.run(*what, *why)
        assert program.process.returncode == 0, program.stderr
        told: dict[str, Any] = json.loads(program.stdout)
        return told


async def enqueue(client: AsyncJobsHttpClient, type: str, tolerance_seconds: int) -> list[UUID]:
    """Enqueue jobs of a type for each tenant, as an application does."""
    requests = [
        EnqueueJobRequest(
            tenant_id=tenant_id,
            use_case="mail",
            type=type,
            payload={"number": number},
            max_attempts=2,
            backoff_policy=QUICKLY,
            delay_tolerance=timedelta(seconds=tolerance_seconds),
        )
        for number in range(EACH)
        for tenant_id in TENANTS
    ]
    return [each.job_id for each in await client.enqueue_many(requests)]


async def all_are(system: System, job_ids: Collection[UUID], status: JobStatus) -> None:
    """Wait until jobs have a status."""

    async def look() -> bool:
        rows = await system.pool.fetch(
            "SELECT DISTINCT status FROM jobs WHERE id = ANY($1)", list(job_ids)
        )
        return [row["status"] for row in rows] == [status.value]

    await eventually(look, f"{len(job_ids)} jobs are {status.value}")


async def test_an_incident_is_seen_contained_and_mended(database_dsn: str, tmp_path: Path) -> None:
    """Others start in time all along, what failed succeeds, and the audit tells the story."""
    token, entry = new_token(name="ada", scopes=("enqueue", "read", "operate"))
    settings = {
        "ASYNC_JOBS_API_TOKENS": json.dumps([entry]),
        "ASYNC_JOBS_STATISTICS": "true",
    }
    port = free_port()
    async with (
        a_system(database_dsn, tmp_path, settings) as system,
        AsyncJobsHttpClient(f"http://127.0.0.1:{port}", auth_token=token) as client,
    ):
        ada = Operator(system, client, port, token)
        api = system.programs.start("api", "--port", str(port), *LOGGED)
        scheduler = system.scheduler()
        bad_worker = system.worker(**{DEPLOYMENT_VARIABLE: BAD})
        await api.has_logged("api_started")

        failed = await enqueue(client, BROKEN, 60)
        others = await enqueue(client, SOUND, 120)
        await all_are(system, failed, JobStatus.DEAD)
        error_group = await sees_what_is_broken(ada, system, failed)

        paused = await ada.asks("pause", "--type", BROKEN, "--reason", WHY_PAUSED, "--for", "2h")
        held_back = await enqueue(client, BROKEN, 60)  # they are due before all others
        others += await enqueue(client, SOUND, 120)
        await all_are(system, others, JobStatus.SUCCEEDED)
        await sees_what_is_paused(ada, held_back)

        former, scheduler, fixed_worker = scheduler, system.scheduler(), system.worker()
        await fixed_worker.has_logged("worker_started")
        for program in (former, bad_worker):
            program.terminate()
        assert [await each.ended() for each in (former, bad_worker)] == [0, 0]
        retried = await ada.retries(error_group)
        assert (retried["done"], retried["skipped"], retried["failed"]) == (len(failed), 0, 0)
        others += await enqueue(client, SOUND, 120)
        await all_are(system, others, JobStatus.SUCCEEDED)
        await all_are(system, failed + held_back, JobStatus.PENDING)

        await ada.types("resume", "--type", BROKEN, "--reason", WHY_RESUMED)
        await all_are(system, failed + held_back, JobStatus.SUCCEEDED)
        await reads_the_story(ada, failed[0], UUID(paused["id"]))

        for program in (fixed_worker, scheduler, api):  # they tell at their end what they counted
            program.terminate()
        assert [await each.ended() for each in (fixed_worker, scheduler, api)] == [0] * 3
        await others_were_not_harmed(system, len(others))


async def sees_what_is_broken(ada: Operator, system: System, failed: list[UUID]) -> str:
    """One type, one error, whatever the numbers in its texts; returns its fingerprint."""
    status = await ada.client.operations.status()
    listed = await ada.types("jobs", "list", "--status", "dead")
    history = await ada.types("jobs", "history", str(failed[0]))
    groups = await system.pool.fetch(
        "SELECT fingerprint, type, count(DISTINCT job_id) AS jobs FROM attempts"
        " WHERE fingerprint IS NOT NULL GROUP BY fingerprint, type"
    )

    assert [(each.use_case, each.running) for each in status.use_cases] == [("mail", 0)]
    assert len(status.workers) == len(status.schedulers) == 1
    assert listed.count(BROKEN) == len(failed)
    assert [(each["type"], each["jobs"]) for each in groups] == [(BROKEN, len(failed))]
    assert f"LookupError: no template for the message 0 [{groups[0]['fingerprint']}]" in history
    return str(groups[0]["fingerprint"])


async def sees_what_is_paused(ada: Operator, held_back: list[UUID]) -> None:
    """Nothing of the type has started since, and each job says why."""
    explained = await ada.client.operations.explain(held_back[0])
    jobs = [await ada.client.get_job(each) for each in held_back]
    warnings = {each.code for each in (await ada.client.operations.status()).warnings}

    assert {(job.status, job.attempts, job.dispatches) for job in jobs} == {
        (JobStatus.PENDING, 0, 0)
    }
    assert explained.reasons[0].code is Why.PAUSED
    assert f"by 'ada' ({WHY_PAUSED})" in explained.sentence
    assert "paused" in warnings


async def reads_the_story(ada: Operator, failed: UUID, control_id: UUID) -> None:
    """Who did what and why, and what became of a job meanwhile."""
    told = await ada.asks("audit")
    moments = [each.moment for each in (await ada.client.operations.history(failed)).entries]

    assert [(each["action"], each["reason"]) for each in told] == [
        (Action.RESUME, WHY_RESUMED),
        (Action.BULK, WHY_RETRIED),
        (Action.PAUSE, WHY_PAUSED),
    ]
    assert {each["actor"] for each in told} == {"ada"}
    resumed, _, paused = told
    assert {UUID(each["control_id"]) for each in (resumed, paused)} == {control_id}
    assert {each["address"] for each in (resumed, paused)} == {"127.0.0.1"}
    assert not await ada.client.operations.controls()
    began_and_ended = [Moment.STARTED, Moment.ENDED]
    assert moments == [Moment.ENQUEUED, *began_and_ended * 2, Moment.RETRIED, *began_and_ended]


async def others_were_not_harmed(system: System, others: int) -> None:
    """All of them started by their deadlines, by what the processes counted."""
    program = await system.programs.run("attainment", "--by", "type", "--json")
    rows = {each["type"]: each for each in json.loads(program.stdout)["rows"]}

    sound, broken = rows[SOUND], rows[BROKEN]
    assert (sound["attainment"], sound["on_time"], sound["succeeded"]) == (1.0, others, others)
    assert broken["dead"] == len(TENANTS) * EACH
    assert broken["succeeded"] == 2 * len(TENANTS) * EACH
