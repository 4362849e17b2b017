"""The contracts of `Clock` and `Chance`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest

from async_jobs.ports.clock import Chance, Clock
from async_jobs.testing.clocks import NOW, let_others_run
from async_jobs.testing.contracts.scenes import Elapse, soon, until_done

NAP_SECONDS = 0.02
RESOLUTION_SECONDS = 0.000_001


class ClockContract:
    """Everything `Clock` promises, CK-1 to CK-4.

    What an outage does is for the adapter's own tests: only they can cause one.

    Subclass it as `TestMyClock` and override the fixtures `clock` and `elapse`. The naps are
    short enough for a clock that really waits.
    """

    @pytest.fixture
    async def clock(self) -> Clock:
        """The clock under test, ready to be asked."""
        raise NotImplementedError("override the fixture `clock`")

    @pytest.fixture
    async def elapse(self) -> Elapse:
        """Makes time pass: really, or by moving the clock."""
        raise NotImplementedError("override the fixture `elapse`")

    async def test_ck_1_now_is_aware_and_in_utc(self, clock: Clock) -> None:
        """So that it can be compared with any instant of a job."""
        assert clock.now().tzinfo is UTC

    async def test_ck_1_now_never_goes_back(self, clock: Clock, elapse: Elapse) -> None:
        """Asked again and again, whatever it is measured against meanwhile."""
        instants: list[datetime] = []
        for i in range(300):
            instants.append(clock.now())
            if i % 100 == 50:
                await clock.sync()
                await elapse(NAP_SECONDS)

        assert instants == sorted(instants)
        assert instants[-1] - instants[0] >= timedelta(seconds=2 * NAP_SECONDS)

    async def test_ck_2_monotonic_never_goes_back(self, clock: Clock, elapse: Elapse) -> None:
        """And moves on when time passes."""
        readings: list[float] = []
        for i in range(300):
            readings.append(clock.monotonic())
            if i % 100 == 50:
                await clock.sync()
                await elapse(NAP_SECONDS)

        assert readings == sorted(readings)
        assert readings[-1] - readings[0] >= 2 * NAP_SECONDS - RESOLUTION_SECONDS

    async def test_ck_3_a_sleep_lasts_at_least_as_long_as_asked(
        self, clock: Clock, elapse: Elapse
    ) -> None:
        """By `monotonic`, however many sleep, and each for its own time."""
        asked = [NAP_SECONDS, NAP_SECONDS / 4, NAP_SECONDS / 2, NAP_SECONDS * 1.5]

        async def nap(seconds: float) -> float:
            before = clock.monotonic()
            await clock.sleep(seconds)
            return clock.monotonic() - before

        naps = [asyncio.ensure_future(nap(seconds)) for seconds in asked]
        await until_done(asyncio.gather(*naps), elapse, NAP_SECONDS / 4)

        for seconds, sleeper in zip(asked, naps, strict=True):
            assert await sleeper >= seconds - RESOLUTION_SECONDS

    async def test_ck_3_a_sleep_can_be_cancelled(self, clock: Clock) -> None:
        """At once, however long it had still to go."""
        sleeping = asyncio.ensure_future(clock.sleep(3_600))
        await let_others_run(3)
        assert not sleeping.done()
        sleeping.cancel()

        with pytest.raises(asyncio.CancelledError):
            await soon(sleeping)

    @pytest.mark.parametrize("seconds", [0, 0.0, -1, -1e9])
    async def test_ck_3_no_sleep_lets_others_run(self, clock: Clock, seconds: float) -> None:
        """Whoever was ready has had a turn when it returns."""
        ran: list[str] = []

        async def other() -> None:
            ran.append("other")

        waiting = asyncio.ensure_future(other())
        await soon(clock.sleep(seconds))
        ran.append("sleeper")
        await waiting

        assert ran == ["other", "sleeper"]

    async def test_ck_4_a_synced_clock_can_be_read(self, clock: Clock, elapse: Elapse) -> None:
        """By any number of tasks, that ask for it again before and after time has passed."""
        await clock.sync()
        before = clock.now()
        await soon(asyncio.gather(*(clock.sync() for _ in range(20))))
        await elapse(NAP_SECONDS)
        await soon(clock.sync())

        assert clock.now() - before >= timedelta(seconds=NAP_SECONDS - RESOLUTION_SECONDS)


class ChanceContract:
    """Everything `Chance` promises, CH-1 and CH-2.

    Subclass it as `TestMyChance` and override the fixture `chance`.
    """

    @pytest.fixture
    def chance(self) -> Chance:
        """The chance under test."""
        raise NotImplementedError("override the fixture `chance`")

    def test_ch_1_draws_are_within_zero_and_one(self, chance: Chance) -> None:
        """One excluded; and they are spread over the whole of it."""
        draws = [chance.uniform() for _ in range(1_000)]

        assert all(0 <= draw < 1 for draw in draws)
        assert {int(draw * 10) for draw in draws} == set(range(10))

    def test_ch_2_ids_are_of_version_7_and_hold_their_instant(self, chance: Chance) -> None:
        """To the millisecond, in the layout of RFC 9562."""
        for seconds in (-1_000_000_000, 0, 0.001, 0.999_999, 1_000_000_000):
            at = NOW + timedelta(seconds=seconds)
            fresh = chance.uuid(at)
            assert instant_of(fresh) == at - timedelta(microseconds=at.microsecond % 1_000)
            assert (fresh.version, fresh.variant) == (7, RFC_4122)

    def test_ch_2_ids_grow_from_call_to_call(self, chance: Chance) -> None:
        """Thousands within one millisecond, and on into the next."""
        ids = [chance.uuid(NOW + timedelta(microseconds=i // 10)) for i in range(20_000)]

        assert ids == sorted(ids)
        assert len(set(ids)) == len(ids)

    def test_ch_2_ids_never_repeat_when_instants_go_back(self, chance: Chance) -> None:
        """A host's clock may be set; its ids stay apart."""
        ids = [chance.uuid(NOW + timedelta(milliseconds=i % 7 - 3)) for i in range(5_000)]

        assert len(set(ids)) == len(ids)


def instant_of(uuid: UUID) -> datetime:
    """Return the instant that a UUIDv7 holds."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=uuid.int >> 80)
