"""The contract of `Checkpoints`."""

from __future__ import annotations

import pytest

from async_jobs.domain.job import JsonValue
from async_jobs.ports.checkpoints import Checkpoints


class CheckpointsContract:
    """Everything `Checkpoints` promises, CP-1 to CP-3.

    Subclass it as `TestMyCheckpoints` and override the fixture `checkpoints`.
    """

    @pytest.fixture
    async def checkpoints(self) -> Checkpoints:
        """The checkpoints under test, empty."""
        raise NotImplementedError("override the fixture `checkpoints`")

    async def test_cp_1_what_was_saved_last_is_loaded(self, checkpoints: Checkpoints) -> None:
        """A new state replaces the old one whole."""
        assert await checkpoints.load("fairness") is None

        await checkpoints.save("fairness", {"a": 1, "b": {"é'\"": [1, 2**60, "x", None]}})
        await checkpoints.save("fairness", {"c": [{}], "d": 1.5})

        assert await checkpoints.load("fairness") == {"c": [{}], "d": 1.5}

    async def test_cp_1_a_large_state_is_kept_whole(self, checkpoints: Checkpoints) -> None:
        """Ten thousand tenants are remembered as well as one."""
        state: dict[str, JsonValue] = {f"tenant {i}": i * 1_000_003 for i in range(10_000)}

        await checkpoints.save("fairness", state)

        assert await checkpoints.load("fairness") == state

    async def test_cp_2_names_share_nothing(self, checkpoints: Checkpoints) -> None:
        """Each has its own state."""
        await checkpoints.save("a", {"n": 1})
        await checkpoints.save("b", {"n": 2})

        assert await checkpoints.load("a") == {"n": 1}
        assert await checkpoints.load("A") is None

    async def test_cp_3_a_state_is_the_callers_own(self, checkpoints: Checkpoints) -> None:
        """Neither what was handed over nor what was received is shared."""
        inner: list[JsonValue] = [1]
        state: dict[str, JsonValue] = {"list": inner}
        await checkpoints.save("a", state)

        inner.append(2)
        loaded = await checkpoints.load("a")
        assert loaded is not None
        assert loaded == {"list": [1]}
        assert isinstance(loaded["list"], list)
        loaded["list"].append(3)

        assert await checkpoints.load("a") == {"list": [1]}
