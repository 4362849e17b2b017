"""The documentation site: its sources are the Markdown pages; `make docs` builds it."""
