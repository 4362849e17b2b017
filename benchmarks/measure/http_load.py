"""Sends prepared HTTP requests over kept connections: as little work as can be beside a server.

    python -m benchmarks.measure.http_load <port> <token> <requests> <connections> <batch> <warm-up>

With a batch of 1 the path is /jobs/enqueue, else /jobs/enqueue-batch.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import cast

from benchmarks.systems import protocol

HOST = "127.0.0.1"


class Connection(asyncio.Protocol):
    """One request at a time; the answer is its status, its body is read and dropped."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None:
            return
        if len(body) >= _length(head):
            self._received = b""
            self._answer.set_result(int(head.split(b" ", 2)[1]))

    async def ask(self, request: bytes) -> int:
        """Send a request; return the status of the answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        assert self._transport is not None
        self._transport.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    raise ValueError("the answer has no length")


def request(port: int, token: str, numbers: list[int], batch: int) -> bytes:
    """Return the whole request that enqueues these jobs."""
    jobs = [
        {
            "tenant_id": "anybody",
            "use_case": "plain",
            "type": "noop",
            "payload": protocol.payload(number),
        }
        for number in numbers
    ]
    path, body = ("/jobs/enqueue", jobs[0]) if batch == 1 else ("/jobs/enqueue-batch", jobs)
    content = json.dumps(body if batch == 1 else {"jobs": body}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nX-Async-Jobs-Token: {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def load(port: int, requests: Iterator[bytes], connections: int) -> tuple[list[float], float]:
    """Send all requests; return the seconds that each took, and those of all together."""
    taken: list[float] = []
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Connection, HOST, port) for _ in range(connections)]

    async def send(connection: Connection) -> None:
        for each in requests:
            at = time.monotonic()
            status = await connection.ask(each)
            taken.append(time.monotonic() - at)
            if not 200 <= status < 300:
                raise RuntimeError(f"the server answered with {status}")

    began = time.monotonic()
    await asyncio.gather(*(send(connection) for _, connection in made))
    seconds = time.monotonic() - began
    for _, connection in made:
        connection.close()
    return taken, seconds


async def main(
    port: int, token: str, requests: int, connections: int, batch: int, warm_up: int
) -> None:
    """Warm the server up, then measure."""
    numbers = itertools.count()

    def made(count: int) -> list[bytes]:
        return [
            request(port, token, list(itertools.islice(numbers, batch)), batch)
            for _ in range(count)
        ]

    await load(port, iter(made(warm_up)), connections)
    taken, seconds = await load(port, iter(made(requests)), connections)
    print(json.dumps({"seconds": seconds, **protocol.percentiles(taken)}), flush=True)


if __name__ == "__main__":
    _, _port, _token, *_rest = sys.argv
    protocol.run(main(int(_port), _token, *(int(each) for each in _rest)))
