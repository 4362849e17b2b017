"""A campaign: load, kills and faults at once until all of them are done, then the verdict."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from async_jobs.application import failpoints
from async_jobs.host import SystemClock
from async_jobs.testing.clocks import ManualChance
from tests.kills.arena import LIMITS, Arena, Journal, Kind, Post, an_arena
from tests.kills.book import Book, Execution
from tests.kills.deaths import Doom
from tests.kills.faults import Fault, cause
from tests.kills.load import Load
from tests.kills.records import EXECUTIONS_FILE, append, lines_of
from tests.kills.recovery import Delays, Span, delays, gaps, united
from tests.kills.verdict import Replay, Verdict
from tests.kit.harness import eventually

# At which arrival at a failpoint to die, at most. Leases expire seldom, the rest is routine.
ARRIVAL_MAX, RARE_ARRIVAL_MAX = 12, 2
KILL_PAUSE_SECONDS, FAULT_PAUSE_SECONDS = 0.4, 0.8
WORK_BETWEEN_KILLS, WORK_BETWEEN_FAULTS = 4, 20
LINE_BYTES = 150
SOME_JOBS = 40
READ_SECONDS = 5.0
QUIET_SECONDS = 180.0
"""How long the last jobs may take to end: only ever waited for when they do not."""
STUCK_SECONDS = 120.0
"""How long nothing of a plan may get done before a campaign gives up."""

clock = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done to the system.

    Attributes:
        kills: how many programs to kill at random.
        deaths: how many are to die at each failpoint.
        faults: how often each fault is to happen.
        seed: decides who is killed when, and what the clients do.
    """

    kills: int
    deaths: int
    faults: Mapping[Fault, int]
    seed: int
    schedulers: int = 2
    workers: int = 3
    apis: int = 1


@dataclass(slots=True)
class Report:
    """What a campaign did and found."""

    journal: Journal
    verdict: Verdict
    book: Book
    excused: Sequence[Span] = ()
    seconds: float = 0.0
    after_claims: Delays = field(default_factory=Delays)
    after_hand_offs: Delays = field(default_factory=Delays)


def failpoints_on(*, sqs: bool) -> Sequence[str]:
    """Return the failpoints that a system passes, with hand-offs on SQS or in an outbox."""
    names = failpoints.FAILPOINTS
    return [name for name in names if sqs or name not in failpoints.OF_LANES_ELSEWHERE]


class _Dooms:
    """Deals out the failpoints that are still due."""

    def __init__(self, each: int, names: Iterable[str], chance: ManualChance) -> None:
        self._due = Counter(dict.fromkeys(names, each))
        self._chance = chance
        self.done: Callable[[], Mapping[str, int]] = dict

    def deal(self, kind: Kind) -> Doom | None:
        """Return where the next program of a kind is to die, if it is."""
        dead = self.done()
        left = {name: self._due[name] - dead.get(name, 0) for name in _FAILPOINTS[kind]}
        name = max(left, key=lambda each: left[each])
        if left[name] <= 0:
            return None
        rare = name == failpoints.REAPER_BETWEEN_READ_AND_SAVE
        most = RARE_ARRIVAL_MAX if rare else ARRIVAL_MAX
        return Doom(name, 1 + int(most * self._chance.uniform()))

    @property
    def are_done(self) -> bool:
        dead = self.done()
        return all(dead.get(name, 0) >= due for name, due in self._due.items())


_FAILPOINTS = {
    Kind.API: (failpoints.API_AFTER_COMMIT_BEFORE_REPLY,),
    Kind.SCHEDULER: (
        failpoints.SCHEDULER_AFTER_LEASE_BEFORE_SEND,
        failpoints.SCHEDULER_AFTER_SEND_BEFORE_MARK,
        failpoints.REAPER_BETWEEN_READ_AND_SAVE,
    ),
    Kind.WORKER: (
        failpoints.WORKER_AFTER_RECEIVE_BEFORE_CLAIM,
        failpoints.WORKER_AFTER_CLAIM_BEFORE_HANDLER,
        failpoints.WORKER_AFTER_HANDLER_BEFORE_OUTCOME,
        failpoints.WORKER_AFTER_OUTCOME,
    ),
}


