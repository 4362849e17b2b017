"""Measures in other processes: this checkout's package, and that of another commit beside it.

What was measured is kept under `.async_jobs/fairness/`, by the contents of package and rig, so
that nothing is measured twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.fairness.units import Measured, Unit
from benchmarks.machine.commits import PACKAGE, Checkout
from benchmarks.machine.environments import ROOT

HOME = ROOT / ".async_jobs" / "fairness"
RIG = Path(__file__).parent
NOT_MEASURING = {
    *("__main__.py", "beside.py", "elsewhere.py", "goals.py", "pictures.py", "report.py"),
}
PLAIN_ALONE = {"bound.py"}
OURS_ALONE = {"fleet.py", "lanes.py", "ordered.py", "ready.py", "rig.py", "shapes.py", "store.py"}

Tell = Callable[[Measured], None]


class FailedError(Exception):
    """A process that measures has failed."""


def measure(
    checkout: Checkout,
    units: Sequence[Unit],
    tell: Tell,
    *,
    processes: int = 1,
    fresh: bool = False,
) -> list[Measured]:
    """Measure units, but for what is known already.

    Args:
        checkout: whose package.
        units: what.
        tell: is told of each as soon as it is measured.
        processes: how many measure at once.
        fresh: whether to measure again what is known.
    """
    memory = _Memory(checkout)
    known = {} if fresh else {unit: kept for unit in units if (kept := memory.kept(unit))}
    missing = [unit for unit in units if unit not in known]
    parts = [part for n in range(processes) if (part := missing[n::processes])]

    def measure_part(part: Sequence[Unit]) -> list[Measured]:
        found = []
        for each in _measured(checkout, part):
            memory.keep(each)
            tell(each)
            found.append(each)
        return found

    with ThreadPoolExecutor(max_workers=processes) as pool:
        for found in pool.map(measure_part, parts):
            known |= {each.unit: each for each in found}
    return [known[unit] for unit in units]


def _measured(checkout: Checkout, units: Sequence[Unit]) -> Iterator[Measured]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fairness.units"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **checkout.environment(), "PYTHONHASHSEED": "0"},
        cwd=checkout.directory,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for unit in units:
            process.stdin.write(json.dumps(unit) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise FailedError(f"{unit} of {checkout.commit} could not be measured")
            named, figures, seconds = json.loads(line)
            yield Measured(Unit(*named), figures, seconds)


class _Memory:
    """Figures of before, under a name for all that they depend on.

    Args:
        checkout: whose package; as it is now, whatever happens to its files meanwhile.
    """

    def __init__(self, checkout: Checkout) -> None:
        rig = [path for path in RIG.glob("*.py") if path.name not in NOT_MEASURING]
        package = (checkout.directory / PACKAGE).rglob("*.py")
        self._ours = _digest([*(p for p in rig if p.name not in PLAIN_ALONE), *package])
        self._plain = _digest(path for path in rig if path.name not in OURS_ALONE)

    def kept(self, unit: Unit) -> Measured | None:
        """Return what is known of a unit."""
        try:
            figures, seconds = json.loads(self._path(unit).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return Measured(unit, figures, seconds)

    def keep(self, found: Measured) -> None:
        """Remember what was measured."""
        path = self._path(found.unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([found.figures, found.seconds]), "utf-8")

    def _path(self, unit: Unit) -> Path:
        depends_on = (self._ours if unit.is_ours else self._plain) + repr(unit)
        return HOME / "known" / f"{hashlib.sha256(depends_on.encode()).hexdigest()[:32]}.json"


def _digest(paths: Iterable[Path]) -> str:
    contents = hashlib.sha256()
    for path in sorted(paths):
        contents.update(path.name.encode() + b"\0" + path.read_bytes())
    return contents.hexdigest()
