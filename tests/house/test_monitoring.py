"""What watches the system fits what it measures: rules, boards, alarms and autoscaling."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
import yaml  # type: ignore[import-untyped]
from botocore.validate import ParamValidator

from async_jobs.domain import facts
from tests.kit import services
from tests.kit.monitoring import (
    BOARD,
    DEPLOY,
    ROOT,
    SAMPLES,
    STATISTICS_BOARD,
    labels_in,
    named_in,
    panels,
    queries,
    rules,
)

DOCS = ROOT / "docs"
TESTED = (DEPLOY / "prometheus/rules_test.yaml").read_text("utf-8")
ALARMS: dict[str, Any] = json.loads((DEPLOY / "cloudwatch/alarms.json").read_text("utf-8"))
ALERTS = [rule["alert"] for rule in rules() if "alert" in rule]


# --- queries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_a_query_names_what_is_measured(query: str) -> None:
    """By metrics and labels that there are; an alert on anything else never fires."""
    named = labels_in(query.replace("async_jobs:missed:ratio_", "recorded_"))
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)

    assert named or "async_jobs:missed:ratio_" in query
    for name, labels in named.items():
        assert labels <= SAMPLES[name], name
    for labels in grouped:
        assert any(set(labels.split(", ")) <= SAMPLES[name] for name in named)


def test_the_bucket_of_the_promise_is_there() -> None:
    """What is asked for by `le` is a bucket, as it is written."""
    asked = {le for query in queries() for le in re.findall(r'le="([^"]+)"', query)}

    assert asked == {"1.0"}


def test_each_alert_is_played_through() -> None:
    """One that nobody has seen fire may never do so; and it says what to do."""
    fired = re.findall(r'alertname(?:: |=")(\w+)', TESTED)

    assert len(ALERTS) == len(set(ALERTS))
    assert set(ALERTS) == set(fired)
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.parametrize(("verb", "file"), [("check", "rules.yaml"), ("test", "rules_test.yaml")])
def test_promtool_finds_the_rules_right(verb: str, file: str) -> None:
    """They are understood, and fire when they should and only then."""
    promtool = shutil.which("promtool")
    if promtool is None:
        services.missing("promtool", "it is not installed")

    done = subprocess.run(
        [promtool, verb, "rules", file],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


# --- the board ----------------------------------------------------------------------------------


@pytest.mark.parametrize("board", [BOARD, STATISTICS_BOARD], ids=["metrics", "statistics"])
def test_the_board_is_one_that_grafana_reads(board: dict[str, Any]) -> None:
    """As far as can be told without one: what a panel has to have, each in its own place."""
    drawn = [panel for panel in panels(board) if panel["type"] != "row"]
    places: list[tuple[int, int]] = []
    for panel in panels(board):
        at = panel["gridPos"]
        places += [
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ]

    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= board.keys()
    assert len({panel["id"] for panel in panels(board)}) == len(list(panels(board)))
    assert len(places) == len(set(places))
    assert {x for x, _ in places} <= set(range(24))
    for panel in drawn:
        assert panel["type"] in {"timeseries", "stat", "heatmap", "table"}
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize(
    ("board", "kind", "builtin"),
    [
        (BOARD, "prometheus", {"__rate_interval", "__range"}),
        (
            STATISTICS_BOARD,
            "grafana-postgresql-datasource",
            {"__timeFilter", "__timeGroupAlias", "__interval"},
        ),
    ],
    ids=["metrics", "statistics"],
)
def test_the_board_asks_whatever_source_is_chosen(
    board: dict[str, Any], kind: str, builtin: set[str]
) -> None:
    """No address of somebody else's Grafana is in it, and each variable is used."""
    drawn = [panel for panel in panels(board) if panel["type"] != "row"]
    sources = [panel["datasource"] for panel in drawn]
    sources += [target["datasource"] for panel in drawn for target in panel["targets"]]
    variables = {each["name"] for each in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))

    assert all(source == {"type": kind, "uid": "${datasource}"} for source in sources)
    assert used == variables | builtin


# --- CloudWatch ---------------------------------------------------------------------------------


