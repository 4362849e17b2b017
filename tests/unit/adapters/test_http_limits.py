"""What bounds the HTTP clients: bytes, time, their own end, and the environment around them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from async_jobs.adapters.http.blocking import JobsHttpClient
from async_jobs.adapters.http.client import AsyncJobsHttpClient
from async_jobs.adapters.http.line import ANSWER_BYTES_MAX
from async_jobs.domain.errors import (
    AuthTokenError,
    ConfigurationError,
    RemoteHttpError,
    Unavailable,
)
from async_jobs.testing.builders import a_request, an_id
from async_jobs.testing.clocks import ManualChance, let_others_run
from tests.unit.adapters.far_side import CALLS, URL, Client, FarSide, Kind, PacedClock, good

each_kind = pytest.mark.parametrize("kind", ["async", "sync"])
MIB = bytes(2**20)


# --- bytes --------------------------------------------------------------------------------------


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of parts of a MiB, without an end; counts how many were taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while not self.is_closed:
            self.taken += 1
            yield MIB

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


@each_kind
@pytest.mark.parametrize("name", ["get_job", "retry_job"])
async def test_no_more_is_read_than_an_answer_may_have(kind: Kind, name: str) -> None:
    """It is told, the connection is given back, and for a write there is doubt."""
    body = Endless()
    client = Client(kind, FarSide(httpx.Response(200, stream=body)))
    with pytest.raises(RemoteHttpError, match="larger than 64 MiB") as caught:
        await client(name, *CALLS[name])

    assert body.taken == ANSWER_BYTES_MAX // len(MIB) + 1
    assert body.is_closed
    assert caught.value.status == 200
    assert ("may have taken effect" in str(caught.value)) is (name == "retry_job")
    await let_others_run(5)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@each_kind
@pytest.mark.parametrize(("status", "is_doubtful"), [(400, False), (500, True)])
async def test_a_refusal_may_be_too_large_too(kind: Kind, status: int, is_doubtful: bool) -> None:
    """One that blames the request changed nothing."""
    client = Client(kind, FarSide(httpx.Response(status, stream=Endless())))
    with pytest.raises(RemoteHttpError, match="larger than 64 MiB") as caught:
        await client("enqueue", a_request())

    assert caught.value.status == status
    assert ("may have taken effect" in str(caught.value)) is is_doubtful


@each_kind
async def test_a_status_speaks_for_itself(kind: Kind) -> None:
    """What need not be read is not missed."""
    script = [httpx.Response(status, stream=Endless()) for status in (503, 401)]
    client = Client(kind, FarSide(*script))
    with pytest.raises(AuthTokenError):
        await client("list_jobs")

    assert len(client.side.requests) == 2


@each_kind
async def test_nothing_compressed_is_asked_for(kind: Kind) -> None:
    """A small answer could become a large one."""
    client = Client(kind, FarSide(good))

    await client("list_jobs")

    assert client.side.requests[0].headers["Accept-Encoding"] == "identity"


@each_kind
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, deflate", "unheard-of"])
@pytest.mark.parametrize("name", ["get_job", "retry_job"])
async def test_nothing_compressed_is_read(kind: Kind, name: str, coding: str) -> None:
    """Not a byte of it; of what was written nobody knows."""
    body = Endless()
    response = httpx.Response(200, headers={"Content-Encoding": coding}, stream=body)
    client = Client(kind, FarSide(response))
    with pytest.raises(RemoteHttpError, match="the body is compressed") as caught:
        await client(name, *CALLS[name])

    assert (body.taken, body.is_closed) == (0, True)
    assert coding not in str(caught.value)
    assert ("may have taken effect" in str(caught.value)) is (name == "retry_job")


@each_kind
@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_what_is_said_to_be_plain_is_read(kind: Kind, coding: str) -> None:
    """Some say so although they need not."""

    def plain(request: httpx.Request) -> httpx.Response:
        response = good(request)
        response.headers["Content-Encoding"] = coding
        return response

    client = Client(kind, FarSide(plain))

    assert (await client("list_jobs")).jobs


# --- time ---------------------------------------------------------------------------------------


class Silent(httpx.AsyncBaseTransport):
    """Takes every request and never answers, after having done something of the test's."""

    def __init__(self, before: Any = None) -> None:
        self._before = before
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self._before is not None:
            self._before()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


def silent_client(side: Silent, timeout_seconds: float) -> AsyncJobsHttpClient:
    """Return a client whose pauses take no time."""
    return AsyncJobsHttpClient(
        URL,
        transport=side,
        timeout_seconds=timeout_seconds,
        clock=PacedClock(),
        chance=ManualChance(),
    )


