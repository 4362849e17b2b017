"""Metrics: what facts become, the same by every exporter, and never more series than may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from async_jobs.adapters.telemetry.instruments import BY_FACT, BY_SURVEY, INSTRUMENTS
from async_jobs.adapters.telemetry.labels import (
    COUNTED_MAX,
    NAMES_MAX,
    OTHER,
    TENANTS_MAX,
    NamedTenants,
    Names,
    TopTenants,
)
from async_jobs.adapters.telemetry.measuring import Instrument, Kind
from async_jobs.adapters.telemetry.metrics import CLOSED, SERIES_MAX, MakeTenants, MetricsTelemetry
from async_jobs.adapters.telemetry.otel import OpenTelemetryExporter
from async_jobs.adapters.telemetry.prometheus import PrometheusExporter
from async_jobs.domain import facts, readings
from async_jobs.domain.backlog import TenantShare, UseCaseLoad
from async_jobs.domain.facts import Ending, Fact
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.telemetry import every_fact
from tests.simulation.dice import Dice

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def ids(**changes: Any) -> Any:
    told = {"at": NOW, "job_id": UUID(int=1), "tenant_id": "acme", "use_case": "mail"}
    return {**told, "type": "send", "attempt": 1, **changes}


def parsed(page: bytes) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def measured(told: Iterable[Fact], make_tenants: MakeTenants | None = None) -> Samples:
    """Return what Prometheus sees after some facts, but for counters that are still at zero."""
    exporter = PrometheusExporter(tenants=make_tenants is not None)
    telemetry = MetricsTelemetry(exporter, make_tenants)
    for fact in told:
        telemetry.record(fact)
    return {key: value for key, value in parsed(exporter.page()).items() if value}


def sample(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"async_jobs_{name}", frozenset(labels.items())


# --- the table ----------------------------------------------------------------------------------


def test_every_row_can_be_exported() -> None:
    """Names are their own, buckets grow, and only histograms have any."""
    assert len({each.prometheus_name for each in INSTRUMENTS}) == len(INSTRUMENTS)
    for each in INSTRUMENTS:
        assert each.name.startswith("async_jobs.")
        assert sorted(set(each.buckets)) == list(each.buckets)
        assert bool(each.buckets) is (each.kind is Kind.HISTOGRAM)
        assert bool(each.feeds) is (each.survey is None)
        assert each.help
        assert not each.help.endswith(".")


def test_no_label_tells_one_job_or_worker_apart() -> None:
    """Each value of a label is a series that somebody keeps."""
    labels = {label for each in INSTRUMENTS for label in each.labels}

    assert labels == {*CLOSED, "use_case", "type", "queue", "chore", "event"}


@pytest.mark.parametrize("fact", every_fact("text"), ids=lambda fact: type(fact).__name__)
def test_what_is_read_off_a_fact_has_all_labels(fact: Fact) -> None:
    """As many values as names, and a tenant where one is asked for."""
    for instrument, read in BY_FACT.get(type(fact), ()):
        found = read(fact)
        assert found is None or len(found.labels) == len(instrument.labels)
        assert not instrument.by_tenant or hasattr(fact, "tenant_id")
    for instrument, survey in BY_SURVEY.get(type(fact), ()):
        assert all(len(each.labels) == len(instrument.labels) for each in survey.read(fact))


def test_the_hand_off_of_a_job_is_measured_by_the_tick_alone() -> None:
    """One fact for each would cost a turn more than it tells."""
    assert facts.JobLeased not in BY_FACT


START: dict[str, Any] = {"worker_id": "w", "start_latency": 5 * SECOND, "late_by": -SECOND}


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (
            facts.JobDied(error="x", because=Ending.FAILED, ran_for=2 * SECOND, **ids()),
            {
                sample("jobs_finished_total", use_case="mail", type="send", outcome="dead"): 1,
                sample("attempts_ended_total", use_case="mail", type="send", outcome="failed"): 1,
            },
        ),
        (
            facts.JobDied(error="x", because=Ending.DEADLINE_MISSED, **ids()),
            {sample("jobs_finished_total", use_case="mail", type="send", outcome="expired"): 1},
        ),
        (
            facts.JobDied(error="x", because=Ending.LEASE_EXPIRED, **ids()),
            {sample("jobs_finished_total", use_case="mail", type="send", outcome="dead"): 1},
        ),
        (
            facts.LeaseExpired(claimed=True, worker_id="w", crashes=1, **ids()),
            {
                sample("lease_expired_total", use_case="mail", claimed="true"): 1,
                sample(
                    "attempts_ended_total", use_case="mail", type="send", outcome="lease_expired"
                ): 1,
            },
        ),
        (
            facts.LeaseExpired(claimed=False, worker_id=None, crashes=0, **ids()),
            {sample("lease_expired_total", use_case="mail", claimed="false"): 1},
        ),
        (
            facts.JobCancelled(**ids()),
            {sample("jobs_finished_total", use_case="mail", type="send", outcome="cancelled"): 1},
        ),
        (
            facts.DeadlineMissed(late_by=SECOND, started=False, first=True, **ids()),
            {sample("deadline_missed_total", use_case="mail", started="false", first="true"): 1},
        ),
        (
            facts.JobsPurged(at=NOW, use_case="mail", count=12),
            {sample("jobs_purged_total", use_case="mail"): 12},
        ),
        (
            facts.RowUnreadable(at=NOW, job_id=None, problem="x"),
            {sample("row_unreadable_total"): 1},
        ),
        (
            readings.SlotsTaken(at=NOW, queues=("b", "a"), slots=4, taken=3),
            {
                sample("worker_slots_limit", queue="a,b"): 4,
                sample("worker_slots_used", queue="a,b"): 3,
            },
        ),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Fact) else "",
)
def test_a_fact_is_counted(
    fact: Fact, expected: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
) -> None:
    """In each row that it feeds, and in no other."""
    found = measured([fact])

    assert {k: v for k, v in found.items() if "attempt_duration" not in k[0]} == expected


def test_attainment_is_the_bucket_of_one() -> None:
    """On the deadline is on time, and just behind it is not."""
    used = [0.0, 0.4, 1.0, 1.0000001, 7.0]
    told = [facts.JobStarted(tolerance_used=each, **START, **ids()) for each in used]

    found = measured(told)

    labels = {"use_case": "mail", "first": "true"}
    assert found[sample("start_tolerance_used_bucket", le="1.0", **labels)] == 3
    assert found[sample("start_tolerance_used_count", **labels)] == 5


def test_only_late_starts_are_in_the_histogram_of_lateness() -> None:
    """What was on time would hide how late the others were."""
    late = {**START, "late_by": 3 * SECOND}
    told = [facts.JobStarted(**START, **ids()), facts.JobStarted(**late, **ids())]

    found = measured(told)

    labels = {"use_case": "mail", "first": "true"}
    assert found[sample("start_late_seconds_count", **labels)] == 1
    assert found[sample("start_late_seconds_sum", **labels)] == 3
    assert found[sample("start_latency_seconds_count", **labels)] == 2


def test_a_counter_without_labels_is_there_from_the_start() -> None:
    """Else its first increase is none for who looks at increases."""
    exporter = PrometheusExporter()
    MetricsTelemetry(exporter)

    assert parsed(exporter.page())[sample("row_unreadable_total")] == 0


def test_an_exporter_has_a_registry_of_its_own() -> None:
    """Two of them do not clash, and the application's own metrics stay its own."""
    exporters = [PrometheusExporter(), PrometheusExporter()]

    assert all([each] == list(each.registry._collector_to_names) for each in exporters)
    assert not any("async_jobs" in metric.name for metric in REGISTRY.collect())


