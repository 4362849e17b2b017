"""Renew what the dashboard serves of others: files of packages of the npm registry.

python -m tools.vendored_files            fetches each that VENDORED.json names, notes its sum
python -m tools.vendored_files --check    exits 1 if a file is not what was noted; offline
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

REGISTRY: Final = "https://registry.npmjs.org"
FOLDER: Final = (
    Path(__file__).parents[1] / "async_jobs" / "entrypoints" / "dashboard" / "static" / "vendor"
)
LIST: Final = "VENDORED.json"
SECONDS: Final = 60


def differing(folder: Path = FOLDER) -> Iterator[str]:
    """Yield what is not as the list has it: files that are missing, changed, or not listed."""
    listed: dict[str, dict[str, str]] = json.loads((folder / LIST).read_text("utf-8"))
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            yield f"{name} is not the file of {entry['package']} {entry['version']}"
    for path in sorted(folder.iterdir()):
        if path.name not in {LIST, *listed}:
            yield f"{path.name} is not listed"


def renew(folder: Path = FOLDER) -> None:
    """Fetch every listed file, and note the sum of each."""
    listed: dict[str, dict[str, str]] = json.loads((folder / LIST).read_text("utf-8"))
    packages: dict[tuple[str, str], bytes] = {}
    for name, entry in listed.items():
        which = entry["package"], entry["version"]
        if which not in packages:
            packages[which] = _package(*which)
        with tarfile.open(fileobj=io.BytesIO(packages[which])) as archive:
            member = archive.extractfile(entry["path"])
            if member is None:
                raise SystemExit(f"{entry['package']} has no file {entry['path']}")
            data = member.read()
        (folder / name).write_bytes(data)
        entry["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / LIST).write_text(json.dumps(listed, indent=2) + "\n", "utf-8")


def _package(name: str, version: str) -> bytes:
    """Return the archive of a package, if it has the sum that the registry tells."""
    told: dict[str, Any] = json.loads(_fetched(f"{REGISTRY}/{name}/{version}"))
    archive = _fetched(told["dist"]["tarball"])
    algorithm, _, wanted = told["dist"]["integrity"].partition("-")
    found = base64.b64encode(hashlib.new(algorithm, archive).digest()).decode()
    if found != wanted:
        raise SystemExit(f"{name} {version} is not what the registry says it is")
    return archive


def _fetched(url: str) -> bytes:
    if not url.startswith(f"{REGISTRY}/"):
        raise SystemExit(f"{url} is not of {REGISTRY}")
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        data: bytes = answer.read()
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """Renew or check; returns 0 when all is well."""
    parser = argparse.ArgumentParser(prog="python -m tools.vendored_files")
    parser.add_argument("--check", action="store_true", help="fetch nothing; exit 1 on a change")
    if not parser.parse_args(arguments).check:
        renew()
    problems = list(differing())
    for each in problems:
        sys.stderr.write(f"{each}; run `python -m tools.vendored_files`\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
