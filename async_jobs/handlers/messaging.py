"""Example handlers that compute something: `label_message` and `analyze_conversation`.

Both are small rule-based analyses of English text, without a model, a clock or chance: the
same payload always gives the same result. Both are plain functions on purpose. They keep a
processor busy without ever waiting, so as `async def` they would hold up the event loop and
every other job of the worker; a plain `def` runs in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from math import fsum, sqrt
from statistics import fmean, median
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from async_jobs.application.handling.registry import JobContext, job_registry
from async_jobs.domain.bounds import NAME_CHARACTERS_MAX, check_name
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import JsonValue

TEXT_CHARACTERS_MAX = 20_000
MESSAGES_MAX = 1_000
AUTHORS_REPORTED_MAX = 20
"""The busiest ones; more would not fit into a result of 64 KiB with names of any length."""

# --- payloads -------------------------------------------------------------------------------

Label = Literal["billing", "bug", "cancellation", "praise", "question", "spam", "urgent"]
LABELS: tuple[Label, ...] = get_args(Label)


def _printable(name: str) -> str:
    try:
        return check_name("name", name)
    except InvalidJobError as error:
        raise PydanticCustomError("name", "{problem}", {"problem": error.problem}) from None


def _instant(value: object) -> datetime:
    """Read RFC 3339. Pydantic alone would also take numbers for instants."""
    instant = value
    if isinstance(value, str):
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            instant = None
    if not isinstance(instant, datetime) or instant.utcoffset() is None:
        raise PydanticCustomError(
            "instant", "must be a date and time with an offset, such as 2026-01-31T09:30:00Z"
        )
    return instant


Name = Annotated[
    str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX), AfterValidator(_printable)
]
Text = Annotated[str, Field(max_length=TEXT_CHARACTERS_MAX, repr=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class LabelMessage(_Strict):
    """One message, and the labels to consider; all of them by default."""

    message_id: Name
    text: Text
    labels: Annotated[list[Label], Field(min_length=1, max_length=len(LABELS))] | None = None


class Message(_Strict):
    """One message of a conversation."""

    author: Name
    text: Text
    sent_at: Annotated[datetime, BeforeValidator(_instant)]


class AnalyzeConversation(_Strict):
    """A conversation, its messages in any order."""

    conversation_id: Name
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES_MAX)]


# --- reading text ---------------------------------------------------------------------------

# Words lose their apostrophes, whichever kind, so that "can't" and "cant" are one. What else
# matters is where a clause ends: a negation does not reach beyond it.
_APOSTROPHES = str.maketrans("", "", "'\u2018\u2019\u02bc")
_TOKEN = re.compile(r"[^\W_]+|[.,;:!?…\n]|[😀😃😊🙂👍🎉❤👎🙁😞😡😠😢]")
_QUESTION_MARK = re.compile(r"[?\u061f\uff1f](?!\w)")  # Latin, Arabic, wide; not within a link
_LINK = re.compile(r"https?://|\bwww\.", re.IGNORECASE)


def _by_word(words_by_value: Mapping[float, str]) -> Mapping[str, float]:
    return {word: value for value, words in words_by_value.items() for word in words.split()}


_CLAUSE_ENDS = frozenset([*".,;:!?…\n", "but", "however", "although"])
_MODIFIERS = _by_word(
    {
        -1: "no not never none nobody nothing neither nor without hardly cannot cant dont doesnt"
        " didnt isnt arent wasnt werent wont wouldnt shouldnt couldnt havent hasnt hadnt aint",
        0.6: "somewhat slightly fairly rather barely bit little",
        1.3: "very really so truly highly too",
        1.6: "extremely incredibly absolutely totally completely utterly",
    }
)
_REACH_TOKENS = 3  # how far before a word a modifier may stand; VADER looks as far


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.casefold().translate(_APOSTROPHES))


def _modifier(tokens: Sequence[str], index: int) -> float:
    """Return what the clause says just before the token at `index`; below 0 it is negated."""
    factor = 1.0
    for position in range(index - 1, max(-1, index - 1 - _REACH_TOKENS), -1):
        if tokens[position] in _CLAUSE_ENDS:
            break
        if tokens[position + 1] not in {"only", "just"}:  # "not only" negates nothing
            factor *= _MODIFIERS.get(tokens[position], 1.0)
    return factor


# --- label_message --------------------------------------------------------------------------


class Rule(NamedTuple):
    """Evidence for a label: any one of the phrases, or a sign that is no phrase, in brackets.

    A weight of 2 is enough for the label on its own; 1 needs a second rule.
    """

    label: Label
    weight: float
    phrases: tuple[str, ...]


RULES: tuple[Rule, ...] = (
    Rule("billing", 3, ("charged twice", "double charged", "overcharged", "billed twice")),
    Rule("billing", 2, ("invoice", "invoices", "invoiced", "billing")),
    Rule("billing", 2, ("refund", "refunds", "refunded", "money back", "chargeback")),
    Rule("billing", 2, ("payment", "payments", "credit card", "direct debit")),
    Rule("billing", 1, ("charge", "charged", "charges", "paid", "pay", "bill", "fee", "fees")),
    Rule("billing", 1, ("price", "prices", "pricing", "discount", "coupon", "tax", "vat")),
    Rule("bug", 3, ("stack trace", "traceback", "segfault", "error 500", "white screen")),
    Rule("bug", 2, ("bug", "bugs", "buggy", "glitch")),
    Rule("bug", 2, ("crash", "crashes", "crashed", "crashing", "freezes", "frozen")),
    Rule("bug", 2, ("doesn't work", "does not work", "not working", "isn't working", "broken")),
    Rule("bug", 2, ("no longer works", "stopped working", "won't load", "does not load")),
    Rule("bug", 2, ("can't log in", "cannot log in", "can't login", "unable to log in")),
    Rule("bug", 1, ("error", "errors", "fails", "failed", "failing")),
    Rule("bug", 1, ("wrong", "stuck", "timeout", "timed out", "blank page")),
    Rule("cancellation", 3, ("cancel my", "cancel our", "close my account", "delete my account")),
    Rule("cancellation", 2, ("cancel", "cancelling", "canceling", "cancellation", "terminate")),
    Rule("cancellation", 2, ("unsubscribe", "stop my subscription", "end my subscription")),
    Rule("cancellation", 1, ("subscription", "membership", "contract")),
    Rule("cancellation", 1, ("switching to", "leaving", "competitor")),
    Rule("praise", 2, ("thank you", "thanks", "thank", "grateful", "kudos")),
    Rule("praise", 2, ("love", "loving", "awesome", "amazing", "fantastic", "excellent")),
    Rule("praise", 2, ("well done", "great job", "great work", "keep it up", "best support")),
    Rule("praise", 1, ("great", "good", "nice", "happy", "helpful", "recommend", "perfect")),
    Rule("question", 2, ("how do i", "how can i", "how do we", "how to", "how does")),
    Rule("question", 2, ("is there a way", "is it possible", "can you tell", "do you know")),
    Rule("question", 1, ("what", "why", "when", "where", "which", "who", "how")),
    Rule("question", 1, ("could you", "can you", "can i", "wondering", "question")),
    Rule("spam", 3, ("free money", "you have won", "you have been selected", "wire transfer fee")),
    Rule("spam", 2, ("click here", "act now", "limited time offer", "risk free", "no obligation")),
    Rule("spam", 2, ("lottery", "casino", "viagra", "payday loan", "crypto giveaway")),
    Rule("spam", 1, ("winner", "prize", "bonus", "earn", "guaranteed", "investment", "bitcoin")),
    Rule("urgent", 3, ("production is down", "site is down", "data loss", "security breach")),
    Rule("urgent", 2, ("urgent", "urgently", "asap", "as soon as possible", "emergency")),
    Rule("urgent", 2, ("immediately", "right now", "right away", "critical", "outage")),
    Rule("urgent", 1, ("today", "tonight", "deadline", "blocked", "blocker", "quickly", "down")),
)
QUESTION_MARK = Rule("question", 2, ("(question mark)",))
EXCLAMATION_MARKS = Rule("urgent", 1, ("(exclamation marks)",))
MANY_LINKS = Rule("spam", 2, ("(many links)",))
MOSTLY_CAPITALS = Rule("spam", 1, ("(mostly capitals)",))
LABEL_SCORE_MIN = 0.5

# "I was not charged" is still about billing, and "why not?" a question.
_TOPICS: frozenset[Label] = frozenset({"billing", "question"})

_CAPITALS_LETTERS_MIN = 20
_LINKS_MIN = 3


def _by_first_word(rules: Sequence[Rule]) -> Mapping[str, list[tuple[Rule, str, list[str]]]]:
    index: dict[str, list[tuple[Rule, str, list[str]]]] = {}
    for rule in rules:
        for phrase in rule.phrases:
            words = _tokens(phrase)
            index.setdefault(words[0], []).append((rule, phrase, words))
    return index


_RULES_BY_FIRST_WORD = _by_first_word(RULES)


def _evidence(text: str, tokens: Sequence[str]) -> Iterator[tuple[Rule, str]]:
    """Yield each rule that fires and the phrase that made it, repetitions included."""
    for index, token in enumerate(tokens):
        for rule, phrase, words in _RULES_BY_FIRST_WORD.get(token, ()):
            if tokens[index : index + len(words)] != words:
                continue
            if rule.label in _TOPICS or _modifier(tokens, index) > 0:
                yield rule, phrase
    letters = [character for character in text if character.isalpha()]
    capitals = sum(map(str.isupper, letters))
    signs = {
        QUESTION_MARK: _QUESTION_MARK.search(text) is not None,
        EXCLAMATION_MARKS: "!!" in text,
        MANY_LINKS: len(_LINK.findall(text)) >= _LINKS_MIN,
        MOSTLY_CAPITALS: len(letters) >= _CAPITALS_LETTERS_MIN and capitals > len(letters) / 2,
    }
    yield from ((rule, rule.phrases[0]) for rule, is_there in signs.items() if is_there)


def _score(rules: Iterable[Rule]) -> float:
    return (weight := fsum(rule.weight for rule in rules)) / (weight + 2.0)


@job_registry.handler("label_message", timeout_seconds=30)
def label_message(ctx: JobContext, payload: LabelMessage) -> JsonValue:
    """Return the labels that fit a message, best first, each with the rules that fired.

    A rule counts once, however often it fires, and goes by the phrase that made it. A score
    is `w / (w + 2)` for a total weight of `w`, so it grows towards 1; labels below 0.5 are
    left out. Negated rules do not fire, save for topics: who was not charged still writes
    about billing.
    """
    considered = [label for label in LABELS if payload.labels is None or label in payload.labels]
    fired: dict[str, dict[Rule, str]] = {label: {} for label in considered}
    for rule, phrase in _evidence(payload.text, _tokens(payload.text)):
        if rule.label in fired:
            fired[rule.label].setdefault(rule, phrase)
    scores = [(_score(rules), label) for label, rules in fired.items()]
    return {
        "message_id": payload.message_id,
        "considered": list(considered),
        "labels": [
            {"label": label, "score": round(score, 3), "rules": [*fired[label].values()]}
            for score, label in sorted(scores, key=lambda scored: (-scored[0], scored[1]))
            if score >= LABEL_SCORE_MIN
        ],
    }


# --- analyze_conversation -------------------------------------------------------------------

_VALENCES = _by_word(
    {
        3: "amazing awesome excellent fantastic wonderful love loved perfect outstanding ❤ 🎉",
        2: "good great happy glad helpful pleased impressed enjoy nice thanks thank 😀 😃 😊 👍",
        1: "ok okay fine fixed solved works resolved appreciate welcome easy fast 🙂",
        -1: "slow late confusing unclear problem issue wait waiting difficult missing sorry 🙁",
        -2: "bad wrong broken fails failed error annoying disappointed unhappy poor 👎 😞 😢",
        -3: "terrible awful horrible useless unacceptable worst hate furious angry scam 😡 😠",
    }
)
_NEGATED_SHARE = 0.74  # VADER (Hutto and Gilbert, 2014): "not great" is milder than "bad"
_NORMALISER = 15.0  # VADER too: sum / sqrt(sum² + 15) stays between -1 and 1
_VERDICT_SCORE_MIN = 0.05
_TREND_CHANGE_MIN = 0.1


class _Turn(NamedTuple):
    """A message in its place in time; `place` is its place in the payload."""

    place: int
    message: Message
    score: float

    def seconds_after(self, earlier: _Turn) -> float:
        return (self.message.sent_at - earlier.message.sent_at).total_seconds()


def sentiment_of(text: str) -> float:
    """Return the sentiment of a text, from -1 to 1; 0 when no word of the lexicon is in it."""
    tokens = _tokens(text)
    valences = []
    for index, token in enumerate(tokens):
        if token in _VALENCES:
            factor = _modifier(tokens, index)
            share = 1.0 if factor > 0 else _NEGATED_SHARE
            valences.append(_VALENCES[token] * factor * share)
    total = fsum(valences)
    return _rounded(total / sqrt(total * total + _NORMALISER))


def _rounded(score: float) -> float:
    return round(score, 3) + 0.0  # which makes 0.0 of -0.0


@job_registry.handler("analyze_conversation", timeout_seconds=60)
def analyze_conversation(ctx: JobContext, payload: AnalyzeConversation) -> JsonValue:
    """Return the mood, the shares and the waits of a conversation.

    Messages are put in the order of `sent_at` first; those of one instant keep the order of
    the payload. Indexes in the result count the payload's messages from 0. Durations are in
    seconds. Sentiments run from -1 to 1.
    """
    turns = sorted(
        (
            _Turn(place, message, sentiment_of(message.text))
            for place, message in enumerate(payload.messages)
        ),
        key=lambda turn: turn.message.sent_at,
    )
    authors = _authors(turns)
    return {
        "conversation_id": payload.conversation_id,
        "messages": len(turns),
        "duration_seconds": turns[-1].seconds_after(turns[0]),
        "sentiment": _sentiment(turns),
        "authors": authors[:AUTHORS_REPORTED_MAX],
        "authors_total": len(authors),
        "unanswered_questions": _unanswered_questions(turns),
        "longest_pause": _longest_pause(turns),
    }


def _sentiment(turns: Sequence[_Turn]) -> JsonValue:
    """Return the mean mood and its trend: how the later half differs from the earlier one."""
    scores = [turn.score for turn in turns]
    overall = _rounded(fmean(scores))
    verdict = "positive" if overall > 0 else "negative"
    half = len(scores) // 2
    change = _rounded(fmean(scores[-half:]) - fmean(scores[:half])) if half else 0.0
    direction = "improving" if change > 0 else "worsening"
    return {
        "overall": overall,
        "verdict": verdict if abs(overall) >= _VERDICT_SCORE_MIN else "neutral",
        "change": change,
        "trend": direction if abs(change) >= _TREND_CHANGE_MIN else "steady",
        "by_message": [turn.score for turn in sorted(turns, key=lambda turn: turn.place)],
    }


def _authors(turns: Sequence[_Turn]) -> list[JsonValue]:
    """Return one record for each author, the busiest first."""
    by_author: dict[str, list[_Turn]] = {}
    for turn in turns:
        by_author.setdefault(turn.message.author, []).append(turn)
    waits = _response_seconds(turns)
    return [
        {
            "author": author,
            "messages": len(own),
            "characters": sum(len(turn.message.text) for turn in own),
            "sentiment": _rounded(fmean(turn.score for turn in own)),
            "responses": len(waits.get(author, ())),
            "response_seconds_median": median(waits[author]) if author in waits else None,
            "response_seconds_max": max(waits[author]) if author in waits else None,
        }
        for author, own in sorted(by_author.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _response_seconds(turns: Sequence[_Turn]) -> Mapping[str, list[float]]:
    """Return how long each author let others wait, from the first of the messages in a row."""
    waits: dict[str, list[float]] = {}
    first_in_row = turns[0]
    for turn in turns:
        if turn.message.author != first_in_row.message.author:
            waits.setdefault(turn.message.author, []).append(turn.seconds_after(first_in_row))
            first_in_row = turn
    return waits


def _unanswered_questions(turns: Sequence[_Turn]) -> list[JsonValue]:
    """Return the indexes of the questions after which nobody else wrote anything."""
    unanswered: list[int] = []
    later_authors: set[str] = set()
    for turn in reversed(turns):
        if _QUESTION_MARK.search(turn.message.text) and not later_authors - {turn.message.author}:
            unanswered.append(turn.place)
        later_authors.add(turn.message.author)
    return [*sorted(unanswered)]


def _longest_pause(turns: Sequence[_Turn]) -> JsonValue:
    """Return the longest time nobody wrote; the first of equal ones, None for one message."""
    pauses = [(later.seconds_after(earlier), earlier) for earlier, later in pairwise(turns)]
    if not pauses:
        return None
    seconds, earlier = max(pauses, key=lambda pause: pause[0])
    return {"seconds": seconds, "after_message": earlier.place}
