"""The process of an embedded Postgres: started or adopted, watched, and stopped."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self

from async_jobs.adapters.postgres.embedded_host import (
    Account,
    EmbeddedPostgresError,
    environment,
)

StopMode = Literal["fast", "immediate"]

_MEANS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

START_SECONDS_MAX = 120  # crash recovery of a large cluster takes its time
STOP_SECONDS_MAX = 30
POLL_SECONDS = 0.01
RETRIES_MAX = 50
RETRY_SECONDS = 0.1
LOG_TAIL_LINES = 20

# What a start can meet when the last server has only just died, or when somebody took the port.
PASSING_TROUBLES = (
    'lock file "postmaster.pid" already exists',
    "pre-existing shared memory block",
    "could not create any TCP/IP sockets",
)
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class ServerPlan(NamedTuple):
    """All that a server is started from."""

    binaries: Path
    data: Path
    log: Path
    account: Account | None
    settings: Mapping[str, str]


class Server:
    """A running postmaster: our child, or one that was adopted."""

    def __init__(self, pid: int, port: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.port = port
        self._child = child

    def is_running(self) -> bool:
        """Tell whether the process lives; our own child is reaped on the way."""
        if self._child is not None:
            return self._child.poll() is None
        return _is_postmaster(self.pid)

    def ask(self, mode: StopMode) -> None:
        """Tell it to stop, if it runs, and wait for nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, _MEANS[mode])

    def end(self, mode: StopMode) -> None:
        """Stop it, by harsher means when it does not obey; one that has ended is fine.

        Raises:
            EmbeddedPostgresError: it outlived even SIGKILL.
        """
        for means in (_MEANS[mode], signal.SIGQUIT, signal.SIGKILL):
            if self.is_running():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, means)
            if _wait_until(lambda: not self.is_running(), STOP_SECONDS_MAX):
                return
        raise EmbeddedPostgresError(f"the Postgres with process id {self.pid} cannot be killed")


def serve(plan: ServerPlan, port: int | None) -> Server:
    """Adopt the server that is running on the data, or start one; wait until it is ready.

    `port` is the one to use; None picks a free one. What passes by itself, such as the remains of
    a server that was killed a moment ago, is waited for, at most 5 seconds.

    Raises:
        EmbeddedPostgresError: it did not start; the message ends with its log's end.
    """
    for _ in range(RETRIES_MAX):
        server = _adopt(plan.data) or _launch(plan, port or _free_port())
        if server is not None:
            return server
        threading.Event().wait(RETRY_SECONDS)
    raise _start_error(plan, "Postgres did not start")


class _PidFile(NamedTuple):
    """What a postmaster says of itself in its data directory."""

    pid: int
    port: int
    is_ready: bool

    @classmethod
    def read(cls, data: Path) -> Self | None:
        """Return None where there is no file, or one that is only half written."""
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return cls(int(lines[0]), int(lines[3]), lines[7].strip() == "ready")
        except (FileNotFoundError, ValueError, IndexError):
            return None


def _adopt(data: Path) -> Server | None:
    """Return the server that is running on the data already, if it answers."""
    found = _PidFile.read(data)
    if found is None:
        return None
    if not _is_postmaster(found.pid):
        # Postgres goes by the process id alone, and would refuse for ever when it has been given
        # to another program, or when nobody reaps the dead server.
        (data / "postmaster.pid").unlink(missing_ok=True)
        return None
    if found.is_ready and _speaks_postgres(found.port):
        return Server(found.pid, found.port, child=None)
    return None


def _launch(plan: ServerPlan, port: int) -> Server | None:
    """Start a server and wait until it is ready; None when it is worth another try."""
    with plan.log.open("wb") as log:
        child = subprocess.Popen(
            [
                str(plan.binaries / "postgres"),
                f"-D{plan.data}",
                "-h127.0.0.1",
                f"-p{port}",
                *(f"-c{name}={value}" for name, value in plan.settings.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment(),
            start_new_session=True,  # Ctrl-C is for us: we stop the server when we are done
            user=plan.account.uid if plan.account else None,
            group=plan.account.gid if plan.account else None,
            extra_groups=[] if plan.account else None,
        )
    server = Server(child.pid, port, child)

    def is_settled() -> bool:
        is_up = _PidFile.read(plan.data) == (child.pid, port, True)
        return is_up or not server.is_running()

    try:
        if not _wait_until(is_settled, START_SECONDS_MAX):
            raise _start_error(plan, f"Postgres was not ready in {START_SECONDS_MAX} seconds")
    except BaseException:
        server.end("immediate")
        raise
    if server.is_running():
        return server
    if any(trouble in _log_of(plan) for trouble in PASSING_TROUBLES):
        return None
    raise _start_error(plan, f"Postgres ended with exit code {child.returncode}")


def _is_postmaster(pid: int) -> bool:
    """Tell whether this process is a living Postgres, as far as the system shows."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, as another user
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return not Path("/proc/self/stat").exists()  # macOS has no /proc: believe the id
    name, _, state = status.partition("(")[2].rpartition(") ")
    return name == "postgres" and not state.startswith("Z")


def _speaks_postgres(port: int) -> bool:
    """Ask for TLS, the one question that Postgres answers before it knows who is asking."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(SSL_REQUEST)
            return connection.recv(1) in (b"N", b"S")
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Poll until the condition holds; a bounded number of polls needs no clock."""
    pause = threading.Event()
    for _ in range(round(seconds_max / POLL_SECONDS)):
        if condition():
            return True
        pause.wait(POLL_SECONDS)
    return condition()


def _log_of(plan: ServerPlan) -> str:
    return plan.log.read_text(encoding="utf-8", errors="replace")


def _start_error(plan: ServerPlan, what: str) -> EmbeddedPostgresError:
    tail = "\n".join(_log_of(plan).splitlines()[-LOG_TAIL_LINES:])
    return EmbeddedPostgresError(f"{what}; its log ends:\n{tail}")
