"""Whatever a caller sends is refused by its path, soon, and with nothing kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from async_jobs.adapters.http.wire import TOKEN_HEADER, Problem
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.http.reading import BATCH_BYTES_MAX, JOB_BYTES_MAX
from async_jobs.testing.builders import an_id
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, Unread, a_body, invalid_field, problem_in

ENQUEUE, BATCH = "/jobs/enqueue", "/jobs/enqueue-batch"
JSON = {"content-type": "application/json"}
SECRET = "s3cret-value"


@pytest.fixture(autouse=True)
async def nothing_was_kept(system: MemorySystem) -> AsyncIterator[None]:
    """However a test here ends, there is no job after it."""
    yield
    assert await system.jobs() == []


async def sent(client: httpx.AsyncClient, body: str | bytes, path: str = ENQUEUE) -> httpx.Response:
    """Send a body as it stands, said to be JSON."""
    content = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    return await client.post(path, content=content, headers=JSON)


def written(**overrides: str) -> str:
    """Return a body of which some values are already written."""
    fields = {name: json.dumps(value) for name, value in a_body().items()} | overrides
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


# --- JSON ------------------------------------------------------------------------------------

NOT_JSON: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "body"),
    "blanks": (b" \n\t", "body"),
    "half": (written().encode()[:-1], "body"),
    "two": (written().encode() * 2, "body"),
    "a comment": (b"{} // done", "body"),
    "single quotes": (b"{'a': 1}", "body"),
    "a trailing comma": (b'{"a": 1,}', "body"),
    "a raw control character": (b'{"a": "\n"}', "body"),
    "a byte order mark": (b"\xef\xbb\xbf" + written().encode(), "body"),
    "UTF-16": (written().encode("utf-16"), "body"),
    "UTF-32": (written().encode("utf-32-be"), "body"),
    "Latin-1": (written(type='"ü"').encode("latin-1"), "body"),
    "an encoded surrogate": (written(type='"\ud800"').encode("utf-8", "surrogatepass"), "body"),
    "an overlong NUL": (written(type='"?"').encode().replace(b"?", b"\xc0\x80"), "body"),
    "an array": (b"[]", "body"),
    "a string": (b'"{}"', "body"),
    "a number": (b"1", "body"),
    "null": (b"null", "body"),
    "not a number": (b"NaN", "body"),
    "100,000 arrays": (b"[" * 100_000, "body"),
    "100,000 objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "body"),
    "a deep payload": (written(payload='{"a":' * 100_000 + "1" + "}" * 100_000).encode(), "body"),
    "a field twice": (written().encode()[:-1] + b', "type": "b"}', "type"),
    "a field twice, inside": (
        written(payload='{"a": [1, {"b": 1, "b": 2}]}').encode(),
        "payload.a[1].b",
    ),
    "a field twice, thrown away": (b'{"a": {"b": 1, "b": 2}, "c": 1, "a": 3}', "a"),
}


@pytest.mark.parametrize(("body", "field"), NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_what_is_no_json_object_is_refused(
    client: httpx.AsyncClient, body: bytes, field: str
) -> None:
    """By one rule for every parser's weakness."""
    assert invalid_field(await sent(client, body)) == field


HOSTILE_VALUES: dict[str, tuple[str, str]] = {
    "not a number": ("NaN", ""),
    "infinity": ("Infinity", ""),
    "minus infinity": ("-Infinity", ""),
    "a number beyond a float": ("1e400", ""),
    "an integer beyond 64 bits": (str(2**63), ""),
    "an integer of 5,000 digits": ("9" * 5_000, ""),
    "a negative one of 5,000 digits": ("-" + "9" * 5_000, ""),
    "NUL": (r'"a\u0000b"', ""),
    "a lone surrogate": (r'"\ud800"', ""),
    "a lone low surrogate": (r'"\udc00\ud800"', ""),
    "NUL in a key": (r'{"\u0000": 1}', " (a key)"),
    "a lone surrogate in a key": (r'{"\udfff": 1}', " (a key)"),
}


@pytest.mark.parametrize(("value", "place"), HOSTILE_VALUES.values(), ids=HOSTILE_VALUES.keys())
async def test_what_no_store_can_keep_is_refused_by_its_path(
    client: httpx.AsyncClient, value: str, place: str
) -> None:
    """Anywhere in a payload, and in a payload of a batch."""
    body = written(payload=f'{{"items": [0, {{"name": {value}}}]}}')

    one = await sent(client, body)
    many = await sent(client, f'{{"jobs": [{written()}, {body}]}}', BATCH)

    assert invalid_field(one) == f"payload.items[1].name{place}"
    assert invalid_field(many) == f"jobs[1].payload.items[1].name{place}"


