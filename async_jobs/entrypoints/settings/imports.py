"""What a setting names in modules of the application."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def imported(path: str) -> object:
    """Return what `module:function` names.

    Raises:
        ValueError: it names nothing; for pydantic, which tells the variable.
    """
    module, separator, name = path.partition(":")
    if not separator or not name:
        raise ValueError("must be module:function, e.g. app.secrets:database_password")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as for handlers: an application's own modules
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot be imported: {type(error).__name__}: {error}") from None
