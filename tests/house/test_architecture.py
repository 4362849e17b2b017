"""The rules of the house hold, and each has been seen to fail on a planted violation."""

import ast
import graphlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "async_jobs"
BIN = Path(sys.executable).parent

RULE_1 = (
    "Rule 1: entrypoints, testing, handlers > adapters, application"
    " > host > ports, extras > domain > version"
)
RULE_1B = "Rule 1b: the application is handed its clock and its chance"
RULE_2 = "Rule 2: adapters are independent of one another"
RULE_3 = "Rule 3: domain and ports import no third party and no asyncio, logging, time, random, os"
RULE_4A = "Rule 4a: fastapi, typer and dependency_injector only under entrypoints"
RULE_4B = "Rule 4b: pytest and hypothesis only under testing"
RULE_4C = "Rule 4c: prometheus_client and opentelemetry only under adapters.telemetry"
RULE_4D = "Rule 4d: jinja2 and markupsafe only under entrypoints.dashboard"
RULE_5 = "Rule 5: cli > demo > programs > dashboard > http | serving > wiring > settings"
RULE_5B = (
    "Rule 5b: the HTTP API and the dashboard are given what they call:"
    " no wiring, no settings, no store"
)
RULE_6 = "Rule 6: no circles between siblings"
RULE_7 = (
    "Rule 7: own_loops > enqueueing | scheduling | working | operating > handling >"
    " changes | looking | in_force | tallying > settings | waiting | failpoints"
)


class Plant(NamedTuple):
    """A new module with one import that breaks one rule."""

    rule: str
    package: str
    imported: str

    @property
    def module(self) -> str:
        return f"{self.package}.planted_{self.imported.replace('.', '_')}"

    def __str__(self) -> str:
        return f"{self.package} imports {self.imported}"


PLANTS = [
    Plant(RULE_1, "domain", "async_jobs.ports"),
    Plant(RULE_1, "domain", "async_jobs.entrypoints"),
    Plant(RULE_1, "ports", "async_jobs.application"),
    Plant(RULE_1, "ports", "async_jobs.host"),
    Plant(RULE_1B, "application", "async_jobs.host"),
    Plant(RULE_1, "application", "async_jobs.adapters.memory"),
    Plant(RULE_1, "adapters", "async_jobs.application"),
    Plant(RULE_1, "adapters", "async_jobs.testing"),
    Plant(RULE_1, "application", "async_jobs.handlers"),
    Plant(RULE_1, "testing", "async_jobs.entrypoints"),
    Plant(RULE_1, "entrypoints", "async_jobs.testing"),
    Plant(RULE_1, "handlers", "async_jobs.entrypoints"),
    Plant(RULE_2, "adapters.memory", "async_jobs.adapters.postgres"),
    Plant(RULE_2, "adapters.postgres", "async_jobs.adapters.http"),
    Plant(RULE_2, "adapters.postgres", "async_jobs.adapters.telemetry"),
    Plant(RULE_2, "adapters.telemetry", "async_jobs.adapters.memory"),
    Plant(RULE_3, "domain", "asyncio"),
    Plant(RULE_3, "domain", "asyncio.events"),
    Plant(RULE_3, "domain", "os.path"),
    Plant(RULE_3, "domain", "pydantic"),
    Plant(RULE_3, "domain", "random"),
    Plant(RULE_3, "domain", "time"),
    Plant(RULE_3, "ports", "logging"),
    Plant(RULE_3, "ports", "asyncpg"),
    Plant(RULE_4A, "adapters.postgres", "fastapi"),
    Plant(RULE_4A, "application", "dependency_injector.wiring"),
    Plant(RULE_4A, "handlers", "typer"),
    Plant(RULE_4A, "testing", "fastapi.testclient"),
    Plant(RULE_4B, "adapters.memory", "hypothesis"),
    Plant(RULE_4B, "entrypoints", "pytest"),
    Plant(RULE_4B, "handlers", "pytest"),
    Plant(RULE_4C, "domain", "prometheus_client"),
    Plant(RULE_4C, "application", "opentelemetry.metrics"),
    Plant(RULE_4C, "adapters.postgres", "opentelemetry.trace"),
    Plant(RULE_4D, "adapters.http", "jinja2"),
    Plant(RULE_4D, "entrypoints.http", "markupsafe"),
    Plant(RULE_5, "entrypoints.http", "async_jobs.entrypoints.dashboard"),
    Plant(RULE_5, "entrypoints.dashboard", "async_jobs.entrypoints.programs"),
    Plant(RULE_5, "entrypoints.settings", "async_jobs.entrypoints.wiring"),
    Plant(RULE_5, "entrypoints.wiring", "async_jobs.entrypoints.serving"),
    Plant(RULE_5, "entrypoints.serving", "async_jobs.entrypoints.http"),
    Plant(RULE_5, "entrypoints.http", "async_jobs.entrypoints.programs"),
    Plant(RULE_5, "entrypoints.programs", "async_jobs.entrypoints.demo"),
    Plant(RULE_5, "entrypoints.demo", "async_jobs.entrypoints.cli"),
    Plant(RULE_5B, "entrypoints.http", "async_jobs.adapters.postgres.store"),
    Plant(RULE_5B, "entrypoints.http", "async_jobs.entrypoints.settings.config"),
    Plant(RULE_5B, "entrypoints.http", "async_jobs.entrypoints.wiring"),
    Plant(RULE_5B, "entrypoints.http", "async_jobs.application.operating.operations"),
    Plant(RULE_5B, "entrypoints.http", "async_jobs.ports.workers"),
    Plant(RULE_5B, "entrypoints.dashboard", "async_jobs.adapters.postgres.store"),
    Plant(RULE_5B, "entrypoints.dashboard", "async_jobs.ports.statistics"),
    Plant(RULE_7, "application.handling", "async_jobs.application.working"),
    Plant(RULE_7, "application.enqueueing", "async_jobs.application.scheduling"),
    Plant(RULE_7, "application.working", "async_jobs.application.own_loops"),
    Plant(RULE_7, "application.scheduling", "async_jobs.application.working"),
    Plant(RULE_7, "application.operating", "async_jobs.application.scheduling"),
]


