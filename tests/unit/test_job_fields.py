"""A job's fields are listed once, in `Job`; each other place that lists them agrees with it.

Whoever adds a field meets here, by name, every place that has to follow.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, replace
from datetime import timedelta
from functools import partial
from importlib import resources
from typing import Any, Final, NamedTuple, TypeAlias, cast

import asyncpg
import pytest

from async_jobs.adapters.http import wire
from async_jobs.adapters.postgres import columns, rows
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain import enqueue
from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import (
    CHANGING,
    LASTING,
    AttemptError,
    EnqueueJobRequest,
    Job,
    JobStatus,
    Phase,
)
from async_jobs.domain.lifecycle import (
    TRANSITIONS,
    Change,
    Claimed,
    EventType,
    Fence,
    Leased,
    SetAside,
    Succeeded,
)
from async_jobs.entrypoints.cli import jobs as commands
from async_jobs.entrypoints.http import bodies
from async_jobs.entrypoints.http.openapi import described, schemas
from async_jobs.testing.builders import SimpleLimits, a_job, a_use_case, an_id, later
from async_jobs.testing.contracts.events import EVENTS

FIELDS: Final = tuple(each.name for each in fields(Job))
ASKED: Final = tuple(each.name for each in fields(EnqueueJobRequest))

# No such job exists: each field holds what no event and no enqueue gives it by itself.
SPECIMEN: Final = Job(
    id=an_id(),
    tenant_id="acme",
    use_case="notifications",
    type="send_email",
    queue="slow",
    status=JobStatus.DEAD,
    payload={"to": "a@b.example"},
    run_at=later(1),
    delay_tolerance=timedelta(seconds=2.5),
    deadline_at=later(3),
    priority=3,
    attempts=2,
    max_attempts=4,
    backoff_policy=BackoffPolicy(type=BackoffType.LINEAR, jitter=0.25),
    lease_expires_at=later(4),
    last_error="it failed",
    dedupe_key="welcome",
    enqueue_failed=True,
    created_at=later(5),
    updated_at=later(6),
    lease_seq=7,
    started_at=later(8),
    worker_id="worker-1",
    cancel_requested=True,
    dispatches=9,
    crashes=1,
    finished_at=later(10),
    errors=(AttemptError(attempt=1, at=later(11), error="it failed"),),
    headers={"trace": "1"},
    labels={"order": "7"},
    result=[1, None],
    first_deadline_at=later(12),
    first_started_at=later(13),
)
REQUEST: Final = EnqueueJobRequest(
    **{name: getattr(SPECIMEN, name) for name in ASKED if name != "run_at"}, run_at=later(20)
)


# The row of it, as the database gives it back.
ROW: Final = {
    name: rows._WRITTEN[name](SPECIMEN) if name in rows._WRITTEN else getattr(SPECIMEN, name)
    for name in FIELDS
}
LIMITS: Final = SimpleLimits({SPECIMEN.use_case: a_use_case(queue=SPECIMEN.queue)})


# --- What places say -------------------------------------------------------------------------


def statement(name: str) -> str:
    """Return a statement without its comments."""
    return re.sub(r"--.*", "", sql(name))


def schema() -> str:
    """Return the schema of a new database, without its comments."""
    text = (resources.files("async_jobs.adapters.postgres") / "schema.sql").read_text("utf-8")
    return re.sub(r"--.*", "", text)


def found(pattern: str, text: str) -> str:
    """Return what the one group of the pattern finds."""
    match = re.search(pattern, text, re.DOTALL)
    assert match is not None, f"there is no {pattern}"
    return match[1]


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list."""
    return tuple(re.findall(r"\w+", text))


def column_types() -> Mapping[str, str]:
    """Return the columns of the jobs table, with their types."""
    table = found(r"CREATE TABLE jobs \((.*?)\n\) WITH", schema())
    return dict(re.findall(r"^    ([a-z]\w*)\s+([a-z]\w*)", table, re.MULTILINE))


def inserted(text: str) -> tuple[str, ...]:
    """Return the columns of which new rows get values."""
    return names(found(r"INSERT INTO jobs \(([^)]*)\)", text))


