"""What an application may have taught its connections: codecs of its own, found out by asking.

JSON goes as text, whatever the codec. The other types that statements exchange have to arrive as
what asyncpg makes of them, or a job would be read wrong, or never found again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID
from weakref import WeakSet

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from async_jobs.domain.errors import ConfigurationError

# One value of each type.
_PROBE: Final = """
SELECT
    '01020304-0506-7708-890a-0b0c0d0e0f10'::uuid AS uuid,
    '2001-02-03 04:05:06.000007+00'::timestamptz AS timestamptz,
    '1 day 2.5 seconds'::interval AS interval,
    'ü'::text AS text, true AS bool,
    -2::smallint AS int2, -4::integer AS int4, 9007199254740993::bigint AS int8,
    0.5::double precision AS float8
"""
_EXPECTED: Final[dict[str, object]] = {
    "uuid": UUID("01020304-0506-7708-890a-0b0c0d0e0f10"),
    "timestamptz": datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
    "interval": timedelta(days=1, seconds=2.5),
    "text": "ü",
    "bool": True,
    "int2": -2,
    "int4": -4,
    "int8": 9_007_199_254_740_993,
    "float8": 0.5,
}
_checked: WeakSet[object] = WeakSet()


async def check_codecs(connection: asyncpg.Connection | PoolConnectionProxy) -> None:
    """Refuse a connection whose codecs give other values than asyncpg's own; asks it once.

    Raises:
        ConfigurationError: names the types, and what to do.
    """
    session = getattr(connection, "_con", connection)  # a pool lends proxies, each time another
    if session in _checked:
        return
    row = await connection.fetchrow(_PROBE)
    assert row is not None
    foreign = [
        name
        for name, value in _EXPECTED.items()
        if not isinstance(row[name], type(value)) or row[name] != value
    ]
    if foreign:
        raise ConfigurationError(
            f"the connection has a type codec of its own for {', '.join(foreign)}, and async_jobs"
            " cannot read its ids or times by it: hand in a connection or a pool without that"
            " codec (a pool's `init` sets it; connection.reset_type_codec takes it back)"
        )
    _checked.add(session)
