"""The database's address, as a libpq URL: what the driver understands of it, and what it does not.

asyncpg hands every parameter that it does not know to the server as a setting. Here the rest of
libpq's are understood, or refused by name with what to write instead.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from async_jobs.domain.errors import ConfigurationError

_SCHEME: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9]*)(?:\+[A-Za-z0-9_]+)?://")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_SWITCH: Final = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_VERIFYING: Final = ("verify-ca", "verify-full")
# What the driver does anyway: a parameter that asks for one of these values is left out.
_AS_IT_IS: Final[Mapping[str, tuple[str, ...]]] = {
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("utf8", "utf-8", "unicode", "auto"),
    "gssdelegation": ("0",),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "sslcompression": ("0",),
    "sslsni": ("1",),
}
_INSTEAD: Final[Mapping[str, str]] = {
    "channel_binding": "the driver cannot bind channels; leave it out, and let"
    " sslmode=verify-full make sure of the server",
    "client_encoding": "the driver speaks UTF8 only; leave it out",
    "gssencmode": "the driver cannot encrypt by GSSAPI; leave it out, and use sslmode",
    "load_balance_hosts": "the driver tries hosts in their order; leave it out",
    "pgbouncer": "is not libpq's; behind PgBouncer in transaction mode set"
    " ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE=0 (statement_cache_size=0) instead",
    "prepared_statement_cache_size": "is not libpq's; set ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE"
    " (statement_cache_size) instead",
    "schema": "is not libpq's; say search_path=… instead",
    "statement_cache_size": "is not libpq's; set ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE instead",
}
_WITHOUT: Final = (
    *("gssdelegation", "min_protocol_version", "max_protocol_version", "replication"),
    *("require_auth", "requirepeer", "scram_client_key", "scram_server_key", "sslcertmode"),
    *("sslcompression", "sslcrldir", "sslkeylogfile", "sslsni"),
)


class KeepAlive(NamedTuple):
    """How soon the other end counts as gone: probes of an idle connection, by the kernel."""

    idle_seconds: int = 30
    interval_seconds: int = 10
    probes: int = 3
    is_on: bool = True
    user_timeout_ms: int = 0
    """How long what was sent may stay unacknowledged; 0 leaves it to the kernel."""


class Address(NamedTuple):
    """An address in the driver's own terms."""

    dsn: str
    connect_seconds: float | None
    keep_alive: KeepAlive
    ssl: ssl.SSLContext | None

    def options(self) -> dict[str, Any]:
        """Return the arguments of `asyncpg.connect` beside the DSN."""
        return {} if self.ssl is None else {"ssl": self.ssl}


def address_of(dsn: str) -> Address:
    """Return what the driver understands of a libpq URL.

    Raises:
        ConfigurationError: names each parameter that cannot be obeyed, and what to write.
        ValueError: the URL is malformed.
    """
    url, mark, query = dsn.strip().partition("?")
    named = _SCHEME.match(url)
    if named is None or named["name"].lower() not in ("postgresql", "postgres"):
        told = f"; its scheme is {named['name']}" if named else ""
        raise ConfigurationError(
            f"the database's address must begin with postgresql:// (or postgres://){told}"
        )
    url = f"{named['name'].lower()}://{url[named.end() :]}"
    wanted = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if mark else {}
    reading = _Reading(wanted)
    address = reading.address(url, query)
    if reading.problems:
        raise ConfigurationError(
            "\n".join(f"the database's address: {problem}" for problem in reading.problems)
        )
    return address


class _Reading:
    """Takes out of the parameters what the driver does not understand."""

    def __init__(self, wanted: dict[str, str]) -> None:
        self._wanted = wanted
        self.problems: list[str] = []

    def address(self, url: str, query: str) -> Address:
        said = dict(self._wanted)
        keep_alive = KeepAlive(
            idle_seconds=self._number("keepalives_idle") or KeepAlive().idle_seconds,
            interval_seconds=self._number("keepalives_interval") or KeepAlive().interval_seconds,
            probes=self._number("keepalives_count") or KeepAlive().probes,
            is_on=self._number("keepalives") != 0,
            user_timeout_ms=self._number("tcp_user_timeout") or 0,
        )
        connect_seconds = self._number("connect_timeout") or None
        self._wanted.pop("fallback_application_name", None)
        self._take_ssl()
        self._leave_out()
        context = self._trusted_by_the_system()
        self.problems += self._missing_files()
        if self._wanted != said:
            query = urlencode(self._wanted, quote_via=quote)
        return Address(
            f"{url}?{query}" if query else url,
            None if connect_seconds is None else float(connect_seconds),
            keep_alive,
            context,
        )

    def _number(self, name: str) -> int | None:
        text = self._wanted.pop(name, "")
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            self.problems.append(f"{name}: must be a whole number")
            return None
        return int(text)

    def _take_ssl(self) -> None:
        """Understand what SQLAlchemy and others call `ssl`."""
        said = self._wanted.pop("ssl", None)
        if said is not None:
            self._wanted.setdefault("sslmode", _SSL_SWITCH.get(said.lower(), said))
        mode = self._wanted.get("sslmode")
        if mode is not None and mode not in _SSL_MODES:
            self.problems.append(f"sslmode: must be one of {', '.join(_SSL_MODES)}")

    def _leave_out(self) -> None:
        for name in [*self._wanted]:
            if self._wanted[name].lower() in _AS_IT_IS.get(name, ()):
                del self._wanted[name]
            elif name in _INSTEAD:
                self.problems.append(f"{name}: {_INSTEAD[name]}")
            elif name in _WITHOUT:
                self.problems.append(f"{name}: the driver does not know it; leave it out")

    def _trusted_by_the_system(self) -> ssl.SSLContext | None:
        if self._wanted.get("sslrootcert") != "system":
            return None
        del self._wanted["sslrootcert"]
        if self._wanted.pop("sslmode", "verify-full") != "verify-full":
            self.problems.append("sslrootcert: system goes with sslmode=verify-full only")
        context = ssl.create_default_context()
        certificate = self._wanted.pop("sslcert", None)
        key, password = self._wanted.pop("sslkey", None), self._wanted.pop("sslpassword", None)
        if certificate is not None:
            try:
                context.load_cert_chain(certificate, key, password)
            except OSError:  # also what is no certificate
                self.problems.append(f"sslcert: {certificate} cannot be loaded with its key")
        return context

    def _missing_files(self) -> Iterator[str]:
        mode = self._wanted.get("sslmode") or os.environ.get("PGSSLMODE")
        if mode == "disable":
            return
        for name in _FILES:
            if (named := self._wanted.get(name)) and not Path(named).is_file():
                yield f"{name}: there is no file {named}"
        if mode in _VERIFYING and not (
            self._wanted.get("sslrootcert")
            or os.environ.get("PGSSLROOTCERT")
            or Path("~/.postgresql/root.crt").expanduser().is_file()
        ):
            yield (
                f"sslmode={mode} needs the certificate of who signed the server's: name its file"
                " by sslrootcert=…, or trust those of the system by sslrootcert=system"
            )
