"""Filters: what they refuse, what they are as JSON, and which ids they bound."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import (
    CLOCKS_DIFFER,
    JobQuery,
    Span,
    check_query,
    check_window,
    id_bounds,
    query_of,
    query_record_of,
)
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.catalogs import ONE_CONDITION, QUERIES, the_jobs

SINCE = Span(since=later(-3_600))


@given(query=QUERIES)
def test_a_query_comes_back_from_json_as_it_was(query: JobQuery) -> None:
    """Through text, as it is sent and as it is kept."""
    assert query_of(json.loads(json.dumps(query_record_of(query)))) == query


def test_a_query_that_says_nothing_is_an_empty_object() -> None:
    """And means every job."""
    assert query_record_of(JobQuery()) == {}
    assert all(JobQuery().matches(job) for job, _ in the_jobs())


def test_every_condition_is_searched_for_alone() -> None:
    """A condition that no contract's query has would be one that no adapter is held to."""
    asked = {name for query in ONE_CONDITION for name in query_record_of(query)}

    assert asked == {each.name for each in fields(JobQuery)} - {"ids"}


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ([], "filter"),
        ({"usecase": "a"}, "filter.usecase"),
        ({"ids": "x"}, "ids"),
        ({"ids": ["x"]}, "ids"),
        ({"ids": []}, "ids"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"tenant_id": 7}, "tenant_id"),
        ({"use_cases": "mail"}, "use_cases"),
        ({"types": ["a\x00"]}, "types"),
        ({"queues": [f"q{number}" for number in range(51)]}, "queues"),
        ({"statuses": ["asleep"]}, "statuses"),
        ({"dedupe_key": "x" * 201}, "dedupe_key"),
        ({"trace_id": "0AF7651916CD43DD8448EB211C80319C"}, "trace_id"),
        ({"created": "yesterday"}, "created"),
        ({"created": {"from": "2030-01-01T00:00:00Z"}}, "created"),
        ({"created": {"since": "2030-01-01T00:00:00"}}, "created.since"),
        ({"run_at": {"until": "0001-01-01T00:00:00+14:00"}}, "run_at.until"),
        (
            {"finished": {"since": "2030-01-02T00:00:00Z", "until": "2030-01-01T00:00:00Z"}},
            "finished.until",
        ),
        ({"attempts_min": True}, "attempts_min"),
        ({"attempts_min": 3, "attempts_max": 2}, "attempts_max"),
        ({"error_group": "' OR true"}, "error_group"),
        ({"payload_text": "x"}, "payload_text"),
        ({"error_text": "a\x00b"}, "error_text"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(record: Any, field: str) -> None:
    """Nothing of it is ignored: a mistyped condition must not mean every job."""
    with pytest.raises(InvalidJobError) as refused:
        query_of(record)

    assert refused.value.field == field


@pytest.mark.parametrize("text", ["payload_text", "error_text"])
def test_what_no_index_knows_is_looked_for_within_a_window(text: str) -> None:
    """A tenant or a use case, and since when; unless other conditions name the jobs."""
    needle: dict[str, Any] = {text: "needle"}
    for beside in (
        {"tenant_id": "acme", "created": SINCE},
        {"use_cases": frozenset({"reports"}), "created": SINCE},
        {"ids": frozenset({an_id()})},
        {"error_group": "0" * 16},
    ):
        check_window(check_query(JobQuery(**needle, **beside)))
    for lacking in ({}, {"tenant_id": "acme"}, {"created": SINCE}):
        with pytest.raises(InvalidJobError, match=text):
            check_window(JobQuery(**needle, **lacking))


def test_when_jobs_were_created_bounds_their_ids() -> None:
    """By a day more on both sides, for whoever makes ids by a clock of its own."""
    query = JobQuery(created=Span(since=NOW, until=later(60)))
    bounds = id_bounds(query)
    assert bounds is not None
    first, last = bounds

    for at in (NOW, later(59), NOW - CLOCKS_DIFFER, later(60) + CLOCKS_DIFFER):
        assert first <= an_id(at) <= last
    for at in (NOW - timedelta(days=2), NOW + timedelta(days=2)):
        assert not first <= an_id(at) <= last


def test_no_instant_is_too_early_or_too_late_for_an_id() -> None:
    """Ids count from 1970 on, and a page may begin where there is nothing left."""
    long = Span(since=datetime(1000, 1, 1, tzinfo=UTC), until=datetime(8999, 1, 1, tzinfo=UTC))

    assert id_bounds(JobQuery(created=long)) is not None
    assert id_bounds(JobQuery(), before=UUID(int=0)) is None


def test_a_span_holds_its_beginning_and_not_its_end() -> None:
    """So that neighbouring spans share no job; what has no instant is in none."""
    span = Span(since=NOW, until=later(60))

    assert [span.holds(at) for at in (later(-1), NOW, later(59), later(60))] == [
        False,
        True,
        True,
        False,
    ]
    assert not span.holds(None)