def assigned(name: str) -> set[str]:
    """Return the columns that a statement sets."""
    changes = found(r"UPDATE jobs AS j SET(.*?)\bFROM\b", statement(name))
    return set(re.findall(r"(?:^|,)\s*(\w+) = ", changes))


def changed_by(event: EventType) -> set[str]:
    """Return the fields that an event changes, be the job claimed or not."""
    (happens, *_) = (each for _, each in EVENTS if type(each) is event)
    (row, *_) = (row for (_, each), row in TRANSITIONS.items() if each is event)
    changed: set[str] = set()
    fresh = replace(SPECIMEN, first_deadline_at=None, first_started_at=None)
    for job in (SPECIMEN, replace(SPECIMEN, started_at=None), fresh):
        after = row.does(job, happens, later(30))
        changed |= {name for name in FIELDS if getattr(after, name) != getattr(job, name)}
    return changed


def lists_of_an_event(name: str, event: EventType) -> tuple[set[str], set[str]]:
    """Return what an event changes, and what a statement sets that carries out just that."""
    return changed_by(event), assigned(name) - {"lane"}


def checked() -> Iterator[str]:
    """Yield the fields of a request that are checked: no field may hold just anything."""
    for name in ASKED:
        try:
            enqueue.check_request(replace(REQUEST, **{name: cast("Any", object())}))
        except InvalidJobError as error:
            yield error.field


def new_job() -> Job:
    """Return what becomes of the request."""
    return enqueue.new_job(REQUEST, LIMITS, now=later(15), id=an_id())


def read_of_its_lease() -> Mapping[str, object]:
    """Return what is read of a row that a claim's answer leaves out."""
    return rows._of_a_lease(cast("asyncpg.Record", ROW))


def read_whole() -> dict[str, object]:
    """Return all that is read of a row."""
    return {**rows._beside_its_lease(cast("asyncpg.Record", ROW)), **read_of_its_lease()}


