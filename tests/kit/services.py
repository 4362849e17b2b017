"""The real components that the tests run on, and where each comes from."""

import contextlib
import functools
import gc
import logging
import os
import secrets
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from async_jobs.adapters.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError

DSN_VARIABLE = "ASYNC_JOBS_TEST_DSN"
SQS_VARIABLE = "ASYNC_JOBS_TEST_SQS_ENDPOINT"
REQUIRED_VARIABLE = "ASYNC_JOBS_REQUIRE_SERVICES"
POSTGRES_IMAGE = "postgres:18"
SQS_IMAGE = "softwaremill/elasticmq-native:1.7.1"
SQS_PORT = 9324
# What an emulator accepts: given to clients by hand, to processes by their environment.
AWS_REGION = "eu-central-1"
AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": AWS_REGION,
}
DOCKER_TIMEOUT_SECONDS = 2


def missing(service: str, reason: object) -> NoReturn:
    """Skip what needs the service; fail where nothing may be skipped, as in CI."""
    if os.environ.get(REQUIRED_VARIABLE) == "1":
        pytest.fail(f"{service} is missing, and {REQUIRED_VARIABLE}=1: {reason}", pytrace=False)
    pytest.skip(f"{service} is missing: {reason}")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yield the DSN of a server on which databases may be created and dropped.

    It is the one that `ASYNC_JOBS_TEST_DSN` names, else a container if a Docker daemon answers,
    else the embedded server. The latter two are this process's own, and end with it.
    """
    given = os.environ.get(DSN_VARIABLE)
    if given:
        yield given
    elif docker_answers():
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer(POSTGRES_IMAGE, driver=None) as container:
            yield container.get_connection_url()
    else:
        with embedded_postgres(durable=False) as server:
            yield server.dsn


@contextlib.contextmanager
def embedded_postgres(
    *, durable: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[EmbeddedPostgres]:
    """Yield a started server of one's own."""
    server = EmbeddedPostgres(durable=durable, settings=settings)
    try:
        server.start()
    except EmbeddedPostgresError as error:
        missing("Postgres", error)
    with server:
        yield server


@contextlib.contextmanager
def sqs() -> Iterator[str]:
    """Yield the URL of an endpoint that speaks SQS and takes any credentials.

    It is the one that `ASYNC_JOBS_TEST_SQS_ENDPOINT` names, else a container if a Docker daemon
    answers, else a server in a thread. The latter two are this process's own, and end with it.
    """
    given = os.environ.get(SQS_VARIABLE)
    if given:
        yield given
    elif docker_answers():
        with _elasticmq() as url:
            yield url
    else:
        with _moto() as url:
            yield url


@contextlib.contextmanager
def _elasticmq() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import PortWaitStrategy

    container = DockerContainer(SQS_IMAGE).with_exposed_ports(SQS_PORT)
    with container.waiting_for(PortWaitStrategy(SQS_PORT)):
        yield f"http://{container.get_container_host_ip()}:{container.get_exposed_port(SQS_PORT)}"


@contextlib.contextmanager
def _moto() -> Iterator[str]:
    try:
        from moto.server import ThreadedMotoServer  # takes a second
    except ImportError as error:
        missing("SQS", error)
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # it tells of every request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def sqs_client(endpoint_url: str, **config: Any) -> AsyncIterator[Any]:
    """Yield a client with test credentials; `config` is botocore's, e.g. a short `read_timeout`.

    It makes each request once, unless `retries` says otherwise.
    """
    from botocore.config import Config

    settings = Config(**{"retries": {"total_max_attempts": 1}, **config})
    made = _aws_session().client("sqs", endpoint_url=endpoint_url, config=settings)
    async with made as client:
        yield client


@functools.cache
def _aws_session() -> Any:
    """Return the one that all clients are made by: it keeps what takes long to read."""
    import aioboto3

    return aioboto3.Session(
        aws_access_key_id=AWS_ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        region_name=AWS_REGION,
    )


@contextlib.asynccontextmanager
async def sqs_queue(client: Any) -> AsyncIterator[str]:
    """Yield the URL of a new, empty queue; delete it afterwards."""
    answer = await client.create_queue(QueueName=f"test-{secrets.token_hex(8)}")
    url: str = answer["QueueUrl"]
    try:
        yield url
    finally:
        await client.delete_queue(QueueUrl=url)


def docker_answers() -> bool:
    """Tell whether there is a Docker daemon; constructing a container raises where none is."""
    import docker  # takes a third of a second
    from docker.errors import DockerException

    with warnings.catch_warnings():
        # The client forgets to close the socket of a connection that failed.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with contextlib.closing(docker.from_env(timeout=DOCKER_TIMEOUT_SECONDS)) as client:
                return bool(client.ping())
        except DockerException:
            return False
        finally:
            gc.collect()


async def prepare_template(dsn: str) -> None:
    """Make the database that every test's database is copied from what a deployment has."""
    # Not at the top, so that a broken store fails its own tests and not all.
    from async_jobs.adapters.postgres.migrate import migrate

    await migrate(dsn)


@contextlib.asynccontextmanager
async def database(server_dsn: str, *, template_dsn: str | None = None) -> AsyncIterator[str]:
    """Yield the DSN of a new database, empty or a copy of the template's; drop it afterwards."""
    name = f"test_{secrets.token_hex(8)}"
    template = "template1" if template_dsn is None else urlsplit(template_dsn).path[1:]
    connection = await asyncpg.connect(server_dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
        finally:
            if connection.is_closed():  # a test may have ended all of the server's
                connection = await asyncpg.connect(server_dsn)
            await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()
