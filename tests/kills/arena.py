"""A whole system in processes, and a keeper that replaces each one that dies, as ECS does."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from async_jobs.adapters.postgres.embedded import EmbeddedPostgres
from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.host import SystemClock
from tests.kills.deaths import DEATHS_FILE, DEATHS_VARIABLE, Doom
from tests.kills.ledger import SERVER_SETTINGS, Ledger
from tests.kills.nursery import Nursery, Program, a_nursery
from tests.kills.records import EXECUTIONS_FILE, EXECUTIONS_VARIABLE, lines_of
from tests.kills.recovery import Span
from tests.kills.verdict import Limits
from tests.kit import services
from tests.kit.harness import free_port
from tests.kit.lines import Line, line_to

CAPS = {"mail": 6, "labels": 4, "reports": 2}
QUEUES = {"mail": "mail", "labels": "mail", "reports": "reports"}
TENANT_CAPS = {"acme": 5}
QUOTAS = {"beta": 10}
TENANTS = ("acme", "beta", "gamma")
LIMITS = Limits(CAPS, TENANT_CAPS, QUOTAS)
TOKEN = "the-shared-token-of-the-arena"
LEASE_SECONDS = 3.0
TICK_SECONDS = 0.2
LOOK_SECONDS = 0.03
PAUSE_SECONDS = 0.3
"""What a program that ended by itself waits for before it is started again."""
CONNECTIONS = 2
NO_ANSWER = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What our own sessions may meet while the database is being maltreated."""

clock = SystemClock()


class Kind(StrEnum):
    """What runs."""

    SCHEDULER = "scheduler"
    WORKER = "worker"
    API = "api"


ARGUMENTS: dict[Kind, tuple[str, ...]] = {
    Kind.SCHEDULER: (),
    Kind.WORKER: ("--queue", "mail", "--queue", "reports"),
    Kind.API: (),
}


@dataclass
class Post:
    """A place that is always manned.

    Attributes:
        is_far: its program reaches the database through the line.
        may_be_doomed: its programs may be started with a failpoint to die at.
        is_held: a fault has its hands on the program, which nobody else may kill now.
        serves_since: since when the program has been able to work, by the database's clock.
    """

    kind: Kind
    number: int
    is_far: bool = False
    may_be_doomed: bool = False
    port: int = 0
    program: Program | None = None
    doom: Doom | None = None
    is_up: bool = False
    is_held: bool = False
    was_killed: bool = False
    starts_at: float = 0.0
    serves_since: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.program is not None and self.program.returncode is None

    @property
    def is_talkative(self) -> bool:
        """Who is to die after leasing has to hear that something was leased."""
        return self.doom is not None and self.kind is Kind.SCHEDULER


@dataclass
class Journal:
    """What was done to the system, and what became of its programs."""

    kills: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    last_words: list[str] = field(default_factory=list)
    starts: int = 0
    died: dict[int, float] = field(default_factory=dict)
    serving: list[Span] = field(default_factory=list)
    outages: list[Span] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    timeline: list[tuple[float, str]] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Note what happens now, by the database's clock."""
        self.timeline.append((clock.now().timestamp(), what))


