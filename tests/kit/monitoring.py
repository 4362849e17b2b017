"""What watches the system, as far as several tests need it: queries, and what they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from async_jobs.adapters.telemetry.instruments import INSTRUMENTS
from async_jobs.adapters.telemetry.measuring import Kind

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text("utf-8"))
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/async_jobs.json").read_text("utf-8"))
STATISTICS_BOARD: dict[str, Any] = json.loads(
    (DEPLOY / "grafana/statistics.json").read_text("utf-8")
)
SUFFIXES = {Kind.HISTOGRAM: ("_bucket", "_count", "_sum")}
SAMPLES: dict[str, set[str]] = {
    each.prometheus_name + suffix: {*each.labels}
    | ({"tenant"} if each.by_tenant else set())
    | ({"le"} if suffix == "_bucket" else set())
    for each in INSTRUMENTS
    for suffix in SUFFIXES.get(each.kind, ("",))
}
"""The labels of every sample that there can be."""
_SELECTOR = re.compile(r"\b(async_jobs_\w+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def named_in(query: str) -> set[str]:
    """Return the metrics of ours that a query names."""
    return {name for name, _ in _SELECTOR.findall(query)}


def labels_in(query: str) -> dict[str, set[str]]:
    """Return the labels by which a query selects or groups each metric that it names."""
    grouped = set(", ".join(_GROUPED.findall(query)).replace(" ", "").split(",")) - {""}
    found: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(query):
        selected = set(re.findall(r"(\w+)\s*[=!]", matchers))
        found.setdefault(name, set()).update(selected, grouped & SAMPLES.get(name, set()))
    return found


def rules() -> Iterator[dict[str, Any]]:
    """Yield the rules for Prometheus."""
    for group in RULES["groups"]:
        yield from group["rules"]


def panels(board: dict[str, Any] = BOARD) -> Iterator[dict[str, Any]]:
    """Yield the panels of a board, its rows included."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> Iterator[str]:
    """Yield every query of a rule, a panel or a variable."""
    for rule in rules():
        yield rule["expr"]
    for panel in panels():
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert asked is not None
            yield f"count by ({asked[2]}) ({asked[1]})"
