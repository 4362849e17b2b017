"""The default client: one session and one client per process, made through aioboto3."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from async_jobs.adapters.sqs.errors import NO_REGION, opening
from async_jobs.adapters.sqs.queue import BATCHES_IN_FLIGHT, WAIT_SECONDS_MAX, SqsClient
from async_jobs.domain.errors import ConfigurationError
from async_jobs.extras import require

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = WAIT_SECONDS_MAX + 5
TRIES_MAX = 3
# One lane that sends, receives and settles at once; more lanes wait for one another's requests.
CONNECTIONS = 4 * BATCHES_IN_FLIGHT

_REGIONAL_HOST = re.compile(
    r"(?:[\w-]+\.)?sqs(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-\d+)\.(?:amazonaws\.com(?:\.cn)?"
    r"|vpce\.amazonaws\.com|api\.aws|api\.amazonwebservices\.com\.cn)"
    r"|(?:([a-z]{2}(?:-[a-z]+)+-\d+)\.)?queue\.amazonaws\.com(?:\.cn)?"
)


@asynccontextmanager
async def open_client(
    *,
    region: str | None = None,
    endpoint_url: str | None = None,
    connections: int = CONNECTIONS,
) -> AsyncIterator[SqsClient]:
    """Yield a client for the queues of one region, closed at the end.

    Credentials come from the default chain, so that the roles of ECS tasks, EC2 instances and
    pods work, and are refreshed before they expire.

    Args:
        region: the queues' region, see `region_of`; None for the one that AWS_REGION,
            AWS_DEFAULT_REGION or the profile names, in this order.
        endpoint_url: a VPC endpoint or an emulator, see `endpoint_of`; None for AWS, or for what
            AWS_ENDPOINT_URL_SQS and AWS_ENDPOINT_URL name.
        connections: the most connections to SQS. Each open `receive` takes one.

    Raises:
        ConfigurationError: aioboto3 is not installed, there is no region, or what the
            environment says of AWS is malformed.
    """
    async with AsyncExitStack() as stack:
        with opening():
            made = _make(region, endpoint_url, connections)
            client: SqsClient = await stack.enter_async_context(made)
        yield client


def _make(region: str | None, endpoint_url: str | None, connections: int) -> Any:
    require("the SQS transport", "aioboto3")
    import aioboto3
    from botocore.config import Config

    # ECS and Lambda set AWS_REGION, which boto alone does not read.
    session = aioboto3.Session(region_name=region or os.environ.get("AWS_REGION") or None)
    if not session.region_name:
        raise ConfigurationError(NO_REGION)
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": TRIES_MAX},
        max_pool_connections=connections,
        tcp_keepalive=True,
    )
    return session.client("sqs", endpoint_url=endpoint_url, config=config)


def whereabouts_of(queue_urls: Collection[str]) -> tuple[str | None, str | None]:
    """Return the region and the endpoint of some queues, as `open_client` takes them.

    Raises:
        ConfigurationError: one client cannot reach all of them.
    """
    regions = sorted({region_of(url) or "" for url in queue_urls} - {""})
    if len(regions) > 1:
        raise ConfigurationError(
            f"ASYNC_JOBS_SQS_QUEUE_…: the queues of one process must be in one region; these are"
            f" in {', '.join(regions)}"
        )
    endpoints = {endpoint_of(url) for url in queue_urls}
    if len(endpoints) > 1:
        told = " and ".join(sorted(each or "a public address of AWS" for each in endpoints))
        raise ConfigurationError(
            f"ASYNC_JOBS_SQS_QUEUE_…: the queues of one process must be at one address; these are"
            f" at {told}"
        )
    return next(iter(regions), None), next(iter(endpoints), None)


def endpoint_of(queue_url: str) -> str | None:
    """Return the address that a queue's URL leads to, where it is none that AWS's tools know.

    That is a VPC endpoint's or an emulator's; boto would send requests to the region's public
    address, or look for an emulator's queue at AWS. None for public addresses, and where
    AWS_ENDPOINT_URL_SQS or AWS_ENDPOINT_URL names another one.
    """
    if any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL")):
        return None
    region = region_of(queue_url)
    address = urlsplit(queue_url)
    if region is not None and not (address.hostname or "").endswith(".vpce.amazonaws.com"):
        return None
    return f"{address.scheme}://{address.netloc}"


def region_of(queue_url: str) -> str | None:
    """Return the region that a queue's URL names; None for an emulator's."""
    try:
        host = urlsplit(queue_url).hostname or ""
    except ValueError:
        return None
    found = _REGIONAL_HOST.fullmatch(host)
    if found is None:
        return None
    # The first region's old address does not name it.
    return found[1] or found[2] or "us-east-1"
