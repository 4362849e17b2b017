"""What SQS carries: a hand-off there and back, and whatever else somebody puts on a queue."""

from __future__ import annotations

import json
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.adapters.sqs.messages import (
    BODY_CHARS_MAX,
    LEASE_SEQ_MAX,
    MalformedBodyError,
    body_of,
    group_of,
    handoff_of,
)
from async_jobs.domain.job import HandOff
from async_jobs.testing.builders import an_id

ID = an_id()
handoffs = st.builds(HandOff, st.uuids(), st.none() | st.integers(0, LEASE_SEQ_MAX), st.just(""))


@given(handoffs)
def test_a_handoff_arrives_as_it_was(handoff: HandOff) -> None:
    """But for its tenant, which the job's row knows."""
    assert handoff_of(body_of(handoff)) == handoff


def test_a_body_is_as_documented() -> None:
    """Programs in other languages may read and write it."""
    assert body_of(HandOff(ID, 3, "acme")) == f'{{"job_id":"{ID}","lease_seq":3}}'
    assert body_of(HandOff(ID, None, "acme")) == str(ID)


@pytest.mark.parametrize(
    "body",
    [
        str(ID),
        str(ID).upper(),
        f'{{"job_id": "{ID}"}}',
        f' {{ "job_id": "{ID}", "lease_seq": null, "note": [1, 2] }} ',
    ],
)
def test_a_job_id_without_a_number_is_a_hint(body: str) -> None:
    """It stands for the job's current lease."""
    assert handoff_of(body) == HandOff(ID, None, "")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hunter2",
        f"{{{ID}}}",
        f"urn:uuid:{ID}",
        ID.hex,
        f"{ID}\n",
        json.dumps(str(ID)),
        "hunter2" * 150_000,
        "[" * 5_000,
        "[" * BODY_CHARS_MAX,
        '{"a":' * 200,
        "9" * 5_000,
        "null",
        "NaN",
        "{}",
        '{"job_id": "\\ud800"}',
        "\ud800",
        '{"job_id": ["hunter2"]}',
        f'{{"job_id": "{ID}hunter2"}}',
        *(
            f'{{"job_id": "{ID}", "lease_seq": {number}}}'
            for number in ("true", "1.0", "1e3", "-1", f"{2**63}", "NaN", '"1"', "[]", "9" * 900)
        ),
    ],
)
def test_anything_else_is_malformed_and_not_quoted(body: str) -> None:
    """Somebody may have put a secret there; nothing of it gets into a log."""
    with pytest.raises(MalformedBodyError) as caught:
        handoff_of(body)

    assert str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_body_breaks_the_reader(body: str) -> None:
    """It is a hand-off or malformed, and nothing third."""
    with suppress(MalformedBodyError):
        assert isinstance(handoff_of(body).job_id, UUID)


@given(st.text(min_size=1, max_size=200))
def test_a_tenant_is_always_a_valid_group(tenant_id: str) -> None:
    """1-128 ASCII letters, digits and punctuation marks; the same each time."""
    group = group_of(tenant_id)

    assert 1 <= len(group) <= 128
    assert all("!" <= character <= "~" for character in group)
    assert group_of(tenant_id) == group


def test_an_allowed_tenant_keeps_its_name() -> None:
    """So that it can be recognized in the metrics of the queue."""
    assert group_of("acme-Corp_7") == "acme-Corp_7"
    assert group_of("two words") != group_of("two  words")
