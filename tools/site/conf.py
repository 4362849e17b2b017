"""What Sphinx is told; see docs/decisions/0062 for why it is Sphinx."""

import re
from pathlib import Path
from typing import Any

import async_jobs
from async_jobs.version import __version__

# Loaded here, for autodoc imports modules as a type checker would, which pydantic cannot bear.
for name in async_jobs.__all__:
    getattr(async_jobs, name)

project = "async_jobs"
version = release = __version__
copyright = "the async_jobs authors"  # noqa: A001
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["files/**"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

# --- Markdown ---
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
myst_enable_extensions = ["smartquotes"]
suppress_warnings = [
    "misc.highlighting_failure",  # answers and settings are shown with "…" in them
]

# --- The reference, from docstrings ---
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = False

# --- HTML: nothing is loaded from elsewhere, but for the script that draws mermaid ---
html_theme = "furo"
html_title = f"async_jobs {release}"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_theme_options = {"navigation_with_keys": True}


def setup(app: Any) -> None:
    """Let docstrings be read before napoleon does, at its 500."""
    app.connect("autodoc-process-docstring", _quote_prefixes, priority=400)
    app.connect("autodoc-process-docstring", _list_promises, priority=400)
    app.connect("autodoc-process-docstring", _take_attribute, priority=400)
    app.connect("autodoc-process-docstring", _give_attribute_back, priority=600)


def _quote_prefixes(_app: Any, *rest: Any) -> None:
    """Make code of a name that ends with an underscore, as of a prefix: it is no reference."""
    lines = rest[-1]
    lines[:] = [re.sub(r"(?<![`\w])(\w+_)(?![`\w])", r"``\1``", line) for line in lines]


_ATTRIBUTES: dict[str, list[str]] = {}


def _take_attribute(_app: Any, what: str, name: str, *rest: Any) -> None:
    """Keep an attribute's text as it is: what stands before a colon in it is no type."""
    if what == "attribute":
        _ATTRIBUTES[name] = rest[-1][:]


def _give_attribute_back(_app: Any, what: str, name: str, *rest: Any) -> None:
    if what == "attribute":
        rest[-1][:] = _ATTRIBUTES.pop(name)


def _list_promises(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Make a list of the numbered promises of a port."""
    told = re.compile(r" {4}(?P<number>[A-Z]+-\d+) (?P<text>.*)")
    read, lines[:] = lines[:], []
    promising = False
    for line in read:
        if line == "Promises:":
            promising = True
            lines.extend((line[:-1], ""))
        elif promising and (promise := told.fullmatch(line)):
            lines.append(f"* **{promise['number']}** {promise['text']}")
        else:
            promising = promising and (not line or line.startswith(" "))
            lines.append(f"  {line.strip()}" if promising else line)
