"""The store's contract on Postgres, each time with one statement spoiled.

Collected by `test_saboteurs_are_caught.py` only: all fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from async_jobs.adapters.postgres import adding, queue, statistics, store, table, turn
from async_jobs.adapters.postgres.statements import sql
from tests.contract import test_postgres
from tests.contract.test_postgres import clock, elapse, other_pool, pool, pools, pytestmark

__all__ = ["clock", "elapse", "other_pool", "pool", "pools", "pytestmark"]


@dataclass(frozen=True)
class Spoiled:
    """A statement in which `what` stands `instead` of what should."""

    breaks: str
    statement: str
    what: str
    instead: str

    def sql(self, name: str) -> str:
        """Return the text of a statement, spoiled if it is this one."""
        if name != self.statement:
            return sql(name)
        assert self.what in sql(name), f"there is nothing to spoil in {name}"
        return sql(name).replace(self.what, self.instead)


SPOILED = {
    "SavesByPhaseAlone": Spoiled("JS-2", "save_jobs", "j.lease_seq = c.fence_seq AND ", ""),
    "SavesByNumberAlone": Spoiled(
        "JS-2",
        "save_jobs",
        "(j.status = 'running' AND j.started_at IS NOT NULL) = c.fence_claimed",
        "true",
    ),
    "AdmitsWithoutALock": Spoiled(
        "JS-3", "lock_admissions", "AS limited (tenant_id)", "AS limited (tenant_id) WHERE false"
    ),
    "AdmitsWithoutRoom": Spoiled(
        "JS-3", "add_jobs", "live_max + cardinality($1::uuid[]) <= $18::bigint", "$18 > 0"
    ),
    "AdmitsOneWithoutRoom": Spoiled("JS-3", "add_job", "live_max + 1 <= $18::bigint", "$18 > 0"),
    "TrustsCountsOfWhatIsAddedElsewhere": Spoiled(
        "JS-3", "add_jobs", "SET live_max = NULL", "SET live_max = live_max"
    ),
    "TrustsCountsOfWhatIsAddedAlone": Spoiled(
        "JS-3", "add_job", "SET live_max = NULL", "SET live_max = live_max"
    ),
    "ForgetsWhatRuns": Spoiled("JS-3", "count_admissions", "= live.jobs", "= live.pending"),
    "TrustsCountsOfWhatHadEnded": Spoiled(
        "JS-3",
        "lock_admissions",
        "UPDATE SET live_max = NULL",
        "UPDATE SET live_max = admissions.live_max",
    ),
    "ShowsBeforeTheTime": Spoiled("LS-1", "ready_heads", "j.run_at <= $4", "$4 IS NOT NULL"),
    "PressesWithLateJobs": Spoiled(
        "LS-1", "ready_heads", "(0, $4::timestamptz, ", "(0, least('-infinity', $4::timestamptz), "
    ),
    "PressesWithUrgentJobsOnly": Spoiled(
        "LS-1", "ready_heads", "(0, '-infinity', $4)", "(0, $4, $4)"
    ),
    "PressesWithoutWhatIsBehind": Spoiled(
        "LS-1", "ready_heads", "(1, '-infinity'", "(2, '-infinity'"
    ),
    "NamesInVain": Spoiled(
        "LS-1",
        "ready_heads",
        "AS named (place, tenant_id)",
        "AS named (place, tenant_id) WHERE false",
    ),
    "NamesInAnyUseCase": Spoiled("LS-1", "ready_heads", "unnest($6::int[]", "unnest(ARRAY[1]"),
    "WalksNowhere": Spoiled(
        "LS-1", "ready_heads", "WHERE r.step < r.rotation_length", "WHERE false"
    ),
    "WalksWithoutAnEnd": Spoiled("LS-1", "ready_heads", "(step = rotation_length)::int", "0"),
    "MissesNothingUrgent": Spoiled("LS-1", "ready_heads", "THEN 1 ELSE 0", "THEN 1 ELSE 1"),
    "TakesEqualDeadlinesForThePressing": Spoiled(
        "LS-1", "ready_heads", "AND head.id IN (SELECT id FROM urgent)", "AND true"
    ),
    "FindsLateJobsUrgent": Spoiled(
        "LS-1", "urgent_heads", "j.deadline_at >= $3 AND j.run_at <= $3", "j.run_at <= $3"
    ),
    "TellsNoTolerance": Spoiled(
        "LS-1", "ready_heads", "date_part('epoch', j.delay_tolerance)", "0::float8"
    ),
    "TellsNoTypeOfLateJobs": Spoiled("LS-1", "late_heads", "j.type", "''::text"),
    "ShowsWhatIsHeld": Spoiled("UP-3", "ready_heads", "AND j.lane < 2", "AND true"),
    "EndsTheWalkAtTheHeld": Spoiled("UP-3", "ready_heads", "OR shown.is_last = 1", "OR false"),
    "HoldsWhateverItReads": Spoiled("UP-3", "hold_paused", "IN ('', met.type)", "IS NOT NULL"),
    "ReleasesThePaused": Spoiled(
        "UP-4", "release_held", "WHERE NOT EXISTS (", "WHERE true OR EXISTS ("
    ),
    "HoldsByAnyVersion": Spoiled("UP-5", "hold_paused", "version = $7", "$7 > -1"),
    "ReleasesByAnyVersion": Spoiled("UP-5", "release_held", "version = $9", "$9 > -1"),
    "TakesEveryTurn": Spoiled("LS-2", "take_turns", "pg_try_advisory_xact_lock(key)", "true"),
    "LeasesByStatusAlone": Spoiled(
        "LS-3", "lease_jobs", "j.lease_seq = g.expected_lease_seq", "true"
    ),
    "PagesOldestFirst": Spoiled("JS-5", "find_jobs", "ORDER BY id DESC", "ORDER BY id"),
    "PagesWithoutWhatRuns": Spoiled(
        "JS-5", "find_tenant_jobs", "'running' = ANY($2::text[])", "false"
    ),
    "PagesWithWhatRunsForOthers": Spoiled(
        "JS-5", "find_tenant_jobs", "ANY($2::text[]) AND j.tenant_id = $1", "ANY($2::text[])"
    ),
    "PagesThatRepeatWhatRuns": Spoiled(
        "JS-5",
        "find_tenant_jobs",
        "AND j.id <= $3 AND ($4::text IS NULL OR j.use_case = $4)\n)",
        "AND ($4::text IS NULL OR j.use_case = $4)\n)",
    ),
    "PromotesUnheard": Spoiled(
        "UP-2", "promote_due", "(SELECT count(*) FROM promoted)", "0::bigint"
    ),
    "SetsAsideWhatWasRenewed": Spoiled(
        "LS-6", "set_aside", "j.lease_expires_at = a.lease_end", "true"
    ),
    "ClaimsWhateverLease": Spoiled("LS-7", "claim_jobs", "j.lease_seq = c.lease_seq", "true"),
    "ClaimsWhatIsOver": Spoiled("LS-7", "claim_jobs", "j.lease_expires_at > $4", "true"),
    "ClaimsTwice": Spoiled("LS-7", "claim_jobs", "j.started_at IS NULL", "true"),
    "SucceedsInAnyLease": Spoiled("LS-8", "succeed_jobs", "j.lease_seq = s.lease_seq", "true"),
    "SucceedsUnclaimed": Spoiled("LS-8", "succeed_jobs", "j.started_at IS NOT NULL", "true"),
    "SucceedsInSilence": Spoiled(
        "LS-8", "succeed_jobs", "finished_at = $4, updated_at = $4", "finished_at = $4"
    ),
    "ReadsForeignJobs": Spoiled("JS-6", "get_jobs", "tenant_id = $2", "true"),
}


class SpoiledStore(test_postgres.TestPostgresJobStore):
    saboteur: ClassVar[Spoiled]

    @pytest.fixture(autouse=True)
    def _spoil(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.saboteur.sql(self.saboteur.statement)  # with nothing to spoil, the setup fails
        for module in (adding, store, table, turn):
            monkeypatch.setattr(module, "sql", self.saboteur.sql)


globals().update(
    {
        f"Test{name}": type(f"Test{name}", (SpoiledStore,), {"saboteur": spoiled})
        for name, spoiled in SPOILED.items()
    }
)

SPOILED_LANES = {
    "TakesTooMany": Spoiled("OB-1", "claim_handoffs", "LIMIT $3", "LIMIT $3 + 1"),
    "ClaimsHidden": Spoiled("OB-1", "claim_handoffs", "visible_at <= $2", "$2 IS NOT NULL"),
    "ClaimsOffWhateverLease": Spoiled(
        "OB-1", "claim_handoffs", "j.lease_seq = m.lease_seq", "true"
    ),
    "ClaimsOffWhatIsOver": Spoiled("OB-1", "claim_handoffs", "j.lease_expires_at > $2", "true"),
    "ClaimsOffTwice": Spoiled("OB-1", "claim_handoffs", "j.started_at IS NULL", "true"),
    "ClaimsOffWithoutACharge": Spoiled("OB-1", "claim_handoffs", "j.attempts + 1", "j.attempts"),
    "FindsClaimsOfAnyInstant": Spoiled(
        "OB-2", "claimed_jobs", "started_at = ANY($3::timestamptz[])", "$3 IS NOT NULL"
    ),
    "FindsClaimsOfAnyWorker": Spoiled("OB-2", "claimed_jobs", "worker_id = $2", "$2 <> ''"),
    "FindsClaimsOfAnyLane": Spoiled("OB-2", "claimed_jobs", "queue = $1", "$1 <> ''"),
    "DropsPoisonInSilence": Spoiled(
        "OB-3", "drop_poison", "(SELECT count(*) FROM dropped)", "0::bigint"
    ),
    "SeesNoMore": Spoiled("OB-3", "drop_poison", "count(job_id) > 0 OR", "false AND"),
    "HandsOffOnNoLane": Spoiled("OB-5", "lease_jobs", "queue = ANY($7::text[])", "$7 IS NULL"),
    "HandsOffOnEveryLane": Spoiled(
        "OB-5", "lease_jobs", "queue = ANY($7::text[])", "$7 IS NOT NULL"
    ),
    "HandsOffInAnyOrder": Spoiled("OB-5", "lease_jobs", "ORDER BY place", "ORDER BY -place"),
}


class SpoiledLane(test_postgres.TestPostgresOutbox):
    saboteur: ClassVar[Spoiled]

    @pytest.fixture(autouse=True)
    def _spoil(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.saboteur.sql(self.saboteur.statement)
        for module in (queue, turn):
            monkeypatch.setattr(module, "sql", self.saboteur.sql)


globals().update(
    {
        f"Test{name}": type(f"Test{name}", (SpoiledLane,), {"saboteur": spoiled})
        for name, spoiled in SPOILED_LANES.items()
    }
)

SPOILED_STATISTICS = {
    "CountsWithoutWhatIsScheduled": Spoiled("ST-1", "due_by", "coalesce(min(later.jobs), 0)", "0"),
    "CountsOnlyWhatIsOnTime": Spoiled("ST-1", "due_by", "(VALUES (0), (1), (2))", "(VALUES (0))"),
    "CountsBeforeTheInstant": Spoiled(
        "ST-1", "due_by", "AND j.deadline_at <= $2", "AND j.deadline_at < $2"
    ),
    "CountsByStartAlone": Spoiled("ST-1", "due_by", "WHERE deadline_at <= $2", "WHERE true"),
    "CutsInSilence": Spoiled("ST-2", "due_by", "count(*) FROM scheduled) >= $3", "0) > $3"),
    "ForgetsWhatHasEnded": Spoiled(
        "ST-4", "use_cases", "FROM finished WHERE use", "FROM finished WHERE 0 = 1 AND use"
    ),
    "DoubtsEveryCount": Spoiled("ST-3", "due_by", "count(*) FROM scheduled) >= $3", "0) < $3"),
}


class SpoiledStatistics(test_postgres.TestPostgresStatistics):
    saboteur: ClassVar[Spoiled]

    @pytest.fixture(autouse=True)
    def _spoil(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.saboteur.sql(self.saboteur.statement)
        monkeypatch.setattr(statistics, "sql", self.saboteur.sql)


globals().update(
    {
        f"Test{name}": type(f"Test{name}", (SpoiledStatistics,), {"saboteur": spoiled})
        for name, spoiled in SPOILED_STATISTICS.items()
    }
)
