"""The README's quick start on AWS, typed as it stands, against an emulator."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kit import services
from tests.kit.harness import ROOT, environment, eventually, free_port

_BLOCK = re.compile(
    r"<!-- aws-quick-start:begin -->\n```\n(.*?)```\n<!-- aws-quick-start:end -->", re.DOTALL
)
TYPED_PORT = "8000"
ASK = "async-jobs jobs list --url $URL --status succeeded --json"


class Shell:
    """A shell with the quick start typed into it; asks for what has succeeded at each `ask`."""

    def __init__(self, script: str, settings: Mapping[str, str], directory: Path) -> None:
        self._written = directory / "written"
        with self._written.open("wb") as written:
            self._process = subprocess.Popen(
                ["bash", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                env=environment(settings),
                cwd=directory,
                text=True,
                start_new_session=True,  # so that its background jobs can be ended with it
            )
        self.told = ""

    def ask(self) -> list[Any]:
        """Return the jobs that have succeeded, as the API lists them."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(file=process.stdin, flush=True)
        while not (line := process.stdout.readline()).startswith('{"jobs"'):
            assert line, f"the shell ended: {self._written.read_text()}"
            self.told += line
        jobs: list[Any] = json.loads(line)["jobs"]
        return jobs

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


async def test_the_quick_start_works(
    empty_database_dsn: str, sqs_endpoint: str, tmp_path: Path
) -> None:
    """Every line succeeds, and the job it enqueues is executed and seen over HTTP."""
    (typed,) = _BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    assert typed.count(TYPED_PORT) == 2
    port = str(free_port())  # somebody may listen on the one that the README names
    script = f"set -euo pipefail\n{typed.replace(TYPED_PORT, port)}\nwhile read -r; do {ASK}; done"
    # Scripts of packages do not run from a directory with a space in its name; ours do.
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m awscli "$@"\n')
    aws.chmod(0o755)
    path = [str(aws.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    settings = {
        **services.AWS_ENVIRONMENT,
        "AWS_ENDPOINT_URL": sqs_endpoint,
        "ASYNC_JOBS_DB_DSN": empty_database_dsn,
        "PATH": os.pathsep.join(path),
    }
    shell = Shell(script, settings, tmp_path)
    try:

        async def has_succeeded() -> list[Any]:
            return await asyncio.to_thread(shell.ask)

        (job,) = await eventually(has_succeeded, "the job succeeds")
    finally:
        shell.close()

    assert (job["tenant_id"], job["type"]) == ("acme", "send_email")
    assert re.search(r"acme +notifications +send_email +(pending|running|succeeded)", shell.told)
