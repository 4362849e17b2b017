"""Tokens of the HTTP API: what is configured of each, and how a new one is made."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)

from async_jobs.domain.bounds import check_name
from async_jobs.domain.errors import ConfigurationError, InvalidJobError

"""Where the shared token is read from, by the API and by the commands that call it."""
ALL: Final = "*"
TOKEN_PREFIX: Final = "ajt_"
TOKEN_BYTES: Final = 32
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOTHING: Final = hashlib.sha256(b"").hexdigest()
"""What `printf "$TOKEN" | sha256sum` gives when the variable is not set."""


class Scope(StrEnum):
    """What a token may be used for."""

    ENQUEUE = "enqueue"
    """Hand in jobs."""
    READ = "read"
    """Look at jobs, one or many."""
    OPERATE = "operate"
    """Cancel and retry jobs, pause and resume."""
    ADMIN = "admin"
    """Change limits."""
    PAYLOAD = "payload"
    """See payloads and results in the dashboard."""


def _secret(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must not be empty: leave it out, or set it to a secret text")
    return value


Secret: TypeAlias = Annotated[str, PlainValidator(_secret)]
"""A token itself. An empty one would let everybody in, or nobody."""


def _hash(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError("must be 64 lower-case hexadecimal digits")
    if value == _NOTHING:
        raise ValueError("must not be the hash of an empty token")
    return value


def _listed(value: object) -> Collection[object]:
    return value if isinstance(value, list | tuple | set | frozenset) else ()


def _names_of(what: str) -> Callable[[object], frozenset[str] | None]:
    """Return what reads a list of names, or "*" for all, which is None."""

    def read(value: object) -> frozenset[str] | None:
        if value == ALL:
            return None
        names = _listed(value)
        if not names:
            raise ValueError(f'must be "*" or a list of at least one {what}')
        for name in names:
            try:
                check_name(what, name)
            except InvalidJobError as error:
                raise ValueError(f"each {what} {error.problem}") from None
        return frozenset(map(str, names))

    return read


def _scopes(value: object) -> frozenset[Scope]:
    names = _listed(value)
    if not names or not all(each in tuple(Scope) for each in names):
        raise ValueError(f"must be a list of at least one of {', '.join(Scope)}")
    return frozenset(Scope(str(each)) for each in names)


def _instant(value: object) -> object:
    is_text = isinstance(value, str) and "-" in value[1:]  # digits alone would be seconds
    if value is not None and not is_text and not isinstance(value, datetime):
        raise ValueError("must be an instant in ISO 8601 with an offset")
    return value


def _name(value: object) -> str | None:
    if value is None:
        return None
    try:
        check_name("name", value)
    except InvalidJobError as error:
        raise ValueError(error.problem) from None
    return str(value)


class ApiToken(BaseModel):
    """What is known of one token: never the token itself.

    Attributes:
        sha256: the SHA-256 of the token, 64 lower-case hexadecimal digits.
        tenants: the tenants it reaches, given as a list; None, given as "*", for all.
        scopes: what it may be used for.
        expires_at: from this instant on it counts no more; None for never.
        use_cases: those it may enqueue into, given as a list; None, given as "*", for all.
        queues: those it may name when it enqueues, in the same way. A job that names none goes to
            the queue of its use case, whatever this says.
        name: what it is called in logs; by default its place in the list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sha256: Annotated[str, PlainValidator(_hash)] = Field(repr=False)
    tenants: Annotated[frozenset[str] | None, PlainValidator(_names_of("tenant"))]
    scopes: Annotated[frozenset[Scope], PlainValidator(_scopes)]
    expires_at: Annotated[AwareDatetime | None, BeforeValidator(_instant)] = None
    use_cases: Annotated[frozenset[str] | None, PlainValidator(_names_of("use case"))] = None
    queues: Annotated[frozenset[str] | None, PlainValidator(_names_of("queue"))] = None
    name: Annotated[str | None, PlainValidator(_name)] = None

    def entry(self) -> dict[str, object]:
        """Return it as the JSON object that `ASYNC_JOBS_API_TOKENS` holds."""
        entry: dict[str, object] = {
            "sha256": self.sha256,
            "tenants": ALL if self.tenants is None else sorted(self.tenants),
            "scopes": [each.value for each in Scope if each in self.scopes],
        }
        if self.expires_at is not None:
            entry["expires_at"] = self.expires_at.isoformat()
        if self.name is not None:
            entry["name"] = self.name
        limits = {"use_cases": self.use_cases, "queues": self.queues}
        return entry | {name: sorted(each) for name, each in limits.items() if each is not None}


def check_tokens(tokens: Sequence[ApiToken]) -> tuple[ApiToken, ...]:
    """Return the tokens when each is there once; a ValueError says which is not, by its index."""
    first: dict[str, int] = {}
    for index, token in enumerate(tokens):
        earlier = first.setdefault(token.sha256, index)
        if earlier != index:
            raise ValueError(f"entries {earlier} and {index} are the same token")
    return tuple(tokens)


def new_token(
    *,
    tenants: Iterable[str] | None = None,
    scopes: Iterable[Scope | str] = tuple(Scope),
    expires_at: datetime | None = None,
    use_cases: Iterable[str] | None = None,
    queues: Iterable[str] | None = None,
    name: str | None = None,
) -> tuple[str, dict[str, object]]:
    """Make a token of 256 bits; returns it, to be shown once, and its entry, to be configured.

    Args:
        tenants: the names of those it reaches; None for all.
        scopes: `enqueue`, `read`, `operate`, `admin`, `payload`.
        expires_at: aware; None for never.
        use_cases: the names of those it may enqueue into; None for all.
        queues: the names of those it may name when it enqueues; None for all.
        name: what it is called in logs; by default its place in the list.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    try:
        known = ApiToken.model_validate(
            {
                "sha256": digest_of(token.encode()).hex(),
                "tenants": ALL if tenants is None else tuple(tenants),
                "scopes": tuple(scopes),
                "expires_at": expires_at,
                "use_cases": ALL if use_cases is None else tuple(use_cases),
                "queues": ALL if queues is None else tuple(queues),
                "name": name,
            }
        )
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigurationError("\n".join(problems).replace("Value error, ", "")) from None
    return token, known.entry()


def digest_of(token: bytes) -> bytes:
    """Return the SHA-256 of a token, by which it is known."""
    return hashlib.sha256(token).digest()