# --- surveys ------------------------------------------------------------------------------------


def a_survey(*use_cases: str) -> readings.BacklogSurveyed:
    loads = tuple(UseCaseLoad(name, 1, 2, 3, 4.0, 5, 4, 3, 2.0, 1.0) for name in use_cases)
    return readings.BacklogSurveyed(at=NOW, use_cases=loads)


def shares(*tenants: str) -> readings.SharesSurveyed:
    told = tuple(TenantShare("mail", tenant, 0.25, 0.5) for tenant in tenants)
    return readings.SharesSurveyed(at=NOW, capacity=told)


def test_what_a_survey_leaves_out_is_gone() -> None:
    """A use case that is no more, and all of it where nobody looks any longer."""
    found = measured([a_survey("mail", "labels"), a_survey("labels")])

    assert found[sample("backlog_jobs", use_case="labels", state="overdue")] == 2
    assert found[sample("backlog_seen_timestamp_seconds")] == NOW.timestamp()
    assert not any(("use_case", "mail") in labels for _, labels in found)
    assert measured([a_survey("mail"), a_survey()]) == {}


def test_shares_are_told_of_named_tenants_only() -> None:
    """All others are one; where nobody is named there is nothing to tell, or to look at."""
    told = [shares("acme", "beta", "gamma")]
    found = measured(told, lambda forget: NamedTenants(["acme"]))

    assert found[sample("share_capacity_used", use_case="mail", tenant="acme")] == 0.5
    assert found[sample("share_capacity_used", use_case="mail", tenant="other")] == 1.0
    assert measured(told) == {}
    assert not MetricsTelemetry(PrometheusExporter()).wants(readings.SharesSurveyed)