async def test_nesting_is_refused_where_it_passes_the_bound(client: httpx.AsyncClient) -> None:
    """32 levels, the payload's own included."""
    deep: Any = 1
    for _ in range(32):
        deep = {"a": deep}

    response = await client.post(ENQUEUE, json=a_body(payload={"a": deep}))

    assert invalid_field(response) == "payload" + ".a" * 32


async def test_a_payload_that_is_too_long_is_refused(client: httpx.AsyncClient) -> None:
    """256 KiB as UTF-8, however it was escaped."""
    response = await sent(client, written(payload='{"a": "' + r"\u00e9" * 131_072 + '"}'))

    assert invalid_field(response) == "payload"


# --- Fields ----------------------------------------------------------------------------------

TYPED: list[tuple[str, Any, str]] = [
    ("tenant_id", None, "tenant_id"),
    ("tenant_id", 1, "tenant_id"),
    ("tenant_id", "", "tenant_id"),
    ("tenant_id", "x" * 201, "tenant_id"),
    ("tenant_id", "a\0b", "tenant_id"),
    ("use_case", ["notifications"], "use_case"),
    ("type", True, "type"),
    ("payload", None, "payload"),
    ("payload", [], "payload"),
    ("payload", "{}", "payload"),
    ("queue", 1, "queue"),
    ("queue", "", "queue"),
    ("id", 1, "id"),
    ("id", "1", "id"),
    ("id", "{01983f5a-7c00-7000-8000-000000000001}", "id"),
    ("id", "urn:uuid:01983f5a-7c00-7000-8000-000000000001", "id"),
    ("id", "01983f5a7c0070008000000000000001", "id"),
    ("id", "\u06601983f5a-7c00-7000-8000-000000000001", "id"),
    ("run_at", 1_900_000_000, "run_at"),
    ("run_at", "tomorrow", "run_at"),
    ("run_at", "2030-01-01", "run_at"),
    ("run_at", "2030-01-01T00:00:00", "run_at"),
    ("run_at", "2030-W01-1T00:00:00Z", "run_at"),
    ("run_at", "2030-02-30T00:00:00Z", "run_at"),
    ("run_at", "2030-01-01T24:00:00Z", "run_at"),
    ("run_at", "2030-01-01T00:00:00+24:00", "run_at"),
    ("run_at", "0000-01-01T00:00:00Z", "run_at"),
    ("run_at", "9999-12-31T23:59:59-23:59", "run_at"),
    ("run_at", "2030-01-01T00:00:00Z\n", "run_at"),
    ("delay_tolerance_seconds", "5", "delay_tolerance_seconds"),
    ("delay_tolerance_seconds", True, "delay_tolerance_seconds"),
    ("delay_tolerance_seconds", -0.001, "delay_tolerance_seconds"),
    ("delay_tolerance_seconds", 2_592_000.1, "delay_tolerance_seconds"),
    ("delay_tolerance_seconds", 10**30, "delay_tolerance_seconds"),
    ("max_attempts", "5", "max_attempts"),
    ("max_attempts", True, "max_attempts"),
    ("max_attempts", 0, "max_attempts"),
    ("max_attempts", 101, "max_attempts"),
    ("max_attempts", 1.5, "max_attempts"),
    ("max_attempts", 1e300, "max_attempts"),
    ("backoff_policy", "linear", "backoff_policy"),
    ("backoff_policy", {"type": "cubic"}, "backoff_policy.type"),
    ("backoff_policy", {"type": None}, "backoff_policy.type"),
    ("backoff_policy", {"base_delay_seconds": "5"}, "backoff_policy.base_delay_seconds"),
    ("backoff_policy", {"base_delay_seconds": True}, "backoff_policy.base_delay_seconds"),
    ("backoff_policy", {"max_delay_seconds": -1}, "backoff_policy.max_delay_seconds"),
    ("backoff_policy", {"jitter": 1.1}, "backoff_policy.jitter"),
    ("backoff_policy", {"delay": 1}, "backoff_policy.delay"),
    ("dedupe_key", "", "dedupe_key"),
    ("dedupe_key", "\x7f", "dedupe_key"),
    ("priority", "5", "priority"),
    ("priority", False, "priority"),
    ("priority", 32_768, "priority"),
    ("priority", -32_769, "priority"),
    ("headers", ["a"], "headers"),
    ("headers", {str(i): "" for i in range(17)}, "headers"),
    ("headers", {"a": 1}, "headers.a"),
    ("headers", {"a": "x" * 1_025}, "headers.a"),
    ("headers", {"a": "\0"}, "headers.a"),
    ("headers", {"": ""}, "headers (a name)"),
    ("tenant", "acme", "tenant"),
    ("status", "succeeded", "status"),
    ("x" * 500, 1, "x" * 80),
]