async def test_a_head_that_never_ends_is_given_up() -> None:
    """No timeout of httpx sees it, for each of its lines comes in time."""
    side = Silent()
    async with silent_client(side, timeout_seconds=0.001) as client:
        with pytest.raises(Unavailable, match="after 4 tries") as read:
            await client.list_jobs()
        with pytest.raises(Unavailable, match=r"after one try.*whether it took effect") as written:
            await client.retry_job(an_id())

    assert side.requests == 5
    for caught in (read, written):
        assert isinstance(caught.value.__cause__, httpx.ReadTimeout)


async def test_the_time_of_the_caller_is_the_callers() -> None:
    """Theirs ends the call at once, and as their own error."""
    theirs = asyncio.timeout(None)
    side = Silent(lambda: theirs.reschedule(0))
    async with silent_client(side, timeout_seconds=30) as client:
        with pytest.raises(TimeoutError):
            async with theirs:
                await client.list_jobs()

    assert theirs.expired()
    assert side.requests == 1


# --- the end of a client ------------------------------------------------------------------------

LOST = httpx.ReadError("reset")
REFUSED = httpx.ConnectError("refused")


class Closing(PacedClock):
    """Closes a client while it waits for another try."""

    client: AsyncJobsHttpClient

    async def sleep(self, seconds: float) -> None:
        await self.client.aclose()


@each_kind
@pytest.mark.parametrize(
    ("name", "failure", "is_doubtful"),
    [("enqueue", LOST, True), ("enqueue", REFUSED, False), ("list_jobs", LOST, False)],
)
async def test_a_client_may_be_closed_between_two_tries(
    kind: Kind, name: str, failure: Exception, is_doubtful: bool
) -> None:
    """The call ends then, and does not forget its doubt."""
    side, clock = FarSide(failure, good), Closing()
    options: Any = {
        "transport": httpx.MockTransport(side),
        "clock": clock,
        "chance": ManualChance(),
    }
    clock.client = AsyncJobsHttpClient(URL, **options)
    blocking = JobsHttpClient(URL, pause=lambda _: blocking.close(), **options)

    async def call() -> None:
        if kind == "async":
            await getattr(clock.client, name)(*CALLS[name])
        else:
            getattr(blocking, name)(*CALLS[name])

    with pytest.raises(ConfigurationError, match="the client is closed") as caught:
        await call()

    assert len(side.requests) == 1
    assert ("whether it took effect is unknown" in str(caught.value)) is is_doubtful


@each_kind
async def test_a_client_may_be_closed_while_it_sends(kind: Kind) -> None:
    """What is closed under its hands is an answer that was lost."""
    side = FarSide()
    client = Client(kind, side)

    async def close_async(request: httpx.Request) -> httpx.Response:
        assert isinstance(client.client, AsyncJobsHttpClient)
        await client.client.aclose()
        raise RuntimeError("closed")

    def close(request: httpx.Request) -> Any:
        if isinstance(client.client, AsyncJobsHttpClient):
            return close_async(request)
        client.client.close()
        raise RuntimeError("closed")

    side.script(close)
    with pytest.raises(ConfigurationError, match="closed; whether it took effect is unknown"):
        await client("enqueue", a_request())


@each_kind
async def test_a_fault_of_a_transport_is_not_hidden(kind: Kind) -> None:
    """It is neither a lost answer nor a closed client."""
    for fault in (RuntimeError("a bug"), TimeoutError("another")):
        client = Client(kind, FarSide(fault))
        with pytest.raises(type(fault), match=str(fault)):
            await client("list_jobs")


# --- the environment ----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes this machine's own proxies and certificates away."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("SSL_CERT_"):
            monkeypatch.delenv(name)


@each_kind
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "socks5://user:hunter2@proxy"),
        ("http_proxy", "hunter2://proxy"),
        ("HTTPS_PROXY", "http://[::1hunter2"),
        ("ALL_PROXY", "http://user:hunter2@proxy:port"),
        ("NO_PROXY", "http://h:hunter2"),
        ("SSL_CERT_FILE", "/nowhere/hunter2"),
    ],
)
def test_an_unusable_environment_is_named(
    kind: Kind, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its variables; a proxy's address may hold a password."""
    monkeypatch.setenv(name, value)
    make: Any = {"async": AsyncJobsHttpClient, "sync": JobsHttpClient}[kind]
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as caught:
        make(URL)

    error = caught.value
    assert "hunter2" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


@each_kind
def test_every_variable_that_may_be_to_blame_is_named(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one it was, httpx does not say."""
    for name, value in {"NO_PROXY": "a.example", "ALL_PROXY": "foo://x", "HTTP_PROXY": ""}.items():
        monkeypatch.setenv(name, value)
    make: Any = {"async": AsyncJobsHttpClient, "sync": JobsHttpClient}[kind]
    with pytest.raises(ConfigurationError, match=r"^ALL_PROXY, NO_PROXY: "):
        make(URL)


@each_kind
async def test_a_transport_has_no_use_for_proxies(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for what is wrong with them."""
    monkeypatch.setenv("HTTP_PROXY", "foo://x")

    assert (await Client(kind, FarSide(good))("list_jobs")).jobs
