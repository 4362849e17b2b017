"""What the HTTP clients make of every answer, those of the interface and all the others."""

from __future__ import annotations

import html
import json
import logging
import traceback
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from async_jobs.adapters.http.wire import Problem, page_record_of, problem_of, record_of
from async_jobs.domain.errors import (
    AsyncJobsError,
    AuthTokenError,
    IllegalTransition,
    InvalidJobError,
    JobNotFoundError,
    QuotaExceededError,
    RemoteHttpError,
    StoreRefused,
    Unavailable,
)
from async_jobs.domain.job import JobPage
from async_jobs.testing.builders import a_job, a_request, an_id
from tests.unit.adapters.far_side import CALLS, TOKEN, Client, FarSide, Kind, problem

each_kind = pytest.mark.parametrize("kind", ["async", "sync"])


# --- good ones ----------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("name", ["get_job", "cancel_job", "retry_job"])
async def test_a_job_is_returned(kind: Kind, name: str) -> None:
    """As it stands on the other side."""
    job = a_job(headers={"trace": "ü"})
    client = Client(kind, FarSide(httpx.Response(200, json=record_of(job))))

    assert await client(name, job.id) == job


@each_kind
async def test_an_older_service_tells_no_phase(kind: Kind) -> None:
    """It follows from the rest of the record."""
    job = a_job()
    record = {name: value for name, value in record_of(job).items() if name != "phase"}
    client = Client(kind, FarSide(httpx.Response(200, json=record)))

    assert (await client("get_job", job.id)).phase is job.phase


@each_kind
async def test_a_page_is_returned(kind: Kind) -> None:
    """With what leads to the next one."""
    page = JobPage((a_job(), a_job()), an_id())
    client = Client(kind, FarSide(httpx.Response(200, json=page_record_of(page))))

    assert await client("list_jobs") == page


@each_kind
@pytest.mark.parametrize("status", [200, 201])
async def test_a_batch_is_answered_in_order(kind: Kind, status: int) -> None:
    """Each by itself."""
    one, two = a_request(id=an_id()), a_request(id=an_id())
    answers = [{"job_id": str(one.id), "duplicate": True}, {"job_id": str(two.id)}]
    client = Client(kind, FarSide(httpx.Response(status, json={"jobs": answers})))

    assert await client("enqueue_many", [one, two]) == [(one.id, True), (two.id, False)]


# --- problems -----------------------------------------------------------------------------------

ERRORS: list[AsyncJobsError] = [
    InvalidJobError("jobs[3].payload.a", "must be finite"),
    QuotaExceededError(tenant_id="acme", limit=5, used=4, asked=2),
    JobNotFoundError(an_id()),
    IllegalTransition(state="dead", event="Cancelled", why="it is over"),
    StoreRefused("d", "RaiseError"),
]


@each_kind
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_of_the_service_is_raised_here(kind: Kind, error: AsyncJobsError) -> None:
    """The same type, the same words, the same attributes."""
    told = problem_of(error)
    assert told is not None
    status, type, members = told
    client = Client(kind, FarSide(problem(status, type, **members)))
    with pytest.raises(AsyncJobsError) as caught:
        await client("cancel_job", an_id())

    assert repr(caught.value) == repr(error)
    assert vars(caught.value) == vars(error)


@each_kind
async def test_a_body_that_is_too_large_is_an_invalid_job(kind: Kind) -> None:
    """A batch may have a thousand jobs, and still more bytes than the API reads."""
    too_large = problem(413, Problem.BODY_TOO_LARGE, detail="the body may have 16 MiB")
    client = Client(kind, FarSide(too_large))
    with pytest.raises(InvalidJobError, match="16 MiB") as caught:
        await client("enqueue", a_request())

    assert caught.value.field == "body"


@each_kind
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_an_error_of_its_own(kind: Kind, status: int) -> None:
    """Whoever refuses it: the API, or something in front of it."""
    type = {401: Problem.UNAUTHENTICATED, 403: Problem.FORBIDDEN}[status]
    other = problem(status, Problem.INTERNAL_ERROR)
    client = Client(
        kind, FarSide(problem(status, type, detail="no"), httpx.Response(status, html="x"), other)
    )
    for words in ("no", f"the remote side refused the token ({status})", str(status)):
        with pytest.raises(AuthTokenError) as caught:
            await client("list_jobs")

        assert words in str(caught.value)


