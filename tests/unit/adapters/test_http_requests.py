"""What the HTTP clients send, and what they refuse to."""

from __future__ import annotations

import inspect
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from async_jobs.adapters.http.blocking import JobsHttpClient
from async_jobs.adapters.http.client import AsyncJobsHttpClient
from async_jobs.domain.errors import ConfigurationError, InvalidJobError
from async_jobs.domain.job import JobStatus
from async_jobs.ports.jobs import Jobs
from async_jobs.testing.builders import a_request, an_id, later
from async_jobs.testing.contracts.specimens import INVALID
from tests.unit.adapters.far_side import CALLS, TOKEN, URL, Client, FarSide, Kind, good

each_kind = pytest.mark.parametrize("kind", ["async", "sync"])
JOB_ID = an_id()


async def sent(kind: Kind, name: str, *args: Any, **kwargs: Any) -> httpx.Request:
    """Return the one request of a call."""
    client = Client(kind, FarSide(good))
    await client(name, *args, **kwargs)
    (request,) = client.side.requests
    return request


# --- where to -----------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("enqueue", "POST", "/jobs/enqueue"),
        ("enqueue_many", "POST", "/jobs/enqueue-batch"),
        ("get_job", "GET", f"/jobs/{JOB_ID}"),
        ("list_jobs", "GET", "/jobs/"),
        ("cancel_job", "POST", f"/jobs/{JOB_ID}/cancel"),
        ("retry_job", "POST", f"/jobs/{JOB_ID}/retry"),
    ],
)
@pytest.mark.parametrize(
    "prefix", ["", "/", "/internal/jobs-api", "/internal/jobs-api/", "/%C3%BC"]
)
async def test_every_call_has_its_place(
    kind: Kind, name: str, method: str, path: str, prefix: str
) -> None:
    """Below whatever path the base URL has."""
    args = (JOB_ID,) if name.endswith("_job") else CALLS[name]
    client = Client(kind, FarSide(good), url=URL + prefix)

    await client(name, *args)

    (request,) = client.side.requests
    assert request.method == method
    assert request.url.raw_path.partition(b"?")[0].decode() == prefix.rstrip("/") + path


@each_kind
@pytest.mark.parametrize(
    "tenant_id", ["acme", "a&b=c", "a+b c", "ü/ö?#", "%2F..", "𝄞 \u2028", "'\"\\", " "]
)
async def test_odd_tenants_arrive_as_they_are(kind: Kind, tenant_id: str) -> None:
    """In every call whose query string names one."""
    for name in ("get_job", "cancel_job", "retry_job", "list_jobs"):
        request = await sent(kind, name, *CALLS[name], tenant_id=tenant_id)

        query = parse_qs(request.url.query.decode("ascii"), strict_parsing=True)
        assert query.pop("tenant_id") == [tenant_id]
        assert query == ({"limit": ["100"]} if name == "list_jobs" else {})


@each_kind
async def test_every_filter_arrives(kind: Kind) -> None:
    """And none that was not given."""
    cursor = an_id()
    filters = {"use_case": "a b", "status": JobStatus.DEAD, "limit": 7, "cursor": cursor}

    some = parse_qs((await sent(kind, "list_jobs", **filters)).url.query.decode())
    none = parse_qs((await sent(kind, "list_jobs")).url.query.decode())

    assert some == {
        "use_case": ["a b"],
        "status": ["dead"],
        "limit": ["7"],
        "cursor": [str(cursor)],
    }
    assert none == {"limit": ["100"]}


# --- with what ----------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("name", CALLS)
async def test_the_token_goes_with_every_call(kind: Kind, name: str) -> None:
    """In its own header, and nowhere else."""
    request = await sent(kind, name, *CALLS[name])

    assert request.headers["X-Async-Jobs-Token"] == TOKEN
    assert TOKEN not in str(request.url)
    assert ("Content-Type" in request.headers) is name.startswith("enqueue")


@each_kind
async def test_without_a_token_there_is_no_header(kind: Kind) -> None:
    """For an API that lets everybody in."""
    client = Client(kind, FarSide(good), token=None)

    await client("list_jobs")

    assert "X-Async-Jobs-Token" not in client.side.requests[0].headers