@pytest.mark.parametrize(
    ("name", "value", "field"), TYPED, ids=[f"{n[:30]}={str(v)[:30]}" for n, v, _ in TYPED]
)
async def test_a_field_of_another_type_or_beyond_its_bound_is_refused(
    client: httpx.AsyncClient, name: str, value: Any, field: str
) -> None:
    """Nothing is converted; the field is named as the caller wrote it, alone and in a batch."""
    body = a_body(**{name: value})

    one = await client.post(ENQUEUE, json=body)
    many = await client.post(BATCH, json={"jobs": [a_body(), body]})

    assert invalid_field(one) == field
    assert invalid_field(many) == f"jobs[1].{field}"


@pytest.mark.parametrize("field", ["tenant_id", "use_case", "type", "payload"])
async def test_a_required_field_is_missed(client: httpx.AsyncClient, field: str) -> None:
    """By its name."""
    body = a_body()
    del body[field]

    response = await client.post(ENQUEUE, json=body)

    assert invalid_field(response) == field
    assert response.json()["problem"] == "is required"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "jobs"),
        ({"jobs": None}, "jobs"),
        ({"jobs": {}}, "jobs"),
        ({"jobs": [], "atomic": False}, "atomic"),
        ({"jobs": [a_body(), []]}, "jobs[1]"),
        ({"jobs": [None]}, "jobs[0]"),
    ],
)
async def test_a_batch_is_an_object_with_jobs(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    """And nothing else."""
    assert invalid_field(await client.post(BATCH, json=body)) == field


async def test_everything_wrong_is_told_at_once(client: httpx.AsyncClient) -> None:
    """The first is told like one that is alone."""
    response = await client.post(
        BATCH,
        json={
            "jobs": [
                a_body(priority="high", tenent_id="acme"),
                a_body(),
                a_body(backoff_policy={"type": "cubic", "jitter": 2}, max_attempts=0),
            ]
        },
    )

    document = problem_in(response, 422, Problem.INVALID_JOB)
    fields = [each["field"] for each in document["errors"]]
    assert sorted(fields) == [
        "jobs[0].priority",
        "jobs[0].tenent_id",
        "jobs[2].backoff_policy.jitter",
        "jobs[2].backoff_policy.type",
        "jobs[2].max_attempts",
    ]
    assert {name: document[name] for name in ("field", "problem")} == document["errors"][0]


async def test_an_answer_stays_short_however_much_is_wrong(client: httpx.AsyncClient) -> None:
    """A caller with 10,000 mistakes is told of the first hundred."""
    many = await client.post(ENQUEUE, json={str(i): 1 for i in range(10_000)})
    batch = await client.post(BATCH, json={"jobs": [{}] * 1_000})

    for response in (many, batch):
        assert len(problem_in(response, 422, Problem.INVALID_JOB)["errors"]) == 100


async def test_no_value_is_repeated(client: httpx.AsyncClient) -> None:
    """It may be a secret that was put into the wrong field."""
    names = ("queue", "id", "run_at", "dedupe_key", "type", "tenant_id")
    numbers = ("delay_tolerance_seconds", "max_attempts", "priority", "backoff_policy", "headers")
    body = a_body(**dict.fromkeys(names, SECRET + "\n"), **dict.fromkeys(numbers, SECRET))

    response = await client.post(ENQUEUE, json=body | {"payload": SECRET})

    assert len(problem_in(response, 422, Problem.INVALID_JOB)["errors"]) == 12
    assert SECRET not in response.text


# --- Size and content type -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "bytes_max"), [(ENQUEUE, JOB_BYTES_MAX), (BATCH, BATCH_BYTES_MAX)]
)
async def test_a_body_that_says_it_is_too_large_is_not_read(
    client: httpx.AsyncClient, path: str, bytes_max: int
) -> None:
    """413 by its Content-Length; the limit itself is allowed."""
    headers = JSON | {"content-length": str(bytes_max + 1)}
    response = await client.post(path, content=Unread(), headers=headers)
    at_most = await sent(client, b" " * bytes_max, path)

    problem_in(response, 413, Problem.BODY_TOO_LARGE)
    assert str(bytes_max) in response.json()["detail"]
    assert invalid_field(at_most) == "body"