@each_kind
async def test_a_path_that_is_not_there_is_no_missing_job(kind: Kind) -> None:
    """The base URL is wrong."""
    script = problem(404, Problem.NO_SUCH_ROUTE), httpx.Response(404, json={"detail": "Not Found"})
    client = Client(kind, FarSide(*script))
    for _ in script:
        with pytest.raises(RemoteHttpError) as caught:
            await client("get_job", an_id())

        assert caught.value.status == 404


# --- anything else ------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 405, 413, 418, 500])
async def test_an_answer_of_something_else_says_what_it_is(kind: Kind, status: int) -> None:
    """The first words of a page, without its line breaks."""
    page = f"<html>\n <body>\t\x00{'Sorry! ' * 100}"
    client = Client(kind, FarSide(httpx.Response(status, html=page)))
    with pytest.raises(RemoteHttpError) as caught:
        await client("list_jobs")

    assert caught.value.status == status
    assert caught.value.excerpt.startswith("<html> <body> Sorry! Sorry!")
    assert len(caught.value.excerpt) == 200


@each_kind
@pytest.mark.parametrize("status", [202, 203, 206, 302])
async def test_a_status_that_the_interface_does_not_have_is_told(kind: Kind, status: int) -> None:
    """However good the body looks: it may be a cache's or a queue's."""
    client = Client(kind, FarSide(httpx.Response(status, json=RECORD)))
    with pytest.raises(RemoteHttpError) as caught:
        await client("get_job", JOB_ID)

    assert caught.value.status == status


RECORD = record_of(a_job())
READ = RECORD.keys() - {"phase", "first_deadline_at", "first_started_at", "labels"}
"""What a client needs; servers of versions before tell of no first deadlines, starts and labels."""
JOB_ID = UUID(RECORD["id"])
PAGE = {"jobs": [RECORD], "next_cursor": None}


def without(name: str) -> dict[str, Any]:
    """Return a job's record that lacks a member."""
    return {key: value for key, value in RECORD.items() if key != name}


@each_kind
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("get_job", b""),
        ("get_job", b"{"),
        ("get_job", b"\xff\xfe"),
        ("get_job", b"[" * 100_000),
        ("get_job", b"null"),
        ("get_job", b"[]"),
        ("get_job", b'"text"'),
        ("get_job", json.dumps({"job": RECORD}).encode()),
        *(("get_job", json.dumps(without(name)).encode()) for name in sorted(READ)),
        ("get_job", json.dumps(RECORD | {"id": 7}).encode()),
        ("get_job", json.dumps(RECORD | {"status": "lost"}).encode()),
        ("get_job", json.dumps(RECORD | {"run_at": "soon"}).encode()),
        ("get_job", json.dumps(RECORD | {"delay_tolerance_seconds": 1e300}).encode()),
        ("get_job", json.dumps(RECORD | {"backoff_policy": None}).encode()),
        ("get_job", json.dumps(RECORD | {"headers": 1}).encode()),
        ("list_jobs", json.dumps([RECORD]).encode()),
        ("list_jobs", json.dumps({"jobs": [RECORD]}).encode()),
        ("list_jobs", json.dumps(PAGE | {"jobs": 1}).encode()),
        ("list_jobs", json.dumps(PAGE | {"next_cursor": "next"}).encode()),
        ("enqueue", b"{}"),
        ("enqueue", b'{"job_id": 1}'),
        ("enqueue", b'{"job_id": "1"}'),
        ("enqueue_many", b'{"jobs": []}'),
        ("enqueue_many", b'{"jobs": [{}, {}]}'),
        ("enqueue_many", b"[]"),
    ],
)
async def test_an_answer_that_is_not_of_the_interface_is_told(
    kind: Kind, name: str, body: bytes
) -> None:
    """Never an error of the JSON parser, never a job half read."""
    client = Client(kind, FarSide(httpx.Response(200, content=body)))
    args = (JOB_ID,) if name == "get_job" else CALLS[name]
    with pytest.raises(RemoteHttpError, match="not an answer of this interface") as caught:
        await client(name, *args)

    assert caught.value.status == 200


