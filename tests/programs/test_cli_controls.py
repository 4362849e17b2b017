"""`pause`, `resume`, `limit`, `controls` and `audit`, against a database."""

from __future__ import annotations

import json

import pytest

from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from tests.kit.command_line import enqueued, refusal
from tests.kit.harness import Programs, free_port

OF_TYPE = ("--type", "send_email")


async def test_a_pause_is_ordered_explained_and_ended(on_database: Programs) -> None:
    """And the audit tells the story."""
    job_id = await enqueued(on_database, "send_email")
    run = on_database.run
    why = ("--reason", "the provider is down", "--actor", "ada")

    paused = json.loads((await run("pause", *OF_TYPE, *why, "--for", "2h", "--json")).stdout)
    again = await run("pause", *OF_TYPE, *why)
    listed = (await run("controls")).stdout
    explained = (await run("jobs", "explain", job_id)).stdout
    ended = (await run("resume", *OF_TYPE, "--reason", "it is back")).stdout
    audited = json.loads((await run("audit", "--json")).stdout)

    assert "a control of version 1 stands there, by 'ada'" in refusal(again, 1)
    assert paused["scope"] == {"type": "send_email"}
    assert (paused["limits"], paused["actor"], paused["until"] is None) == (None, "ada", False)
    assert "type 'send_email'" in listed
    assert "the provider is down" in listed
    assert explained.startswith("It is paused, like all of type 'send_email' by 'ada' (the prov")
    assert ended.startswith("ended: pause of type 'send_email' by ada until ")
    assert [each["action"] for each in audited] == ["resume", "pause"]
    assert audited[0]["reason"] == "it is back"
    assert audited[0]["before"] == audited[1]["after"]


async def test_limits_are_previewed_and_put(on_database: Programs) -> None:
    """A preview changes nothing."""
    mail = ("--use-case", "notifications", "--max-concurrent", "3", "--reason", "slow")

    preview = (await on_database.run("limit", *mail, "--preview")).stdout
    put = (await on_database.run("limit", *mail)).stdout
    (standing,) = json.loads((await on_database.run("controls", "--json")).stdout)
    status = (await on_database.run("status")).stdout

    assert preview.splitlines() == ["max_concurrent: 8 -> 3", "0 running jobs may end"]
    assert put.startswith("max_concurrent 3 of use_case 'notifications' by ")
    assert (standing["limits"], standing["reason"]) == ({"max_concurrent": 3}, "slow")
    assert "  3 (control)  " in status
    assert "control: max_concurrent 3 of use_case 'notifications' by " in status


async def test_controls_are_ordered_over_http(on_database: Programs) -> None:
    """In the name of the token, from the address of the caller."""
    on_database.settings[TOKEN_VARIABLE] = "the-token-of-a-test"
    port = str(free_port())
    api = on_database.start("api", "--port", port, "--log-format", "json")
    await api.has_logged("api_started")
    run, there = on_database.run, ("--url", f"http://127.0.0.1:{port}")
    why = ("--reason", "the provider is down")

    await run("pause", *OF_TYPE, *why, "--for", "2h", *there)
    ended = (await run("resume", *OF_TYPE, "--reason", "it is back", *there)).stdout
    audited = json.loads((await run("audit", "--json", *there)).stdout)

    assert ended.startswith("ended: pause of type 'send_email' by shared until ")
    assert [each["action"] for each in audited] == ["resume", "pause"]
    assert {(each["actor"], each["address"]) for each in audited} == {("shared", "127.0.0.1")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--use-case, --tenant, --type, --queue: one at least is needed"),
        ((*OF_TYPE, "--actor", "ada", "--url", "http://127.0.0.1:1"), "--actor: an API knows"),
        ((*OF_TYPE, "--for", "2 hours"), "--for: must be a number and a unit"),
    ],
)
async def test_wrong_use_is_refused(
    on_database: Programs, arguments: tuple[str, ...], told: str
) -> None:
    """With the option named, before anything is asked."""
    program = await on_database.run("pause", *arguments, "--reason", "x")

    assert told in refusal(program, 2)
