"""How statements are sent."""

from importlib import resources

import pytest

from async_jobs.adapters.postgres.statements import sql

STATEMENTS = sorted(
    path.name.removesuffix(".sql")
    for path in resources.files("async_jobs.adapters.postgres.sql").iterdir()
    if path.name.endswith(".sql")
)


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_first_word_of_a_statement_is_its_name(name: str) -> None:
    """By that word OpenTelemetry's instrumentation of asyncpg names a span; a comment that nothing
    stands before is taken off first.
    """
    text = sql(name)

    assert text.split()[0] == f"/*{name}*/"
    assert not text.startswith("/*")
