"""What tests of the HTTP API share: callers, bodies, and how a problem document is read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx
from fastapi import FastAPI

from async_jobs.adapters.http.wire import PROBLEM_MEDIA_TYPE, TOKEN_HEADER, Problem
from async_jobs.entrypoints.settings.tokens import ALL, ApiToken, Scope

SHARED = "shared-token"


def a_token(
    secret: str,
    *,
    tenants: Sequence[str] | str = ALL,
    scopes: Sequence[Scope] = tuple(Scope),
    expires_at: datetime | None = None,
) -> ApiToken:
    """Return the entry of a token."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    entry = {"sha256": digest, "tenants": tenants, "scopes": scopes, "expires_at": expires_at}
    return ApiToken.model_validate(entry)


def calling(app: FastAPI, token: str | None = SHARED) -> httpx.AsyncClient:
    """Return a client of an application in this process; an error in it is raised here."""
    headers = {} if token is None else {TOKEN_HEADER: token}
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)


def a_body(**overrides: Any) -> dict[str, Any]:
    """Return the body of an enqueue."""
    return {
        "tenant_id": "acme",
        "use_case": "notifications",
        "type": "send_email",
        "payload": {"to": "a@b.example"},
    } | overrides


def problem_in(response: httpx.Response, status: int, type: Problem) -> dict[str, Any]:
    """Return the problem document that a response has to be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM_MEDIA_TYPE
    document: dict[str, Any] = response.json()
    assert (document["type"], document["status"]) == (type, status)
    assert document["title"]
    assert document["detail"]
    return document


def invalid_field(response: httpx.Response) -> str:
    """Return the field that a 422 names."""
    document = problem_in(response, 422, Problem.INVALID_JOB)
    assert document["detail"] == f"{document['field']}: {document['problem']}"
    return str(document["field"])


class Unread:
    """A body that must not be read: the test fails when it is."""

    def __aiter__(self) -> Unread:
        return self

    async def __anext__(self) -> bytes:
        raise AssertionError("the body was read")
