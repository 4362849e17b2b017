"""What can be wrong with an SQS lane before anything is asked of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from async_jobs.adapters.sqs.client import region_of
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