class Verdict(NamedTuple):
    """What import-linter said: all of it, and its complaints by contract."""

    exit_code: int
    output: str

    def complaints(self, rule: str) -> str:
        """Return the section on a broken contract; empty where the contract was kept."""
        found = re.search(rf"\n{re.escape(rule)}\n-+\n(.*?)(?=\n-----|\Z)", self.output, re.DOTALL)
        return found[1] if found else ""


def lint_imports(tree: Path) -> Verdict:
    result = subprocess.run(
        [BIN / "lint-imports", "--no-cache", "--no-logo"],
        cwd=tree,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Verdict(result.returncode, result.stdout + result.stderr)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """Every plant at once: nothing imports them, so that each is complained of by itself."""
    tree = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copytree(PACKAGE, tree / "async_jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for plant in PLANTS:
        path = tree / "async_jobs" / f"{plant.module.replace('.', '/')}.py"
        path.write_text(f"import {plant.imported}\n")
    for room in ("", "entrypoints/", "application/"):
        (tree / "async_jobs" / f"{room}misc").mkdir()
        (tree / "async_jobs" / f"{room}misc" / "__init__.py").touch()
    for one, other in itertools.permutations(("planted_egg", "planted_hen")):
        path = tree / "async_jobs" / "adapters" / "http" / f"{one}.py"
        path.write_text(f"import async_jobs.adapters.http.{other}\n")
    return lint_imports(tree)


def test_the_package_keeps_its_rules() -> None:
    """Nothing is planted, and nothing is complained of."""
    verdict = lint_imports(ROOT)

    assert verdict.exit_code == 0, verdict.output
    assert "12 kept, 0 broken" in verdict.output


@pytest.mark.parametrize("plant", PLANTS, ids=str)
def test_a_planted_import_breaks_its_rule(planted: Verdict, plant: Plant) -> None:
    """The linter fails, and names the rule, the module and what it imported."""
    root = plant.imported.split(".")[0]
    imported = plant.imported if root == "async_jobs" else root

    assert planted.exit_code == 1
    assert f"async_jobs.{plant.module} -> {imported} (l.1)" in planted.complaints(plant.rule)


@pytest.mark.parametrize(
    ("rule", "room"),
    [
        (RULE_1, "async_jobs.misc"),
        (RULE_5, "async_jobs.entrypoints.misc"),
        (RULE_7, "async_jobs.application.misc"),
    ],
)
def test_a_package_that_no_layer_names_breaks_its_rule(
    planted: Verdict, rule: str, room: str
) -> None:
    """A new room of the house must be put in its place before it is used."""
    assert f"- {room}\n" in planted.complaints(rule)


def test_two_siblings_that_import_each_other_break_rule_6(planted: Verdict) -> None:
    """Wherever they are, and where no layer orders them."""
    assert "in async_jobs.adapters.http" in planted.complaints(RULE_6)


def test_no_rule_has_an_exception() -> None:
    """Import-linter can be told to look away; it has not been, nor has ruff in the package but in
    one place.

    Examples are applications, which have their own time and chance, and benchmarks measure it;
    the simulation draws from seeded streams, in one place too.
    """
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    contracts = tool["importlinter"]["contracts"]
    look_away = {"ignore_imports", "exhaustive_ignores", "allow_indirect_imports", "as_packages"}
    ruff_exceptions = {
        pattern
        for pattern, rules in tool["ruff"]["lint"]["per-file-ignores"].items()
        if any("TID251".startswith(rule) for rule in rules)
    }

    assert not [contract["id"] for contract in contracts if look_away & contract.keys()]
    assert ruff_exceptions == {
        "async_jobs/host.py",
        "tests/simulation/dice.py",
        "examples/**",
        "benchmarks/**",
    }


def test_rule_3_names_every_third_party() -> None:
    """Import-linter knows no `everything else`, so its list is compared with the imports."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rule,) = (found for found in contracts["contracts"] if found["name"] == RULE_3)
    imported: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    third_party = imported - sys.stdlib_module_names - {"async_jobs"}

    assert third_party
    assert third_party <= set(rule["forbidden_modules"])


def test_entry_points_leave_metrics_to_the_adapters() -> None:
    """Rule 4c cannot say so of them, because they import the adapters."""
    theirs = {"opentelemetry", "prometheus_client"}
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if theirs & {name.split(".")[0] for name in imports_of(path)}
    ]

    assert sorted(found) == [
        "adapters/telemetry/otel.py",
        "adapters/telemetry/prometheus.py",
        "adapters/telemetry/traces.py",
    ]


def imports_of(path: Path) -> Iterator[str]:
    """Yield what a module imports, and what it may import: names may be modules themselves."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module


def circle_in(folder: Path) -> list[str]:
    """Return modules of a folder of which each imports the next one; empty if there are none.

    What only type checkers import counts: a reader goes the same way.
    """
    modules = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in folder.rglob("*.py")
    }
    graph = {name: modules.keys() & set(imports_of(path)) for name, path in modules.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("folder", ["async_jobs", "benchmarks", "examples", "tests"])
def test_no_modules_import_one_another_in_a_circle(folder: str) -> None:
    """Each module can be read before those that import it."""
    assert circle_in(ROOT / folder) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    """Even one that only a type checker goes round."""
    folder = tmp_path / "house"
    folder.mkdir()
    (folder / "record.py").write_text("from house import tables\n")
    (folder / "tables.py").write_text("from house.plots import draw\n")
    (folder / "plots.py").write_text("draw = 1\n")
    assert circle_in(folder) == []

    (folder / "plots.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.record\n"
    )
    assert set(circle_in(folder)) == {"house.record", "house.tables", "house.plots"}


BANNED = {
    "asyncio.sleep": "import asyncio\n\n\nasync def f() -> None:\n    await asyncio.sleep(1)\n",
    "datetime.date.today": "from datetime import date\n\nprint(date.today())\n",
    "datetime.datetime.now": "import datetime as d\n\nprint(d.datetime.now(d.UTC))\n",
    "datetime.datetime.utcnow": "from datetime import datetime\n\nprint(datetime.utcnow())\n",
    "random": "import random\n\nprint(random.random())\n",
    "random ": "from random import Random, choice, uniform\n\nprint(Random, choice, uniform)\n",
    "time.monotonic": "from time import monotonic\n\nprint(monotonic())\n",
    "time.sleep": "import time\n\ntime.sleep(1)\n",
    "time.time": "import time\n\nprint(time.time())\n",
    "uuid.uuid1": "import uuid\n\nprint(uuid.uuid1())\n",
    "uuid.uuid4": "from uuid import uuid4\n\nprint(uuid4())\n",
}


def ruff(code: str, filename: str) -> str:
    result = subprocess.run(
        [
            BIN / "ruff",
            "check",
            "--select=TID251",
            "--output-format=concise",
            "--no-cache",
            f"--stdin-filename={filename}",
            "-",
        ],
        cwd=ROOT,
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout + result.stderr


@pytest.mark.parametrize("name", BANNED)
@pytest.mark.parametrize("folder", ["async_jobs/domain", "async_jobs/adapters/memory", "tests"])
def test_time_and_chance_are_banned(name: str, folder: str) -> None:
    """Ruff reports each use by name, in the package as in the tests."""
    report = ruff(BANNED[name], f"{folder}/planted.py")

    assert f"TID251 `{name.strip()}` is banned" in report


def test_one_file_may_ask_the_real_clock() -> None:
    """What everybody else gets through ports must come from somewhere."""
    reports = {ruff(code, "async_jobs/host.py") for code in BANNED.values()}

    assert reports == {"All checks passed!\n"}
