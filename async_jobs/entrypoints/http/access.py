"""Who may do what: how a caller is recognised by the token presented, and what it reaches."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from async_jobs.adapters.http.wire import TOKEN_HEADER
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.job import EnqueueJobRequest
from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from async_jobs.entrypoints.settings.tokens import (
    ApiToken,
    Scope,
    check_tokens,
    digest_of,
)
from async_jobs.ports.clock import Clock

TOKEN_REQUIRED: Final = f"a valid token is required, in the header {TOKEN_HEADER}"

SHARED: Final = "shared"
"""What logs and the audit call the shared token."""
UNNAMED: Final = "token"
"""What the audit calls a token without a name."""


class Unauthenticated(AsyncJobsError):
    """No token was presented, or none that counts now."""


class Forbidden(AsyncJobsError):
    """The token lacks a scope, or does not reach a tenant that the caller named."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What somebody who was recognised may do.

    Attributes:
        tenants: those within reach; None for all.
        scopes: what it may be used for.
        use_cases, queues: those it may enqueue into, and may name; None for all.
        name: what its token is called in logs; None where none was asked for.
        actor: who acts, for the audit: unlike `name`, no place in a list that may change.
    """

    tenants: frozenset[str] | None = None
    scopes: frozenset[Scope] = frozenset(Scope)
    use_cases: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    name: str | None = field(default=None, compare=False)
    actor: str = field(default="anybody", compare=False)

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

    def check_scope(self, *scopes: Scope) -> None:
        """Raise `Forbidden` unless the caller has this scope, or one of several."""
        if self.scopes.isdisjoint(scopes):
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
                    f"{TOKEN_VARIABLE}: must be printable ASCII without spaces around"
                )
            self._known.append(
                (digest_of(shared.encode()), Caller(name=SHARED, actor=SHARED), None)
            )
        try:
            for place, each in enumerate(check_tokens(tokens)):
                reach = each.tenants, each.scopes, each.use_cases, each.queues
                caller = Caller(*reach, name=each.name or f"#{place}", actor=each.name or UNNAMED)
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
        found = self.holder(digest_of(presented[0] if len(presented) == 1 else b""))
        if found is None or len(presented) != 1:
            raise Unauthenticated(TOKEN_REQUIRED)
        return found

    def holder(self, digest: bytes) -> Caller | None:
        """Return who holds the token of this digest; None if there is none that counts now."""
        now = self._clock.now()
        found: Caller | None = None
        for known, caller, expires_at in self._known:
            is_same = hmac.compare_digest(known, digest)
            is_valid = expires_at is None or now < expires_at
            if is_same and is_valid:
                found = caller
        return found
