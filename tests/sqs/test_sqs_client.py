"""The default SQS client: where it takes its region, its endpoint and its credentials from."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from async_jobs.adapters.sqs.client import TRIES_MAX, open_client
from async_jobs.adapters.sqs.queue import SqsJobQueue
from async_jobs.domain.errors import ConfigurationError, Unavailable
from async_jobs.host import SystemClock
from async_jobs.testing.builders import a_handoff
from tests.kit import services
from tests.sqs.wire import Reply, Wire, is_refused, served, wire_to

QUEUE_URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/orders"
clock = SystemClock()


class TaskRole:
    """What an ECS task asks for its credentials: new ones each time, which soon expire.

    Attributes:
        url: for AWS_CONTAINER_CREDENTIALS_FULL_URI.
        answers: how often it has answered; the nth answer holds the key `ASIAn`.
        works: False to answer nothing but errors.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers = 0
        self.works = True

    async def answer(self, headers: Mapping[str, str], raw: bytes) -> Reply:
        """Answer a request for credentials."""
        if not self.works:
            return Reply(500, b"{}")
        self.answers += 1
        credentials = {
            "AccessKeyId": f"ASIA{self.answers}",
            "SecretAccessKey": "secret",
            "Token": f"session-token-{self.answers}",
            # So soon that every request has to ask again.
            "Expiration": (clock.now() + timedelta(minutes=5)).isoformat(),
        }
        return Reply(200, json.dumps(credentials).encode(), "application/json")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of AWS is set up, whatever the machine has."""
    for variable in (
        *services.AWS_ENVIRONMENT,
        "AWS_REGION",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SQS",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
async def wire(sqs_endpoint: str) -> AsyncIterator[Wire]:
    async with wire_to(sqs_endpoint) as wire:
        yield wire


@pytest.fixture
async def url(sqs_endpoint: str) -> AsyncIterator[str]:
    async with services.sqs_client(sqs_endpoint) as client, services.sqs_queue(client) as url:
        yield url


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment, and no region."""
    for variable, value in services.AWS_ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AWS_DEFAULT_REGION")


@pytest.fixture
async def task_role(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskRole]:
    """The credentials of an ECS task."""
    role = TaskRole()
    async with served(role.answer) as role.url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.url)
        yield role


def region_in(wire: Wire) -> str:
    """Return the region for which the last request was signed."""
    return wire.calls[-1].headers["authorization"].partition("Credential=")[2].split("/")[2]


# --- region and endpoint ---


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("environment", "region", "chosen"),
    [
        ({"AWS_REGION": "eu-west-1"}, None, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, None, "eu-west-2"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, None, "eu-west-1"),
        ({"AWS_REGION": "eu-west-1"}, "eu-north-1", "eu-north-1"),
        ({}, "eu-north-1", "eu-north-1"),
    ],
)
async def test_the_region_is_the_queues_or_the_environments(
    monkeypatch: pytest.MonkeyPatch,
    wire: Wire,
    url: str,
    environment: dict[str, str],
    region: str | None,
    chosen: str,
) -> None:
    """What ECS sets counts, which boto alone does not read; so does AWS_ENDPOINT_URL."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    async with open_client(region=region) as client:
        await SqsJobQueue(client, "orders", url, clock=clock).send([a_handoff()])

    assert region_in(wire) == chosen


@pytest.mark.usefixtures("keys")
async def test_expired_credentials_that_were_just_given_out_pass(
    wire: Wire, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore raises a bare RuntimeError then; a worker waits for others."""
    async with open_client(region=services.AWS_REGION, endpoint_url=wire.url) as client:

        async def refused(*args: object, **fields: object) -> None:
            raise RuntimeError(
                "Credentials were refreshed, but the refreshed credentials are still expired."
            )

        monkeypatch.setattr(client, "_make_api_call", refused)
        with pytest.raises(Unavailable, match="no valid credentials for the queue 'orders'"):
            await SqsJobQueue(client, "orders", url, clock=clock).receive(
                max_messages=1, wait_seconds=0
            )


@pytest.mark.usefixtures("keys")
async def test_without_a_region_there_is_no_client() -> None:
    """It says what to set."""
    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        async with open_client():
            pass


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("endpoint_url", ["nonsense", "http://user:hunter2@[::1"])
async def test_a_malformed_endpoint_is_told_without_being_quoted(endpoint_url: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError) as caught:
        async with open_client(region="eu-west-1", endpoint_url=endpoint_url):
            pass

    assert "hunter2" not in str(caught.value)


