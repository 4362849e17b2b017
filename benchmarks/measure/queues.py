"""W3 over SQS: a drain whose hand-offs SQS carries, beside the bare client's round trip."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from benchmarks.machine.environments import Missing
from benchmarks.machine.processes import FailedError, until
from benchmarks.machine.services import AWS
from benchmarks.measure.bench import Bench, Result, Run
from benchmarks.plan.sizes import Sizes
from benchmarks.plan.subjects import Subject

SECONDS = 180.0


def over_sqs(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
    """Drain as W3 plain does, but hand off through SQS."""
    url, environment = _queue(bench)
    with bench.run(subject, sizes.handoffs, sqs=url) as run:
        run.environment.update(environment)
        run.fill(sizes.handoffs)
        run.prepared()
        return {"W3 sqs": run.drain(sizes.handoffs)}


def bare_sqs(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
    """Send as many messages as there were jobs in one process; receive and delete in another."""
    url, environment = _queue(bench)
    with bench.run(subject, sizes.handoffs) as run:
        run.environment.update(environment)
        return {"W3 sqs": _round_trip(run, sizes.handoffs, url)}


def _round_trip(run: Run, jobs: int, url: str) -> Result:
    receiving = run.start("receive", jobs, url)

    def receives() -> bool:
        receiving.check()
        return bool(receiving.answers())

    if not until(receives, SECONDS):
        raise receiving.failed("does not receive")
    sent = run.start("send", jobs, url).result(SECONDS)
    received = receiving.result(SECONDS)
    told = (received["jobs"], received["messages"])
    problem = None if told == (jobs, jobs) else f"{told} jobs and messages instead of {jobs}"
    return Result({"jobs_per_s": jobs / (received["at"] - sent["at"])}, problem)


def _queue(bench: Bench) -> tuple[str, Mapping[str, str]]:
    """Make a queue; return its URL and the environment that leads to it."""
    if isinstance(bench.sqs, Missing):
        raise FailedError(bench.sqs.reason)
    environment = {**AWS, "AWS_ENDPOINT_URL": bench.sqs}
    return asyncio.run(_made(bench.sqs)), environment


async def _made(endpoint: str) -> str:
    import aioboto3

    session: Any = aioboto3.Session(
        aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
        region_name=AWS["AWS_DEFAULT_REGION"],
    )
    async with session.client("sqs", endpoint_url=endpoint) as client:
        answer = await client.create_queue(QueueName=f"bench-{secrets.token_hex(6)}")
    return str(answer["QueueUrl"])
