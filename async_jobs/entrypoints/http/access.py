"""Who may do what: tokens, what each of them reaches, and how a presented one is recognised."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

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
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError, InvalidJobError
from async_jobs.domain.job import EnqueueJobRequest
from async_jobs.ports.clock import Clock

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
    """Cancel and retry jobs."""


class Unauthenticated(AsyncJobsError):
    """No token was presented, or none that counts now."""


class Forbidden(AsyncJobsError):
    """The token lacks a scope, or does not reach a tenant that the caller named."""


# --- entries ------------------------------------------------------------------------------------


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
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sha256: Annotated[str, PlainValidator(_hash)] = Field(repr=False)
    tenants: Annotated[frozenset[str] | None, PlainValidator(_names_of("tenant"))]
    scopes: Annotated[frozenset[Scope], PlainValidator(_scopes)]
    expires_at: Annotated[AwareDatetime | None, BeforeValidator(_instant)] = None
    use_cases: Annotated[frozenset[str] | None, PlainValidator(_names_of("use case"))] = None
    queues: Annotated[frozenset[str] | None, PlainValidator(_names_of("queue"))] = None

    def entry(self) -> dict[str, object]:
        """Return it as the JSON object that `ASYNC_JOBS_API_TOKENS` holds."""
        entry: dict[str, object] = {
            "sha256": self.sha256,
            "tenants": ALL if self.tenants is None else sorted(self.tenants),
            "scopes": [each.value for each in Scope if each in self.scopes],
        }
        if self.expires_at is not None:
            entry["expires_at"] = self.expires_at.isoformat()
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
) -> tuple[str, dict[str, object]]:
    """Make a token of 256 bits; returns it, to be shown once, and its entry, to be configured.

    Args:
        tenants: the names of those it reaches; None for all.
        scopes: `enqueue`, `read`, `operate`.
        expires_at: aware; None for never.
        use_cases: the names of those it may enqueue into; None for all.
        queues: the names of those it may name when it enqueues; None for all.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    try:
        known = ApiToken.model_validate(
            {
                "sha256": _sha256(token.encode()).hex(),
                "tenants": ALL if tenants is None else tuple(tenants),
                "scopes": tuple(scopes),
                "expires_at": expires_at,
                "use_cases": ALL if use_cases is None else tuple(use_cases),
                "queues": ALL if queues is None else tuple(queues),
            }
        )
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigurationError("\n".join(problems).replace("Value error, ", "")) from None
    return token, known.entry()


def _sha256(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


# --- callers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Caller:
    """What somebody who was recognised may do.

    Attributes:
        tenants: those within reach; None for all.
        scopes: what it may be used for.
        use_cases, queues: those it may enqueue into, and may name; None for all.
    """

    tenants: frozenset[str] | None = None
    scopes: frozenset[Scope] = frozenset(Scope)
    use_cases: frozenset[str] | None = None
    queues: frozenset[str] | None = None

    def reaches(self, tenant_id: str) -> bool:
        """Tell whether the caller may name this tenant, whether or not there is one."""
        return self.tenants is None or tenant_id in self.tenants

    @property
    def only_tenant(self) -> str | None:
        """The one tenant within reach; None where there are more."""
        if self.tenants is None or len(self.tenants) != 1:
            return None
        (tenant_id,) = self.tenants
        return tenant_id

    def check_scope(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the caller has this scope."""
        if scope not in self.scopes:
            raise Forbidden("the token may not be used for this")

    def check_tenants(self, tenant_ids: Iterable[str]) -> None:
        """Raise `Forbidden` unless every one of these tenants is within reach."""
        if not all(self.reaches(each) for each in tenant_ids):
            raise Forbidden("the token may not be used for this")

    def check_requests(self, requests: Iterable[EnqueueJobRequest]) -> None:
        """Raise `Forbidden` unless the caller may enqueue every one of these jobs."""
        for each in requests:
            self.check_tenants([each.tenant_id])
            if self.use_cases is not None and each.use_case not in self.use_cases:
                raise Forbidden("the token may not be used for this use case")
            if self.queues is not None and each.queue not in {None, *self.queues}:
                raise Forbidden("the token may not be used for this queue")


ANYBODY: Final = Caller()
"""Who calls where no token is asked for: reaches all, may do all."""


class Access:
    """Recognises callers by what they present.

    Args:
        shared: the shared token; it reaches all tenants and has all scopes.
        tokens: the entries of all others. Several may count at once, so that they can be
            exchanged one after the other.
        clock: tells which of them have expired.
        allow_unauthenticated: with no token at all, let everybody in.

    Raises:
        ConfigurationError: there is no token and nobody said that there need be none, or a
            token cannot be told from another or cannot be sent in a header.
    """

    def __init__(
        self,
        shared: str | None,
        tokens: Sequence[ApiToken],
        *,
        clock: Clock,
        allow_unauthenticated: bool = False,
    ) -> None:
        self._clock = clock
        self._known: list[tuple[bytes, Caller, datetime | None]] = []
        if shared is not None:
            if not shared.isascii() or not shared.isprintable() or shared != shared.strip():
                raise ConfigurationError(
                    "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN: must be printable ASCII without spaces around"
                )
            self._known.append((_sha256(shared.encode()), Caller(), None))
        try:
            for each in check_tokens(tokens):
                caller = Caller(each.tenants, each.scopes, each.use_cases, each.queues)
                self._known.append((bytes.fromhex(each.sha256), caller, each.expires_at))
        except ValueError as error:
            raise ConfigurationError(f"ASYNC_JOBS_API_TOKENS: {error}") from None
        if len({known for known, *_ in self._known}) < len(self._known):
            raise ConfigurationError(
                "ASYNC_JOBS_API_TOKENS: an entry is that of the shared token,"
                " ASYNC_JOBS_ENQUEUE_AUTH_TOKEN; each has to be a token of its own"
            )
        if shared == "" or not (self._known or allow_unauthenticated):
            raise ConfigurationError(
                "the HTTP API needs a token: set ASYNC_JOBS_ENQUEUE_AUTH_TOKEN or"
                " ASYNC_JOBS_API_TOKENS (auth_token=, tokens=); only where nobody else can reach"
                " it, say that it needs none (allow_unauthenticated=True)"
            )
        self._open = not self._known

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in."""
        return self._open

    def caller(self, presented: Sequence[bytes]) -> Caller:
        """Return who presents these values of the header, of which there must be one.

        Every entry is compared, in constant time: how long it takes tells nothing of them.

        Raises:
            Unauthenticated: nobody who is known.
        """
        if self._open:
            return ANYBODY
        digest = _sha256(presented[0] if len(presented) == 1 else b"")
        now = self._clock.now()
        found: Caller | None = None
        for known, caller, expires_at in self._known:
            is_same = hmac.compare_digest(known, digest)
            is_valid = expires_at is None or now < expires_at
            if is_same and is_valid:
                found = caller
        if found is None or len(presented) != 1:
            raise Unauthenticated("a valid token is required")
        return found