async def test_a_profile_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the environment's fault."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(ConfigurationError, match="nobody"):
        async with open_client(region="eu-west-1"):
            pass


async def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aioboto3 is needed for the default client only."""
    monkeypatch.setitem(sys.modules, "aioboto3", None)

    with pytest.raises(ConfigurationError, match=r"async-jobs\[sqs\]"):
        async with open_client(region="eu-west-1"):
            pass


@pytest.mark.usefixtures("keys")
async def test_what_goes_wrong_inside_is_left_as_it_is(wire: Wire) -> None:
    """The client is closed, and the error is the caller's own."""
    with pytest.raises(ValueError, match="my own"):
        async with open_client(region=services.AWS_REGION, endpoint_url=wire.url):
            raise ValueError("my own")


# --- retries ---


@pytest.mark.usefixtures("keys")
async def test_a_throttled_request_is_tried_again(wire: Wire, url: str) -> None:
    """After a pause with jitter, which is botocore's."""
    wire.on("SendMessageBatch", is_refused("ThrottlingException"), at={1})

    async with open_client(region=services.AWS_REGION, endpoint_url=wire.url) as client:
        (sent,) = await SqsJobQueue(client, "orders", url, clock=clock).send([a_handoff()])

    assert sent.error is None
    assert len(wire.calls) == 2


@pytest.mark.usefixtures("keys")
async def test_tries_are_bounded(wire: Wire, url: str) -> None:
    """Then the caller's own backoff begins."""
    wire.on("ReceiveMessage", is_refused("ThrottlingException"))

    async with open_client(region=services.AWS_REGION, endpoint_url=wire.url) as client:
        with pytest.raises(Unavailable, match="ThrottlingException"):
            await SqsJobQueue(client, "orders", url, clock=clock).receive(
                max_messages=1, wait_seconds=0
            )

    assert len(wire.calls) == TRIES_MAX


# --- credentials ---


async def test_rotated_credentials_are_taken_up(task_role: TaskRole, wire: Wire, url: str) -> None:
    """By the same client, from the role of the task."""
    async with open_client(region=services.AWS_REGION, endpoint_url=wire.url) as client:
        queue = SqsJobQueue(client, "orders", url, clock=clock)
        first = await queue.send([a_handoff()])
        second = await queue.receive(max_messages=10, wait_seconds=1)
        third = await queue.ack(second)

    assert [sent.error for sent in first] == [acked.error for acked in third] == [None]
    used = [call.access_key for call in wire.calls]
    assert len(set(used)) == len(used) == 3
    assert [call.headers["x-amz-security-token"] for call in wire.calls] == [
        key.replace("ASIA", "session-token-") for key in used
    ]


@pytest.mark.parametrize(
    "code",
    [
        "ExpiredToken",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
    ],
)
async def test_credentials_that_are_refused_may_be_about_to_change(
    task_role: TaskRole, wire: Wire, url: str, code: str
) -> None:
    """A worker waits for it; what SQS says may quote the token, and is kept out of the logs."""
    wire.on("ReceiveMessage", is_refused(code, "session-token-1", status=403), at={1})

    async with open_client(region=services.AWS_REGION, endpoint_url=wire.url) as client:
        queue = SqsJobQueue(client, "orders", url, clock=clock)
        with pytest.raises(Unavailable, match=code) as caught:
            await queue.receive(max_messages=1, wait_seconds=0)
        again = await queue.receive(max_messages=1, wait_seconds=0)

    assert again == []
    assert "session-token" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_a_role_that_cannot_be_asked_for_is_waited_for(
    task_role: TaskRole, wire: Wire, url: str
) -> None:
    """Once it answers again, so does the queue."""
    async with open_client(region=services.AWS_REGION, endpoint_url=wire.url) as client:
        queue = SqsJobQueue(client, "orders", url, clock=clock)
        await queue.send([a_handoff()])
        task_role.works = False
        with pytest.raises(Unavailable, match="orders"):
            await queue.receive(max_messages=1, wait_seconds=0)
        task_role.works = True
        received = await queue.receive(max_messages=1, wait_seconds=1)

    assert len(received) == 1


async def test_without_credentials_nothing_can_be_asked(wire: Wire) -> None:
    """That is not going to change by itself."""
    async with open_client(region=services.AWS_REGION, endpoint_url=wire.url) as client:
        queue = SqsJobQueue(client, "orders", QUEUE_URL, clock=clock)
        with pytest.raises(ConfigurationError, match="NoCredentialsError"):
            await queue.receive(max_messages=1, wait_seconds=0)

    assert not wire.calls
