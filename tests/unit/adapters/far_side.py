"""The other end of the HTTP clients, played from a script, and both clients called alike."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, Literal, TypeAlias
from uuid import UUID

import httpx

from async_jobs.adapters.http.blocking import JobsHttpClient
from async_jobs.adapters.http.client import AsyncJobsHttpClient
from async_jobs.adapters.http.wire import Problem, answer_of, page_record_of, record_of
from async_jobs.domain.job import Enqueued, JobPage
from async_jobs.testing.builders import a_job, a_request, an_id
from async_jobs.testing.clocks import ManualChance, ManualClock

Kind: TypeAlias = Literal["async", "sync"]
Told: TypeAlias = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
URL = "http://jobs.internal"
TOKEN = "s3cret-t0ken"


class PacedClock(ManualClock):
    """Moves itself on by what is slept, and keeps how much that was."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Do what `sleep` does, for the client that blocks."""
        self.pauses.append(seconds)
        self.advance(seconds)


class FarSide:
    """Tells what the script says, one after the other, and keeps what it was sent."""

    def __init__(self, *script: Told) -> None:
        self.requests: list[httpx.Request] = []
        self._script = list(script)

    def script(self, *more: Told) -> None:
        """Say this, too."""
        self._script += more

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        told = self._script.pop(0)
        if isinstance(told, Exception):
            raise told
        return told if isinstance(told, httpx.Response) else told(request)

    @property
    def bodies(self) -> list[Any]:
        """The JSON of every request."""
        return [json.loads(request.content) for request in self.requests]


class Client:
    """One of the two clients: `await client("get_job", job_id)` calls it, whichever it is."""

    def __init__(
        self,
        kind: Kind,
        side: FarSide,
        *,
        url: str = URL,
        token: str | None = TOKEN,
        **options: Any,
    ) -> None:
        self.clock = PacedClock()
        self.side = side
        options |= {
            "transport": httpx.MockTransport(side),
            "clock": self.clock,
            "chance": ManualChance(),
        }
        self.client: AsyncJobsHttpClient | JobsHttpClient = (
            AsyncJobsHttpClient(url, token, **options)
            if kind == "async"
            else JobsHttpClient(url, token, pause=self.clock.pause, **options)
        )

    async def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.client, name)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    @property
    def pauses(self) -> list[float]:
        """How many seconds it waited between two tries."""
        return self.clock.pauses


CALLS: dict[str, tuple[Any, ...]] = {
    "enqueue": (a_request(),),
    "enqueue_many": ([a_request(), a_request()],),
    "get_job": (an_id(),),
    "list_jobs": (),
    "cancel_job": (an_id(),),
    "retry_job": (an_id(),),
}
"""Every call, with arguments that will do."""


def good(request: httpx.Request) -> httpx.Response:
    """Answer as the real thing would, whatever the call was."""
    match request.method, request.url.path.rpartition("/jobs/")[2]:
        case "POST", "enqueue":
            return httpx.Response(201, json=_enqueued(json.loads(request.content)))
        case "POST", "enqueue-batch":
            jobs = [_enqueued(each) for each in json.loads(request.content)["jobs"]]
            return httpx.Response(201, json={"jobs": jobs})
        case "GET", "":
            return httpx.Response(200, json=page_record_of(JobPage((a_job(),), None)))
        case _:
            job_id = UUID(request.url.path.rpartition("/jobs/")[2].partition("/")[0])
            return httpx.Response(200, json=record_of(a_job(id=job_id)))


def duplicate(request: httpx.Request) -> httpx.Response:
    """Answer an enqueue, or a batch, as one whose ids are known already."""
    body = json.loads(request.content)
    if "jobs" not in body:
        return httpx.Response(200, json=_enqueued(body) | {"duplicate": True})
    jobs = [_enqueued(each) | {"duplicate": True} for each in body["jobs"]]
    return httpx.Response(200, json={"jobs": jobs})


def _enqueued(body: Any) -> dict[str, Any]:
    return answer_of(Enqueued(body["id"]))


def problem(status: int, type: Problem | str, **members: Any) -> httpx.Response:
    """Return a problem document."""
    document = {"type": type, "title": "t", "status": status, "detail": "d", **members}
    headers = {"Content-Type": "application/problem+json"}
    return httpx.Response(status, content=json.dumps(document), headers=headers)


def over_quota() -> httpx.Response:
    """Return the 429 that no waiting helps against."""
    numbers = {"limit": 5, "used": 4, "asked": 2}
    return problem(429, Problem.QUOTA_EXCEEDED, tenant_id="acme", **numbers)
