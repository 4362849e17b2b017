"""What lies between a client and SQS, and can fail in every way that a network can."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiohttp

JSON = "application/x-amz-json-1.0"


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the `number`-th of its operation, counted from one."""

    operation: str
    number: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        """What was asked for."""
        asked: dict[str, Any] = json.loads(self.raw)
        return asked

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries of a batch."""
        entries: list[dict[str, Any]] = self.body["Entries"]
        return entries

    @property
    def access_key(self) -> str:
        """The key that signed the request."""
        return self.headers["authorization"].partition("Credential=")[2].partition("/")[0]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client is answered."""

    status: int
    body: bytes
    content_type: str = JSON

    @property
    def decoded(self) -> dict[str, Any]:
        """The answer as the service meant it."""
        answer: dict[str, Any] = json.loads(self.body or b"{}")
        return answer


Forward: TypeAlias = Callable[[bytes], Awaitable[Reply]]
"""Asks the service; takes the body, which may be another one than the client's."""
Fault: TypeAlias = Callable[[Call, Forward], Awaitable[Reply | None]]
"""Deals with a call in place of the service; None resets the connection."""


# --- what can happen to a call ---


async def passes(call: Call, forward: Forward) -> Reply | None:
    """Nothing happens to it."""
    return await forward(call.raw)


async def loses_the_reply(call: Call, forward: Forward) -> Reply | None:
    """It is carried out, and nobody learns of it."""
    await forward(call.raw)
    return None


async def is_reset(call: Call, forward: Forward) -> Reply | None:
    """The connection breaks before anything is carried out."""
    return None


async def is_answered_garbage(call: Call, forward: Forward) -> Reply | None:
    """It is carried out, and something in between says that all is well, in its own words."""
    await forward(call.raw)
    return Reply(200, b"<html><body>It works!</body></html>", "text/html")


async def is_answered_with_an_error_page(call: Call, forward: Forward) -> Reply | None:
    """Something in between does not reach the service, and says so in its own words."""
    return Reply(502, b"<html><body>Bad Gateway</body></html>", "text/html")


async def is_answered_with_a_page(call: Call, forward: Forward) -> Reply | None:
    """A gateway's page of its own comes, with a good status."""
    return Reply(
        200, b"<!DOCTYPE html><html><title>Log in</title><body>Log in, please.</body></html>"
    )


async def is_answered_with_nothing(call: Call, forward: Forward) -> Reply | None:
    """A good status comes, and nothing else."""
    return Reply(200, b"")


async def never_ends(call: Call, forward: Forward) -> Reply | None:
    """It is carried out, and the answer does not come while the client waits for it."""
    await forward(call.raw)
    await asyncio.Event().wait()
    return None


def is_refused(code: str, message: str = "no", *, status: int = 400) -> Fault:
    """Return the fault of a service that carries nothing out and says so."""

    async def fault(call: Call, forward: Forward) -> Reply | None:
        error = {"__type": f"com.amazonaws.sqs#{code}", "message": message}
        return Reply(status, json.dumps(error).encode())

    return fault


def fails_for(picked: Collection[int], code: str = "InternalError", message: str = "no") -> Fault:
    """Return the fault of a batch of which the entries at these places are not carried out."""

    async def fault(call: Call, forward: Forward) -> Reply | None:
        asked = call.body
        failed = [entry for place, entry in enumerate(asked["Entries"]) if place in picked]
        asked["Entries"] = [entry for entry in asked["Entries"] if entry not in failed]
        reply = await forward(json.dumps(asked).encode())
        answer = reply.decoded
        answer["Failed"] = answer.get("Failed", []) + [
            {"Id": entry["Id"], "Code": code, "Message": message, "SenderFault": False}
            for entry in failed
        ]
        return Reply(reply.status, json.dumps(answer).encode())

    return fault