@each_kind
@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 206, 226])
@pytest.mark.parametrize("name", CALLS)
async def test_what_a_job_carries_is_in_no_error(kind: Kind, name: str, status: int) -> None:
    """A good status means that the body may hold jobs: the error says why, not what."""
    record = without("queue") | {"id": "hunter2", "payload": {"to": "hunter2"}}
    document = {"type": Problem.INVALID_JOB, "field": "hunter2", "problem": "hunter2"}
    bodies = [json.dumps(record | document).encode(), json.dumps(record).encode()[:-1]]
    for body in bodies:
        client = Client(kind, FarSide(httpx.Response(status, content=body)))
        with pytest.raises(RemoteHttpError) as caught:
            await client(name, *CALLS[name])

        error = caught.value
        shown = "".join(traceback.format_exception(error))
        assert "hunter2" not in f"{error} {error!r} {vars(error)} {error.__context__!r} {shown}"
        assert error.status == status
        is_write = name not in {"get_job", "list_jobs"}
        assert ("may have taken effect" in str(error)) is is_write


@each_kind
@pytest.mark.parametrize("name", ["get_job", "cancel_job", "retry_job"])
async def test_another_job_than_was_asked_for_is_told(kind: Kind, name: str) -> None:
    """A cache or a wrong route in between: its job is nobody's answer."""
    client = Client(kind, FarSide(httpx.Response(200, json=RECORD)))
    with pytest.raises(RemoteHttpError, match=r"not an answer .* \(ValueError\)") as caught:
        await client(name, an_id())

    assert caught.value.status == 200


@each_kind
async def test_a_compressed_answer_that_is_none_is_told(kind: Kind) -> None:
    """Of something between that says gzip and sends something else."""
    answers = [
        httpx.Response(status, headers={"Content-Encoding": "gzip"}, stream=Plain())
        for status in (200, 503, 200)
    ]
    client = Client(kind, FarSide(*answers))
    for _ in range(2):
        with pytest.raises(RemoteHttpError, match="compressed") as caught:
            await client("list_jobs")

        assert caught.value.status == 200


class Plain(httpx.ByteStream):
    def __init__(self) -> None:
        super().__init__(b"plain text")


@each_kind
@pytest.mark.parametrize(
    ("status", "document"),
    [
        (422, {"type": Problem.INVALID_JOB}),
        (429, {"type": Problem.QUOTA_EXCEEDED, "tenant_id": "acme"}),
        (404, {"type": Problem.JOB_NOT_FOUND, "job_id": 7}),
        (404, {"type": Problem.JOB_NOT_FOUND, "job_id": "7"}),
        (409, {"type": Problem.ILLEGAL_TRANSITION}),
        (409, {"type": Problem.STORE_REFUSED, "detail": "no refusal"}),
        (409, {"type": ["a", "list"]}),
        (409, []),
        (500, {"type": Problem.INTERNAL_ERROR, "detail": "logged"}),
        (202, {"type": Problem.BODY_TOO_LARGE, "detail": "no problem at all"}),
        (302, {"type": Problem.BODY_TOO_LARGE, "detail": "no problem at all"}),
    ],
)
async def test_a_problem_that_is_none_of_ours_is_told(
    kind: Kind, status: int, document: Any
) -> None:
    """A document may lack what its type promises."""
    client = Client(kind, FarSide(httpx.Response(status, json=document)), tries=1)
    with pytest.raises((RemoteHttpError, Unavailable)) as caught:
        await client("enqueue", a_request())

    assert str(status) in str(caught.value)


@each_kind
async def test_a_redirect_is_not_followed(kind: Kind) -> None:
    """The token travels to nobody it was not meant for."""
    elsewhere = httpx.Response(307, headers={"Location": "http://evil.example/jobs/"})
    client = Client(kind, FarSide(elsewhere))
    with pytest.raises(RemoteHttpError):
        await client("list_jobs")

    (request,) = client.side.requests
    assert request.url.host == "jobs.internal"


@each_kind
@pytest.mark.parametrize("location", ["http://[::1", "http://x:port/", "//", "\x7f", ""])
async def test_a_redirect_to_nowhere_is_told(kind: Kind, location: str) -> None:
    """Whatever it points to, it is an answer, and no broken connection."""
    client = Client(kind, FarSide(httpx.Response(302, headers={"Location": location})))
    with pytest.raises(RemoteHttpError) as caught:
        await client("enqueue", a_request())

    assert caught.value.status == 302


# --- the token ----------------------------------------------------------------------------------

ODD_TOKEN = 'a&b "c"\\<d>/e%'


