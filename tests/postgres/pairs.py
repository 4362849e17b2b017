"""A primary and its standby on real streaming replication, and addresses that can be moved."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from async_jobs.adapters.postgres import embedded_host as host
from async_jobs.adapters.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.kit import services

_SETTINGS = {"wal_receiver_timeout": "5s", "wal_retrieve_retry_interval": "100ms"}


@dataclass
class Pair:
    """Two servers with the same data; either may be the primary. Replication is asynchronous."""

    directory: Path
    primary: EmbeddedPostgres
    standby: EmbeddedPostgres
    copies: int = 0

    @property
    def password(self) -> str:
        return urlsplit(self.primary.dsn).password or ""

    def crash_and_promote(self) -> None:
        """The primary dies in the middle of its work, and the standby takes its place."""
        dead = self.primary
        dead.stop("immediate")
        self.primary = self.standby
        program(self.primary, "pg_ctl", "promote", "-w", "-D", str(self.primary.data_dir))

    def join_again(self) -> None:
        """The one that died comes back as the standby of the new primary."""
        self.standby = self._copied()

    def _copied(self) -> EmbeddedPostgres:
        self.copies += 1
        return copied(self.primary, self.directory / f"copy-{self.copies}" / "data")

    def stop(self) -> None:
        for server in (self.primary, self.standby):
            with contextlib.suppress(EmbeddedPostgresError):
                server.stop("immediate")


def program(server: EmbeddedPostgres, name: str, *arguments: str) -> None:
    """Run one of Postgres' programs as whoever owns the server's data."""
    account = host.account_for(server.data_dir)
    binaries = host.runnable(host.find_binaries(), account)
    result = host.run([str(binaries / name), *arguments], account)
    assert result.returncode == 0, result.stdout


def copied(primary: EmbeddedPostgres, data: Path) -> EmbeddedPostgres:
    """Return a started standby of a running server."""
    account = host.account_for(primary.data_dir)
    data.parent.mkdir(parents=True)
    if account is not None:
        os.chown(data.parent, account.uid, account.gid)
    at = f"{primary.dsn.rpartition('/')[0]}/postgres?application_name=standby"
    program(primary, "pg_basebackup", "-d", at, "-D", str(data), "-X", "stream", "-c", "fast")
    (data / "standby.signal").touch()
    password = data.with_name("data.password")
    password.touch(mode=0o600)
    password.write_text(urlsplit(primary.dsn).password or "", encoding="ascii")
    if account is not None:
        for path in (data / "standby.signal", password):
            os.chown(path, account.uid, account.gid)
    server = EmbeddedPostgres(data, settings=_SETTINGS | {"primary_conninfo": at})
    server.start()
    return server


@contextmanager
def a_pair() -> Iterator[Pair]:
    """Yield a primary and its standby."""
    try:
        account = host.account_for(None)
        directory = host.make_scratch(account, durable=False)
    except EmbeddedPostgresError as error:
        services.missing("Postgres", error)
    try:
        primary = EmbeddedPostgres(directory / "first" / "data", settings=_SETTINGS)
        if account is not None:
            (directory / "first").mkdir()
            os.chown(directory / "first", account.uid, account.gid)
        primary.start()
        pair = Pair(directory, primary, primary)
        try:
            pair.join_again()
            yield pair
        finally:
            pair.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Address:
    """A port of the loopback interface that leads to a server, and may be moved to another.

    Connections that are open stay with the server that they lead to.
    """

    leads_to: int
    port: int = 0
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                there = await asyncio.open_connection("127.0.0.1", self.leads_to)
                try:
                    ways = [
                        asyncio.create_task(_carried(reader, there[1])),
                        asyncio.create_task(_carried(there[0], writer)),
                    ]
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
                finally:
                    there[1].transport.abort()
        finally:
            self._open.discard(task)
            writer.transport.abort()


async def _carried(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()


@asynccontextmanager
async def an_address(leads_to: int) -> AsyncIterator[Address]:
    """Yield an address; at the end its connections are broken."""
    address = Address(leads_to)
    server = await asyncio.start_server(address.accept, "127.0.0.1", 0)
    address.port = server.sockets[0].getsockname()[1]
    try:
        yield address
    finally:
        server.close()
        for task in list(address._open):
            task.cancel()
        await asyncio.gather(*address._open, return_exceptions=True)


def port_of(server: EmbeddedPostgres) -> int:
    """Return the port that a server listens on."""
    port = urlsplit(server.dsn).port
    assert port is not None
    return port


async def is_in_recovery(dsn: str) -> bool:
    """Tell whether a server is a standby."""
    connection = await asyncpg.connect(dsn)
    try:
        return bool(await connection.fetchval("SELECT pg_is_in_recovery()"))
    finally:
        await connection.close()
