"""What the text of a JSON column is read as."""

from __future__ import annotations

import json

import pytest

from async_jobs.adapters.postgres.rows import decoded

NINES = "9" * 400


@pytest.mark.parametrize(
    "number",
    [
        "1e400",
        "-1E400",
        "1.5e+0400",
        "10e308",
        f"{NINES}.0",
        f"0.0{NINES}e311",
        f"-{NINES[:210]}.5e99",
        f"{NINES[:250]}e60",
    ],
)
@pytest.mark.parametrize("around", ["%s", '{"a":%s}', '{"a": [1, %s ]}', '{"text":"é","a":[%s,0]}'])
def test_a_number_that_is_not_finite_is_no_value(number: str, around: str) -> None:
    """Nobody could show it: JSON has no word for it."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        decoded(around.replace("%s", number))


@pytest.mark.parametrize(
    "text",
    [
        "1e308",
        "-1.7976931348623157E+308",
        "[1e-400, 0e400, 5e-324]",
        f'{{"a":[{NINES[:300]}, 0.{NINES}, {NINES}e-300]}}',
        f'{{"1e400":"1e400","b":["{NINES}", "ab12e345", -9223372036854775808]}}',
    ],
)
def test_all_else_is_read_as_python_reads_it(text: str) -> None:
    """Whatever looks like such a number."""
    assert decoded(text) == json.loads(text)