@each_kind
@pytest.mark.parametrize(
    "echo",
    [
        httpx.Response(400, text=f"bad header {ODD_TOKEN} {ODD_TOKEN}"),
        httpx.Response(400, html=f"<p>{html.escape(ODD_TOKEN)}</p>"),
        httpx.Response(400, json={"header": ODD_TOKEN}),
        httpx.Response(400, text=f"?token={quote(ODD_TOKEN, safe='')}"),
        httpx.Response(200, text=f"{'x' * 190} {ODD_TOKEN}"),
        problem(401, Problem.UNAUTHENTICATED, detail=f"who is {ODD_TOKEN}?"),
        problem(403, Problem.FORBIDDEN, detail=f"not {ODD_TOKEN}"),
        problem(422, Problem.INVALID_JOB, field="body", problem=f"has {ODD_TOKEN}"),
        problem(503, Problem.UNAVAILABLE, detail=f"busy with {ODD_TOKEN}"),
        problem(422, Problem.INVALID_JOB, field=f"headers.{ODD_TOKEN}", problem="no"),
        problem(409, Problem.ILLEGAL_TRANSITION, state=ODD_TOKEN, event=ODD_TOKEN, why=""),
        problem(409, Problem.ILLEGAL_TRANSITION, state="", event={"a": [ODD_TOKEN]}, why=""),
        problem(429, Problem.QUOTA_EXCEEDED, tenant_id=ODD_TOKEN, limit=1, used=1, asked=1),
        problem(429, Problem.QUOTA_EXCEEDED, tenant_id="", limit={ODD_TOKEN: 1}, used=1, asked=1),
        httpx.ReadError(f"while sending {ODD_TOKEN}"),
    ],
    ids=range(15),
)
async def test_the_token_is_in_no_error(
    kind: Kind, echo: httpx.Response | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Even when the other side repeats it; neither is it logged."""
    caplog.set_level(logging.DEBUG)
    told = echo if isinstance(echo, Exception) else again(echo)
    client = Client(kind, FarSide(told), token=ODD_TOKEN, tries=1)
    with pytest.raises(AsyncJobsError) as caught:
        await client("list_jobs")

    error = caught.value
    assert not isinstance(error, RemoteHttpError) or error.status in {200, 400}
    for part in ("a&b", "a&amp;b", "a%26b"):
        assert part not in f"{error} {error!r} {vars(error)}"
        assert part not in caplog.text
    assert client.side.requests[0].headers["X-Async-Jobs-Token"] == ODD_TOKEN


def again(response: httpx.Response) -> httpx.Response:
    """Return the like of a response: each can be consumed once."""
    return httpx.Response(response.status_code, content=response.content)


@each_kind
async def test_a_short_token_leaves_the_rest_readable(kind: Kind) -> None:
    """It is taken out once, and not out of what stands in its place."""
    answer = httpx.Response(400, text="bad token")
    client = Client(kind, FarSide(answer), token="t")
    with pytest.raises(RemoteHttpError) as caught:
        await client("list_jobs")

    assert caught.value.excerpt == "bad [token]oken"


@each_kind
@pytest.mark.parametrize("token", ["u", "0", "-", "problem", "job_id"])
async def test_a_short_token_hides_no_missing_job(kind: Kind, token: str) -> None:
    """The type of a problem and the id that was asked for tell nothing new."""
    answer = problem(404, Problem.JOB_NOT_FOUND, job_id=str(JOB_ID))
    client = Client(kind, FarSide(answer), token=token)
    with pytest.raises(JobNotFoundError) as caught:
        await client("get_job", JOB_ID)

    assert caught.value.job_id == JOB_ID


@each_kind
async def test_a_token_that_is_an_id_is_hidden_too(kind: Kind) -> None:
    """A job that nobody asked for may well be the token."""
    token = str(an_id())
    answer = problem(404, Problem.JOB_NOT_FOUND, job_id=token)
    client = Client(kind, FarSide(answer), token=token)
    with pytest.raises(RemoteHttpError) as caught:
        await client("get_job", JOB_ID)

    assert token not in str(caught.value)


@each_kind
async def test_the_token_is_not_shown(kind: Kind) -> None:
    """By nothing that prints a client."""
    client = Client(kind, FarSide()).client

    assert TOKEN not in f"{client!r} {client} {vars(client)}"