def problems_of(service: str, operation: str, given: object) -> str:
    """Return what AWS's own description of a request finds wrong with one."""
    model = botocore.session.get_session().get_service_model(service)
    found = ParamValidator().validate(given, model.operation_model(operation).input_shape)
    return str(found.generate_report())


def filled(value: Any) -> Any:
    """Return a part of the template with its parameters filled in."""
    match value:
        case {"Ref": name}:
            parameter = ALARMS["Parameters"][name]
            return parameter.get("Default", "arn:aws:sns:eu-central-1:123456789012:topic")
        case dict():
            return {key: filled(each) for key, each in value.items()}
        case list():
            return [filled(each) for each in value]
        case _:
            return value


def resources(kind: str) -> list[dict[str, Any]]:
    """Return the properties of the resources of a kind."""
    return [
        filled(each["Properties"])
        for each in ALARMS["Resources"].values()
        if each["Type"] == f"AWS::{kind}"
    ]


def test_alarms_are_as_cloudwatch_wants_them() -> None:
    """By AWS's own description of the requests that the template stands for."""
    for alarm in resources("CloudWatch::Alarm"):
        assert problems_of("cloudwatch", "PutMetricAlarm", {"AlarmName": "a", **alarm}) == ""
    for each in resources("Logs::MetricFilter"):
        given = lowered(each) | {"filterName": "f"}
        assert problems_of("logs", "PutMetricFilter", given) == ""


def lowered(value: Any) -> Any:
    """Return a resource with keys as the requests of CloudWatch Logs have them."""
    match value:
        case dict():
            return {key[0].lower() + key[1:]: lowered(each) for key, each in value.items()}
        case list():
            return [lowered(each) for each in value]
        case _:
            return value


def test_alarms_watch_what_is_measured_or_logged() -> None:
    """Each metric is one of ours with those dimensions, or made by a filter of an event."""
    filters = resources("Logs::MetricFilter")
    made = {each["MetricTransformations"][0]["MetricName"] for each in filters}
    heard = {re.findall(r'event = "(\w+)"', each["FilterPattern"])[0] for each in filters}
    told = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in vars(facts)}
    watched = set()
    for alarm in resources("CloudWatch::Alarm"):
        metrics = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", [])[:-1]]
        for metric in metrics or [alarm]:
            watched.add(metric["MetricName"])
            if metric["Namespace"] == "async_jobs":
                labels = {each["Name"] for each in metric["Dimensions"]}
                assert SAMPLES[metric["MetricName"]] == labels

    assert heard - told == {"scheduler_degraded", "worker_degraded"}
    assert watched - SAMPLES.keys() == made


# --- autoscaling --------------------------------------------------------------------------------


def examples(page: str, language: str) -> Iterator[Any]:
    """Yield the examples of a page that are data."""
    text = (DOCS / page).read_text("utf-8")
    for block in re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield yaml.safe_load(block)  # JSON is YAML


def test_keda_asks_for_what_is_measured() -> None:
    """For a queue, by a query that tells one number."""
    (scaled,) = examples("metrics.md", "yaml")
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]

    assert (scaled["kind"], trigger["type"]) == ("ScaledObject", "prometheus")
    assert float(trigger["metadata"]["threshold"]) > 0
    assert named_in(query) == {
        "async_jobs_queue_slots_required",
        "async_jobs_queue_slots_busy",
    }
    assert all(SAMPLES[name] == {"queue"} for name in named_in(query))


def test_target_tracking_follows_what_is_measured() -> None:
    """As AWS describes the request; one number is returned, made of those that are fetched."""
    (policy,) = examples("deploy-ecs.md", "json")
    told = policy["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"]
    fetched = {each["Id"]: each["MetricStat"]["Metric"] for each in told["Metrics"][:-1]}
    (returned,) = (each for each in told["Metrics"] if each["ReturnData"])

    assert problems_of("application-autoscaling", "PutScalingPolicy", policy) == ""
    assert set(re.findall(r"\b[a-z]+\b", returned["Expression"])) == fetched.keys()
    for metric in fetched.values():
        assert SAMPLES[metric["MetricName"]] == {each["Name"] for each in metric["Dimensions"]}
