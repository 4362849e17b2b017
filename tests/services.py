"""The real components that the tests run on, and where each comes from."""

import contextlib
import gc
import os
import secrets
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from async_jobs.adapters.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError

DSN_VARIABLE = "ASYNC_JOBS_TEST_DSN"
REQUIRED_VARIABLE = "ASYNC_JOBS_REQUIRE_SERVICES"
POSTGRES_IMAGE = "postgres:18"
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
def embedded_postgres(*, durable: bool) -> Iterator[EmbeddedPostgres]:
    """Yield a started server of one's own."""
    server = EmbeddedPostgres(durable=durable)
    try:
        server.start()
    except EmbeddedPostgresError as error:
        missing("Postgres", error)
    with server:
        yield server


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
    await _execute(server_dsn, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    finally:
        await _execute(server_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
