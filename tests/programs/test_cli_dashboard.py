"""The dashboard beside the API and alone, in processes."""

from __future__ import annotations

import re

import httpx

from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from tests.kit.command_line import SECRET, enqueued, refusal
from tests.kit.harness import Programs

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


async def test_a_dashboard_without_a_token_does_not_start(cli: Programs) -> None:
    """Unless somebody says that everybody may come in."""
    told = refusal(await cli.run("dashboard"), 2)

    assert "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN" in told
    assert "--no-auth" in told


async def test_the_same_pages_beside_an_api_and_on_a_remote_one(on_database: Programs) -> None:
    """Both act on the same jobs, and neither waits for open streams when it is stopped."""
    job_id = await enqueued(on_database, "send_email")
    on_database.settings[TOKEN_VARIABLE] = SECRET
    api = on_database.start("api", "--port", "0", "--dashboard", "--log-format", "json")
    await api.has_logged("api_started")
    url = f"http://127.0.0.1:{api.logged('api_started')[0]['port']}"
    alone = on_database.start(
        "dashboard", "--port", "0", "--url", url, "--name", "far away", "--log-format", "json"
    )
    await alone.has_logged("dashboard_started")
    port = alone.logged("dashboard_started")[0]["port"]
    async with (
        httpx.AsyncClient(base_url=f"{url}/dashboard") as near,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as far,
    ):
        for browser in (near, far):
            answer = await browser.post("/sign-in", data={"token": SECRET}, headers=SAME_ORIGIN)
            assert answer.status_code == 303
        for path in ("", "use-cases", "tenants", "jobs", "fleet", "controls", "audit"):
            assert (await far.get(f"/{path}")).status_code == 200, path
        assert "far away" in (await far.get("/")).text
        pause = {"kind": "pause", "type": "send_email", "reason": "down", "version": "0"}
        await far.post("/control/put", data=pause, headers=SAME_ORIGIN)
        assert "down" in (await near.get("/controls")).text
        cancelled = await far.post("/job/cancel", data={"id": job_id}, headers=SAME_ORIGIN)
        assert cancelled.status_code == 303
        shown = (await near.get("/job", params={"id": job_id})).text
        assert re.search(r'class="state cancelled"', shown)
        assert 'href="/dashboard/tenant?name=' in shown
        async with near.stream("GET", "/live") as one, far.stream("GET", "/live") as other:
            assert (one.status_code, other.status_code) == (200, 200)
            alone.terminate()
            assert await alone.ended() == 0
            api.terminate()
            assert await api.ended() == 0
    assert alone.logged("dashboard_stopped")
    assert api.logged("api_stopped")
    assert SECRET not in api.stderr + alone.stderr
