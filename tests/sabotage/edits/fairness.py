"""Bugs in who goes next, and in how much is handed off: each breaks a promise to tenants."""

from __future__ import annotations

from async_jobs.application.looking import Lookout
from async_jobs.domain import candidates, dispatching, fairness, places, rounds, running, slots
from tests.sabotage.edits.patches import Edit, bug

SHARES = (
    bug(
        "a_turn_for_each_use_case",
        "Use cases take turns for the slots, so that a tenant with more of them gets more.",
        Edit(
            slots.Slots._divide,
            "lanes[contender[5].tenant_id].append(contender)",
            "lanes[use_case_of[contender[4]]].append(contender)",
        ),
        breaks="F1",
    ),
    bug(
        "capacity_chosen_for_in_vain",
        "Who fills the choice of a use case and uses its slots for another hides all others.",
        Edit(slots.Slots.share, "if capacity:", "if not capacity:"),
        breaks="F1",
    ),
    bug(
        "capacity_let_go_is_saved_up",
        "What a tenant did not use for another use case's sake is owed to it later.",
        Edit(dispatching._waiting, "(elsewhere & share.waiting) - refused", "set()"),
        breaks="F1",
    ),
    bug(
        "held_back_holds_newcomers_down",
        "Who waits for another reason than what it has had lets newcomers in far below all others.",
        Edit(
            fairness.Contest._rise,
            "self.waiting - self.held_back if self.held_back else self.waiting",
            "self.waiting",
        ),
        breaks="F4",
    ),
    bug(
        "waiting_for_a_full_queue_holds_newcomers_down",
        "Who waits for a queue that can hold no more lets newcomers in far below all others.",
        Edit(dispatching.TurnView._conclude_pools, "(out.beside - share.waiting)", "set()"),
        breaks="F4",
    ),
    bug(
        "who_makes_way_at_busy_slots_holds_nobody_down",
        "Who makes way for a long job at its slots lets newcomers in far below itself.",
        Edit(slots.share_slots, "not rest.isdisjoint(places.stopped)", "False"),
        breaks="F4",
    ),
    bug(
        "memory_of_one_turn",
        "What tenants have had is forgotten at the end of each turn.",
        Edit(fairness.Contest.conclude, "if not self.waiting:", "if chosen or shown:"),
        breaks="F2",
    ),
    bug(
        "weights_forgotten",
        "Service counts the same for all, whatever their weights.",
        Edit(fairness.virtual, "quota is None or quota.weight == 1", "quota is None or quota"),
        breaks="F2",
    ),
    bug(
        "ended_jobs_charged_on",
        "While nothing runs in a pool, what ran there last is charged on and on.",
        Edit(
            dispatching.TurnView._observe,
            "known | self._running.of_pools.keys()",
            "self._running.of_pools",
        ),
        breaks="F2",
    ),
    bug(
        "pools_that_part_share_a_memory",
        "Pools that once were one are charged, and forget, together.",
        Edit(fairness.ServiceMemory.pool, "elif any(", "elif not any("),
        breaks="F2",
    ),
    bug(
        "waiting_for_some_workers_is_no_waiting",
        "Who waits for a queue that only some workers receive is forgotten while others are idle.",
        Edit(slots.share_slots, "choice.waiting | refused", "choice.waiting"),
        breaks="F2",
    ),
    bug(
        "too_long_to_go_ahead_is_left_out",
        "A use case whose jobs are too long to wait ahead of busy slots is left out of the turn.",
        Edit(slots.Slots.closed, "queues - overtaken", "queues"),
        breaks="F2",
    ),
    bug(
        "shorter_work_overtakes_beside_idle_slots",
        "While slots that do not receive it are idle, who goes first is overtaken by shorter jobs.",
        Edit(places.Places.take, "if not is_full and", "if False and"),
        breaks="F2",
    ),
    bug(
        "urgency_borrows_without_bound",
        "A job whose deadline is near goes first, however much its tenant has had.",
        Edit(
            rounds._Rounds.entry,
            "at - _PARTS_AHEAD_MAX if at > _PARTS_AHEAD_MAX else 0",
            "0",
        ),
        breaks="F3",
    ),
    bug(
        "newcomers_stand_behind",
        "A newcomer stands where the one with the most stands.",
        Edit(
            rounds._Rounds.__init__,
            "times.get(tenant, floor) - floor",
            "times.get(tenant, max(times.values(), default=floor)) - floor",
        ),
        breaks="F4",
    ),
    bug(
        "patience_without_end",
        "A job that can wait makes way for others until ten seconds before its deadline.",
        Edit(candidates.Ranking._half_of, "* PRESSING_PART", "* 0"),
        breaks="F2",
    ),
)

SLOTS = (
    bug(
        "one_slot_stays_idle",
        "The last idle slot of a pool is kept.",
        Edit(places._Idle.__init__, "max(0, count)", "max(0, count - 1)"),
        breaks="F5",
    ),
    bug(
        "a_full_pool_keeps_another_idle",
        "A use case that chose for a full pool does not say that another one has idle slots.",
        Edit(
            dispatching.TurnView.choose,
            "more=self._leaves_places(seen, short, chosen)",
            "more=False",
        ),
        breaks="F5",
    ),
    bug(
        "ahead_of_slots_that_are_held",
        "Short jobs are handed off ahead of slots that jobs of minutes hold.",
        Edit(places.Places.__init__, "max(0, pool.slots - held)", "pool.slots"),
        breaks="F10",
    ),
    bug(
        "slots_of_the_dead",
        "What a dead worker had claimed takes slots of the living.",
        Edit(
            running.Running._count,
            "claimed - strays if self._fleet.workers else claimed",
            "claimed",
        ),
        breaks="F5",
    ),
    bug(
        "queues_filled_for_all_workers",
        "A queue that some workers receive is filled for the slots of all.",
        Edit(places._Idle._moves, "if queue in group", "if True"),
        breaks="F10",
    ),
    bug(
        "which_worker_is_busy_is_not_counted",
        "Slots of workers that receive other queues than the rest of their pool always look idle.",
        Edit(running.Running._count, "if group:", "if False:"),
        breaks="F10",
    ),
    bug(
        "who_waits_for_the_busy_takes_idle_slots",
        "What waits for busy workers takes the places of what idle ones could run.",
        Edit(
            places.Places.__init__,
            "self._idle = _Idle(left)",
            "self._idle = _Idle({pool.queues: sum(left.values())})",
        ),
        breaks="F5",
    ),
)

LATENESS = (
    bug(
        "late_jobs_starve",
        "Late jobs wait until nothing presses.",
        Edit(fairness.Contest.pass_over, "self.passed_over + starts", "0 * starts"),
        breaks="F6",
    ),
)

MEMORY = (
    bug(
        "nothing_saved",
        "A scheduler that takes over is told who waits, and not who has had how much.",
        Edit(fairness._saved, "if at > floor", "if at < floor"),
        breaks="F7",
    ),
    bug(
        "shares_of_oneself",
        "A tenant's share is told as if it were alone.",
        Edit(fairness.standing, "{*contest.waiting, tenant}", "{tenant}"),
        breaks="F8",
    ),
    bug(
        "owed_tenants_not_asked_for",
        "What a turn looks at is decided by urgency alone, whoever has waited for longest.",
        Edit(Lookout._query, "if use_case in self._hidden:", "if not use_case:"),
        breaks="F12",
    ),
)

BUGS = (*SHARES, *SLOTS, *LATENESS, *MEMORY)