def test_a_thousand_use_cases_of_a_survey_are_a_hundred_series() -> None:
    """Survey after survey, whatever they are called; the longest time is that of the others."""
    names = [f"use case {n}" for n in range(1_000)]
    found = measured([a_survey(*names), a_survey(*reversed(names))])

    series = [
        labels for name, labels in found if name == "async_jobs_backlog_oldest_overdue_seconds"
    ]
    assert len(series) == NAMES_MAX + 1
    assert found[sample("backlog_oldest_overdue_seconds", use_case=OTHER)] == 4


# --- two exporters, one truth -------------------------------------------------------------------


def some_fact(dice: Dice) -> Fact:
    """Return a fact of any kind, with values and names by chance."""
    name = dice.pick(["mail", "labels", "a\nb", '"', "\\", "\ud800"])
    fact = dice.pick(every_fact(name))
    latency = timedelta(seconds=dice.between(0, 30))
    if isinstance(fact, facts.JobStarted):
        return facts.JobStarted(
            worker_id="w",
            start_latency=latency,
            late_by=latency - timedelta(seconds=10),
            tolerance_used=dice.pick([0.05, 1.0, 2.0, dice.between(0, 3)]),
            first=dice.happens(0.5),
            **ids(use_case=name, tenant_id=f"t{dice.whole(0, 29)}"),
        )
    if isinstance(fact, facts.JobSucceeded):
        return facts.JobSucceeded(
            ran_for=latency, **ids(type=name, tenant_id=f"t{dice.whole(0, 29)}")
        )
    if isinstance(fact, facts.JobDied):
        return facts.JobDied(
            error="x", because=dice.pick(list(Ending)), ran_for=latency, **ids(type=name)
        )
    return fact


