"""The OpenAPI document is whole, true, and the one that is kept in the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi import FastAPI

from async_jobs.adapters.http.wire import PROBLEM_MEDIA_TYPE, Problem, page_record_of, record_of
from async_jobs.domain.job import JobPage, UnreadableJob
from async_jobs.entrypoints.http.bodies import FIELDS, order_of, request_of, requests_of
from async_jobs.entrypoints.http.wanted import bulk_of, started_of
from async_jobs.testing.builders import a_job, an_id
from async_jobs.testing.contracts.specimens import JOBS
from tests.unit.api.callers import a_body
from tools import generated_files, openapi_document

REPOSITORY = Path(__file__).parents[3]
DOCUMENT: dict[str, Any] = json.loads(openapi_document.document())
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for path in DOCUMENT["paths"].values()
    for operation in path.values()
}
OF_JOBS = {name: each for name, each in OPERATIONS.items() if not name.startswith("health")}
IN_JSON = "application/json"
ANYWHERE = {"401", "403", "422", "500", "503"}


def validator(schema: dict[str, Any]) -> Any:
    """Return what checks values against a schema of the document."""
    return jsonschema_rs.Draft202012Validator(
        schema | {"components": DOCUMENT["components"]}, validate_formats=True
    )


def component(name: str) -> Any:
    """Return what checks values against one of the named schemas."""
    return validator({"$ref": f"#/components/schemas/{name}"})


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every body that the document describes."""
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            for media_type, content in response["content"].items():
                yield f"{name} {status} {media_type}", content
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{name} {media_type}", content


CONTENTS = dict(contents())


def test_every_operation_has_a_stable_name() -> None:
    """Generated clients call them so."""
    assert set(OF_JOBS) == {
        "enqueue_job",
        "enqueue_jobs",
        "foresee_job",
        "get_job",
        "list_jobs",
        "cancel_job",
        "retry_job",
        "explain_job",
        "job_history",
        "explain_waiting",
        "status",
        "attainment",
        "search_jobs",
        "error_groups",
        "controls",
        "put_control",
        "preview_control",
        "end_control",
        "revert_control",
        "audit",
        "preview_bulk",
        "start_bulk",
        "bulk_operations",
        "get_bulk",
        "stop_bulk",
        "undo_bulk",
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_described(name: str) -> None:
    """In a line, and in sentences."""
    operation = OPERATIONS[name]

    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert operation["tags"]
    for parameter in operation.get("parameters", []):
        assert parameter["description"]


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("enqueue_job", {"200", "201", "408", "409", "413", "415", "429"}),
        ("enqueue_jobs", {"200", "201", "408", "409", "413", "415", "429"}),
        ("foresee_job", {"200", "408", "413", "415"}),
        ("get_job", {"200", "404"}),
        ("list_jobs", {"200"}),
        ("cancel_job", {"200", "404", "409"}),
        ("retry_job", {"200", "404", "409"}),
        ("explain_job", {"200", "404"}),
        ("explain_waiting", {"200"}),
        ("status", {"200"}),
        ("attainment", {"200"}),
        ("search_jobs", {"200", "408", "413", "415"}),
        ("error_groups", {"200"}),
        ("controls", {"200"}),
        ("put_control", {"200", "408", "409", "413", "415"}),
        ("preview_control", {"200", "408", "413", "415"}),
        ("end_control", {"200", "404", "409"}),
        ("revert_control", {"200", "404", "408", "409", "413", "415"}),
        ("audit", {"200"}),
        ("preview_bulk", {"200", "408", "413", "415"}),
        ("start_bulk", {"200", "404", "408", "413", "415"}),
        ("bulk_operations", {"200"}),
        ("get_bulk", {"200", "404"}),
        ("stop_bulk", {"200", "404", "408", "413", "415"}),
        ("undo_bulk", {"200", "404", "408", "413", "415"}),
    ],
)
def test_every_status_is_documented(name: str, statuses: set[str]) -> None:
    """Each error as the problem document that it is."""
    responses = OPERATIONS[name]["responses"]

    assert set(responses) == statuses | ANYWHERE
    for status, response in responses.items():
        content = [IN_JSON if status < "300" else PROBLEM_MEDIA_TYPE]
        if (name, status) == ("search_jobs", "200"):
            content.append("application/x-ndjson")
        assert list(response["content"]) == content


