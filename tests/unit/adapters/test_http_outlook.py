"""The clients' `outlook`: one call beside those of `Jobs`."""

from __future__ import annotations

import inspect
import json
import math

import httpx
import pytest

from async_jobs.adapters.http.blocking import JobsHttpClient
from async_jobs.adapters.http.client import AsyncJobsHttpClient
from async_jobs.adapters.http.wire import Problem, body_of, outlook_record_of
from async_jobs.application.enqueueing.service import JobService
from async_jobs.domain.errors import InvalidJobError, RemoteHttpError, Unavailable
from async_jobs.domain.outlook import Outlook
from async_jobs.testing.builders import a_request
from tests.unit.adapters.far_side import Client, FarSide, Kind, problem

each_kind = pytest.mark.parametrize("kind", ["async", "sync"])
GOOD = Outlook(
    ahead=3,
    required_rate=0.5,
    capacity_rate=2.0,
    expected_start_in_seconds=1.5,
    can_be_met=True,
)
BAD = Outlook(
    ahead=10_000,
    required_rate=math.inf,
    capacity_rate=0.0,
    expected_start_in_seconds=None,
    can_be_met=False,
    at_least=True,
)


@each_kind
@pytest.mark.parametrize("outlook", [GOOD, BAD], ids=["good", "bad"])
async def test_an_outlook_comes_as_it_was_sent(kind: Kind, outlook: Outlook) -> None:
    """Infinite rates too; the request is that of an enqueue, and is given no id."""
    client = Client(kind, FarSide(httpx.Response(200, json=outlook_record_of(outlook))))
    request = a_request()

    assert await client("outlook", request) == outlook

    (sent,) = client.side.requests
    assert (sent.method, sent.url.path) == ("POST", "/jobs/outlook")
    assert json.loads(sent.content) == body_of(request)


@each_kind
async def test_it_is_repeated_like_a_read(kind: Kind) -> None:
    """Nothing can have taken effect, and no error says that it may have."""
    client = Client(kind, FarSide(*[problem(503, Problem.UNAVAILABLE)] * 4))

    with pytest.raises(Unavailable) as caught:
        await client("outlook", a_request())

    assert len(client.side.requests) == 4
    assert "taken effect" not in str(caught.value)


@each_kind
async def test_what_breaks_a_bound_is_not_sent(kind: Kind) -> None:
    """As in an enqueue."""
    client = Client(kind, FarSide(httpx.Response(200)))

    with pytest.raises(InvalidJobError, match="tenant_id"):
        await client("outlook", a_request(tenant_id=""))

    assert not client.side.requests


@each_kind
@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"ahead": "many"}'])
async def test_an_answer_that_is_no_outlook_is_told(kind: Kind, body: bytes) -> None:
    """Never an error of the JSON parser."""
    client = Client(kind, FarSide(httpx.Response(200, content=body)))

    with pytest.raises(RemoteHttpError, match="not an answer of this interface"):
        await client("outlook", a_request())


def test_both_clients_ask_as_the_service_is_asked() -> None:
    """The same arguments and the same answer."""
    service, blocking, awaited = (
        inspect.signature(each.outlook)
        for each in (JobService, JobsHttpClient, AsyncJobsHttpClient)
    )

    assert service == blocking == awaited
