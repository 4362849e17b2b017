"""The tutorial, typed as it stands: each file is written and each command run, in order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.kit.harness import ROOT, answer, environment, eventually, free_port
from tests.kit.pages import Block, blocks_of

PAGE = ROOT / "docs" / "tutorial.md"
FILE = re.compile(r"# (?P<name>[\w./]+)\n(?P<text>.*)", re.DOTALL)
DSN = "postgresql://…"
PLUGINS = ("pytest_asyncio.plugin", "async_jobs.testing.plugin", "no:cacheprovider")


class Reader:
    """Types what the tutorial shows, into an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.said = ""
        self._folder = folder
        self._port = free_port()
        self._in_background: list[subprocess.Popen[bytes]] = []
        self._address = ""
        for name in ("shop", "tests"):
            (folder / name).mkdir()

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text, "utf-8")

    async def type(self, commands: str) -> None:
        """Run a block in a shell that keeps what was exported before."""
        commands = commands.replace(DSN, self._address)
        if "async-jobs dev" in commands:
            await self._start_dev(commands)
            return
        written = self._folder / "written"
        kept = self._folder / "exported"
        script = f"set -euo pipefail; touch {kept}; . {kept}\n{commands}\nexport -p > {kept}\n"
        with written.open("wb") as output:
            shell = self._start(script, output)
        assert shell.wait(timeout=90) == 0, f"{commands}\n{written.read_text('utf-8')}"
        self.said += written.read_text("utf-8")

    async def _start_dev(self, commands: str) -> None:
        written = self._folder / "dev"
        with written.open("wb") as output:
            dev = self._start(f"{commands.rstrip()} --port {self._port}", output)

        async def is_ready() -> bool:
            assert dev.poll() is None, written.read_text("utf-8")
            return answer(self._port, "/health/ready")[0] == 200

        await eventually(is_ready, "dev answers")
        (self._address,) = re.findall(r"^database: +(\S+)$", written.read_text(), re.MULTILINE)

    def _start(self, script: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        settings = {
            "PATH": path,
            "JOBS_URL": f"http://127.0.0.1:{self._port}",
            # Of pytest's plugins only what an environment as the tutorial's has.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": f"-p {' -p '.join(PLUGINS)}",
        }
        shell = subprocess.Popen(
            ["bash", "-c", script],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(settings),
            cwd=self._folder,
            start_new_session=True,  # so that its background jobs can be ended with it
        )
        self._in_background.append(shell)
        return shell

    def close(self) -> None:
        """End what was started, the Postgres of dev last."""
        for shell in reversed(self._in_background):
            try:
                os.killpg(shell.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        for shell in self._in_background:
            shell.wait(timeout=60)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.close()


async def test_the_tutorial_works_as_typed(reader: Reader) -> None:
    """From an empty folder to separate processes; what each command says is what was promised."""
    for block in blocks_of(PAGE):
        if block.language == "sh":
            await reader.type(block.code)
        elif block.language:
            reader.write(*_file_of(block))

    assert re.search(r"acme +receipts +send_receipt +(pending|running|succeeded)", reader.said)
    assert len(re.findall(r"globex +receipts", reader.said)) == 1
    assert "refused, and no job either" in reader.said
    assert "succeeded {'sent_to': 'bill@initech.example'}" in reader.said
    assert "use_case_paused" in reader.said


def _file_of(block: Block) -> tuple[str, str]:
    """Return the name and the text of a file, of which the first line is the name."""
    found = FILE.fullmatch(block.code)
    assert found is not None, f"line {block.line} shows a file without a name"
    return found["name"], found["text"]