@each_kind
async def test_a_request_is_utf_8_json(kind: Kind) -> None:
    """With a length, so that the other side can refuse it before it has read it."""
    request = await sent(kind, "enqueue", a_request(payload={"to": "ü𝄞"}))

    assert request.headers["Content-Type"] == "application/json"
    assert int(request.headers["Content-Length"]) == len(request.content)
    assert "ü𝄞".encode() in request.content


@each_kind
@pytest.mark.parametrize(
    ("run_at", "written"),
    [
        (datetime(2030, 1, 1, 3, tzinfo=timezone(timedelta(hours=3))), "2030-01-01T00:00:00+00:00"),
        (
            datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(seconds=5))),
            "2030-01-01T00:59:55+00:00",
        ),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=3))), "0001-01-01T00:00:00+03:00"),
        (datetime(2030, 1, 1, 1, 2, 3, 4, tzinfo=UTC), "2030-01-01T01:02:03.000004+00:00"),
    ],
)
async def test_an_instant_is_written_in_utc(kind: Kind, run_at: datetime, written: str) -> None:
    """Offsets may have seconds, which the other side need not read."""
    client = Client(kind, FarSide(good))

    await client("enqueue", a_request(run_at=run_at))

    assert client.side.bodies[0]["run_at"] == written


@each_kind
async def test_a_batch_is_what_it_was_when_it_was_handed_over(kind: Kind) -> None:
    """A list that changes between two tries changes nothing."""
    requests = [a_request(), a_request()]

    def lose(request: httpx.Request) -> httpx.Response:
        requests.pop()
        raise httpx.ReadError("reset")

    client = Client(kind, FarSide(lose, good))

    assert len(await client("enqueue_many", requests)) == 2


# --- what is not sent ---------------------------------------------------------------------------

KNOWN_THERE = ({"use_case": "unheard-of"}, {"queue": "unheard-of"}, {"run_at": later(367 * 86_400)})
KNOWN_HERE = [each for each in INVALID if each[1] not in KNOWN_THERE]


@each_kind
@pytest.mark.parametrize(("field", "overrides"), KNOWN_HERE, ids=range(len(KNOWN_HERE)))
async def test_an_invalid_request_is_not_sent(
    kind: Kind, field: str, overrides: dict[str, Any]
) -> None:
    """Some of them could not be; in a batch the error says which one it was."""
    client = Client(kind, FarSide(good, good))
    with pytest.raises(InvalidJobError) as alone:
        await client("enqueue", a_request(**overrides))
    with pytest.raises(InvalidJobError) as in_batch:
        await client("enqueue_many", [a_request(), a_request(**overrides)])

    assert alone.value.field.startswith(field)
    assert in_batch.value.field == f"jobs[1].{alone.value.field}"
    assert not client.side.requests


@each_kind
@pytest.mark.parametrize(
    ("name", "args", "kwargs", "field"),
    [
        ("enqueue_many", ([a_request()] * 1_001,), {}, "jobs"),
        ("list_jobs", (), {"limit": 0}, "limit"),
        ("list_jobs", (), {"limit": 1_001}, "limit"),
        ("list_jobs", (), {"status": "lost"}, "status"),
        ("list_jobs", (), {"cursor": "next"}, "cursor"),
        ("list_jobs", (), {"use_case": ""}, "use_case"),
        ("list_jobs", (), {"tenant_id": ""}, "tenant_id"),
        ("get_job", (JOB_ID,), {"tenant_id": ""}, "tenant_id"),
        ("get_job", (JOB_ID,), {"tenant_id": "\ud800"}, "tenant_id"),
        ("cancel_job", ("../x",), {}, "job_id"),
        ("retry_job", (str(JOB_ID),), {}, "job_id"),
    ],
)
async def test_an_argument_out_of_bounds_is_not_sent(
    kind: Kind, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], field: str
) -> None:
    """An empty tenant is nobody, and must not be taken for all of them."""
    client = Client(kind, FarSide(good))
    with pytest.raises(InvalidJobError) as caught:
        await client(name, *args, **kwargs)

    assert caught.value.field == field
    assert not client.side.requests