class Campaign:
    """One plan, on one arena."""

    def __init__(self, plan: Plan, arena: Arena, dooms: _Dooms) -> None:
        self._plan = plan
        self._arena = arena
        self._dooms = dooms
        self._load = Load(arena, plan.seed)
        self._kill_chance = ManualChance(plan.seed + 1)
        self._fault_chance = ManualChance(plan.seed + 2)
        self._began = clock.now().timestamp()

    async def run(self, tell: Callable[[str], None]) -> Report:
        """Do everything at once, wait for quiet, and judge."""
        try:
            await self._do(tell)
        except BaseException:
            await self._arena.photograph()
            raise
        return await self._judged()

    # --- doing ---

    async def _do(self, tell: Callable[[str], None]) -> None:
        async with asyncio.TaskGroup() as around:
            keeping = around.create_task(self._arena.keep())
            loading = around.create_task(self._load.run())
            reading = around.create_task(self._keep_reading(tell))
            await self._some_jobs_have_run()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._kill())
                group.create_task(self._fault())
                group.create_task(self._die())
            tell("the faults are over")
            self._load.stop()
            await asyncio.wait_for(loading, QUIET_SECONDS)
            await self._is_quiet()
            reading.cancel()
            keeping.cancel()

    async def _some_jobs_have_run(self) -> None:
        async def look() -> bool:
            rows = await self._arena.ask("SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL")
            return rows is not None and rows[0][0] >= SOME_JOBS

        await eventually(look, f"{SOME_JOBS} jobs have run")

    async def _kill(self) -> None:
        for _ in range(self._plan.kills):
            await self._work_goes_on(WORK_BETWEEN_KILLS)
            post = await eventually(self._victim, "there is somebody to kill")
            assert post is not None
            self._arena.kill(post)
            await clock.sleep(2 * KILL_PAUSE_SECONDS * self._kill_chance.uniform())

    async def _work_goes_on(self, lines: int) -> None:
        """Wait until handlers have begun and ended so often again.

        Kills that come faster than programs start would meet a system at rest.
        """
        before = self._arena.executed_bytes()

        async def look() -> bool:
            return self._arena.executed_bytes() > before + lines * LINE_BYTES

        await eventually(look, "work goes on", seconds=STUCK_SECONDS)

    async def _victim(self) -> Post | None:
        """Choose among those that work and are not to die elsewhere."""
        free = [
            post
            for post in self._arena.posts
            if post.is_up and post.is_alive and post.doom is None and not post.is_held
        ]
        return free[int(len(free) * self._kill_chance.uniform())] if free else None

    async def _fault(self) -> None:
        faults = [fault for fault, count in self._plan.faults.items() for _ in range(count)]
        while faults:
            fault = faults.pop(int(len(faults) * self._fault_chance.uniform()))
            await self._work_goes_on(WORK_BETWEEN_FAULTS)
            await cause(fault, self._arena, self._fault_chance)
            await clock.sleep(2 * FAULT_PAUSE_SECONDS * self._fault_chance.uniform())

    async def _die(self) -> None:
        """Wait until enough programs have died where they were told to."""
        while not self._dooms.are_done:
            before = self._arena.journal.deaths.total()

            async def look(before: int = before) -> bool:
                return self._arena.journal.deaths.total() > before

            await eventually(look, "somebody dies at a failpoint", seconds=STUCK_SECONDS)

    async def _keep_reading(self, tell: Callable[[str], None]) -> None:
        while True:
            await clock.sleep(READ_SECONDS)
            await self._arena.read_ledger()
            journal = self._arena.journal
            tell(
                f"{journal.kills.total()} kills, {journal.deaths.total()} deaths,"
                f" {journal.faults.total()} faults, {journal.starts} starts,"
                f" {len(self._load.book.acknowledged)} jobs, {self._arena.ledger.commits} commits"
            )

    async def _is_quiet(self) -> None:
        """Wait until every job has ended; what has not is told by the verdict."""

        async def look() -> bool:
            return await self._arena.live_jobs() == 0

        try:
            await eventually(look, "every job ends", seconds=QUIET_SECONDS)
        except AssertionError:
            return

    # --- judging ---

    async def _judged(self) -> Report:
        arena, book = self._arena, self._load.book
        replay = Replay(LIMITS, book)
        executions = [Execution.of(line) for line in lines_of(arena.directory / EXECUTIONS_FILE)]
        async with arena.pool.acquire() as connection:
            await arena.ledger.read_on(connection)
            strays = await arena.ledger.strays(connection)
            async for changes in arena.ledger.changes(connection):
                replay.commit(changes)
            final = await arena.ledger.final(connection)
        verdict = replay.finish(final, executions, died=self._died(executions), strays=strays)
        report = Report(arena.journal, verdict, book)
        self._measure(report)
        keep(report, arena.directory)
        return report

    def _died(self, executions: list[Execution]) -> dict[str, float]:
        """Return when each process died, by the names that the record has for them."""
        died = self._arena.journal.died
        pids = {line.process: int(line.process.partition("-")[0]) for line in executions}
        return {name: died[pid] for name, pid in pids.items() if pid in died}

    def _measure(self, report: Report) -> None:
        whole = Span(self._began, clock.now().timestamp())
        serving = [
            *self._arena.journal.serving,
            *(
                Span(post.serves_since, whole.end)
                for post in self._arena.posts
                if post.kind is Kind.SCHEDULER and post.serves_since is not None
            ),
        ]
        excused = united([*gaps(serving, whole), *self._arena.journal.outages])
        claimed = [each for each in report.verdict.expiries if each.was_claimed]
        unclaimed = [each for each in report.verdict.expiries if not each.was_claimed]
        report.after_claims = delays(claimed, excused)
        report.after_hand_offs = delays(unclaimed, excused)
        report.excused = excused
        report.seconds = whole.end - whole.start


