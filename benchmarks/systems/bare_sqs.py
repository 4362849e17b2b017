"""The bare SQS client: send in one process, receive and delete in another, and nothing else.

python -m benchmarks.systems.bare_sqs send|receive <jobs> <queue URL>
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from async_jobs.adapters.sqs.client import open_client
from benchmarks.systems import protocol

SETTINGS = {"batch": 10, "requests_in_flight": 8}
WAIT_SECONDS = 1


class Nothing(protocol.System):
    """There is nothing to set up."""


def _body(number: int) -> str:
    return json.dumps({"job_id": str(UUID(int=number)), "lease_seq": 1})


async def _send_some(client: Any, url: str, starts: Iterator[int], jobs: int) -> None:
    for start in starts:
        numbers = range(start, min(jobs, start + SETTINGS["batch"]))
        answer = await client.send_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(each), "MessageBody": _body(each)} for each in numbers],
        )
        if answer.get("Failed"):
            raise RuntimeError(f"not sent: {answer['Failed']}")


async def _receive_some(client: Any, url: str, seen: dict[str, int], jobs: int) -> None:
    while len(seen) < jobs:
        answer = await client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=SETTINGS["batch"], WaitTimeSeconds=WAIT_SECONDS
        )
        messages = answer.get("Messages") or ()
        if not messages:
            continue
        deleted = await client.delete_message_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(messages)
            ],
        )
        if deleted.get("Failed"):
            raise RuntimeError(f"not deleted: {deleted['Failed']}")
        for message in messages:
            job = json.loads(message["Body"])["job_id"]
            seen[job] = seen.get(job, 0) + 1


async def _send(jobs: int, url: str) -> dict[str, float]:
    async with open_client() as client:
        began = time.monotonic()
        starts = iter(range(0, jobs, SETTINGS["batch"]))
        lanes = range(SETTINGS["requests_in_flight"])
        await asyncio.gather(*(_send_some(client, url, starts, jobs) for _ in lanes))
    return {"at": began}


async def _receive(jobs: int, url: str) -> dict[str, float]:
    seen: dict[str, int] = {}
    async with open_client() as client:
        print(json.dumps({"receiving": True}), flush=True)
        lanes = [
            asyncio.create_task(_receive_some(client, url, seen, jobs))
            for _ in range(SETTINGS["requests_in_flight"])
        ]
        # The first that sees the last message ends; the others would wait for more.
        await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
        at = time.monotonic()
        await asyncio.gather(*lanes)
    return {"at": at, "jobs": len(seen), "messages": sum(seen.values())}


def _program(direction: Any) -> None:
    jobs, url = protocol.arguments()
    print(json.dumps(protocol.run(direction(int(jobs), url))), flush=True)


if __name__ == "__main__":
    protocol.main(
        Nothing, also={"send": lambda: _program(_send), "receive": lambda: _program(_receive)}
    )