class Arena:
    """The database, the posts, and what a fault needs to get at them."""

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        line: Line,
        pool: asyncpg.Pool,
        directory: Path,
        nursery: Nursery,
        settings: Mapping[str, str],
        posts: Sequence[Post],
        next_doom: Callable[[Kind], Doom | None],
    ) -> None:
        self.postgres = postgres
        self.line = line
        self.pool = pool
        self.posts = posts
        self.ledger = Ledger()
        self.journal = Journal()
        self.directory = directory
        self._nursery = nursery
        self._settings = settings
        self._next_doom = next_doom

    @property
    def api_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{p.port}" for p in self.posts if p.kind is Kind.API]

    # --- keeping ---

    async def keep(self) -> None:
        """Man every post, for ever."""
        while True:
            for post in self.posts:
                self._look_at(post)
            await clock.sleep(LOOK_SECONDS)

    def _look_at(self, post: Post) -> None:
        if post.program is not None and not post.is_alive:
            self._bury(post)
        if post.program is None and clock.monotonic() >= post.starts_at:
            self._man(post)
        if post.program is not None and not post.is_up:
            post.is_up = f"{post.kind}_started" in post.program.stderr
            if post.is_up:
                self.serves(post, True)

    def _man(self, post: Post) -> None:
        post.doom = self._next_doom(post.kind) if post.may_be_doomed else None
        settings = {"ASYNC_JOBS_DB_DSN": self.far_dsn if post.is_far else self.postgres.dsn}
        level = "debug" if post.is_talkative else "info"
        options = ["--log-format", "json", "--log-level", level]
        if post.kind is Kind.API:
            options += ["--port", str(post.port)]
        doomed = post.doom.settings if post.doom else {}
        post.program = self._nursery.start(
            post.kind,
            *ARGUMENTS[post.kind],
            *options,
            settings={**self._settings, **settings, **doomed},
        )
        post.was_killed = post.is_up = False
        self.journal.starts += 1

    @property
    def far_dsn(self) -> str:
        """The address of the database through the line."""
        parts = urlsplit(self.postgres.dsn)
        host = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.line.port}"
        return urlunsplit(parts._replace(netloc=host))

    def _bury(self, post: Post) -> None:
        program = post.program
        assert program is not None
        code, words = program.returncode, program.stderr
        self.serves(post, False)
        if code == -signal.SIGKILL:
            self.journal.died[program.pid] = clock.monotonic()
            if not post.was_killed:
                self._hear_of_death(post, program)
        else:
            self.journal.ends[f"{post.kind} {code}"] += 1
            self.journal.last_words.append(words[-300:].strip().rpartition("\n")[2])
            post.starts_at = clock.monotonic() + PAUSE_SECONDS
        # At level debug, a stack trace is how a passing failure is told.
        if "Traceback" in words and not post.is_talkative:
            self.journal.tracebacks.append(words)
        program.forget()
        post.program, post.doom = None, None

    def _hear_of_death(self, post: Post, program: Program) -> None:
        told = lines_of(self.directory / DEATHS_FILE)
        mine = [line for line in told if line["pid"] == program.pid]
        assert mine, f"somebody else killed a {post.kind}"
        self.journal.deaths[mine[-1]["failpoint"]] += 1
        self.journal.note(f"{post.kind} {post.number} died at {mine[-1]['failpoint']}")

    def serves(self, post: Post, does: bool) -> None:
        """Note that a program can work from now on, or cannot any more."""
        if does and post.serves_since is not None:
            return
        now = clock.now().timestamp()
        if not does and post.serves_since is not None and post.kind is Kind.SCHEDULER:
            self.journal.serving.append(Span(post.serves_since, now))
        post.serves_since = now if does else None
        self.journal.note(f"{post.kind} {post.number} {'can' if does else 'cannot'} work")

    def executed_bytes(self) -> int:
        """Return the size of the handlers' record, which tells whether work goes on."""
        path = self.directory / EXECUTIONS_FILE
        return path.stat().st_size if path.exists() else 0

    # --- killing ---

    def kill(self, post: Post) -> None:
        """Kill a program as the kernel does."""
        assert post.program is not None
        post.was_killed = True
        post.program.send_signal(signal.SIGKILL)
        self.journal.kills[post.kind] += 1
        self.journal.note(f"{post.kind} {post.number} killed")

    # --- the database, from beside the programs ---

    async def ask(self, query: str, *arguments: object) -> list[asyncpg.Record] | None:
        """Return what the database answers; None while it does not."""
        with suppress(*NO_ANSWER):
            rows: list[asyncpg.Record] = await self.pool.fetch(query, *arguments)
            return rows
        return None

    async def live_jobs(self) -> int | None:
        """Count the jobs that have not ended."""
        rows = await self.ask(_LIVE, list(TENANTS))
        return None if rows is None else int(rows[0][0])

    async def photograph(self) -> None:
        """Write down how everything stands, for whoever has to find out why nothing moves."""
        posts = [f"{p.kind} {p.number}: up {p.is_up}, {p.doom}, {p.program}" for p in self.posts]
        sessions = await self.ask(_SESSIONS) or []
        jobs = await self.ask(_JOBS) or []
        shown = "\n".join([*posts, *map(str, self.journal.faults.items()), *map(str, sessions)])
        text = "\n".join([shown, *map(str, jobs)])
        (self.directory / "standstill").write_text(text, "utf-8")

    async def read_ledger(self) -> None:
        """Let the ledger read on, unless the database does not answer."""
        with suppress(*NO_ANSWER):
            async with self.pool.acquire() as connection:
                await self.ledger.read_on(connection)


