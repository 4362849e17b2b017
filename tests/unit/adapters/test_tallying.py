"""Statistics: what facts tell, summed as metrics measure it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from async_jobs.adapters.telemetry.instruments import BY_FACT, INSTRUMENTS
from async_jobs.adapters.telemetry.labels import NamedTenants
from async_jobs.adapters.telemetry.tallying import GROUPS_MAX, KEPT, UNTAKEN_MAX, TallyTelemetry
from async_jobs.domain.facts import DeadlineMissed, Fact, JobEnqueued, JobStarted, JobSucceeded
from async_jobs.domain.reporting import job_ids
from async_jobs.domain.tallies import (
    HISTOGRAMS,
    PLACES,
    SIZE,
    TOLERANCES,
    Group,
    floor_of,
    quantile,
)
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.telemetry import every_fact

MINUTE = timedelta(minutes=1)


def enqueued(seconds: float = 0, **fields: str) -> JobEnqueued:
    ids = job_ids(a_job(**fields), at=later(seconds))
    return JobEnqueued(run_at=NOW, deadline_at=NOW, **ids)


def started(used: float, *, first: bool = True) -> JobStarted:
    return JobStarted(
        worker_id="w",
        start_latency=timedelta(seconds=60 * used),
        late_by=timedelta(seconds=60 * (used - 1)),
        tolerance_used=used,
        first=first,
        **job_ids(a_job(), at=NOW),
    )


def total(telemetry: TallyTelemetry) -> list[int]:
    """Return all that was summed, whatever of."""
    batch = telemetry.take()
    return [sum(each) for each in zip(*batch.sums.values(), strict=True)] if batch else []


def test_what_is_kept_is_measured() -> None:
    """Under the names and with the labels of the table of instruments."""
    assert set(KEPT) <= {each.name for each in INSTRUMENTS}
    assert len(PLACES) - len(HISTOGRAMS) + sum(len(b) + 1 for b in HISTOGRAMS.values()) == SIZE


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(every_fact("mail"))))
def test_each_measurement_counts_once(facts: list[Fact]) -> None:
    """A place for each, but for starts again and late starts, which are no miss of their own."""
    telemetry = TallyTelemetry("one")
    expected: Counter[int] = Counter()
    for fact in facts:
        telemetry.record(fact)
        for instrument, read in BY_FACT.get(type(fact), ()):
            measured = read(fact)
            if measured is not None and instrument.name in KEPT:
                place = KEPT[instrument.name](measured)
                expected.update([] if place is None else [place])

    assert Counter(dict(enumerate(total(telemetry)))) == expected


def test_only_first_starts_and_first_misses_count() -> None:
    """On the deadline is on time."""
    telemetry = TallyTelemetry("one")
    ids = job_ids(a_job(), at=NOW)
    for fact in (
        started(1.0),
        started(1.0000001),
        started(0.2, first=False),
        DeadlineMissed(late_by=MINUTE, started=True, **ids),
        DeadlineMissed(late_by=MINUTE, started=False, first=False, **ids),
        DeadlineMissed(late_by=MINUTE, started=False, **ids),
    ):
        telemetry.record(fact)

    sums = total(telemetry)

    first = PLACES["tolerance_used"]
    assert sums[first + TOLERANCES.index(1.0)] == 1
    assert sums[first + TOLERANCES.index(1.1)] == 1
    assert sum(sums[first : first + len(TOLERANCES) + 1]) == 2
    assert sums[PLACES["unstarted"]] == 1


def test_sums_are_by_minute_use_case_tenant_and_type() -> None:
    """A tenant that is not told apart is one of the others, though one be called so."""
    telemetry = TallyTelemetry("one", NamedTenants(["acme"]))
    for fact in (
        enqueued(tenant_id="acme"),
        enqueued(tenant_id="bolt"),
        enqueued(tenant_id="zoo", type="call"),
        enqueued(61, use_case="reports", tenant_id="acme"),
        JobSucceeded(ran_for=MINUTE, **job_ids(a_job(tenant_id="acme"), at=NOW)),
    ):
        telemetry.record(fact)

    batch = telemetry.take()

    assert batch is not None
    minute, next_one = floor_of(NOW, MINUTE), floor_of(later(61), MINUTE)
    assert {group: sums[PLACES["enqueued"]] for group, sums in batch.sums.items()} == {
        Group(minute, "notifications", "acme", "send_email"): 1,
        Group(minute, "notifications", "", "send_email"): 1,
        Group(minute, "notifications", "", "call"): 1,
        Group(next_one, "reports", "acme", "send_email"): 1,
    }


def test_what_is_taken_is_a_batch_of_its_own() -> None:
    """With the next number; nothing is no batch, and takes none."""
    telemetry = TallyTelemetry("one")

    assert telemetry.take() is None
    numbers = []
    for _ in range(2):
        telemetry.record(enqueued())
        batch = telemetry.take()
        assert batch is not None
        numbers.append(batch.number)

    assert telemetry.take() is None
    assert numbers == [1, 2]


def test_a_million_types_make_no_more_groups_than_the_bound() -> None:
    """What comes later is summed by use case alone, and none of it is lost."""
    telemetry = TallyTelemetry("one")
    for number in range(2 * GROUPS_MAX):
        telemetry.record(enqueued(type=f"type {number}", use_case=f"use case {number % 3}"))

    batch = telemetry.take()

    assert batch is not None
    assert len(batch.sums) == GROUPS_MAX + 3
    assert sum(sums[PLACES["enqueued"]] for sums in batch.sums.values()) == 2 * GROUPS_MAX


def test_sums_that_nobody_takes_are_bounded() -> None:
    """As in an outage of days: the first of it is kept."""
    telemetry = TallyTelemetry("one")
    for minute in range(UNTAKEN_MAX + 10):
        telemetry.record(enqueued(60 * minute))

    batch = telemetry.take()

    assert batch is not None
    assert len(batch.sums) == UNTAKEN_MAX


@given(st.lists(st.integers(0, 5), min_size=4, max_size=4), st.floats(0, 1))
def test_a_quantile_is_within_its_bucket(buckets: list[int], part: float) -> None:
    """So that it is wrong by the width of one at most; None only where there are no values."""
    bounds = (1.0, 2.0, 4.0)
    values = [
        bound for bound, count in zip((*bounds, 4.0), buckets, strict=True) for _ in range(count)
    ]

    found = quantile(part, buckets, bounds)

    if not values or not part:
        assert found is None
        return
    assert found is not None
    upper = values[max(0, -int(-part * len(values) // 1) - 1)]
    lower = {1.0: 0.0, 2.0: 1.0, 4.0: 2.0}[upper]
    assert lower <= found <= upper or found == bounds[-1]
