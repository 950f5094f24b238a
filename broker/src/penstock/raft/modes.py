"""Who commits and who elects: all in which the modes of a shard differ. Everything else is one core.

| mode | an entry is committed when | who leads |
| --- | --- | --- |
| `Raft` | a majority of the voters holds it | whom the members elect |
| `MasterSlaveSync` | every member of every in-sync set given holds it | whom somebody outside names (`RaftCore.lead`) |
| `MasterSlaveAsync` | the master's own log holds it | the same |

Where nobody is elected by votes, an epoch still has one leader: whoever names it gives each epoch away once. There are two
in-sync sets while a change of the set is unresolved, else one. Under `MasterSlaveAsync` a master commits entries that whoever
leads next may lack; so what is committed on one member need not be in another's log, and each follower looks for that
(`penstock.raft.forks`).
"""

from __future__ import annotations

from penstock.raft.quorum import agreed_index
from penstock.raft.state import Leading, Mode, State


class Raft:
    """Majorities commit and elect."""

    elects = True
    may_fork = False

    def agreed(self, state: State, leading: Leading) -> int:
        """See `Mode.agreed`."""
        progress = leading.progress
        return agreed_index([progress[voter].match for voter in state.configuration.voters])


class MasterSlaveSync:
    """`min_in_sync`: a smaller set commits nothing; but while the shard has fewer voters than that, all of them are enough,
    or it could not be founded."""

    elects = False
    may_fork = False

    def __init__(self, min_in_sync: int = 1) -> None:
        assert min_in_sync >= 1, min_in_sync
        self._min_in_sync = min_in_sync

    def agreed(self, state: State, leading: Leading) -> int:
        """See `Mode.agreed`. A member of a set that is no member of the shard any more holds nothing."""
        needed = min(self._min_in_sync, len(state.configuration.voters))
        if min(len(members) for members in leading.commit_sets) < needed:
            return 0
        progress = leading.progress
        return min(
            progress[member].match if member in progress else 0
            for members in leading.commit_sets
            for member in members
        )


class MasterSlaveAsync:
    """The sets only say who may lead next."""

    elects = False
    may_fork = True

    def agreed(self, state: State, leading: Leading) -> int:
        """See `Mode.agreed`."""
        return leading.progress[state.member].match


RAFT: Mode = Raft()
