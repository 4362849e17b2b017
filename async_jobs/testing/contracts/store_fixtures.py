"""What a binding of the store's contract supplies."""

from __future__ import annotations

import pytest

from async_jobs.ports.store import Store
from async_jobs.testing.builders import UnreadableRows
from async_jobs.testing.contracts.scenes import Corrupt, Mend, Transaction


class StoreFixtures:
    """The fixtures to override; every test gets a store without jobs.

    Only `unreadable` has a default: pass it to the store under test, which reports to it.
    """

    @pytest.fixture
    def unreadable(self) -> UnreadableRows:
        """What the store reports unreadable rows to."""
        return UnreadableRows()

    @pytest.fixture
    async def store(self) -> Store:
        """The store under test; it reports to the fixture `unreadable`."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def other_store(self) -> Store:
        """The same jobs through a client that shares nothing with `store` but the jobs.

        Two connections, as two processes would have. A store that lives in one process
        returns `store` itself.
        """
        raise NotImplementedError("override the fixture `other_store`")

    @pytest.fixture
    async def transaction(self) -> Transaction:
        """Opens a transaction to add `within`: committed at the end, rolled back by an error."""
        raise NotImplementedError("override the fixture `transaction`")

    @pytest.fixture
    async def corrupt(self) -> Corrupt:
        """Makes the stored row of a job unreadable, behind the store's back."""
        raise NotImplementedError("override the fixture `corrupt`")

    @pytest.fixture
    async def mend(self) -> Mend:
        """Takes back what `corrupt` did, and nothing else."""
        raise NotImplementedError("override the fixture `mend`")
