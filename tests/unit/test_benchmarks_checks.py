"""The checks of the benchmark: every job exactly once, programs that fail, programs that stay."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.machine import environments
from benchmarks.machine.costs import Cost, CpuMeter, parent_of
from benchmarks.machine.environments import Missing, interpreter_for, python_of
from benchmarks.machine.processes import FailedError, Program, Programs, until
from benchmarks.measure.tally import Tally
from benchmarks.systems import protocol
from benchmarks.systems.marks import Marks, executions

JOBS = 6
ANSWERS_SECONDS = 20.0


def marked(directory: Path, *numbers: int, pid: int = 1) -> None:
    """Leave the marks of a process that executed these jobs."""
    marks = Marks(directory, JOBS)
    for number in numbers:
        marks.add(protocol.payload(number))
    for path in directory.glob(f"{os.getpid()}.*"):
        path.rename(directory / f"{pid}{path.suffix}")


# --- every job exactly once ---------------------------------------------------------------------


def test_every_job_once_is_right(tmp_path: Path) -> None:
    """In any order, in any process."""
    marked(tmp_path, 5, 0, 2, pid=1)
    marked(tmp_path, 1, 4, 3, pid=2)

    tally = Tally.read(tmp_path, JOBS)

    assert tally.problem() is None
    assert tally.executed == JOBS
    assert executions(tmp_path) == JOBS


def test_a_job_that_nobody_executed_is_found(tmp_path: Path) -> None:
    """Although another one brings the number of executions up to what it should be."""
    marked(tmp_path, 0, 1, 2, 2, 4, 5)

    problem = Tally.read(tmp_path, JOBS).problem()

    assert executions(tmp_path) == JOBS
    assert problem == (
        "1 of 6 jobs never executed, such as 3; 1 of 6 jobs executed more than once, such as 2"
    )


def test_a_job_that_two_processes_executed_is_found(tmp_path: Path) -> None:
    """Each of them has seen it once."""
    marked(tmp_path, 0, 1, 2, 3, pid=1)
    marked(tmp_path, 3, 4, 5, pid=2)

    assert Tally.read(tmp_path, JOBS).repeated() == (
        "1 of 6 jobs executed more than once, such as 3"
    )


def test_without_any_execution_every_job_is_missing(tmp_path: Path) -> None:
    """No marks are no reason to believe that all is well."""
    tally = Tally.read(tmp_path, JOBS)

    assert tally.first_at is None
    assert tally.problem() == "6 of 6 jobs never executed, such as 0, 1, 2, 3, 4"


@pytest.mark.parametrize("number", [-1, JOBS])
def test_a_job_that_was_not_announced_cannot_be_marked(tmp_path: Path, number: int) -> None:
    """It would be counted and not seen."""
    with pytest.raises(ValueError, match="is not among the 6"):
        Marks(tmp_path, JOBS).add(protocol.payload(number))


def test_latency_is_that_of_the_first_execution(tmp_path: Path) -> None:
    """Jobs that carry no instant have none."""
    marks = Marks(tmp_path, JOBS)
    marks.add(protocol.payload(1, at=1e-6))
    first = Tally.read(tmp_path, JOBS).latencies
    marks.add(protocol.payload(1, at=2e-6))
    marks.add(protocol.payload(2))

    assert len(first) == 1
    assert Tally.read(tmp_path, JOBS).latencies == first


def test_done_marks_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What handlers call needs no more than the environment of their process."""
    monkeypatch.setenv("BENCH_RUN_DIR", str(tmp_path))
    monkeypatch.setenv("BENCH_JOBS", str(JOBS))
    monkeypatch.setattr(protocol, "_marks", None)

    for number in range(JOBS):
        protocol.done(protocol.payload(number))

    assert Tally.read(tmp_path, JOBS).problem() is None


