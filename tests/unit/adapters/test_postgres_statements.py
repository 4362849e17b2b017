"""How statements are sent."""

from pathlib import Path

import pytest

from async_jobs.adapters.postgres import sql as folder
from async_jobs.adapters.postgres.statements import sql, statements

STATEMENTS = sorted(statements())


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_first_word_of_a_statement_is_its_name(name: str) -> None:
    """By that word OpenTelemetry's instrumentation of asyncpg names a span; a comment that nothing
    stands before is taken off first.
    """
    text = sql(name)

    assert text.split()[0] == f"/*{name}*/"
    assert not text.startswith("/*")


def test_a_name_is_that_of_one_statement() -> None:
    """Whichever folder it is in."""
    files = Path(folder.__path__[0]).rglob("*.sql")

    assert sorted(path.stem for path in files) == STATEMENTS
