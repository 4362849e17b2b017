"""Programs that print by how many MiB the work of their name made them grow at most.

Each is run in a process of its own: the peak of a process never falls again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

from async_jobs import JobContext, JobRegistry
from async_jobs.adapters.http.wire import TOKEN_HEADER
from async_jobs.domain.job import Payload
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.programs.processes import run_async
from async_jobs.entrypoints.serving.asgi import serving
from async_jobs.testing.builders import a_request
from async_jobs.testing.system import MemorySystem, memory_system

TOKEN = "memory-token"
registry = JobRegistry()


@registry.handler("leave_a_cycle")
async def leave_a_cycle(context: JobContext, payload: Payload) -> None:
    """Few objects, and many bytes."""
    cycle: list[object] = [bytearray(150_000)]
    cycle.append(cycle)


@registry.handler("fail_in_a_group")
async def fail_in_a_group(context: JobContext, payload: Payload) -> None:
    """The frame is in the traceback of the group that it is about to raise."""
    data = bytearray(1_000_000)
    async with asyncio.TaskGroup() as group:
        group.create_task(_fail(data))


async def _fail(data: bytearray) -> None:
    raise ValueError(len(data))


async def _executed(type: str, count: int) -> None:
    system = _system()
    for _ in range(0, count, 100):
        requests = [a_request(type=type, use_case="default", max_attempts=1) for _ in range(100)]
        await system.service.enqueue_many(requests)
        assert await system.run_until_idle() == 100


def _system() -> MemorySystem:
    return memory_system(registry=registry)


async def handlers_that_leave_cycles() -> None:
    await _executed("leave_a_cycle", 4_000)


async def groups_that_fail() -> None:
    await _executed("fail_in_a_group", 800)


async def refused_bodies() -> None:
    """Far larger than a payload may be, as one field and as a job of a batch; or just wrong.

    The collector never comes: what a refusal leaves behind has to go by itself.
    """
    gc.disable()
    system = _system()
    app = create_app(lambda: system.service, auth_token=TOKEN)
    job = {"tenant_id": "acme", "use_case": "default", "type": "t"}
    large = json.dumps(job | {"payload": {"text": "x" * 1_900_000}})
    many = {"text": ["x" * 40 for _ in range(40_000)]}
    batch = json.dumps({"jobs": [job | {"payload": many}, job | {"payload": {}, "priority": "x"}]})
    wrong = json.dumps(job | {"payload": many, "run_at": "soon", "nothing": 1})
    too_long = " " * 3_000_000
    for _ in range(40):
        assert await _status(app, "/jobs/enqueue", large) == 422
        assert await _status(app, "/jobs/enqueue-batch", batch) == 422
        assert await _status(app, "/jobs/enqueue", wrong) == 422
        assert await _status(app, "/jobs/enqueue", too_long) == 413


async def _status(app: FastAPI, path: str, body: str) -> int:
    """Post to an application without a client, whose own objects would count."""
    statuses: list[int] = []
    half = len(body) // 2
    pieces = [body[:half].encode(), body[half:].encode()]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: MutableMapping[str, Any]) -> None:
        if "status" in message:
            statuses.append(message["status"])

    headers = {TOKEN_HEADER.lower(): TOKEN, "content-type": "application/json"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
    }
    await app(scope, receive, send)
    return statuses[0]


async def readers_that_do_not_read() -> None:
    system = _system()
    requests = [a_request(use_case="default", payload={"text": "x" * 250_000}) for _ in range(70)]
    await system.service.enqueue_many(requests)
    inner = create_app(lambda: system.service, auth_token=TOKEN)
    asked, ended, all_ended = 20, 0, asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ended
        try:
            await inner(scope, receive, send)
        finally:
            ended += 1
            if ended == asked:
                all_ended.set()

    serve = serving(app, host="127.0.0.1", port=0, option="--port", read_seconds=0.3)
    async with serve as served:
        sockets = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(asked)]
        for each in sockets:
            head = (
                f"GET /jobs/?limit=1000 HTTP/1.1\r\nHost: a\r\nX-Async-Jobs-Token: {TOKEN}\r\n\r\n"
            )
            each.sendall(head.encode())
        await all_ended.wait()
        for each in sockets:
            each.close()


PROGRAMS: dict[str, Callable[[], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        handlers_that_leave_cycles,
        groups_that_fail,
        refused_bodies,
        readers_that_do_not_read,
    )
}


def peak_mib() -> int:
    """Return how large this process has been at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


async def main(name: str) -> int:
    before = peak_mib()
    await PROGRAMS[name]()
    return peak_mib() - before


if __name__ == "__main__":
    sys.stdout.write(str(run_async(main(sys.argv[1]))))