class Asked(dict[str, Any]):
    """A record that knows what it was asked for."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__(record)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def read_of_a_record() -> set[str]:
    """Return what is read of a record."""
    record = Asked(wire.record_of(SPECIMEN))
    wire.job_of(record)
    return record.names


def without_default(of: type[Any]) -> set[str]:
    """Return the fields that have to be given."""
    return {
        each.name
        for each in fields(of)
        if each.default is MISSING and each.default_factory is MISSING
    }


def in_json(fields: Iterable[str]) -> set[str]:
    """Return how fields are called in JSON."""
    return {"delay_tolerance_seconds" if name == "delay_tolerance" else name for name in fields}


# --- The places ------------------------------------------------------------------------------

Lists: TypeAlias = Callable[[], tuple[Iterable[str], Iterable[str]]]
"""Returns what a place has to list, and what it lists."""

OF_THE_DOMAIN: Mapping[str, Lists] = {
    "domain/job.py: LASTING": lambda: (set(FIELDS) - set(CHANGING), LASTING),
    "domain/enqueue.py: check_request": lambda: (ASKED, checked()),
    "domain/enqueue.py: new_job": lambda: (FIELDS, vars(new_job())),
    "domain/enqueue.py: _NEVER_RUN": lambda: (
        set(CHANGING) - {"updated_at", *columns._OF_NEW_ONES},
        enqueue._NEVER_RUN,
    ),
    "domain/effects.py": lambda: (
        CHANGING,
        set[str]().union(*(changed_by(event) for _, event in TRANSITIONS)),
    ),
    "testing/builders.py: a_job": lambda: (FIELDS, vars(a_job())),
}

INSERTED = {*columns.NEW, "updated_at", "lane"}
OF_ROWS: Mapping[str, Lists] = {
    "postgres/schema.sql: jobs": lambda: ({*FIELDS, "lane"}, column_types()),
    "postgres/schema.sql: async_jobs_enqueue": lambda: (INSERTED, inserted(schema())),
    "sql/add_job.sql": lambda: (INSERTED, inserted(statement("add_job"))),
    "sql/add_jobs.sql": lambda: (INSERTED, inserted(statement("add_jobs"))),
    "sql/save_jobs.sql": lambda: (columns.SAVED, assigned("save_jobs")),
    "postgres/columns.py: JSON": lambda: (
        [name for name, type in column_types().items() if type.startswith("json")],
        columns.JSON,
    ),
    "postgres/rows.py: what is read": lambda: (FIELDS, read_whole()),
    "postgres/rows.py: _of_a_lease": lambda: (columns.KNOWN_AT_CLAIM, read_of_its_lease()),
    "postgres/rows.py: claimed_fields": lambda: (
        columns.KNOWN_AT_CLAIM,
        rows.claimed_fields(Claimed("worker-2", later(60)), later(30)),
    ),
    "postgres/rows.py: _CHECKS": lambda: ({*columns.JSON, "status"}, rows._CHECKS),
    "sql/lease_jobs.sql": partial(lists_of_an_event, "lease_jobs", Leased),
    "sql/claim_jobs.sql": partial(lists_of_an_event, "claim_jobs", Claimed),
    "sql/claim_handoffs.sql": partial(lists_of_an_event, "claim_handoffs", Claimed),
    "sql/succeed_jobs.sql": partial(lists_of_an_event, "succeed_jobs", Succeeded),
    "sql/set_aside.sql": partial(lists_of_an_event, "set_aside", SetAside),
}

RECORD = in_json(FIELDS) | {"phase"}
BODY = in_json(ASKED)
OF_JSON: Mapping[str, Lists] = {
    "http/wire.py: record_of": lambda: (RECORD, wire.record_of(SPECIMEN)),
    "http/wire.py: job_of": lambda: (in_json(FIELDS), read_of_a_record()),
    "http/wire.py: body_of": lambda: (BODY, wire.body_of(REQUEST)),
    "http/bodies.py: request_of": lambda: (BODY, bodies.FIELDS),
    "openapi/schemas.py: JOB": lambda: (RECORD, schemas.JOB["properties"]),
    "openapi/schemas.py: JOB, required": lambda: (RECORD, schemas.JOB["required"]),
    "openapi/schemas.py: ENQUEUE_REQUEST": lambda: (BODY, schemas.ENQUEUE_REQUEST["properties"]),
    "openapi/schemas.py: ENQUEUE_REQUEST, required": lambda: (
        without_default(EnqueueJobRequest),
        schemas.ENQUEUE_REQUEST["required"],
    ),
    "openapi/described.py: a job": lambda: (RECORD, described._JOB),
    "openapi/described.py: a request": lambda: (BODY, described._REQUEST_IN_FULL),
    "cli/jobs.py: enqueue": lambda: (
        set(ASKED) - {"backoff_policy"},  # which has no option
        re.findall(r"^ {12}(\w+)=", inspect.getsource(commands.enqueue), re.MULTILINE),
    ),
}

PLACES = {**OF_THE_DOMAIN, **OF_ROWS, **OF_JSON}


@pytest.mark.parametrize("where", PLACES)
def test_a_place_lists_the_fields_there_are(where: str) -> None:
    """None is forgotten, and none is there that is none."""
    wanted, listed = map(set, PLACES[where]())

    missing, unknown = wanted - listed, listed - wanted

    assert (where, missing, unknown) == (where, set(), set())


# --- What they hold --------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(FIELDS) - without_default(Job)))
def test_the_specimen_shows_a_field_that_is_lost(name: str) -> None:
    """It holds something else than what stands for a field that nobody gives."""
    bare = {each: getattr(SPECIMEN, each) for each in without_default(Job)}

    assert getattr(SPECIMEN, name) != getattr(Job(**bare), name)


def test_a_row_is_read_as_the_job_that_was_written() -> None:
    """Each field from its own column."""
    assert read_whole() == vars(SPECIMEN)


def test_a_record_is_read_as_the_job_that_was_written() -> None:
    """Each field from its own member."""
    assert wire.job_of(json.loads(json.dumps(wire.record_of(SPECIMEN)))) == SPECIMEN


def test_a_body_is_read_as_the_request_that_was_written() -> None:
    """Each field from its own member."""
    assert bodies.request_of(json.loads(json.dumps(wire.body_of(REQUEST)))) == REQUEST


def test_a_new_job_has_what_was_asked_for() -> None:
    """Each field of the request in its own."""
    job = new_job()

    assert {name: getattr(job, name) for name in ASKED} == {
        name: getattr(REQUEST, name) for name in ASKED
    }


# --- What matches by its place ---------------------------------------------------------------


class Parameters(NamedTuple):
    """Arrays that a statement takes side by side: the names it gives them, their numbers, types."""

    names: tuple[str, ...]
    numbers: list[int]
    types: dict[str, str]


def unnested(name: str, alias: str) -> Parameters:
    """Return the arrays of a statement that are called `alias` together."""
    text = statement(name)
    called = names(found(rf"\) AS {alias} \(([^)]*)\)", text))
    arrays = found(rf"unnest\(([^()]*)\) AS {alias} ", text)
    typed = re.findall(r"\$(\d+)::(\w+)\[\]", arrays)
    types = [type for _, type in typed]
    return Parameters(
        called, [int(number) for number, _ in typed], dict(zip(called, types, strict=True))
    )


def sent_as(name: str) -> str:
    """Return the type as which a column's values are sent."""
    return "text" if name in columns.JSON else column_types()[name]


