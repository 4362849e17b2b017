"""The job as a value: what copies of its parts share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.job import JsonValue, Payload, copied

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


def containers(value: JsonValue) -> list[int]:
    """Return the identities of everything in a value that can be changed."""
    match value:
        case dict():
            inner = [each for item in value.values() for each in containers(item)]
        case list():
            inner = [each for item in value for each in containers(item)]
        case _:
            return []
    return [id(value), *inner]


@given(st.dictionaries(st.text(), values))
def test_a_copy_is_equal_and_shares_nothing_that_can_be_changed(payload: Payload) -> None:
    """At any depth, with the order of the keys and the types of the numbers."""
    copy = copied(payload)

    assert repr(copy) == repr(payload)
    assert not set(containers(copy)) & set(containers(payload))
