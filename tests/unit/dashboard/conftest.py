"""The dashboard over a system in memory, and browsers that keep cookies and run no script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import httpx
import pytest

from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.testing.system import MemorySystem
from tests.kit.dashboard import Scene, dashboard_of, scene
from tests.unit.api.callers import a_token

TOKENS = (
    a_token("reader", scopes=[Scope.READ]),
    a_token("operator", scopes=[Scope.READ, Scope.OPERATE]).model_copy(update={"name": "ada"}),
    a_token("enqueuer", scopes=[Scope.ENQUEUE]),
    a_token("of-acme", tenants=["acme"]),
    a_token("of-two", tenants=["acme", "globex"]),
)
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
SignIn: TypeAlias = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def world() -> Scene:
    """A system that has worked for some minutes."""
    return await scene(minutes=3)


@pytest.fixture
def system(world: Scene) -> MemorySystem:
    """That system."""
    return world.system


@pytest.fixture
async def sign_in(system: MemorySystem) -> AsyncIterator[SignIn]:
    """Returns a browser, signed in by a token unless it is None."""
    app = dashboard_of(system, tokens=TOKENS)
    async with AsyncExitStack() as stack:

        async def browser(token: str | None, **options: Any) -> httpx.AsyncClient:
            transport = httpx.ASGITransport(app)
            made = httpx.AsyncClient(
                transport=transport, base_url="https://jobs.example", **options
            )
            client = await stack.enter_async_context(made)
            if token is not None:
                answer = await client.post("/sign-in", data={"token": token}, headers=SAME_ORIGIN)
                assert answer.status_code == 303, answer.text
            return client

        yield browser