def as_prometheus_has_it(reader: InMemoryMetricReader) -> Samples:
    """Return what OpenTelemetry has measured, as samples of Prometheus."""
    by_name = {each.name: each for each in INSTRUMENTS}
    data = reader.get_metrics_data()
    assert data is not None
    found: Samples = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        instrument = by_name[metric.name]
        assert (metric.unit, metric.description) == (instrument.unit, instrument.help)
        name = instrument.prometheus_name
        for point in metric.data.data_points:
            labels = frozenset((k, str(v)) for k, v in (point.attributes or {}).items())
            if isinstance(point, HistogramDataPoint):
                bounds, total = [*map(str, map(float, point.explicit_bounds)), "+Inf"], 0
                for bound, count in zip(bounds, point.bucket_counts, strict=True):
                    total += count
                    found[f"{name}_bucket", labels | {("le", bound)}] = total
                found[f"{name}_count", labels] = point.count
                found[f"{name}_sum", labels] = point.sum
            else:
                found[name, labels] = getattr(point, "value")  # noqa: B009
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tenants", [None, "named", "top"])
def test_both_exporters_tell_the_same(seed: int, tenants: str | None) -> None:
    """Names, labels, buckets and numbers, of facts of every kind."""
    makers: dict[str | None, MakeTenants | None] = {
        None: None,
        "named": lambda forget: NamedTenants(["t1", "t2"]),
        "top": lambda forget: TopTenants(10, forget),
    }
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    told_apart = tenants is not None
    prometheus = PrometheusExporter(tenants=told_apart)
    otel = OpenTelemetryExporter(tenants=told_apart, provider=provider)
    telemetries = [MetricsTelemetry(each, makers[tenants]) for each in (prometheus, otel)]
    dice = Dice(f"facts {seed}")

    for _ in range(1_000):
        fact = some_fact(dice)
        for telemetry in telemetries:
            telemetry.record(fact)

    found = parsed(prometheus.page())
    assert len(found) > 500
    assert found == pytest.approx(as_prometheus_has_it(reader))


# --- bounds -------------------------------------------------------------------------------------


def series_of(exporter: PrometheusExporter, name: str) -> list[Mapping[str, str]]:
    return [dict(labels) for (found, labels) in parsed(exporter.page()) if found == name]


def test_names_from_callers_are_bounded() -> None:
    """The first ones keep their names; what comes later is summed."""
    names = Names(limit=2)

    assert [names.of(each) for each in "abca"] == ["a", "b", OTHER, "a"]


def test_a_flood_of_types_makes_no_more_series_than_may_be() -> None:
    """And not one of the jobs is left out of the sums."""
    exporter = PrometheusExporter()
    telemetry = MetricsTelemetry(exporter)

    for n in range(10_000):
        telemetry.record(facts.JobEnqueued(run_at=NOW, deadline_at=NOW, **ids(type=f"t{n}")))

    series = series_of(exporter, "async_jobs_jobs_enqueued_total")
    assert len(series) == NAMES_MAX + 1
    assert sum(v for (n, _), v in parsed(exporter.page()).items() if "enqueued" in n) == 10_000


def test_names_of_several_labels_make_no_more_series_than_may_be() -> None:
    """A hundred use cases by a hundred types would be ten thousand."""
    exporter = PrometheusExporter()
    telemetry = MetricsTelemetry(exporter)

    for n in range(10_000):
        names = {"use_case": f"u{n % 100}", "type": f"t{n // 100}"}
        telemetry.record(facts.JobRetried(**ids(**names)))

    assert len(series_of(exporter, "async_jobs_jobs_retried_total")) == SERIES_MAX + 1
    assert sum(v for (n, _), v in parsed(exporter.page()).items() if "retried" in n) == 10_000


@pytest.mark.parametrize(("count", "forgets"), [(1_000_000, True), (100_000, False)])
def test_a_million_tenants_make_no_more_series_than_the_cap(count: int, forgets: bool) -> None:
    """Nor more memory, over two hours, whether series can be forgotten or not."""
    exported: set[str] = set()
    most = 0

    def forget(tenant: str) -> bool:
        if forgets:
            exported.discard(tenant)
        return forgets

    tenants = TopTenants(50, forget)
    for n in range(count):
        exported.add(tenants.of(f"t{n}", NOW + n * (2 * 60 * MINUTE / count)))
        if n % 10_000 == 0:
            most = max(most, len(exported))

    assert OTHER in exported
    assert most <= TENANTS_MAX + 1
    assert len(exported) <= TENANTS_MAX + 1
    assert len(tenants._told) <= COUNTED_MAX
    assert len(tenants._named) + len(tenants._chosen) + len(tenants._left_at) <= 3 * TENANTS_MAX