_LIVE = """
SELECT count(*) FROM jobs WHERE tenant_id = ANY($1::text[]) AND status IN ('pending', 'running')
"""
_SESSIONS = """
SELECT pid, application_name, state, wait_event, now() - state_change AS since, left(query, 80)
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
_JOBS = """
SELECT use_case, tenant_id, status, started_at IS NULL, count(*), max(lease_expires_at)
FROM jobs WHERE status IN ('pending', 'running') GROUP BY 1, 2, 3, 4
"""


@asynccontextmanager
async def an_arena(
    directory: Path,
    *,
    schedulers: int = 2,
    workers: int = 3,
    apis: int = 1,
    sqs_endpoint: str | None = None,
    next_doom: Callable[[Kind], Doom | None] = lambda kind: None,
) -> AsyncIterator[Arena]:
    """Yield a system whose posts are manned while `keep` runs.

    The last scheduler and the last worker are far ones. No random kill meets a program while it
    waits for its own death, so of each kind the first ones only may be doomed.
    """
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(a_postgres())
        await migrate(postgres.dsn)
        line = await stack.enter_async_context(line_to(urlsplit(postgres.dsn).port or 0))
        # What turns the database read-only must not turn away who turns it back.
        pool = await stack.enter_async_context(
            asyncpg.create_pool(
                postgres.dsn,
                min_size=0,
                max_size=CONNECTIONS,
                command_timeout=60,
                max_inactive_connection_lifetime=0,
                server_settings={"default_transaction_read_only": "off", "application_name": NAME},
            )
        )
        given = _SETTINGS | {
            EXECUTIONS_VARIABLE: str(directory / EXECUTIONS_FILE),
            DEATHS_VARIABLE: str(directory / DEATHS_FILE),
        }
        if sqs_endpoint is not None:
            given |= await _queues(stack, sqs_endpoint)
        nursery = stack.enter_context(a_nursery(directory))
        posts = [
            *_posts(Kind.SCHEDULER, schedulers, doomed=1),
            *_posts(Kind.WORKER, workers, doomed=workers - 1),
            *_posts(Kind.API, apis, doomed=1),
        ]
        arena = Arena(postgres, line, pool, directory, nursery, given, posts, next_doom)
        async with pool.acquire() as connection:
            await arena.ledger.open(connection)
        yield arena


NAME = "the arena"
_SETTINGS = {
    "ASYNC_JOBS_USE_CASES": json.dumps(
        {name: {"max_concurrent": cap, "queue": QUEUES[name]} for name, cap in CAPS.items()}
    ),
    "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps(
        {tenant: {"max_running": cap} for tenant, cap in TENANT_CAPS.items()}
        | {tenant: {"max_pending_jobs": quota} for tenant, quota in QUOTAS.items()}
    ),
    "ASYNC_JOBS_HANDLERS_MODULE": "tests.kills.handlers",
    "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN": TOKEN,
    "ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": str(TICK_SECONDS),
    "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": str(LEASE_SECONDS),
    "ASYNC_JOBS_LEASE_DURATION_SECONDS": str(LEASE_SECONDS),
    "ASYNC_JOBS_WORKER_VISIBILITY_TIMEOUT_SECONDS": str(LEASE_SECONDS),
    "ASYNC_JOBS_WORKER_POLL_INTERVAL_SECONDS": "0.5",
    "ASYNC_JOBS_WORKER_CONCURRENCY": "5",
    "ASYNC_JOBS_DB_POOL_MAX_SIZE": "4",
}


@contextmanager
def a_postgres() -> Iterator[EmbeddedPostgres]:
    """Yield a server whose commits are durable and can be read back in their order."""
    with EmbeddedPostgres(durable=True, settings=SERVER_SETTINGS) as postgres:
        yield postgres


async def _queues(stack: AsyncExitStack, endpoint: str) -> dict[str, str]:
    """Make the queues; returns the settings that lead to them."""
    client = await stack.enter_async_context(services.sqs_client(endpoint))
    mail = await stack.enter_async_context(services.sqs_queue(client))
    reports = await stack.enter_async_context(services.sqs_queue(client))
    return {
        **services.AWS_ENVIRONMENT,
        "AWS_ENDPOINT_URL": endpoint,
        "ASYNC_JOBS_SQS_QUEUE_MAIL": mail,
        "ASYNC_JOBS_SQS_QUEUE_REPORTS": reports,
    }


def _posts(kind: Kind, count: int, *, doomed: int) -> list[Post]:
    return [
        Post(
            kind,
            number,
            is_far=kind is not Kind.API and number == count - 1 > 0,
            may_be_doomed=number < doomed,
            port=free_port() if kind is Kind.API else 0,
        )
        for number in range(count)
    ]