# --- the clients themselves ---------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(
            ("base_url", url)
            for url in (
                "",
                "jobs.internal",
                "jobs.internal:8000",
                "ftp://jobs.internal",
                "http://",
                "http:///jobs",
                "http://jobs internal",
                "http://jobs.internal:99999",
                "http://jobs.internal:0",
                "http://jobs.internal:port",
                "http://jobs.internal?token=hunter2",
                "http://jobs.internal#hunter2",
                "http://user:hunter2@jobs.internal",
                "http://jobs.internal\nHost: hunter2",
                b"http://jobs.internal",
                None,
            )
        ),
        *(
            ("auth_token", token)
            for token in ("", "hunter2\n", "hunter2\r\nX: y", " hunter2", "hünter2", b"hunter2")
        ),
        *(("timeout_seconds", each) for each in (0, -1, 3_601, float("nan"), "5", True, None)),
        *(("tries", each) for each in (0, 11, -1, 1.5, True, "4", None)),
    ],
)
def test_an_unusable_argument_is_named(kind: Kind, argument: str, value: Any) -> None:
    """And not repeated: it may hold a secret."""
    make: Any = {"async": AsyncJobsHttpClient, "sync": JobsHttpClient}[kind]
    with pytest.raises(ConfigurationError) as caught:
        make(**({"base_url": URL} | {argument: value}))

    assert str(caught.value).startswith(f"{argument}: ")
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


class Counting(httpx.MockTransport):
    """Counts how often it is closed."""

    def __init__(self) -> None:
        super().__init__(good)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


async def test_an_async_client_closes_its_transport_when_it_is_closed() -> None:
    """By its block or by hand; not before, and not twice."""
    transport = Counting()
    async with AsyncJobsHttpClient(URL, transport=transport) as client:
        await client.enqueue(a_request())
        await client.list_jobs()
        before = transport.closed
    await client.aclose()

    assert (before, transport.closed) == (0, 1)
    with pytest.raises(ConfigurationError, match="the client is closed"):
        await client.list_jobs()


def test_a_sync_client_closes_its_transport_when_it_is_closed() -> None:
    """As the other does."""
    transport = Counting()
    with JobsHttpClient(URL, transport=transport) as client:
        client.enqueue(a_request())
        client.list_jobs()
        before = transport.closed
    client.close()

    assert (before, transport.closed) == (0, 1)
    with pytest.raises(ConfigurationError, match="the client is closed"):
        client.list_jobs()


def test_a_sync_client_can_be_shared_by_threads() -> None:
    """Each thread gets its own answers, and no two jobs the same id."""
    with (
        JobsHttpClient(URL, transport=httpx.MockTransport(good)) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        given = [a_request(id=an_id()) for _ in range(100)]
        new = list(threads.map(client.enqueue, [a_request()] * 100))
        known = list(threads.map(client.enqueue, given))

    assert len({each.job_id for each in new}) == 100
    assert [each.job_id for each in known] == [each.id for each in given]


@pytest.mark.parametrize("name", CALLS)
def test_both_clients_have_the_calls_of_the_port(name: str) -> None:
    """The same arguments in the same order, with the same defaults."""
    port, blocking, awaited = (
        inspect.signature(getattr(each, name))
        for each in (Jobs, JobsHttpClient, AsyncJobsHttpClient)
    )

    assert port == blocking == awaited
    assert inspect.iscoroutinefunction(getattr(AsyncJobsHttpClient, name))
    assert not inspect.iscoroutinefunction(getattr(JobsHttpClient, name))


PROGRAM = """
import sys
sys.modules["httpx"] = None
import async_jobs
try:
    async_jobs.{name}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["AsyncJobsHttpClient", "JobsHttpClient"])
def test_a_missing_extra_is_named(name: str) -> None:
    """Nothing else of the package needs httpx."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "pip install 'async-jobs[client]'" in done.stdout


def test_a_client_loads_no_database_driver() -> None:
    """An application that only enqueues has no use for one."""
    code = "import sys, async_jobs; async_jobs.AsyncJobsHttpClient; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "httpx" in loaded
    assert not loaded & {"asyncpg", "dependency_injector", "fastapi", "typer"}