def test_settings_of_the_environment_replace_those_of_the_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others stay."""
    monkeypatch.setenv("BENCH_SETTINGS", '{"batch": 7}')

    assert protocol.settings({"batch": 1, "pool": 2}) == {"batch": 7, "pool": 2}


# --- costs --------------------------------------------------------------------------------------


def test_costs_are_told_by_process_and_in_all() -> None:
    """The sum is what the goal is about."""
    cost = Cost({"worker": 30.0, "postgres": 25.0}, wal_bytes=800.0, dead_tuples=2.0)

    assert cost.metrics() == {
        "cpu_us_worker": 30.0,
        "cpu_us_postgres": 25.0,
        "cpu_us": 55.0,
        "wal_bytes": 800.0,
        "dead_tuples": 2.0,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_cpu_of_a_tree_counts_children_that_have_ended() -> None:
    """A worker that forks is not cheaper for it."""
    meter = CpuMeter({"us": [os.getpid()], "nobody": []})
    os.waitpid(os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", BUSY]), 0)

    used = meter.used()

    assert set(used) == {"us"}
    assert used["us"] >= BUSY_SECONDS


BUSY_SECONDS = 0.1
BUSY = f"import time\nwhile time.process_time() < {BUSY_SECONDS + 0.05}: pass"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_parent_of_a_process_is_known() -> None:
    """It is how the postmaster is found."""
    assert parent_of(os.getpid()) == os.getppid()
    assert parent_of(2**22 + 1) is None


# --- programs -----------------------------------------------------------------------------------

ANSWER = 'print(\'{"n": 1}\'); print("noise"); print(\'{"n": 2}\', flush=True)'
STAY = 'import signal; print("{}", flush=True); signal.pause()'
OBSTINATE = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{STAY}"


def python(program: str) -> list[str]:
    """Return the command line of a program."""
    return [sys.executable, "-c", program]


def environment() -> Mapping[str, str]:
    """Return what a program needs at least."""
    return {"PATH": os.environ["PATH"]}


def test_the_result_of_a_program_is_its_last_answer(tmp_path: Path) -> None:
    """What is not JSON is not for us."""
    with Programs(tmp_path) as programs:
        program = programs.start("peer", python(ANSWER), environment())

        assert program.result(ANSWERS_SECONDS) == {"n": 2}
        assert program.answers() == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("raise SystemExit('no such table')", r"(?s)peer bulk ended with 1:.*no such table"),
        ("pass", "peer bulk ended with 0"),
    ],
    ids=["failed", "silent"],
)
def test_a_program_without_a_result_is_an_error_that_quotes_it(
    tmp_path: Path, program: str, told: str
) -> None:
    """Nothing is measured of what did not happen."""
    with (
        Programs(tmp_path) as programs,
        pytest.raises(FailedError, match=told),
    ):
        programs.start("peer bulk", python(program), environment()).result(ANSWERS_SECONDS)


def test_a_program_that_has_ended_is_noticed(tmp_path: Path) -> None:
    """Waiting for a worker that is gone would take for ever."""
    with Programs(tmp_path) as programs:
        program = programs.start("peer work", python("pass"), environment())
        program.wait(ANSWERS_SECONDS)

        with pytest.raises(FailedError, match="peer work ended with 0"):
            programs.check(program)


@pytest.mark.parametrize("program", [STAY, OBSTINATE], ids=["obedient", "obstinate"])
def test_no_program_outlives_its_block(
    tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the block, and whatever they think of SIGTERM."""
    monkeypatch.setattr("benchmarks.machine.processes.STOP_SECONDS", 0.5)
    started: list[Program] = []

    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, program, started)

    assert started[0].ended


def interrupted(directory: Path, program: str, started: list[Program]) -> None:
    """Be interrupted while a program runs."""
    with Programs(directory) as programs:
        started.append(programs.start("peer work", python(program), environment()))
        assert until(lambda: bool(started[0].answers()), ANSWERS_SECONDS)
        raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_program_on_a_leash_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Even if that was killed and could stop nothing."""
    leashed = [sys.executable, "-m", "benchmarks.machine.leash", *python(STAY)]
    parent = f"import subprocess\nchild = subprocess.Popen({leashed!r})\n{TELL}"

    with Programs(tmp_path) as programs:
        program = programs.start("parent", python(parent), environment())
        assert until(lambda: len(program.answers()) == 2, ANSWERS_SECONDS)  # its own, the child's
        (child,) = [each["child"] for each in program.answers() if each]
        os.kill(program.pid, signal.SIGKILL)

        assert until(lambda: not lives(child), ANSWERS_SECONDS)


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has buried yet does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text("ascii")
    except FileNotFoundError:
        return False


TELL = "print(f'{{\"child\": {child.pid}}}', flush=True)\nchild.wait()"


# --- environments -------------------------------------------------------------------------------


def test_a_system_without_requirements_is_named_with_the_reason() -> None:
    """It is neither dropped nor an error of the whole benchmark."""
    found = python_of("no_such_system", print)

    assert found == Missing("benchmarks/requirements/no_such_system.txt is missing")


def test_a_system_that_cannot_be_installed_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip said comes with it."""
    (tmp_path / "peer.txt").write_text("./no-such-directory-here\n", "utf-8")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "HOME", tmp_path)
    monkeypatch.setattr(environments, "ROOT", tmp_path)

    found = python_of("peer", lambda _: None)

    assert isinstance(found, Missing)
    assert found.reason.startswith("cannot be installed: ")
    assert "no-such-directory-here" in found.reason
    assert not (tmp_path / "peer" / ".installed").exists()


def test_a_system_for_a_python_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older one is no substitute."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    assert interpreter_for("# requires-python: >=3.99\npeer==1\n") == Missing(
        "needs Python 3.99, and there is none on PATH"
    )
    assert interpreter_for("peer==1\n") == sys.executable
    assert interpreter_for("# requires-python: >=3.11\npeer==1\n") == sys.executable
