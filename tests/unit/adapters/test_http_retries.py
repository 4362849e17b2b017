"""What the HTTP clients send again, after how long, and what they make of what they hear then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from async_jobs.adapters.http.exchange import BACKOFF, RETRY_AFTER_SECONDS_MAX
from async_jobs.adapters.http.wire import Problem
from async_jobs.domain.errors import (
    AsyncJobsError,
    IllegalTransition,
    QuotaExceededError,
    RemoteHttpError,
    Unavailable,
)
from async_jobs.testing.builders import a_request, an_id
from async_jobs.testing.clocks import let_others_run
from tests.unit.adapters.far_side import (
    CALLS,
    Client,
    FarSide,
    Kind,
    Told,
    duplicate,
    good,
    over_quota,
    problem,
)

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
NEVER_HEARD = (
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)


def html(status: int, **headers: str) -> httpx.Response:
    """Return what a proxy says when it has nobody to ask."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, html="<h1>Sorry</h1>", headers=named)


def raising(kind: type[httpx.TransportError]) -> Callable[[], Told]:
    """Return what makes an error of a kind."""
    return lambda: kind("no")


UNSENT: dict[str, Callable[[], Told]] = {
    **{each.__name__: raising(each) for each in NEVER_SENT},
    "429": lambda: html(429),
    "429 of a rate limiter": lambda: problem(429, "about:blank"),
}
UNHEARD: dict[str, Callable[[], Told]] = {
    **{each.__name__: raising(each) for each in NEVER_HEARD},
    "502": lambda: html(502),
    "503": lambda: html(503),
    "503 of the service": lambda: problem(503, Problem.UNAVAILABLE),
    "504": lambda: html(504),
}
PASSING = UNSENT | UNHEARD

each_kind = pytest.mark.parametrize("kind", ["async", "sync"])


@each_kind
@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING.keys())
async def test_a_passing_failure_is_followed_by_the_same_request(
    kind: Kind, failure: Callable[[], Told]
) -> None:
    """The very same bytes, after a short pause."""
    client = Client(kind, FarSide(failure(), good))

    enqueued = await client("enqueue", a_request())

    first, second = client.side.requests
    assert first is not second
    assert (first.url, first.headers, first.content) == (second.url, second.headers, second.content)
    assert not enqueued.duplicate
    (pause_seconds,) = client.pauses
    assert BACKOFF.base_delay_seconds / 2 <= pause_seconds <= BACKOFF.base_delay_seconds


@each_kind
@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"retry_job"}))
async def test_every_call_but_one_survives_a_lost_reply(kind: Kind, name: str) -> None:
    """It was carried out or not: doing it again is harmless."""
    client = Client(kind, FarSide(httpx.ReadError("reset"), good))

    await client(name, *CALLS[name])

    assert len(client.side.requests) == 2


@each_kind
async def test_the_pauses_grow_and_end(kind: Kind) -> None:
    """Four tries at most; each pause is longer than the one before."""
    client = Client(kind, FarSide(*(html(503) for _ in range(9))))
    with pytest.raises(Unavailable, match="after 4 tries: the remote side answered 503"):
        await client("list_jobs")

    assert len(client.side.requests) == 4
    delays = [BACKOFF.delay(n).total_seconds() for n in (1, 2, 3)]
    pairs = list(zip(client.pauses, delays, strict=True))
    assert all(delay / 2 <= pause <= delay for pause, delay in pairs)
    assert any(pause != delay for pause, delay in pairs)


@each_kind
@pytest.mark.parametrize("tries", [1, 2, 10])
async def test_the_number_of_tries_can_be_chosen(kind: Kind, tries: int) -> None:
    """The first one counts."""
    client = Client(kind, FarSide(*(httpx.ReadError("") for _ in range(20))), tries=tries)
    with pytest.raises(Unavailable) as caught:
        await client("list_jobs")

    assert len(client.side.requests) == tries
    assert "ReadError" in str(caught.value)
    assert isinstance(caught.value.__cause__, httpx.ReadError)


@each_kind
async def test_the_last_words_of_the_service_are_kept(kind: Kind) -> None:
    """They say more than a status does."""
    client = Client(kind, FarSide(problem(503, Problem.UNAVAILABLE, detail="no database")), tries=1)
    with pytest.raises(Unavailable, match="after one try: no database"):
        await client("list_jobs")


