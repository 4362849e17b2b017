"""A system in memory that has something to show, and its dashboard on a port of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.domain.audit import Operator
from async_jobs.domain.controls import Scope as ControlScope
from async_jobs.domain.job import EnqueueJobRequest
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.presence import WorkerInfo
from async_jobs.entrypoints.dashboard.app import Dashboard, create_dashboard
from async_jobs.entrypoints.serving.asgi import serving
from async_jobs.entrypoints.settings.tokens import ApiToken
from async_jobs.ports.steering import ControlRequest
from async_jobs.testing.clocks import NOW
from async_jobs.testing.system import MemorySystem, memory_system

TOKEN = "a-token-of-operators"
HOSTILE = (
    '<img src=x onerror="document.title=1">',
    "'\"><script>document.title=2</script>",
    "javascript:alert(1)//{{ 7 * 7 }}",
    "\u202egnp.eman\u2069 \u200b\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "../../x?y=1&z=2#%00",
    "w" * 200,
)
"""Names that strangers may choose: each passes the bounds of names."""
MINUTES = 60


class Scene(NamedTuple):
    """A system, and what is in it."""

    system: MemorySystem
    dead_job: str
    pending_job: str


def registry() -> JobRegistry:
    """Return the handlers: one that works, and one that does not."""
    made = JobRegistry()

    @made.handler("send_email")
    async def send_email(ctx: JobContext, payload: dict[str, Any]) -> None:
        if payload.get("broken"):
            raise TimeoutError("the provider said nothing for 2 s")

    @made.handler("render_report")
    async def render_report(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        return {"pages": 3}

    for name in HOSTILE:
        made.handler(name)(render_report)
    return made


async def scene(*, hostile: bool = False, now: datetime = NOW, minutes: int = MINUTES) -> Scene:
    """Return a system that has worked for a while: some was late, some failed, some is paused."""
    names = list(HOSTILE) if hostile else []
    use_cases = {
        "notifications": UseCaseConfig(max_concurrent=20, default_delay_tolerance_seconds=30),
        "reports": UseCaseConfig(max_concurrent=4, default_delay_tolerance_seconds=120),
        "imports": UseCaseConfig(max_concurrent=2, default_delay_tolerance_seconds=600),
        **{name: UseCaseConfig(max_concurrent=3) for name in names},
    }
    system = memory_system(
        use_cases=use_cases,
        per_tenant_quotas={"acme": TenantQuota(weight=2)},
        registry=registry(),
        now=now - timedelta(minutes=minutes),
    )
    for minute in range(minutes):
        await _a_minute(system, minute)
    broken = {"broken": True, "to": "ada@acme.example"}
    labels = {"order": "1017", **{name[:50]: name[:100] for name in names}}
    dead = await _enqueue(system, "acme", "notifications", broken, max_attempts=1, labels=labels)
    await system.run_until_idle()
    for name in names:
        await _enqueue(system, name, name, {name: name}, type=name)
    await system.run_until_idle()
    await _pauses(system, names)
    pending = ""
    for number in range(7):
        pending = await _enqueue(system, "globex", "imports", {"file": number}, "render_report")
    for name in names:
        await _enqueue(system, name, name, {name: name}, type=name)
    await _announce(system, names)
    for _ in range(9):
        await _enqueue(system, "acme", "notifications", {"to": "a@b.example"})
    for _ in range(5):
        await _enqueue(system, "initech", "reports", {}, "render_report")
    await system.scheduler.tick()
    return Scene(system, dead, pending)


async def _a_minute(system: MemorySystem, minute: int) -> None:
    for tenant, jobs in (("acme", 6 + minute % 5), ("globex", 4), ("initech", minute % 3)):
        for _ in range(jobs):
            await _enqueue(system, tenant, "notifications", {"to": "a@b.example"})
    for _ in range(2):
        await _enqueue(system, "acme", "reports", {}, "render_report")
    system.clock.advance(4)
    if not 31 <= minute <= 33:  # for some minutes nobody worked
        await system.run_until_idle()
    system.clock.advance(56)


async def _enqueue(
    system: MemorySystem,
    tenant: str,
    use_case: str,
    payload: dict[str, Any],
    type: str = "send_email",
    **more: Any,
) -> str:
    enqueued = await system.service.enqueue(
        EnqueueJobRequest(tenant_id=tenant, use_case=use_case, type=type, payload=payload, **more)
    )
    return str(enqueued.job_id)


async def _pauses(system: MemorySystem, names: Sequence[str]) -> None:
    operator = Operator(actor="ada", address="10.1.2.3")
    request = ControlRequest(
        scope=ControlScope(use_case="imports"),
        reason="the disks are slow",
        until=system.clock.now() + timedelta(hours=2),
    )
    await system.steering.put(request, operator=operator)
    limit = ControlRequest(
        scope=ControlScope(use_case="reports"), reason="fewer at once", limits={"max_concurrent": 2}
    )
    await system.steering.put(limit, operator=operator)
    for name in names:
        request = ControlRequest(scope=ControlScope(tenant_id=name, type=name), reason=name[:200])
        await system.steering.put(request, operator=Operator(actor=name[:100]))


async def _announce(system: MemorySystem, names: Sequence[str]) -> None:
    now = system.clock.now()
    queues = ("notifications", "reports", "imports", *names)
    for number in range(1, 4):
        await system.workers.announce(
            WorkerInfo(
                worker_id=f"{number}c1f0c2d7a5e4b31",
                queues=queues,
                slots=16,
                busy=number * 4,
                host=f"ip-10-0-0-{number}",
                version="0.9.0",
                seen_at=now,
                alive_until=now + timedelta(days=1),
                transport="outbox",
                types=("send_email", "render_report", *names),
            )
        )


def dashboard_of(
    system: MemorySystem, *, tokens: Sequence[ApiToken] = (), **options: Any
) -> Dashboard:
    """Return the dashboard of a system."""
    given: dict[str, Any] = {"auth_token": TOKEN, "name": "staging", "clock": system.clock}
    given |= options
    return create_dashboard(
        lambda: system.service,
        operations_factory=lambda: system.operations,
        reports_factory=lambda: system.reports,
        steering_factory=lambda: system.steering,
        search_factory=lambda: system.search,
        bulk_factory=lambda: system.bulk,
        tokens=tokens,
        **given,
    )


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an application on a port of this machine; yield its address."""
    async with serving(app, host="127.0.0.1", port=0, option="--port") as serves:
        yield f"http://127.0.0.1:{serves.port}"
