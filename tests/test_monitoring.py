"""What watches the system fits what it measures: rules, boards, alarms and autoscaling."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import yaml  # type: ignore[import-untyped]
from botocore.validate import ParamValidator

from async_jobs.adapters.telemetry.instruments import INSTRUMENTS
from async_jobs.adapters.telemetry.measuring import Kind

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SAMPLES: dict[str, set[str]] = {
    each.prometheus_name + suffix: {*each.labels, *(["tenant"] if each.by_tenant else [])}
    | ({"le"} if suffix == "_bucket" else set())
    for each in INSTRUMENTS
    for suffix in (("_bucket", "_count", "_sum") if each.kind is Kind.HISTOGRAM else ("",))
}
"""The labels of every sample that there can be."""


def named_in(expression: str) -> set[str]:
    """Return the metrics of ours that a query names."""
    return set(re.findall(r"\basync_jobs_\w+", expression))


def problems_of(service: str, operation: str, given: object) -> str:
    """Return what AWS's own description of a request finds wrong with one."""
    model = botocore.session.get_session().get_service_model(service)
    found = ParamValidator().validate(given, model.operation_model(operation).input_shape)
    return str(found.generate_report())


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