def as_column(name: str) -> str:
    """Return the cast from the text that is sent of a JSON column."""
    return f"::{column_types()[name]}" if name in columns.JSON else ""


def test_a_new_job_is_sent_in_the_order_of_add_job() -> None:
    """The value of each column is the parameter that `new_values` puts there."""
    text = statement("add_job")
    values = re.split(r",\s+", found(r"\)\s+SELECT\s+(.*?),\s+CASE", text))
    of_columns = dict(zip(inserted(text), values, strict=False))

    assert of_columns == {
        name: f"${columns.NEW.index(name) + 1}::{sent_as(name)}{as_column(name)}"
        for name in columns.NEW
    } | {"updated_at": of_columns["created_at"]}
    assert dict(zip(columns.NEW, rows.new_values(SPECIMEN), strict=True)) == {
        name: ROW[name] for name in columns.NEW
    }


def test_new_jobs_are_sent_in_the_order_of_add_jobs() -> None:
    """Each array has the name of its column; a value that all have in common is of the same."""
    arrays = unnested("add_jobs", "fresh")
    text = statement("add_jobs")
    alone = re.findall(r"coalesce\((?:fresh\.)?(\w+), \(\$(\d+)::(\w+)\[\]", text)
    alone += [
        (name, number, type)
        for number, type, name in re.findall(
            r"THEN \(\$(\d+)::(\w+)\[\]\)\[1\] ELSE (\w+) END", text
        )
    ]

    assert arrays.names == columns.NEW
    assert arrays.numbers == [*range(1, len(columns.NEW) + 1)]
    assert arrays.types == {name: sent_as(name) for name in columns.NEW}
    assert {name: (int(number), type) for name, number, type in alone} == {
        name: (number, arrays.types[name])
        for number, name in enumerate(columns.NEW, 1)
        if name != "id"  # no two jobs have it in common
    }
    assert rows.new_columns([SPECIMEN]) == [[value] for value in rows.new_values(SPECIMEN)]


def test_a_change_is_sent_in_the_order_of_save_jobs() -> None:
    """The arrays have the names of their columns; those of the fence come first."""
    fence = Fence(7, Phase.CLAIMED, later(1), "worker-2")
    expected = {
        "id": SPECIMEN.id,
        "fence_seq": 7,
        "fence_status": "running",
        "fence_claimed": True,
        "fence_flagged": False,
        "fence_lease_end": later(1),
        "fence_worker": "worker-2",
    }

    arrays = unnested("save_jobs", "c")
    sent = rows.save_columns([Change(fence, SPECIMEN)])

    assert arrays.names == (*expected, *columns.SAVED)
    assert arrays.numbers == [*range(1, len(sent) + 1)]
    assert {name: arrays.types[name] for name in columns.SAVED} == {
        name: sent_as(name) for name in columns.SAVED
    }
    assert dict(zip(arrays.names, [value for (value,) in sent], strict=True)) == {
        **expected,
        **{name: ROW[name] for name in CHANGING},
        "lane": None,
    }


@pytest.mark.parametrize("name", columns.SAVED)
def test_a_column_is_set_to_its_own_value(name: str) -> None:
    """Not to that of another one of the same type."""
    cast_to = "::json" if name in columns.JSON else ""

    assert re.search(rf"\b{name} = c\.{name}{cast_to}[,\s]", statement("save_jobs"))