def forgets(picked: Collection[int]) -> Fault:
    """Return the fault of a batch whose answer says nothing of the entries at these places."""

    async def fault(call: Call, forward: Forward) -> Reply | None:
        reply = await forward(call.raw)
        answer = reply.decoded
        forgotten = {entry["Id"] for place, entry in enumerate(call.entries) if place in picked}
        answer["Successful"] = [
            entry for entry in answer["Successful"] if entry["Id"] not in forgotten
        ]
        return Reply(reply.status, json.dumps(answer).encode())

    return fault


def refuses_batches_with(receipts: Collection[str], code: str) -> Fault:
    """Return the fault of a service that refuses a whole batch because of one of its entries."""

    async def fault(call: Call, forward: Forward) -> Reply | None:
        if any(entry["ReceiptHandle"] in receipts for entry in call.entries):
            return await is_refused(code)(call, forward)
        return await forward(call.raw)

    return fault


def waits_for(others: asyncio.Barrier) -> Fault:
    """Return the fault that lets calls go on only when so many are there at once."""

    async def fault(call: Call, forward: Forward) -> Reply | None:
        await others.wait()
        return await forward(call.raw)

    return fault


# --- the wire itself ---


@dataclass
class Wire:
    """Carries the calls of SQS clients that were given `url`.

    Attributes:
        url: to be given to clients as their endpoint.
        calls: every call so far, in the order in which they came.
    """

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    _faults: list[tuple[str, frozenset[int], Fault]] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    def on(self, operation: str, fault: Fault, *, at: Collection[int] = ()) -> None:
        """Let `fault` happen to calls from now on: to the first where 1 is in `at`, or to all."""
        seen = self._counts[operation]
        self._faults.append((operation, frozenset(seen + number for number in at), fault))

    def mend(self) -> None:
        """Let nothing happen any more."""
        self._faults.clear()

    def of(self, operation: str) -> list[Call]:
        """Return the calls of one operation."""
        return [call for call in self.calls if call.operation == operation]

    def arrived(self, headers: Mapping[str, str], raw: bytes) -> tuple[Call, Fault]:
        """Note a call, and tell what happens to it."""
        operation = headers["x-amz-target"].partition(".")[2]
        self._counts[operation] += 1
        call = Call(operation, self._counts[operation], headers, raw)
        self.calls.append(call)
        for name, numbers, fault in self._faults:
            if name == operation and (not numbers or call.number in numbers):
                return call, fault
        return call, passes


@contextlib.asynccontextmanager
async def wire_to(endpoint_url: str) -> AsyncIterator[Wire]:
    """Yield a wire to the service at `endpoint_url`; nothing happens on it until told."""
    wire = Wire()

    async def answer(headers: Mapping[str, str], raw: bytes) -> Reply | None:
        async def forward(body: bytes) -> Reply:
            kept = {
                name: value
                for name, value in headers.items()
                if name not in ("host", "content-length", "connection", "expect")
            }
            async with session.post(endpoint_url, data=body, headers=kept) as response:
                return Reply(response.status, await response.read())

        call, fault = wire.arrived(headers, raw)
        return await fault(call, forward)

    async with aiohttp.ClientSession() as session, served(answer) as wire.url:
        yield wire


@contextlib.asynccontextmanager
async def served(
    answer: Callable[[Mapping[str, str], bytes], Awaitable[Reply | None]],
) -> AsyncIterator[str]:
    """Yield the URL of an HTTP server that calls `answer` with a request's headers and body.

    At the end connections are broken and calls under way are cancelled.
    """
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            # A client may go away at any time, and the server may be stopped.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await _exchange(reader, writer, answer):
                    pass
        finally:
            connections.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Mapping[str, str], bytes], Awaitable[Reply | None]],
) -> bool:
    """Serve one request of a connection; returns whether there may be another."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = [line.partition(":") for line in head.splitlines()[1:] if line]
    headers = {name.lower(): value.strip() for name, _, value in lines}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    reply = await answer(headers, raw)
    if reply is None:
        return False
    writer.write(
        f"HTTP/1.1 {reply.status} As It Is\r\nContent-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\n\r\n".encode()
        + reply.body
    )
    await writer.drain()
    return True