@pytest.mark.parametrize("name", OF_JOBS)
def test_every_operation_asks_for_the_token(name: str) -> None:
    """By the header that it is sent in."""
    assert OF_JOBS[name]["security"] == [{"token": []}]
    scheme = DOCUMENT["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["in"]) == ("apiKey", "header")
    assert scheme["name"] == "X-Async-Jobs-Token"


@pytest.mark.parametrize("place", CONTENTS)
def test_every_example_fits_its_schema(place: str) -> None:
    """There is one for every body, and it is valid."""
    content = CONTENTS[place]
    examples = [each["value"] for each in content.get("examples", {}).values()]
    examples += [content["example"]] if "example" in content else []

    assert examples
    for example in examples:
        validator(content["schema"]).validate(example)


def test_the_examples_of_requests_are_taken() -> None:
    """By the code, not only by the schema."""
    (one, many) = (OPERATIONS[name]["requestBody"] for name in ("enqueue_job", "enqueue_jobs"))

    for example in one["content"][IN_JSON]["examples"].values():
        request_of(example["value"])
    for example in many["content"][IN_JSON]["examples"].values():
        requests_of(example["value"])
    order = OPERATIONS["put_control"]["requestBody"]
    for example in order["content"][IN_JSON]["examples"].values():
        order_of(example["value"])
    for name, read in (("preview_bulk", bulk_of), ("start_bulk", started_of)):
        for example in OPERATIONS[name]["requestBody"]["content"][IN_JSON]["examples"].values():
            read(example["value"])


def test_the_schema_has_the_fields_that_the_code_takes() -> None:
    """Those and no others."""
    schema = DOCUMENT["components"]["schemas"]["EnqueueJobRequest"]

    assert tuple(schema["properties"]) == FIELDS
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("fields", JOBS.values(), ids=JOBS.keys())
def test_every_job_fits_its_schema(fields: dict[str, Any]) -> None:
    """At its bounds too."""
    job = a_job(**fields)

    component("Job").validate(record_of(job))
    component("JobPage").validate(page_record_of(JobPage((job,), an_id())))


def test_a_page_with_an_unreadable_row_fits_its_schema() -> None:
    """As the jobs beside it."""
    row = UnreadableJob(an_id(), "acme", "notifications", "pending", "corrupt")

    component("JobPage").validate(page_record_of(JobPage((a_job(),), None, (row,))))


def test_every_type_of_problem_that_a_route_has_is_described() -> None:
    """With the members of its own, and by its stable name."""
    described = {
        schema["properties"]["type"]["const"]
        for name, schema in DOCUMENT["components"]["schemas"].items()
        if name.endswith("Problem") and name != "FieldProblem"
    }

    assert described == set(Problem) - {Problem.NO_SUCH_ROUTE, Problem.METHOD_NOT_ALLOWED}


@pytest.mark.parametrize(
    "change",
    [
        {"priority": 32_768},
        {"tenant_id": ""},
        {"tenant_id": "a\n"},
        {"run_at": "soon"},
        {"unknown": 1},
        {"id": "1"},
        {"max_attempts": "5"},
        {"headers": {"a": 1}},
        {"backoff_policy": {"jitter": 2}},
        {"payload": []},
        {"delay_tolerance_seconds": -1},
    ],
    ids=str,
)
def test_the_schema_has_the_bounds(change: dict[str, Any]) -> None:
    """A generated client refuses what the API would."""
    schema = component("EnqueueJobRequest")

    assert schema.is_valid(a_body())
    assert not schema.is_valid(a_body(**change))


def test_nothing_of_the_framework_shows() -> None:
    """Its own error documents are never sent."""
    assert "HTTPValidationError" not in openapi_document.document()
    assert "ValidationError" not in DOCUMENT["components"]["schemas"]


async def test_the_document_is_the_one_that_is_served(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    """Asking for it twice changes nothing."""
    served = (await client.get("/openapi.json")).json()

    assert served == DOCUMENT == app.openapi()


# --- The file --------------------------------------------------------------------------------


def test_the_file_in_this_repository_is_up_to_date() -> None:
    """What is committed is what the routes say."""
    assert openapi_document.main(["--check"], root=REPOSITORY) == 0


@pytest.mark.parametrize("kept", [None, "{}\n"])
def test_a_stale_file_is_named_and_then_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: str | None
) -> None:
    """A check changes nothing; without it the file is mended, and the check passes."""
    (tmp_path / "docs").mkdir()
    path = tmp_path / "docs" / "openapi.json"
    if kept is not None:
        path.write_text(kept, encoding="utf-8")

    stale = openapi_document.main(["--check"], root=tmp_path)
    before = path.read_text(encoding="utf-8") if path.exists() else None
    written = openapi_document.main([], root=tmp_path)
    checked = openapi_document.main(["--check"], root=tmp_path)

    shown = capsys.readouterr()
    assert (stale, written, checked) == (1, 0, 0)
    assert before == kept
    assert openapi_document.COMMAND in shown.err
    assert shown.out == "wrote docs/openapi.json\ndocs/openapi.json is up to date\n"


def test_outside_of_a_clone_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, without a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generated_files, "__file__", str(tmp_path / "a/b/generated.py"))

    assert openapi_document.main([]) == 1
    assert capsys.readouterr().err.startswith("error: ")
