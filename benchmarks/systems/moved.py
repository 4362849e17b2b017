"""What the package keeps in other modules at other commits, which are measured too."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def found(name: str, *modules: str) -> Any:
    """Return what the first of the package's modules that has it has by a name.

    Raises:
        ImportError: none of the modules has it.
    """
    for module in modules:
        try:
            return getattr(import_module(f"async_jobs.{module}"), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise ImportError(f"no {name} in any of {', '.join(modules)}")