@each_kind
@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("86400", RETRY_AFTER_SECONDS_MAX),
        ("9" * 5_000, RETRY_AFTER_SECONDS_MAX),
        ("-1", 0),
        ("1.5", 0),
        ("", 0),
        ("Wed, 21 Oct 2065 07:28:00 GMT", 0),
    ],
)
async def test_retry_after_is_waited_for_within_reason(
    kind: Kind, told: str, seconds: float
) -> None:
    """On top of the pause that keeps many clients from coming back at the same instant."""
    client = Client(kind, FarSide(html(503, Retry_After=told), good))

    await client("list_jobs")

    (pause_seconds,) = client.pauses
    assert seconds < pause_seconds <= seconds + BACKOFF.base_delay_seconds


@each_kind
async def test_a_quota_is_not_waited_for(kind: Kind) -> None:
    """Its 429 is an answer."""
    client = Client(kind, FarSide(over_quota()))
    with pytest.raises(QuotaExceededError) as caught:
        await client("enqueue", a_request())

    told = caught.value
    assert (told.tenant_id, told.limit, told.used, told.asked) == ("acme", 5, 4, 2)
    assert len(client.side.requests) == 1


@each_kind
@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 409, 413, 418, 422, 500, 501])
async def test_what_will_not_pass_is_not_repeated(kind: Kind, status: int) -> None:
    """The answer would be the same."""
    client = Client(kind, FarSide(html(status)))
    with pytest.raises(AsyncJobsError):
        await client("enqueue", a_request())

    assert len(client.side.requests) == 1


# --- ids and duplicates -------------------------------------------------------------------------


@each_kind
async def test_a_job_keeps_its_id_over_all_tries(kind: Kind) -> None:
    """And the next one gets another, which is greater."""
    lost = [httpx.ReadTimeout("late") for _ in range(3)]
    client = Client(kind, FarSide(*lost, good, good))

    one = await client("enqueue", a_request())
    two = await client("enqueue", a_request())

    *tries, last = (body["id"] for body in client.side.bodies)
    assert tries == [str(one.job_id)] * 4
    assert last == str(two.job_id)
    assert one.job_id < two.job_id


@each_kind
async def test_a_batch_keeps_its_ids_over_all_tries(kind: Kind) -> None:
    """Those made here and those that were given."""
    given = an_id()
    client = Client(kind, FarSide(httpx.ReadTimeout("late"), good))

    many = await client("enqueue_many", [a_request(), a_request(id=given), a_request()])

    first, second = client.side.bodies
    assert first == second
    assert [each["id"] for each in first["jobs"]] == [str(each.job_id) for each in many]
    assert many[1].job_id == given
    assert len({each.job_id for each in many}) == 3


@each_kind
@pytest.mark.parametrize("script", [(httpx.ReadError("reset"), duplicate), (duplicate,)])
async def test_an_unheard_first_try_is_no_duplicate(kind: Kind, script: tuple[Told, ...]) -> None:
    """Nobody else knows the id that was made for the call; a gateway may repeat it, too."""
    client = Client(kind, FarSide(*script))

    enqueued = await client("enqueue", a_request())

    assert enqueued == (enqueued.job_id, False)


@each_kind
async def test_a_given_id_is_a_duplicate_when_the_service_says_so(kind: Kind) -> None:
    """Alone and in a batch, after one try or two: only the caller knows who used it before."""
    given = a_request(id=an_id())
    lost = httpx.ReadError("reset")
    client = Client(kind, FarSide(duplicate, lost, duplicate, duplicate))

    assert await client("enqueue", given) == (given.id, True)
    assert await client("enqueue", given) == (given.id, True)
    many = await client("enqueue_many", [a_request(), given])
    assert [each.duplicate for each in many] == [False, True]


@each_kind
async def test_another_jobs_id_is_a_duplicate(kind: Kind) -> None:
    """The dedupe key was taken before."""
    other = an_id()
    answer = {"job_id": str(other), "duplicate": True}
    client = Client(kind, FarSide(httpx.ReadError("reset"), httpx.Response(200, json=answer)))

    assert await client("enqueue", a_request(dedupe_key="daily")) == (other, True)


@each_kind
async def test_a_service_that_gives_ids_of_its_own_is_none_of_ours(kind: Kind) -> None:
    """Repeating an enqueue there would create a second job."""
    client = Client(kind, FarSide(httpx.Response(201, json={"job_id": str(an_id())})))
    with pytest.raises(RemoteHttpError):
        await client("enqueue", a_request())


