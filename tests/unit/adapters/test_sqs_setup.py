"""What can be wrong with an SQS lane before anything is asked of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from async_jobs.adapters.sqs.client import region_of, whereabouts_of
from async_jobs.adapters.sqs.queue import SqsClient, SqsJobQueue
from async_jobs.domain.errors import ConfigurationError
from async_jobs.testing.clocks import ManualClock

URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/orders"
no_client = cast("SqsClient", cast("Any", None))


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("sqs.eu-central-1.amazonaws.com", "eu-central-1"),
        ("sqs.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("sqs-fips.us-east-2.amazonaws.com", "us-east-2"),
        ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("sqs.eu-central-1.api.aws", "eu-central-1"),
        ("vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
        ("eu-west-1.queue.amazonaws.com", "eu-west-1"),
        ("queue.amazonaws.com", "us-east-1"),
        ("localhost:4566", None),
        ("127.0.0.1:9324", None),
        ("sqs.eu-central-1.localhost.localstack.cloud:4566", None),
        ("sqs.eu-central-1.amazonaws.com.evil.example", None),
        ("[::1", None),
        ("", None),
    ],
)
def test_a_queues_url_tells_its_region(host: str, region: str | None) -> None:
    """An emulator's does not."""
    assert region_of(f"https://{host}/123456789012/orders") == region


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        (URL, None),
        ("https://queue.amazonaws.com/123456789012/orders", None),
        ("https://sqs-fips.us-east-2.amazonaws.com/123456789012/orders", None),
        (
            "https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com/123456789012/orders",
            "https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com",
        ),
        ("http://localhost:4566/000000000000/orders", "http://localhost:4566"),
        ("http://[::1]:9324/queue/orders", "http://[::1]:9324"),
    ],
)
def test_a_queue_that_is_not_at_a_public_address_is_asked_where_it_is(
    monkeypatch: pytest.MonkeyPatch, url: str, endpoint: str | None
) -> None:
    """A VPC endpoint is not passed by, an emulator's queue not looked for at AWS."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_SQS", raising=False)

    assert whereabouts_of([url])[1] == endpoint


def test_the_environments_endpoint_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was set for that: an emulator tells addresses that others may not reach."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://localhost:1")

    assert whereabouts_of(["http://emulator:4566/000000000000/orders"]) == (None, None)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/b", "one region; these are in eu-c"),
        ("http://localhost:4566/000000000000/b", "one address; these are at a public address"),
    ],
)
def test_one_client_reaches_all_queues_of_a_process(
    monkeypatch: pytest.MonkeyPatch, other: str, told: str
) -> None:
    """What it could not is told."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_SQS", raising=False)
    with pytest.raises(ConfigurationError, match=told):
        whereabouts_of([URL, other])


def test_a_fifo_queue_is_refused() -> None:
    """There a tenant's jobs would wait for one another."""
    with pytest.raises(ConfigurationError, match="'orders' must be a standard queue"):
        SqsJobQueue(no_client, "orders", f"{URL}.fifo", clock=ManualClock())


@pytest.mark.parametrize("seconds", [0, -1, 43_201, float("nan"), float("inf")])
def test_a_visibility_timeout_that_sqs_does_not_have_is_refused(seconds: float) -> None:
    """At most 12 hours."""
    with pytest.raises(ConfigurationError, match="visibility timeout of the SQS queue 'orders'"):
        SqsJobQueue(
            no_client, "orders", URL, clock=ManualClock(), visibility_timeout_seconds=seconds
        )
