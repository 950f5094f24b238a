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
    """How small a set may be is not asked here: a shard that lost a copy for good must still be able to take in another one.
    Who gives the sets refuses what clients write meanwhile."""

    elects = False
    may_fork = False

    def agreed(self, state: State, leading: Leading) -> int:
        """See `Mode.agreed`. A member of a set that is no member of the shard any more holds nothing."""
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


def mode_named(mode: str, replication: str) -> Mode:
    """The mode of the settings `mode` (Raft, MasterSlave) and `replication` (sync, async)."""
    if mode == "Raft":
        return RAFT
    return MasterSlaveSync() if replication == "sync" else MasterSlaveAsync()
