"""`analyze_conversation`: mood, shares and waits, and the order that they depend on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.application.handling.outcomes import Reject
from async_jobs.application.handling.registry import JobContext, job_registry
from async_jobs.domain.bounds import check_result
from async_jobs.handlers.messaging import (
    AUTHORS_REPORTED_MAX,
    MESSAGES_MAX,
    AnalyzeConversation,
    analyze_conversation,
    sentiment_of,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CTX = JobContext(
    job_id=UUID(int=7),
    tenant_id="acme",
    use_case="conversation_analysis",
    type="analyze_conversation",
    attempt=1,
    max_attempts=5,
    lease_seq=1,
    run_at=NOON,
    deadline_at=NOON,
)

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200)
instants = st.datetimes(
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-23, minutes=-59))]
    )
)
texts = st.text(max_size=100) | st.lists(
    st.sampled_from(["not", "very", "good", "bad", "terrible", "❤", ".", "why?", "only"]),
    max_size=20,
).map(" ".join)
messages_of_anybody = st.lists(
    st.fixed_dictionaries(
        {"author": st.sampled_from(["ann", "bob", "cleo"]) | names, "text": texts}
    ).flatmap(lambda said: instants.map(lambda instant: {**said, "sent_at": instant.isoformat()})),
    min_size=1,
    max_size=8,
)


def said(author: str, text: str, second: int) -> dict[str, Any]:
    """Return a message sent that many seconds after noon."""
    return {
        "author": author,
        "text": text,
        "sent_at": (NOON + timedelta(seconds=second)).isoformat(),
    }


def analyzed(*messages: dict[str, Any]) -> Any:
    """Return the whole result for these messages."""
    handler = job_registry.get("analyze_conversation")
    assert handler is not None
    payload = handler.load({"conversation_id": "c-1", "messages": list(messages)})
    return analyze_conversation(CTX, payload)


def refusal(payload: dict[str, Any]) -> str:
    handler = job_registry.get("analyze_conversation")
    assert handler is not None
    with pytest.raises(Reject) as rejected:
        handler.load(payload)
    return rejected.value.reason


# --- one conversation, all of its result ----------------------------------------------------


def test_a_whole_conversation() -> None:
    result = analyzed(
        said("ann", "My order is late, this is terrible.", 0),
        said("ann", "Where is it?", 60),
        said("bob", "Sorry! It arrives today.", 300),
        said("ann", "Great, thanks!", 330),
        said("bob", "Anything else?", 1_330),
    )

    assert result == {
        "conversation_id": "c-1",
        "messages": 5,
        "duration_seconds": 1_330.0,
        "sentiment": {
            "overall": -0.05,
            "verdict": "negative",
            "change": 0.718,
            "trend": "improving",
            "by_message": [-0.718, 0.0, -0.25, 0.718, 0.0],
        },
        "authors": [
            {
                "author": "ann",
                "messages": 3,
                "characters": 61,
                "sentiment": 0.0,
                "responses": 1,
                "response_seconds_median": 30.0,
                "response_seconds_max": 30.0,
            },
            {
                "author": "bob",
                "messages": 2,
                "characters": 38,
                "sentiment": -0.125,
                "responses": 2,
                "response_seconds_median": 650.0,
                "response_seconds_max": 1_000.0,
            },
        ],
        "authors_total": 2,
        "unanswered_questions": [4],
        "longest_pause": {"seconds": 1_000.0, "after_message": 3},
    }


def test_one_message_has_no_trend_no_waits_and_no_pause() -> None:
    result = analyzed(said("ann", "Hello", 0))

    assert result["duration_seconds"] == 0.0
    assert result["sentiment"] == {
        "overall": 0.0,
        "verdict": "neutral",
        "change": 0.0,
        "trend": "steady",
        "by_message": [0.0],
    }
    assert result["authors"][0]["responses"] == 0
    assert result["authors"][0]["response_seconds_median"] is None
    assert result["longest_pause"] is None


# --- sentiment ------------------------------------------------------------------------------


def test_scores_stand_in_the_order_one_would_put_them_in() -> None:
    rising = ["awful", "bad", "not good", "", "not bad", "good", "very good", "extremely good"]
    scores = [sentiment_of(text) for text in rising]

    assert scores == sorted(set(scores))
    assert scores[3] == 0.0


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("GOOD", "good"),
        ("don\u2019t love it", "don't love it"),
        ("not. good", "good"),
        ("not slow but good", "not slow. good"),
        ("not only good", "good"),
        ("not one of those four good", "good"),
        ("never not good", "good"),
        ("goodness", ""),
        ("🎉", "love"),
    ],
)
def test_two_texts_of_one_mood(text: str, same: str) -> None:
    assert sentiment_of(text) == sentiment_of(same)


def test_a_trend_compares_the_later_half_with_the_earlier_one() -> None:
    up = analyzed(said("a", "bad", 0), said("a", "hm", 1), said("a", "good", 2))
    down = analyzed(said("a", "good", 0), said("a", "hm", 1), said("a", "bad", 2))
    level = analyzed(said("a", "good", 0), said("a", "bad", 1), said("a", "good", 2))

    assert [r["sentiment"]["trend"] for r in (up, down, level)] == [
        "improving",
        "worsening",
        "steady",
    ]


def test_a_mood_too_faint_to_tell_is_zero_without_a_sign() -> None:
    result = analyzed(said("a", "not ok", 0), *(said("a", "", second) for second in range(1, 999)))

    assert str(result["sentiment"]["overall"]) == "0.0"


# --- time -----------------------------------------------------------------------------------


def test_messages_may_come_in_any_order_and_indexes_follow_the_payload() -> None:
    result = analyzed(
        said("ann", "Is anybody there?", 500),
        said("bob", "good", 10),
        said("ann", "bad", 0),
    )

    assert result["sentiment"]["by_message"] == [0.0, 0.459, -0.459]
    assert result["unanswered_questions"] == [0]
    assert result["longest_pause"] == {"seconds": 490.0, "after_message": 1}


def test_offsets_are_honoured() -> None:
    result = analyzed(
        {"author": "ann", "text": "", "sent_at": "2026-01-31T14:00:00+02:00"},
        {"author": "bob", "text": "", "sent_at": "2026-01-31T12:00:05Z"},
    )

    assert result["duration_seconds"] == 5.0


def test_messages_of_one_instant_keep_the_order_of_the_payload() -> None:
    result = analyzed(said("ann", "Ready?", 0), said("bob", "Yes", 0))

    assert result["unanswered_questions"] == []
    assert result["authors"][1]["response_seconds_max"] == 0.0


def test_a_wait_starts_with_the_first_of_the_messages_in_a_row() -> None:
    result = analyzed(said("ann", "", 0), said("ann", "", 50), said("bob", "", 60))

    assert result["authors"][1]["response_seconds_max"] == 60.0


def test_the_first_of_equal_pauses_is_told() -> None:
    result = analyzed(said("ann", "", 0), said("ann", "", 5), said("ann", "", 10))

    assert result["longest_pause"] == {"seconds": 5.0, "after_message": 0}


# --- authors and questions ------------------------------------------------------------------


def test_nobody_answers_oneself() -> None:
    result = analyzed(said("ann", "Hello?", 0), said("ann", "Is this on?", 9), said("ann", "", 99))

    assert result["unanswered_questions"] == [0, 1]
    assert result["authors"][0]["responses"] == 0


def test_anybody_else_may_answer() -> None:
    result = analyzed(said("ann", "Why?", 0), said("bob", "Yes, why?", 1), said("cleo", "So", 2))

    assert result["unanswered_questions"] == []


def test_only_the_busiest_authors_are_reported() -> None:
    crowd = [said(f"author-{number:03}", "", number) for number in range(100)]
    result = analyzed(*crowd, said("author-077", "", 200))

    assert result["authors_total"] == 100
    assert len(result["authors"]) == AUTHORS_REPORTED_MAX
    assert [author["author"] for author in result["authors"][:3]] == [
        "author-077",
        "author-000",
        "author-001",
    ]


# --- payloads -------------------------------------------------------------------------------


def test_the_largest_conversation_has_a_result_that_can_be_stored() -> None:
    """As many messages as allowed, each a question by an author with the longest name."""
    result = analyzed(
        *(
            said(f"{number:04}" + "🎉" * 196, "not good?" * 10, number * 10**6)
            for number in range(MESSAGES_MAX)
        )
    )

    check_result(result)
    assert result["messages"] == MESSAGES_MAX


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"sent_at": "2026-01-31T12:00:00"}, "sent_at: must be a date and time with an offset"),
        ({"sent_at": "yesterday"}, "sent_at: must be a date and time with an offset"),
        ({"sent_at": "2026-01-31"}, "sent_at: must be a date and time with an offset"),
        ({"sent_at": 1_769_860_800}, "sent_at: must be a date and time with an offset"),
        ({"sent_at": None}, "sent_at: must be a date and time with an offset"),
        ({"author": ""}, "author: String should have at least 1 character"),
        ({"author": "a\nb"}, "author: must hold no control characters"),
        ({"text": 7}, "text: Input should be a valid string"),
        ({"text": "t" * 20_001}, "text: String should have at most 20000 characters"),
        ({"mood": "good"}, "mood: Extra inputs are not permitted"),
    ],
)
def test_an_invalid_message_is_refused_by_its_place_and_field(
    message: dict[str, Any], told: str
) -> None:
    messages = [said("ann", "", 0), {**said("ann", "", 0), **message}]
    reason = refusal({"conversation_id": "c-1", "messages": messages})

    assert f"payload.messages.1.{told}" in reason


@pytest.mark.parametrize(("count", "told"), [(0, "at least 1 item"), (1_001, "at most 1000")])
def test_a_conversation_has_from_1_to_1000_messages(count: int, told: str) -> None:
    messages = [said("ann", "", 0)] * count

    assert told in refusal({"conversation_id": "c-1", "messages": messages})


def test_the_texts_are_in_no_repr() -> None:
    payload = AnalyzeConversation.model_validate(
        {"conversation_id": "c-1", "messages": [said("ann", "secret", 0)]}
    )

    assert "secret" not in repr(payload)


@given(messages_of_anybody)
def test_any_valid_payload_has_one_storable_result(messages: list[dict[str, Any]]) -> None:
    result = analyzed(*messages)

    assert check_result(result) == analyzed(*messages)
    assert len(result["sentiment"]["by_message"]) == len(messages)
    assert all(-1 <= score <= 1 for score in result["sentiment"]["by_message"])
    assert result["duration_seconds"] >= 0


@given(messages_of_anybody)
def test_the_order_of_the_payload_matters_only_to_indexes(messages: list[dict[str, Any]]) -> None:
    timed = [
        said(message["author"], message["text"], second) for second, message in enumerate(messages)
    ]
    forwards, backwards = analyzed(*timed), analyzed(*reversed(timed))

    for key in ("authors", "duration_seconds", "messages"):
        assert forwards[key] == backwards[key]
    for key in ("overall", "change", "trend"):
        assert forwards["sentiment"][key] == backwards["sentiment"][key]
