"""TCP lines that a test can silence: connections say nothing more without being closed.

So it looks to a program when a firewall forgets its connections, or when the host at the other
end lost its power or was replaced. What was sent meanwhile arrives late, or never.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

PIECE_BYTES = 65_536


class _Connection:
    """One connection through the line."""

    def __init__(
        self, near: asyncio.StreamWriter, far: asyncio.StreamWriter, *, flows: bool
    ) -> None:
        self.flows = asyncio.Event()
        if flows:
            self.flows.set()
        self._writers = (near, far)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                piece = await reader.read(PIECE_BYTES)
                await self.flows.wait()  # an end is news, too, and does not get through
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()
        writer.close()

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self.flows.set()


class Line:
    """Forwards connections to a port of this host."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._connections: set[_Connection] = set()
        self._is_frozen = False
        self.port = 0

    def freeze(self) -> None:
        """Say nothing to anybody any more, neither on old connections nor on new ones."""
        self._is_frozen = True
        self.fall_silent()

    def fall_silent(self) -> int:
        """Forward nothing more on the connections there are; returns how many."""
        for connection in self._connections:
            connection.flows.clear()
        return len(self._connections)

    def resume(self) -> None:
        """Forward again; what was held back arrives now."""
        for connection in self._connections:
            connection.flows.set()

    def reset(self) -> None:
        """Break the connections that are silent; what was held back is lost."""
        for connection in [each for each in self._connections if not each.flows.is_set()]:
            connection.abort()

    async def forward(
        self, near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection."""
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            near_writer.transport.abort()  # nobody listens there just now
            return
        connection = _Connection(near_writer, far_writer, flows=not self._is_frozen)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                connection.pump(near_reader, far_writer), connection.pump(far_reader, near_writer)
            )
        finally:
            self._connections.discard(connection)
            connection.abort()


@asynccontextmanager
async def line_to(port: int) -> AsyncIterator[Line]:
    """Yield a line to a port of the loopback interface."""
    line, serving = Line(port), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(line.forward(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
