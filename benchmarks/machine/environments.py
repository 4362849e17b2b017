"""An environment for each system, made when it is first needed and kept under .async_jobs/bench.

`benchmarks/requirements/<name>.txt` pins what is in it. Its first line may ask for a newer Python
with `# requires-python: 3.12`. async_jobs and the floor use the environment of the project.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".async_jobs" / "bench"
REQUIREMENTS = ROOT / "benchmarks" / "requirements"
REQUIRES_PYTHON = re.compile(r"# requires-python: (?:>=)?\s*(\d+)\.(\d+)")
NEWEST_MINOR = 16
INSTALL_SECONDS_MAX = 600
REASON_LINES = 3

Tell = Callable[[str], None]


class Missing(NamedTuple):
    """Why something cannot be measured here."""

    reason: str


def python_of(name: str | None, tell: Tell) -> Path | Missing:
    """Return the interpreter of a system's environment, made if it is not there yet.

    Args:
        name: of the requirements file; None for the project's own environment.
        tell: is told what takes long.
    """
    if name is None:
        return Path(sys.executable)
    requirements = REQUIREMENTS / f"{name}.txt"
    if not requirements.exists():
        return Missing(f"benchmarks/requirements/{name}.txt is missing")
    environment = HOME / name
    python, stamp = environment / "bin" / "python", environment / ".installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text("ascii") == wanted and python.exists():
        return python
    base = interpreter_for(requirements.read_text("utf-8"))
    if isinstance(base, Missing):
        return base
    tell(f"installing {name} into {environment.relative_to(ROOT)}")
    try:
        _make(base, environment, requirements)
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stdout or "").splitlines() if line.strip()]
        return Missing("cannot be installed: " + " / ".join(lines[-REASON_LINES:]))
    except subprocess.TimeoutExpired:
        return Missing(f"cannot be installed within {INSTALL_SECONDS_MAX} s")
    stamp.write_text(wanted, "ascii")
    return python


def interpreter_for(requirements: str) -> str | Missing:
    """Return an interpreter that is new enough for what is written at the top of the file."""
    found = REQUIRES_PYTHON.match(requirements)
    if found is None:
        return sys.executable
    least = (int(found[1]), int(found[2]))
    for candidate in _interpreters(least):
        if _version(candidate) >= least:
            return candidate
    return Missing(f"needs Python {least[0]}.{least[1]}, and there is none on PATH")


def _interpreters(least: tuple[int, int]) -> Iterator[str]:
    yield sys.executable
    for minor in range(least[1], NEWEST_MINOR):
        name = f"python{least[0]}.{minor}"
        if (found := shutil.which(name)) is not None:
            yield found
    # pyenv's shims refuse versions that are not selected; what they stand for works.
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from (str(path) for path in sorted(versions.glob("3.*/bin/python3")))


def _version(interpreter: str) -> tuple[int, ...]:
    program = "import sys; print(*sys.version_info[:2])"
    told = subprocess.run(
        [interpreter, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    return tuple(int(part) for part in told.stdout.split()) if told.returncode == 0 else ()


def _make(base: str, environment: Path, requirements: Path) -> None:
    if environment.exists():
        shutil.rmtree(environment)
    environment.parent.mkdir(parents=True, exist_ok=True)
    for command in (
        [base, "-m", "venv", str(environment)],
        [
            str(environment / "bin" / "python"),
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--progress-bar", "off", "-r", str(requirements)),
        ],
    ):
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=INSTALL_SECONDS_MAX,
        )


def versions(python: Path) -> dict[str, str]:
    """Return the versions of all packages of an environment."""
    program = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    told = subprocess.run(
        [str(python), "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, str] = json.loads(told.stdout)
    return found