def test_tenants_are_bounded_in_what_is_exported() -> None:
    """All rows by tenant, through the whole of it."""
    exporter = PrometheusExporter(tenants=True)
    telemetry = MetricsTelemetry(exporter, lambda forget: TopTenants(50, forget))
    most = 0

    for n in range(20_000):
        at = NOW + n * SECOND
        told = ids(tenant_id=f"t{n}", at=at)
        telemetry.record(facts.JobStarted(**START, **told))
        telemetry.record(facts.JobSucceeded(ran_for=SECOND, **told))
        if n % 500 == 99:
            found = series_of(exporter, "async_jobs_start_tolerance_used_count")
            most = max(most, len(found))

    assert 50 < most <= TENANTS_MAX + 1


def test_the_tenants_of_whom_most_is_told_are_chosen() -> None:
    """Although thousands of others came first and come in between."""
    tenants = TopTenants(3, lambda tenant: True)
    dice = Dice("tenants")
    called: Counter[str] = Counter()

    for n in range(60_000):
        at = NOW + n * (40 * MINUTE / 60_000)
        big = dice.happens(0.3)
        tenant = f"big{dice.whole(0, 2)}" if big else f"small{dice.whole(0, 4_999)}"
        name = tenants.of(tenant, at)
        if n > 45_000:
            called[name] += 1

    assert set(called) == {"big0", "big1", "big2", OTHER}


def test_a_tenant_makes_way_only_for_a_much_bigger_one_and_keeps_its_series_for_a_while() -> None:
    """Else series would come and go with every minute."""
    forgotten: list[str] = []

    def forget(tenant: str) -> bool:
        forgotten.append(tenant)
        return True

    tenants = TopTenants(1, forget)

    def minute(number: int, **told: int) -> dict[str, str]:
        at = NOW + number * MINUTE
        return {name: [tenants.of(name, at) for _ in range(n)][-1] for name, n in told.items()}

    assert minute(0, acme=10, beta=15) == {"acme": "acme", "beta": OTHER}
    assert minute(1, acme=10, beta=15) == {"acme": "acme", "beta": OTHER}
    minute(2, beta=100)
    assert minute(3, acme=1, beta=100) == {"acme": "acme", "beta": "beta"}
    assert minute(17, acme=1, beta=100) == {"acme": "acme", "beta": "beta"}
    assert forgotten == []
    assert minute(18, acme=1, beta=100) == {"acme": OTHER, "beta": "beta"}
    assert forgotten == ["acme"]


def test_what_is_forgotten_is_gone_and_may_come_again() -> None:
    """From the page, and from what is counted against the bound."""
    exporter = PrometheusExporter(tenants=True)
    telemetry = MetricsTelemetry(exporter, lambda forget: TopTenants(1, forget))

    def start(tenant: str, minute: int) -> None:
        told = ids(tenant_id=tenant, at=NOW + minute * MINUTE)
        telemetry.record(facts.JobStarted(**START, **told))

    start("acme", 0)
    for minute in range(20):
        for _ in range(10):
            start("beta", minute)
    assert b'tenant="acme"' not in exporter.page()
    for minute in range(20, 24):
        for _ in range(100):
            start("acme", minute)

    assert b'tenant="acme"' in exporter.page()
    assert b'tenant="beta"' in exporter.page()


def test_instruments_are_told_apart_by_identity() -> None:
    """They are keys of what is on the path of every job."""
    assert Instrument.__hash__ is object.__hash__
