"""TCP lines that a test can freeze: what is sent is taken, and nothing comes back any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Line:
    """Forwards connections to a port until it is frozen."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0

    def freeze(self) -> None:
        """Say nothing to anybody any more, as a host that lost its power."""
        self._flows.clear()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            try:
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
            finally:
                far_writer.close()
                writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            await self._flows.wait()
            writer.write(piece)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def line_to(port: int) -> AsyncIterator[Line]:
    """Yield a line to a port of the loopback interface."""
    line, serving = Line(port), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(line.forward(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
