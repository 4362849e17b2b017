"""`label_message`: which words make which label, and what takes it away again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.application.handling.outcomes import Reject
from async_jobs.application.handling.registry import JobContext, job_registry
from async_jobs.domain.bounds import check_result
from async_jobs.handlers.messaging import LABELS, RULES, LabelMessage, label_message

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CTX = JobContext(
    job_id=UUID(int=7),
    tenant_id="acme",
    use_case="message_labeling",
    type="label_message",
    attempt=1,
    max_attempts=5,
    lease_seq=1,
    run_at=NOON,
    deadline_at=NOON,
)
PHRASES = [phrase for rule in RULES for phrase in rule.phrases]

texts = st.text(max_size=200) | st.lists(
    st.sampled_from([*PHRASES, "not", "very", "but", "?", "!!", "https://a.example", "hm"]),
    max_size=30,
).map(" ".join)
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200)


def labelled(text: str, **options: Any) -> Any:
    """Return the whole result for a text."""
    payload = LabelMessage(message_id="m-1", text=text, **options)
    return label_message(CTX, payload)


def labels(text: str, **options: Any) -> list[str]:
    """Return the labels of a text, best first."""
    return [found["label"] for found in labelled(text, **options)["labels"]]


def refusal(payload: dict[str, Any]) -> str:
    handler = job_registry.get("label_message")
    assert handler is not None
    with pytest.raises(Reject) as rejected:
        handler.load(payload)
    return rejected.value.reason


# --- labels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I was charged twice on my last invoice, please refund me.", ["billing"]),
        ("The app crashes when I open the settings", ["bug"]),
        ("Please close my account", ["cancellation"]),
        ("Thank you, great support!", ["praise"]),
        ("How do I export my contacts?", ["question"]),
        ("CLICK HERE: you have won a prize", ["spam"]),
        ("Production is down!!", ["urgent"]),
        (
            "Why was I billed twice? Fix it immediately. I love it otherwise.",
            ["billing", "question", "praise", "urgent"],
        ),
        ("The weather was mild.", []),
    ],
)
def test_a_message_gets_the_labels_it_speaks_of(text: str, expected: list[str]) -> None:
    assert labels(text) == expected


def test_a_label_comes_with_its_score_and_what_made_it() -> None:
    assert labelled("I was charged twice on this invoice") == {
        "message_id": "m-1",
        "considered": list(LABELS),
        "labels": [
            {"label": "billing", "score": 0.75, "rules": ["charged twice", "charged", "invoice"]}
        ],
    }


def test_labels_stand_in_the_order_of_their_scores_then_of_their_names() -> None:
    by_score = labels("asap: cancel my subscription, thanks")

    assert by_score == ["cancellation", "praise", "urgent"]


def test_a_rule_counts_once() -> None:
    assert labelled("bug " * 50)["labels"] == labelled("bug")["labels"]


def test_weak_evidence_alone_is_no_label() -> None:
    assert labels("an error") == []
    assert labels("an error, and it is stuck") == ["bug"]


@pytest.mark.parametrize("text", ["debugging", "thanksgiving", "scrashes", "invoice_id2"])
def test_a_word_within_a_word_is_no_evidence(text: str) -> None:
    assert "bug" not in labels(text)
    assert "praise" not in labels(text)


def test_a_phrase_does_not_reach_over_the_end_of_a_clause() -> None:
    assert "urgent" not in labels("We saw the data. Loss was the topic.")
    assert "urgent" in labels("We saw data loss.")


@pytest.mark.parametrize(
    "text", ["it doesn't work", "it doesn\u2019t work", "it doesnt work", "IT DOESN'T WORK"]
)
def test_apostrophes_and_case_make_no_difference(text: str) -> None:
    assert labels(text) == ["bug"]


@pytest.mark.parametrize(
    "text", ["Is it open?", '"Is it open?"', "Is it open?!", "开门了吗\uff1f", "هل هو مفتوح\u061f"]
)
def test_a_question_mark_makes_a_question(text: str) -> None:
    assert labels(text) == ["question"]


def test_a_question_mark_within_a_link_makes_none() -> None:
    assert labels("see https://shop.example/?page=2") == []


def test_three_links_are_spam_and_two_are_not() -> None:
    assert labels("http://a.example HTTPS://b.example") == []
    assert labels("http://a.example HTTPS://b.example www.c.example") == ["spam"]


def test_shouting_adds_to_other_evidence() -> None:
    assert labels("your bonus is guaranteed and you may earn it") == []
    assert labels("YOUR BONUS IS GUARANTEED AND YOU MAY EARN IT") == ["spam"]


# --- negation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Don't cancel my subscription",
        "I do not want to cancel",
        "This is not urgent",
        "No thanks",
        "Without a crash so far",
        "We never crashed",
    ],
)
def test_what_is_negated_is_no_evidence(text: str) -> None:
    assert labels(text) == []


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("No, this is urgent", "urgent"),
        ("It is not a typo but a bug", "bug"),
        ("Not only grateful", "praise"),
        ("I can't not thank you", "praise"),
        ("I do not know whom I have to ask to cancel this", "cancellation"),
    ],
)
def test_a_negation_ends_with_its_clause_its_reach_or_another_one(text: str, label: str) -> None:
    assert label in labels(text)


def test_a_topic_stays_a_topic_when_it_is_negated() -> None:
    assert labels("I did not get an invoice") == ["billing"]


# --- payloads -------------------------------------------------------------------------------


def test_only_the_labels_asked_for_are_considered() -> None:
    result = labelled("urgent bug", labels=["urgent", "praise", "urgent"])

    assert result["considered"] == ["praise", "urgent"]
    assert [found["label"] for found in result["labels"]] == ["urgent"]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\u200b", "🎉", "'", "…"])
def test_a_text_without_words_has_no_label(text: str) -> None:
    assert labels(text) == []


@pytest.mark.parametrize("unit", ["urgent ", "not ", "a", "?", "http://", "İ", "stopped ", "\n"])
def test_the_longest_texts_are_labelled(unit: str) -> None:
    text = (unit * 20_000)[:20_000]

    check_result(labelled(text))


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"message_id": "m"}, "payload.text: Field required"),
        ({"message_id": "", "text": ""}, "payload.message_id: String should have at least 1"),
        ({"message_id": "a\tb", "text": ""}, "payload.message_id: must hold no control"),
        ({"message_id": "m", "text": "t" * 20_001}, "payload.text: String should have at most"),
        ({"message_id": "m", "text": "", "labels": []}, "payload.labels: List should have at"),
        ({"message_id": "m", "text": "", "labels": ["fun"]}, "payload.labels.0: Input should be"),
        ({"message_id": "m", "text": "", "lang": "en"}, "payload.lang: Extra inputs are not"),
    ],
)
def test_an_invalid_payload_is_refused_by_field(payload: dict[str, Any], told: str) -> None:
    assert told in refusal(payload)


def test_the_text_is_in_neither_repr_nor_refusal() -> None:
    assert "secret" not in repr(LabelMessage(message_id="m", text="secret"))
    assert "secret" not in refusal({"message_id": "m", "text": "secret" * 5_000})


@given(
    message_id=names,
    text=texts,
    chosen=st.none() | st.lists(st.sampled_from(LABELS), min_size=1, max_size=len(LABELS)),
)
def test_any_valid_payload_has_one_storable_result(
    message_id: str, text: str, chosen: list[str] | None
) -> None:
    payload = LabelMessage.model_validate(
        {"message_id": message_id, "text": text, "labels": chosen}
    )
    result: Any = label_message(CTX, payload)

    assert check_result(result) == label_message(CTX, payload)
    assert all(0.5 <= found["score"] < 1 for found in result["labels"])
    assert {found["label"] for found in result["labels"]} <= set(chosen or LABELS)


# --- the rules ------------------------------------------------------------------------------


def test_no_phrase_stands_twice_under_one_label() -> None:
    pairs = [(rule.label, phrase) for rule in RULES for phrase in rule.phrases]

    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.label}: {rule.phrases[0]}")
def test_every_phrase_of_every_rule_fires(rule: Any) -> None:
    """Told together with the other phrases of its label, so that weak ones show up too."""
    for phrase in rule.phrases:
        everything = ". ".join([phrase, *(r.phrases[0] for r in RULES if r.label == rule.label)])
        (found,) = labelled(everything, labels=[rule.label])["labels"]

        assert phrase in found["rules"]
