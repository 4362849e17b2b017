"""Report: everything that is known about a run, for tables, figures and plots."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine.costs import fdatasync_us
from benchmarks.machine.environments import ROOT, Missing, python_of, versions
from benchmarks.plan.subjects import Subject
from benchmarks.report.figures import Measured

SYSTEMS = ROOT / "benchmarks" / "systems"


@dataclass(slots=True)
class Report:
    """Everything that is known about a run.

    Attributes:
        quick: whether it was the quick benchmark.
        partial: whether only some systems, workloads or axes were asked for.
        growth: whether curves were measured instead of workloads.
        rounds: the figures.
        missing: the systems that could not be measured, each with the reason.
        machine, server: what it ran on.
        settings, packages: of each system.
        began: when.
        commit: of async_jobs.
    """

    quick: bool
    partial: bool = False
    growth: bool = False
    rounds: list[Measured] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    server: Mapping[str, str] = field(default_factory=dict)
    settings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    packages: dict[str, Mapping[str, str]] = field(default_factory=dict)
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    commit: str = "unknown"

    @property
    def name(self) -> str:
        """The name of its files."""
        if self.growth:
            kind = "quick-growth" if self.quick else "growth"
        else:
            kind = "quick" if self.quick else "full"
        return f"partial-{kind}" if self.partial else kind

    def describe_machine(self, scratch: Path) -> None:
        """Note what the benchmark runs on."""
        self.machine = {
            "cpu": _proc_field("/proc/cpuinfo", "model name") or platform.processor(),
            "cores": os.cpu_count(),
            "memory": _proc_field("/proc/meminfo", "MemTotal"),
            "kernel": platform.release(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "fdatasync_us": round(fdatasync_us(scratch)),
            "load_before": [round(load, 2) for load in os.getloadavg()],
        }

    def describe_system(self, subject: Subject) -> None:
        """Note a system's settings and versions."""
        paths = (SYSTEMS / f"{subject.module}{part}.py" for part in ("", "_setup"))
        own = [module_settings(path) for path in paths if path.exists()]
        self.settings[subject.name] = {**own[0], **own[-1], **subject.settings}
        python = python_of(subject.environment, lambda _: None)
        if not isinstance(python, Missing):
            self.packages[subject.name] = versions(python)

    def as_json(self) -> dict[str, Any]:
        """Return everything, with the raw figures of each round."""
        return {
            "began": self.began,
            "commit": self.commit,
            "machine": self.machine,
            "server": dict(self.server),
            "missing": self.missing,
            "settings": self.settings,
            "packages": self.packages,
            "rounds": [each.as_json() for each in self.rounds],
        }


def module_settings(path: Path) -> dict[str, Any]:
    """Return the `SETTINGS` of a module that can only be imported in its own environment."""
    for node in ast.parse(path.read_text("utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="SETTINGS")], value=ast.Dict() as value):
                return _literals(value)
            case ast.AnnAssign(target=ast.Name(id="SETTINGS"), value=ast.Dict() as value):
                return _literals(value)
    return {}


def _literals(node: ast.Dict) -> dict[str, Any]:
    found = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant):
            try:
                found[str(key.value)] = ast.literal_eval(value)
            except ValueError:
                found[str(key.value)] = ast.unparse(value)
    return found


def _proc_field(path: str, name: str) -> str | None:
    try:
        lines: Iterable[str] = Path(path).read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def commit() -> str:
    """Return the commit of async_jobs, and whether the tree differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        return told.stdout.strip()

    head = git("rev-parse", "HEAD") or "unknown"
    return f"{head} with changes" if git("status", "--porcelain", "async_jobs") else head
