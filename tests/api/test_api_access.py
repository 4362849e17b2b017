"""The HTTP API behind a real server: what strangers send does not have to be taken in."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from async_jobs.adapters.http.wire import PROBLEM_MEDIA_TYPE, TOKEN_HEADER
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.http.reading import JOB_BYTES_MAX
from async_jobs.entrypoints.serving.asgi import serving
from async_jobs.testing.system import MemorySystem, memory_system
from tests.kit.harness import clock

TOKEN = "a-token"
PIECE = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
SENT_BYTES_MAX = 256 * 1024 * 1024
TIMEOUT_SECONDS = 60.0


@pytest.fixture
def system() -> MemorySystem:
    return memory_system(use_cases=["notifications"])


@pytest.fixture
async def port(system: MemorySystem) -> AsyncIterator[int]:
    """Where the API listens."""
    app = create_app(lambda: system.service, auth_token=TOKEN)
    async with serving(app, host="127.0.0.1", port=0, option="--port") as served:
        yield served.port


class Reply(NamedTuple):
    """What came back, and how many bytes of a body were sent until then."""

    head: str
    body: str
    sent_bytes: int


async def flood(port: int, *headers: str) -> Reply:
    """Send an enqueue with these headers whose body does not end, until there is an answer."""
    loop = asyncio.get_running_loop()
    lines = ["POST /jobs/enqueue HTTP/1.1", "Host: api", "Transfer-Encoding: chunked", *headers]
    sent_bytes = 0

    async def send() -> None:
        nonlocal sent_bytes
        await loop.sock_sendall(line, "\r\n".join([*lines, "", ""]).encode("latin-1"))
        while sent_bytes < SENT_BYTES_MAX:
            await loop.sock_sendall(line, PIECE)
            sent_bytes += len(PIECE)

    with socket.create_connection(("127.0.0.1", port)) as line:
        line.setblocking(False)
        sending = asyncio.create_task(send())
        received = b""
        while not received.endswith(b"}"):
            piece = await loop.sock_recv(line, 64 * 1024)
            assert piece, received
            received += piece
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    head, _, body = received.decode().partition("\r\n\r\n")
    return Reply(head, body, sent_bytes)


async def test_a_body_without_end_is_cut_off(port: int) -> None:
    """413 soon after the limit, while the caller is still sending."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        reply = await flood(port, f"{TOKEN_HEADER}: {TOKEN}", "Content-Type: application/json")

    assert reply.head.startswith("HTTP/1.1 413 ")
    assert "application/problem+json" in reply.head
    assert str(JOB_BYTES_MAX) in reply.body
    assert JOB_BYTES_MAX < reply.sent_bytes < SENT_BYTES_MAX


@pytest.mark.parametrize("header", ["X-Nothing: 1", f"{TOKEN_HEADER}: tökén", f"{TOKEN_HEADER}:"])
async def test_a_stranger_is_turned_away_before_the_body(port: int, header: str) -> None:
    """401 at once, whatever follows."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        reply = await flood(port, header, "Content-Type: application/json")

    assert reply.head.startswith("HTTP/1.1 401 ")
    assert reply.sent_bytes < SENT_BYTES_MAX


async def test_a_stranger_is_hung_up_on(port: int) -> None:
    """What it goes on sending is not taken in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /jobs/enqueue HTTP/1.1\r\nHost: api\r\nContent-Length: 9\r\n\r\n")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        answer = await reader.read()  # to its end, which comes although the body has not
    writer.close()

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /jobs/ HT", b"GET /health/live HTTP/1.1\r\nHost: a\r\n"]
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    system: MemorySystem, sent: bytes
) -> None:
    """The connection is closed without an answer, and the next caller is served."""
    app = create_app(lambda: system.service, auth_token=TOKEN)
    serve = serving(app, host="127.0.0.1", port=0, option="--port", head_seconds=0.05)
    async with serve as served, asyncio.timeout(TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(sent)
        silence = await reader.read()
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()

    assert silence == b""
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_connection_outlives_the_time_that_one_head_has(system: MemorySystem) -> None:
    """Each request on it has that time anew."""
    app = create_app(lambda: system.service, auth_token=TOKEN)
    serve = serving(app, host="127.0.0.1", port=0, option="--port", head_seconds=0.1)
    async with serve as served, asyncio.timeout(TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        until, answers = clock.monotonic() + 0.3, set[bytes]()
        while clock.monotonic() < until:
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            answers.add((await reader.readuntil(b"}"))[:13])
        writer.close()

    assert answers == {b"HTTP/1.1 200 "}


@pytest.mark.parametrize(
    "target",
    [
        "/jobs/?tenant_id=\x80\xff",
        "/jobs/%00",
        "/jobs/%ED%A0%80/cancel",
        "/jobs/?status=%00",
        "/jobs/?tenant_id=" + "x" * 10_000,
        "/jobs/?" + "&".join(["cursor=1"] * 5_000),
        "//jobs",
    ],
    ids=lambda target: target[:24],
)
async def test_no_request_line_is_an_error_of_ours(port: int, target: str) -> None:
    """Below 500, or refused by the server itself; and the next caller is served."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        statuses = []
        for each in (target, "/jobs/"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            lines = [f"GET {each} HTTP/1.1", "Host: api", f"{TOKEN_HEADER}: {TOKEN}", "", ""]
            writer.write("\r\n".join(lines).encode("latin-1"))
            statuses.append(int((await reader.readuntil(b"\r\n")).split()[1]))
            writer.transport.abort()

    assert 200 <= statuses[0] < 500
    assert statuses[1] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /jobs/\x80 HTTP/1.1\r\nHost: api\r\n\r\n",
        b"GET /jobs/ HTTP/1.1\r\n\r\n",
        b"GET /jobs/ HTTP/1.1\r\nHost: api\r\nbad header\r\n\r\n",
        b"POST /jobs/enqueue HTTP/1.1\r\nHost: api\r\nContent-Length: many\r\n\r\n",
    ],
    ids=["TLS", "bytes in the path", "no host", "no header", "no length"],
)
async def test_what_is_no_http_is_told_by_a_problem(port: int, sent: bytes) -> None:
    """As every other error, though no application saw it; and the connection ends."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()

    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert f"Content-Type: {PROBLEM_MEDIA_TYPE}".encode() in head
    problem = json.loads(body)
    assert problem.pop("detail")
    assert problem == {"type": "about:blank", "title": "Bad Request", "status": 400}
