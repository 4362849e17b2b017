"""What a program needs does not grow with what it has done, nor with what others do to it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kit.command_line import SETTINGS
from tests.kit.harness import programs
from tests.programs.memory_programs import PROGRAMS

GROWTH_MIB = {
    # 600 MB leave in cycles, 800 in frames of tracebacks, 500 in refused bodies, and readers ask
    # for 340: none of that may stay.
    "handlers_that_leave_cycles": 300,
    "groups_that_fail": 350,
    "refused_bodies": 70,
    "readers_that_do_not_read": 250,
}


def test_every_program_has_a_bound() -> None:
    """And every bound a program."""
    assert GROWTH_MIB.keys() == PROGRAMS.keys()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is measured as Linux tells it")
@pytest.mark.parametrize("name", PROGRAMS)
async def test_the_peak_of_a_process_is_bounded(tmp_path: Path, name: str) -> None:
    """Generously: what is lost piece by piece soon exceeds any bound."""
    command = (sys.executable, "-m", "tests.programs.memory_programs")
    with programs(tmp_path, SETTINGS) as starting:
        program = await starting.run(name, command=command)

    assert program.process.returncode == 0, program.stderr
    assert int(program.stdout) < GROWTH_MIB[name]
