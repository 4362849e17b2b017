"""Values at the bounds of what a job may hold, and requests beyond them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.bounds import PAYLOAD_BYTES_MAX, PRIORITY_MAX, PRIORITY_MIN
from async_jobs.domain.job import Payload
from async_jobs.testing.builders import later

PAYLOADS: dict[str, Payload] = {
    "empty": {},
    "every kind of value": {"n": None, "t": True, "f": False, "l": [1, "2", []], "o": {"": {}}},
    "unicode": {"ключ 🔑": "e\u0301 \u2028 \u0085 \uffff 𝄞 \x1f \x7f"},
    "the ends of 64 bits": {"low": -(2**63), "high": 2**63 - 1},
    "large floats": {"values": [1e16, 1e22, 1e23, 1.7976931348623157e308]},
    "small floats": {"values": [5e-324, 2.2250738585072014e-308, 0.1, 1 / 3]},
    "integral floats": {"values": [1.0, -0.0, 100.0, 123456789.0]},
    "32 levels": {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
    "keys in no order": {"b": 1, "a": 2, "B": 3, "": 4, "a b": 5, "10": 6, "9": 7},
    "text like escapes": {"\\u0000": "\\", '"': "\\n \n", "null": "null", "__proto__": "[]"},
    "the largest": {"text": "x" * (PAYLOAD_BYTES_MAX - 20)},
}
"""Payloads that every store has to give back as they were, by what is odd about them."""

JOBS: dict[str, dict[str, Any]] = {
    "the smallest": {"payload": {}, "delay_tolerance": timedelta(0), "max_attempts": 1},
    "microseconds": {
        "created_at": later(0.000_001),
        "run_at": later(7.654_321),
        "delay_tolerance": timedelta(seconds=1, microseconds=1),
    },
    "the longest waits": {"run_at": later(366 * 86_400), "delay_tolerance": timedelta(days=30)},
    "the longest names": dict.fromkeys(
        ("tenant_id", "use_case", "type", "queue", "dedupe_key"), "ü𝄞x/'\"%s;-" * 20
    ),
    "priorities below": {"priority": PRIORITY_MIN},
    "priorities above": {"priority": PRIORITY_MAX},
    "a backoff of its own": {
        "max_attempts": 100,
        "backoff_policy": BackoffPolicy(
            type=BackoffType.LINEAR,
            base_delay_seconds=0.1,
            max_delay_seconds=86_400.5,
            jitter=1 / 3,
        ),
    },
    "labels": {"labels": {f"{i} é": "v" * 100 for i in range(8)}},
    "headers": {"headers": {f"header-{i} é": "v" * 1_024 for i in range(16)}},
}
"""What sets jobs apart that every store has to give back as they were."""

DEEP: Payload = {}
for _ in range(32):
    DEEP = {"deeper": DEEP}

INVALID: list[tuple[str, dict[str, Any]]] = [
    ("tenant_id", {"tenant_id": ""}),
    ("tenant_id", {"tenant_id": "x" * 201}),
    ("tenant_id", {"tenant_id": "a\u0000b"}),
    ("tenant_id", {"tenant_id": "a\ud800"}),
    ("use_case", {"use_case": "unheard-of"}),
    ("use_case", {"use_case": ""}),
    ("queue", {"queue": "unheard-of"}),
    ("type", {"type": "line\nbreak"}),
    ("payload", {"payload": ["a", "list"]}),
    ("payload", {"payload": {"text": "x" * 256 * 1024}}),
    ("payload.deeper", {"payload": DEEP}),
    ("payload.n", {"payload": {"n": float("nan")}}),
    ("payload.n[1]", {"payload": {"n": [0, float("-inf")]}}),
    ("payload.n", {"payload": {"n": 2**63}}),
    ("payload.n", {"payload": {"n": int("9" * 4_000)}}),
    ("payload.a.b", {"payload": {"a": {"b": "\u0000"}}}),
    ("payload.a", {"payload": {"a": "\ud800"}}),
    ("payload", {"payload": {"\u0000": 1}}),
    ("payload", {"payload": {1: "one"}}),
    ("payload.a", {"payload": {"a": object()}}),
    ("run_at", {"run_at": datetime(2030, 1, 1)}),  # noqa: DTZ001 - that is what is wrong with it
    ("run_at", {"run_at": later(367 * 86_400)}),
    ("delay_tolerance", {"delay_tolerance": timedelta(microseconds=-1)}),
    ("delay_tolerance", {"delay_tolerance": timedelta(days=30, microseconds=1)}),
    ("max_attempts", {"max_attempts": 0}),
    ("max_attempts", {"max_attempts": 101}),
    ("priority", {"priority": 2**15}),
    ("priority", {"priority": -(2**15) - 1}),
    ("dedupe_key", {"dedupe_key": ""}),
    ("headers", {"headers": {f"header-{i}": "" for i in range(17)}}),
    ("labels", {"labels": {f"label-{i}": "x" for i in range(9)}}),
    ("labels.order", {"labels": {"order": "x" * 101}}),
    ("labels.order", {"labels": {"order": 7}}),
    ("headers.trace", {"headers": {"trace": "x" * 1_025}}),
]
"""Requests that are refused at the door: the field to be named, and what is wrong with it."""
