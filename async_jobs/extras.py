"""Which extra brings what is imported only where it is needed, and how its want is told."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from async_jobs.domain.errors import MissingExtra

EXTRAS: Final[Mapping[str, str]] = {
    "aioboto3": "sqs",
    "botocore": "sqs",
    "fastapi": "api",
    "httpx": "client",
    "hypothesis": "testing",
    "jinja2": "dashboard",
    "opentelemetry": "otel",
    "prometheus_client": "prometheus",
    "pytest": "testing",
    "uvicorn": "api",
}
"""The extra of `pyproject.toml` that each package comes with."""


def require(what: str, *packages: str, instead: str = "") -> None:
    """Say what to install, if a package is missing that only an extra brings.

    Args:
        what: what needs them, as its user knows it.
        packages: names of `EXTRAS`.
        instead: what else would help.

    Raises:
        MissingExtra: at least one cannot be imported; all of them are told at once.
    """
    if wanted := want_of(*packages):
        raise MissingExtra(f"{what} {wanted}{instead}")


def want_of(*packages: str) -> str:
    """Return what is missing of some packages and how to install it; nothing if all are there."""
    missing = [package for package in packages if not is_there(package)]
    if not missing:
        return ""
    extras = ",".join(sorted({EXTRAS[package] for package in missing}))
    return f"needs {' and '.join(missing)}: pip install 'async-jobs[{extras}]'"


def is_there(package: str) -> bool:
    """Tell whether a package can be imported."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # it is there, and lacks something itself
        return False
    return True
