"""The database's address: each parameter is understood, or refused by name."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from async_jobs.adapters.postgres.dsn import KeepAlive, address_of
from async_jobs.domain.errors import ConfigurationError

BASE = "postgresql://user:pa%3Fss@db.internal:5432/app"


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without certificates."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLMODE", raising=False)
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "dsn",
    [
        BASE,
        "postgres://user@h1:5432,h2:5433/db?target_session_attrs=read-write",
        "postgresql:///db?host=/run/postgresql&port=5433",
        "postgresql://",
        "postgresql://user@/db?options=-csearch_path%3Da&application_name=my%20app",
        "postgresql://user@host/db?sslmode=require&passfile=/nowhere",
        "postgresql://[::1]:5432/db",
    ],
)
def test_what_the_driver_understands_is_left_as_it_is(dsn: str) -> None:
    """To the letter: what stands in it may be encoded."""
    address = address_of(dsn)

    assert address.dsn == dsn
    assert (address.connect_seconds, address.ssl) == (None, None)


@pytest.mark.parametrize(
    "scheme", ["postgresql+asyncpg", "postgres+psycopg", "POSTGRESQL", "postgres"]
)
def test_the_driver_that_sqlalchemy_names_is_left_out(scheme: str) -> None:
    """One address serves both."""
    address = address_of(f"{scheme}://user@host/db\n")

    assert address.dsn == f"{scheme.partition('+')[0].lower()}://user@host/db"


def test_what_the_driver_does_not_know_is_done_for_it() -> None:
    """Times are those of libpq."""
    address = address_of(
        f"{BASE}?connect_timeout=3&keepalives_idle=7&keepalives_interval=2&keepalives_count=5"
        "&tcp_user_timeout=9000&keepalives=0&fallback_application_name=x"
    )

    assert address.dsn == BASE
    assert address.connect_seconds == 3
    assert address.keep_alive == KeepAlive(7, 2, 5, is_on=False, user_timeout_ms=9_000)


@pytest.mark.parametrize(
    "said",
    [
        *("gssencmode=disable", "gssencmode=prefer", "channel_binding=prefer", "sslsni=1"),
        *("channel_binding=disable", "load_balance_hosts=disable", "client_encoding=UTF8"),
        *("sslcompression=0", "connect_timeout=0", "keepalives=1", "connect_timeout="),
    ],
)
def test_what_is_so_anyway_is_left_out(said: str) -> None:
    """The server would take it for a setting of its own."""
    assert address_of(f"{BASE}?{said}&application_name=x").dsn == f"{BASE}?application_name=x"


@pytest.mark.parametrize(
    ("said", "understood"),
    [("require", "require"), ("true", "require"), ("false", "disable"), ("prefer", "prefer")],
)
def test_ssl_is_understood_as_sqlalchemy_means_it(said: str, understood: str) -> None:
    assert address_of(f"{BASE}?ssl={said}").dsn == f"{BASE}?sslmode={understood}"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("channel_binding=require", r"channel_binding: .*leave it out.*sslmode=verify-full"),
        ("gssencmode=require", r"gssencmode: .*leave it out"),
        ("load_balance_hosts=random", r"load_balance_hosts: .*in their order"),
        ("client_encoding=latin1", r"client_encoding: .*UTF8 only"),
        ("pgbouncer=true", r"pgbouncer: .*ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE=0"),
        ("prepared_statement_cache_size=0", r"prepared_.*: .*ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE"),
        ("schema=jobs", r"schema: .*search_path="),
        ("requirepeer=me", r"requirepeer: .*leave it out"),
        ("connect_timeout=soon", r"connect_timeout: must be a whole number"),
        ("keepalives_idle=-1", r"keepalives_idle: must be a whole number"),
        ("sslmode=yes", r"sslmode: must be one of disable, allow, .*verify-full"),
        ("ssl=yes", r"sslmode: must be one of"),
        ("sslmode=verify-full", r"sslmode=verify-full needs .*sslrootcert=system"),
        ("sslmode=verify-ca", r"sslmode=verify-ca needs .*sslrootcert=…"),
        ("sslrootcert=/no/rds.pem&sslmode=require", r"sslrootcert: there is no file /no/rds\.pem"),
        ("sslcert=/no/me.pem", r"sslcert: there is no file /no/me\.pem"),
        ("sslkey=/no/me.key", r"sslkey: there is no file /no/me\.key"),
        ("sslcrl=/no/crl", r"sslcrl: there is no file /no/crl"),
        ("sslrootcert=system&sslmode=require", r"sslrootcert: system goes with .*verify-full only"),
        ("sslrootcert=system&sslcert=/no/me.pem", r"sslcert: /no/me\.pem cannot be loaded"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(query: str, told: str) -> None:
    """With what to write instead, and without the password."""
    with pytest.raises(ConfigurationError, match=f"^the database's address: {told}") as caught:
        address_of(f"{BASE}?{query}")

    assert "pa%3Fss" not in str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    """A line each."""
    with pytest.raises(ConfigurationError) as caught:
        address_of(f"{BASE}?pgbouncer=true&keepalives=maybe&channel_binding=require")

    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("mysql://user:secret@host/db", "; its scheme is mysql"),
        ("host=localhost password=secret", "address must begin with postgresql://"),
        ("secret", "address must begin with postgresql://"),
    ],
)
def test_another_scheme_is_named(dsn: str, told: str) -> None:
    """Nothing else is: it may be a secret."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        address_of(dsn)

    assert "secret" not in str(caught.value)


def test_certificates_that_are_there_will_do(at_home: Path) -> None:
    """Named, or where libpq looks for them."""
    named = at_home / "rds.pem"
    named.write_text("a certificate", encoding="ascii")
    dsn = f"{BASE}?sslmode=verify-full&sslrootcert={named}"
    assert address_of(dsn).dsn == dsn

    (at_home / ".postgresql").mkdir()
    (at_home / ".postgresql" / "root.crt").write_text("a certificate", encoding="ascii")
    assert address_of(f"{BASE}?sslmode=verify-full").ssl is None


def test_the_systems_certificates_can_be_trusted() -> None:
    """As by libpq of Postgres 16: the host's name is verified, too."""
    address = address_of(f"{BASE}?sslmode=verify-full&sslrootcert=system")

    assert address.dsn == BASE
    assert isinstance(address.ssl, ssl.SSLContext)
    assert address.ssl.check_hostname
    assert address.ssl.verify_mode is ssl.CERT_REQUIRED