@pytest.mark.parametrize("told", [None, "1", "-1", "many", "1" * 5_000])
async def test_a_body_that_does_not_say_so_is_read_to_the_limit(
    system: MemorySystem, told: str | None
) -> None:
    """The stream is counted, whatever Content-Length says."""
    app = create_app(lambda: system.service, auth_token=SHARED)
    pieces: list[int] = []

    async def receive() -> dict[str, Any]:
        assert len(pieces) < 100, "the body is read on"
        pieces.append(64 * 1024)
        return {"type": "http.request", "body": b" " * pieces[-1], "more_body": True}

    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    length = [] if told is None else [(b"content-length", told.encode())]
    token = (TOKEN_HEADER.lower().encode(), SHARED.encode())
    headers = [(b"content-type", b"application/json"), token, *length]
    await app(scope(headers), receive, send)

    assert messages[0]["status"] == 413
    assert sum(pieces) <= JOB_BYTES_MAX + 64 * 1024


def scope(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Return what a server hands over for an enqueue."""
    return {
        "type": "http",
        "method": "POST",
        "path": ENQUEUE,
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("api", 80),
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "text/json"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/jsonp"},
        {"content-type": "json"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": 'application/json;version=1; Charset="ISO-8859-1"'},
        JSON | {"content-encoding": "gzip"},
    ],
    ids=str,
)
async def test_a_body_that_is_not_said_to_be_json_is_refused(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    """415, also for a form that a browser would send without asking."""
    response = await client.post(ENQUEUE, content=written().encode(), headers=headers)

    problem_in(response, 415, Problem.UNSUPPORTED_MEDIA_TYPE)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        'application/json;Charset="UTF-8";version=1',
        "APPLICATION/JSON",
        "application/vnd.acme+json",
    ],
)
async def test_json_has_several_names(client: httpx.AsyncClient, content_type: str) -> None:
    """With parameters, in capitals, or as the suffix of another type."""
    headers = {"content-type": content_type}
    response = await client.post(ENQUEUE, content=b"{}", headers=headers)

    assert invalid_field(response) == "tenant_id"


async def test_a_caller_that_leaves_is_no_error_of_ours(
    system: MemorySystem, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged."""
    app = create_app(lambda: system.service, auth_token=SHARED)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    token = (TOKEN_HEADER.lower().encode(), SHARED.encode())
    await app(scope([(b"content-type", b"application/json"), token]), receive, send)

    assert caplog.records == []


# --- Paths and query strings -----------------------------------------------------------------


def hostile_queries() -> Iterator[tuple[str, str]]:
    for name in ("tenant_id", "use_case"):
        for value in ("", "%00", "a%00b", "%ED%A0%80%00", "x" * 201, "x" * 10_000, "%0a"):
            yield f"{name}={value}", name
    for value in ("", "done", "PENDING", "%00", "pending,dead"):
        yield f"status={value}", "status"
    for value in ("", "0", "-1", "1001", "1.0", "1e2", "ten", "%2B5", "%205", "%D9%A3", "9" * 999):
        yield f"limit={value}", "limit"
    for value in ("", "1", "%00", "x" * 10_000, "01983f5a7c0070008000000000000001"):
        yield f"cursor={value}", "cursor"
    yield "tenant=acme", "tenant"
    yield "limit=1&limit=2", "limit"
    yield "%00=1", "\0"
    yield "&".join(f"x{i}=1" for i in range(500)), "x0"


QUERIES = list(hostile_queries())


@pytest.mark.parametrize(("query", "field"), QUERIES, ids=[query[:40] for query, _ in QUERIES])
async def test_a_query_that_means_nothing_is_refused(
    client: httpx.AsyncClient, query: str, field: str
) -> None:
    """A mistyped filter must not list everything."""
    assert invalid_field(await client.get(f"/jobs/?{query}")) == field


@pytest.mark.parametrize("query", ["tenant_id=", "tenant_id=%00", "tenant=acme", "limit=1"])
async def test_so_is_one_of_a_single_job(client: httpx.AsyncClient, query: str) -> None:
    """Which takes a tenant and nothing else."""
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry")):
        response = await client.request(method, f"/jobs/{an_id()}{path}?{query}")

        assert invalid_field(response) == query.partition("=")[0]


@pytest.mark.parametrize("id", ["1", "%00", "x" * 10_000, "enqueued", "%ff", "a%2Db", "{job_id}"])
async def test_a_path_that_names_no_id_is_refused(client: httpx.AsyncClient, id: str) -> None:
    """422, like everything that is malformed."""
    assert invalid_field(await client.get(f"/jobs/{id}")) == "job_id"
    assert invalid_field(await client.post(f"/jobs/{id}/cancel")) == "job_id"
    assert invalid_field(await client.post(f"/jobs/{id}/retry")) == "job_id"


async def test_bytes_that_are_no_text_find_nothing(client: httpx.AsyncClient) -> None:
    """Percent-encoded bytes that are no UTF-8 are read as the replacement character."""
    response = await client.get("/jobs/?tenant_id=%ED%A0%80&use_case=%FF")

    assert (response.status_code, response.json()) == (200, {"jobs": [], "next_cursor": None})