# --- writes whose fate is unknown ---------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("failure", UNSENT.values(), ids=UNSENT.keys())
async def test_retry_job_is_repeated_when_nothing_was_carried_out(
    kind: Kind, failure: Callable[[], Told]
) -> None:
    """The request did not arrive, or was turned away at the door."""
    client = Client(kind, FarSide(failure(), failure(), good))

    await client("retry_job", an_id())

    assert len(client.side.requests) == 3


@each_kind
@pytest.mark.parametrize("failure", UNHEARD.values(), ids=UNHEARD.keys())
async def test_retry_job_is_not_repeated_when_it_may_have_been_carried_out(
    kind: Kind, failure: Callable[[], Told]
) -> None:
    """A second life too many is worse than a question."""
    client = Client(kind, FarSide(httpx.ConnectError("refused"), failure()))
    with pytest.raises(Unavailable, match=r"after 2 tries.*whether it took effect is unknown"):
        await client("retry_job", an_id())

    assert len(client.side.requests) == 2


@each_kind
async def test_retry_job_of_a_living_job_is_refused_as_ever(kind: Kind) -> None:
    """The first try did not arrive: the 409 is an answer to this call."""
    members = {"state": "pending", "event": "Retried", "why": ""}
    refused = problem(409, Problem.ILLEGAL_TRANSITION, **members)
    client = Client(kind, FarSide(httpx.ConnectError("refused"), refused))
    with pytest.raises(IllegalTransition):
        await client("retry_job", an_id())


@each_kind
@pytest.mark.parametrize(
    ("name", "failure", "is_told"),
    [
        ("enqueue", lambda: httpx.ReadTimeout("late"), True),
        ("enqueue", lambda: httpx.ConnectError("refused"), False),
        ("cancel_job", lambda: html(502), True),
        ("cancel_job", lambda: html(429), False),
        ("get_job", lambda: httpx.ReadTimeout("late"), False),
    ],
)
async def test_doubt_is_told_where_there_is_some(
    kind: Kind, name: str, failure: Callable[[], Told], is_told: bool
) -> None:
    """A write that was sent may have been carried out; nothing else may."""
    client = Client(kind, FarSide(failure()), tries=1)
    with pytest.raises(Unavailable) as caught:
        await client(name, *CALLS[name])

    assert ("unknown" in str(caught.value)) is is_told


@each_kind
async def test_doubt_is_not_forgotten(kind: Kind) -> None:
    """The last try did not arrive, but the one before may have."""
    lost = [httpx.ReadTimeout("late"), httpx.ConnectError("refused")]
    client = Client(kind, FarSide(*lost), tries=2)
    with pytest.raises(Unavailable, match="refused; whether it took effect is unknown"):
        await client("enqueue", a_request())


# --- answers that do not end, calls that are given up -------------------------------------------


class Trickle(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of which each part does something first."""

    def __init__(self, before_each: Callable[[], Any]) -> None:
        self._before_each = before_each
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(100):
            self._before_each()
            yield b" "

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


@each_kind
async def test_an_answer_that_trickles_in_is_given_up(kind: Kind) -> None:
    """The timeout is for the whole of it, although each part comes in time."""
    client = Client(kind, FarSide(), timeout_seconds=10)
    trickle = Trickle(lambda: client.clock.advance(4))
    client.side.script(httpx.Response(200, stream=trickle), good)

    await client("list_jobs")

    assert len(client.side.requests) == 2
    assert trickle.is_closed


class Hanging(httpx.AsyncByteStream):
    """A body that never comes."""

    def __init__(self) -> None:
        self.is_awaited = asyncio.Event()
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.is_awaited.set()
        await asyncio.Event().wait()
        yield b""

    async def aclose(self) -> None:
        self.is_closed = True


async def test_a_cancelled_call_leaves_nothing_open() -> None:
    """Its connection is given back, and it is not tried again."""
    body = Hanging()
    client = Client("async", FarSide(httpx.Response(200, stream=body)))
    call = asyncio.create_task(client("list_jobs"))
    await body.is_awaited.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert body.is_closed
    assert len(client.side.requests) == 1
    await let_others_run(5)
    assert asyncio.all_tasks() == {asyncio.current_task()}
