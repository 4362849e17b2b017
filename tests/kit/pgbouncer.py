"""A real PgBouncer in front of a database, mostly in transaction mode, as in many deployments."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from tests.kit import services

DATABASE = "pooled"
SERVER_CONNECTIONS = 12
"""Far fewer than the processes of a test open to it: several clients share each of them."""
# Whom a server that is started as root becomes; it refuses to stay root.
UNPRIVILEGED = "nobody"


@contextlib.contextmanager
def pgbouncer(
    dsn: str, port: int, *, mode: str = "transaction", ignoring: str = "extra_float_digits"
) -> Iterator[str]:
    """Yield the DSN of a PgBouncer that listens on `port` and pools connections to `dsn`."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        services.missing("PgBouncer", "no program `pgbouncer` is on the PATH")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        settings = directory / "pgbouncer.ini"
        settings.write_text(_settings(dsn, port, mode, ignoring))
        settings.chmod(0o644)
        as_root = ["-u", UNPRIVILEGED] if os.geteuid() == 0 else []
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, *as_root, str(settings)], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            while not _listens(port):
                assert process.poll() is None, f"PgBouncer ended: {(directory / 'log').read_text()}"
            yield urlunsplit(("postgresql", f"pooled@127.0.0.1:{port}", f"/{DATABASE}", "", ""))
            ended = process.poll()
            assert ended is None, f"PgBouncer ended: {(directory / 'log').read_text()}"
        finally:
            process.kill()  # newer ones would wait until the last client has left
            process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _settings(dsn: str, port: int, mode: str, ignoring: str) -> str:
    address = urlsplit(dsn)
    server = {
        "host": address.hostname,
        "port": address.port,
        "dbname": address.path[1:],
        "user": address.username,
        "password": unquote(address.password or ""),
    }
    told = " ".join(f"{name}='{value}'" for name, value in server.items())
    return f"""
[databases]
{DATABASE} = {told}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = {ignoring}
default_pool_size = {SERVER_CONNECTIONS}
max_client_conn = 500
"""
