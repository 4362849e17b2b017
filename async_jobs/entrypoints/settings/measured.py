"""Settings of metrics and traces: where they go, and what they tell apart."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from async_jobs.adapters.telemetry.labels import TENANTS_MAX

MetricsBackend: TypeAlias = Literal["none", "prometheus", "otel"]
TOP_MAX: Final = 100
"""Half of those who can have series: the others are those who had to make way."""
_TOP: Final = re.compile(r"top:([1-9]\d{0,2})")
_PARENT: Final = re.compile(r"never|always|first(:\d{1,6})?")
_PARENT_ALLOWED: Final = "must be first, first:SECONDS, never or always"
_ALLOWED: Final = (
    f"must be none, top:K with K from 1 to {TOP_MAX}, or a JSON list of 1 to {TENANTS_MAX} names,"
    ' e.g. ["acme"]'
)


def _tenants(value: object) -> object:
    """Return None, how many tenants are told apart, or their names.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str):
        value = _read(value.strip())
    match value:
        case None:
            return None
        case int() if not isinstance(value, bool) and 1 <= value <= TOP_MAX:
            return value
        case list() | tuple() if 1 <= len(value) <= TENANTS_MAX:
            if all(isinstance(name, str) and name for name in value):
                return tuple(value)
    raise ValueError(_ALLOWED)


def _read(text: str) -> object:
    if text == "none":
        return None
    if found := _TOP.fullmatch(text):
        return int(found[1])
    try:
        names = json.loads(text)
    except ValueError:
        names = ()
    return names if isinstance(names, list) else ()


MetricsTenants: TypeAlias = Annotated[int | tuple[str, ...] | None, BeforeValidator(_tenants)]
"""None for none of them, a number for those of whom most is told, or names."""


def _parent(value: str) -> str:
    if _PARENT.fullmatch(value) is None:
        raise ValueError(_PARENT_ALLOWED)
    return value


TracesBackend: TypeAlias = Literal["none", "otel"]
TracesParent: TypeAlias = Annotated[str, AfterValidator(_parent)]
"""Which attempts are in the trace that enqueued their job: `first` may name seconds."""


def traces_not_used(backend: TracesBackend, *, parent: bool, tenants: bool) -> dict[str, str]:
    """Return the variables of traces that are set and change nothing, with the reason."""
    if backend != "none":
        return {}
    idle = {"ASYNC_JOBS_TRACES_PARENT": parent, "ASYNC_JOBS_TRACES_TENANTS": tenants}
    why = "nothing is traced: set ASYNC_JOBS_TRACES to otel"
    return {variable: why for variable, is_set in idle.items() if is_set}


def metrics_not_used(
    backend: MetricsBackend, *, tenants: bool, token: bool, port: bool
) -> dict[str, str]:
    """Return the variables of metrics that change nothing where metrics go, with the reason.

    Args:
        backend: where they go.
        tenants, token, port: whether these are set.
    """
    scraped = {"ASYNC_JOBS_METRICS_TOKEN": token, "ASYNC_JOBS_METRICS_PORT": port}
    if backend == "none":
        idle = {"ASYNC_JOBS_METRICS_TENANTS": tenants, **scraped}
        why = "nothing is measured: set ASYNC_JOBS_METRICS to prometheus"
    else:
        idle = scraped if backend == "otel" else {}
        why = "ASYNC_JOBS_METRICS is otel, and nobody scrapes this process"
    return {variable: why for variable, is_set in idle.items() if is_set}
