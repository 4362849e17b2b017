#!/usr/bin/env bash
# A program with a container of dependency-injector, and without a web server, imports FastAPI: by
# `dependency_injector.containers`, if it is installed, for the sake of wiring that the program does
# not use. `dependency_injector.providers` alone does not. Where API and workers share an image,
# each worker imports it at its start.
#
# Seen: dependency-injector 4.49.1, fastapi 0.165.0, Python 3.11.7:
#   modules, and whether FastAPI is among them
#   without FastAPI, providers and containers: 155 False
#   with it, providers:                        174 False
#   with it, containers:                       400 True
# Exits with 0 as long as that is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
add() { venv/bin/pip install --quiet --disable-pip-version-check "$@"; }
after() {
    venv/bin/python -c "
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f'dependency_injector.{name}')
print(len(sys.modules), 'fastapi' in sys.modules)" "$@"
}
add dependency-injector==4.49.1
alone=$(after providers containers)
add fastapi==0.165.0
providers=$(after providers)
containers=$(after containers)
echo "modules, and whether FastAPI is among them"
echo "without FastAPI, providers and containers: $alone"
echo "with it, providers:                        $providers"
echo "with it, containers:                       $containers"
[[ $alone == *False && $providers == *False && $containers == *True ]] || {
    echo "no longer so"
    exit 1
}
((${containers% *} > 2 * ${alone% *})) || {
    echo "it costs less now"
    exit 1
}