def keep(report: Report, directory: Path) -> None:
    """Write down what was found, beside the record of the executions."""
    book = report.book
    for violation in report.verdict.violations:
        append(directory / "violations", {"told": str(violation)})
    for job_id, plan in book.planned.items():
        append(
            directory / "book",
            {
                "job_id": str(job_id),
                **plan._asdict(),
                "acknowledged": job_id in book.acknowledged,
                "refused": job_id in book.refused,
                "cancel_tries": book.cancel_tries[job_id],
                "retry_tries": book.retry_tries[job_id],
            },
        )
    journal = report.journal
    told = {
        "ends": journal.ends,
        "words": journal.last_words,
        "tracebacks": journal.tracebacks,
        "timeline": journal.timeline,
        "excused": report.excused,
        "expiries": [(str(each.job_id), *each[1:]) for each in report.verdict.expiries],
    }
    (directory / "journal.json").write_text(json.dumps(told, indent=1), "utf-8")


@asynccontextmanager
async def a_campaign(
    plan: Plan, directory: Path, *, sqs_endpoint: str | None = None
) -> AsyncIterator[Campaign]:
    """Yield a campaign whose system is up."""
    names = failpoints_on(sqs=sqs_endpoint is not None)
    dooms = _Dooms(plan.deaths, names, ManualChance(plan.seed + 3))
    async with an_arena(
        directory,
        schedulers=plan.schedulers,
        workers=plan.workers,
        apis=plan.apis,
        sqs_endpoint=sqs_endpoint,
        next_doom=dooms.deal,
    ) as arena:
        dooms.done = lambda: arena.journal.deaths
        yield Campaign(plan, arena, dooms)
