"""Tokens: how they are made, configured, recognised, and what each of them reaches."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import timedelta
from hmac import compare_digest
from typing import Any

import pytest
from pydantic import ValidationError

from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.http.access import (
    ANYBODY,
    Access,
    Caller,
    Forbidden,
    Unauthenticated,
)
from async_jobs.entrypoints.settings.tokens import ApiToken, Scope, new_token
from async_jobs.testing.builders import a_request, later
from async_jobs.testing.clocks import ManualClock
from tests.unit.api.callers import SHARED, a_token

HASH = hashlib.sha256(b"secret").hexdigest()


def recognised(access: Access, *presented: str | bytes) -> Caller | None:
    """Return who presents these values; None for nobody."""
    values = [each.encode() if isinstance(each, str) else each for each in presented]
    try:
        return access.caller(values)
    except Unauthenticated:
        return None


# --- Recognising -----------------------------------------------------------------------------


def test_the_shared_token_reaches_everything() -> None:
    """All tenants, all scopes."""
    caller = recognised(Access(SHARED, (), clock=ManualClock()), SHARED)

    assert caller == Caller(None, frozenset(Scope))
    assert caller is not None
    assert caller.reaches("anybody")


def test_each_token_is_told_from_the_others() -> None:
    """Several count at once, the shared one beside them."""
    tokens = [
        a_token("one", tenants=["acme"], scopes=[Scope.READ]),
        a_token("two", tenants=["globex"]),
    ]
    access = Access(SHARED, tokens, clock=ManualClock())

    assert recognised(access, "one") == Caller(frozenset({"acme"}), frozenset({Scope.READ}))
    assert recognised(access, "two") == Caller(frozenset({"globex"}), frozenset(Scope))
    assert recognised(access, SHARED) == Caller()
    assert recognised(access, "three") is None


@pytest.mark.parametrize(
    "presented",
    [
        (),
        ("",),
        (SHARED[:-1],),
        (SHARED + "x",),
        (SHARED.upper(),),
        (f" {SHARED}",),
        (hashlib.sha256(SHARED.encode()).hexdigest(),),
        ("x" * 100_000,),
        (b"\xff\xfe",),
        ("tökén",),
        ("\0",),
        (SHARED, SHARED),
    ],
    ids=range(12),
)
def test_anything_else_is_nobody(presented: tuple[str | bytes, ...]) -> None:
    """Cut, longer, in capitals, its hash, no text at all, or given twice."""
    assert recognised(Access(SHARED, (), clock=ManualClock()), *presented) is None


def test_a_token_counts_until_it_expires() -> None:
    """By the clock that is handed in; from that instant on no more."""
    clock = ManualClock()
    access = Access(None, [a_token("one", expires_at=later(60))], clock=clock)

    clock.advance(seconds=59.999)
    assert recognised(access, "one")
    clock.advance(seconds=0.001)
    assert recognised(access, "one") is None


@pytest.mark.parametrize("presented", [SHARED, "first", "last", "nobody", ""])
def test_every_entry_is_compared(monkeypatch: pytest.MonkeyPatch, presented: str) -> None:
    """Whoever it is, and at any place: what it costs tells nothing of the entries."""
    compared: list[tuple[bytes, bytes]] = []

    def comparing(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", comparing)
    tokens = [a_token("first"), a_token("expired", expires_at=later(-1)), a_token("last")]

    recognised(Access(SHARED, tokens, clock=ManualClock()), presented)

    assert len(compared) == 4
    assert {len(each) for pair in compared for each in pair} == {32}


# --- No token --------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [None, ""])
def test_without_a_token_it_says_what_to_set(shared: str | None) -> None:
    """Open by mistake is not possible."""
    with pytest.raises(ConfigurationError, match="ASYNC_JOBS_ENQUEUE_AUTH_TOKEN"):
        Access(shared, (), clock=ManualClock())


def test_without_a_token_everybody_may_be_let_in() -> None:
    """When that was said."""
    open_access = Access(None, (), clock=ManualClock(), allow_unauthenticated=True)

    assert open_access.is_open
    assert recognised(open_access) is ANYBODY
    assert recognised(open_access, "whatever") is ANYBODY


def test_with_a_token_nobody_else_is_let_in() -> None:
    """Saying that none is needed does not weaken those there are; nor does an expired one."""
    clock = ManualClock()
    expired = [a_token("one", expires_at=later(-1))]

    for access in (
        Access(SHARED, (), clock=clock, allow_unauthenticated=True),
        Access(None, expired, clock=clock, allow_unauthenticated=True),
    ):
        assert not access.is_open
        assert recognised(access) is None
        assert recognised(access, "one") is None


@pytest.mark.parametrize("shared", ["tökén", "a\nb", " a", "a ", "\x7f"])
def test_a_shared_token_that_no_header_can_carry_is_refused(shared: str) -> None:
    """It would let nobody in."""
    with pytest.raises(ConfigurationError, match="ASYNC_JOBS_ENQUEUE_AUTH_TOKEN: must be"):
        Access(shared, (), clock=ManualClock())


def test_the_same_token_twice_is_refused() -> None:
    """Which of the two would count?"""
    with pytest.raises(ConfigurationError, match="0 and 2 are the same"):
        Access(None, [a_token("one"), a_token("two"), a_token("one")], clock=ManualClock())


# --- Callers ---------------------------------------------------------------------------------


def test_a_caller_is_held_to_its_scopes() -> None:
    """Each of them by itself."""
    caller = Caller(None, frozenset({Scope.READ}))

    caller.check_scope(Scope.READ)
    for scope in (Scope.ENQUEUE, Scope.OPERATE):
        with pytest.raises(Forbidden):
            caller.check_scope(scope)


def test_a_caller_is_held_to_its_tenants() -> None:
    """All of those it names."""
    caller = Caller(frozenset({"acme", "globex"}))

    caller.check_tenants(["acme", "globex"])
    caller.check_tenants([])
    Caller().check_tenants(["anybody"])
    for names in (["initech"], ["acme", "initech"], ["ACME"], [""], ["*"]):
        with pytest.raises(Forbidden):
            caller.check_tenants(names)


@pytest.mark.parametrize(
    ("asked", "is_let_in"),
    [
        ({}, True),
        ({"queue": "slow"}, True),
        ({"use_case": "reports"}, False),
        ({"queue": "payments"}, False),
        ({"tenant_id": "globex"}, False),
    ],
)
def test_a_caller_is_held_to_its_use_cases_and_queues(
    asked: dict[str, str], is_let_in: bool
) -> None:
    """A job that names no queue goes where its use case says."""
    token, entry = new_token(
        tenants=["acme"], scopes=["enqueue"], use_cases=["notifications"], queues=["slow"]
    )
    access = Access(None, [ApiToken.model_validate(entry)], clock=ManualClock())
    caller = recognised(access, token)
    assert caller is not None
    request = a_request(**asked)

    if is_let_in:
        caller.check_requests([a_request(), request])
    else:
        with pytest.raises(Forbidden):
            caller.check_requests([a_request(), request])


@pytest.mark.parametrize(
    ("tenants", "only"), [(None, None), (["acme"], "acme"), (["acme", "globex"], None)]
)
def test_a_caller_with_one_tenant_need_not_name_it(tenants: list[str] | None, only: str) -> None:
    """Others must."""
    caller = Caller(None if tenants is None else frozenset(tenants))

    assert caller.only_tenant == only


# --- Entries ---------------------------------------------------------------------------------


def test_a_new_token_is_what_its_entry_says() -> None:
    """256 bits behind a prefix that scanners for secrets can look for."""
    token, entry = new_token(
        tenants=["b", "a"], scopes=["read"], expires_at=later(60), name="mailer"
    )

    assert re.fullmatch(r"ajt_[A-Za-z0-9_-]{43}", token)
    assert entry == {
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "tenants": ["a", "b"],
        "scopes": ["read"],
        "expires_at": later(60).isoformat(),
        "name": "mailer",
    }
    assert new_token()[0] != token


def test_a_new_token_reaches_everything_unless_told_otherwise() -> None:
    """And does not expire."""
    token, entry = new_token()

    assert {**entry, "sha256": ""} == {
        "sha256": "",
        "tenants": "*",
        "scopes": ["enqueue", "read", "operate", "admin", "payload"],
    }
    access = Access(None, [ApiToken.model_validate_json(json.dumps(entry))], clock=ManualClock())
    assert recognised(access, token) == Caller()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"tenants": []}, "tenants"),
        ({"tenants": ["a\0"]}, "tenants"),
        ({"use_cases": []}, "use_cases"),
        ({"queues": ["a\n"]}, "queues"),
        ({"scopes": []}, "scopes"),
        ({"name": ""}, "name"),
        ({"name": "a\n"}, "name"),
        ({"scopes": ["write"]}, "scopes"),
        ({"expires_at": later(1).replace(tzinfo=None)}, "expires_at"),
    ],
)
def test_a_new_token_is_refused_by_the_field(wrong: dict[str, Any], field: str) -> None:
    """In the words of the configuration."""
    with pytest.raises(ConfigurationError, match=f"^{field}: "):
        new_token(**wrong)


ENTRY: dict[str, Any] = {"sha256": HASH, "tenants": ["acme"], "scopes": ["read"]}


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": HASH[:-1]},
        {"sha256": HASH.upper()},
        {"sha256": "secret"},
        {"sha256": None},
        {"sha256": hashlib.sha256(b"").hexdigest()},
        {"tenants": None},
        {"tenants": []},
        {"tenants": "acme"},
        {"tenants": {"acme": 1}},
        {"tenants": [""]},
        {"tenants": [1]},
        {"tenants": ["a\n"]},
        {"scopes": "read"},
        {"scopes": []},
        {"scopes": ["READ"]},
        {"scopes": [["read"]]},
        {"expires_at": 1_900_000_000},
        {"expires_at": "2030-01-01T00:00:00"},
        {"expires_at": "soon"},
        {"expires": "2030-01-01T00:00:00Z"},
    ],
    ids=str,
)
def test_a_wrong_entry_is_refused(change: dict[str, Any]) -> None:
    """By one field; and without showing the hash."""
    with pytest.raises(ValidationError) as caught:
        ApiToken.model_validate(ENTRY | change)

    assert [each["loc"] for each in caught.value.errors()] == [tuple(change)]
    assert HASH not in str(caught.value)


def test_an_entry_shows_no_hash() -> None:
    """Not when it is printed or logged; whoever needs it asks for it."""
    token = ApiToken.model_validate(ENTRY | {"expires_at": "2030-01-01T13:00:00+01:00"})

    assert HASH not in f"{token} {token!r}"
    assert token.expires_at == later(0)
    assert token.expires_at.utcoffset() == timedelta(hours=1)
    assert ApiToken.model_validate(token.entry()) == token
