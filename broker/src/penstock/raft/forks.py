"""Where a log goes on otherwise than the leader's: what would be lost is told before it goes.

Entries that are not committed are cut, in every mode, and `Ready.tail` says which. Where a master commits alone, the leader
may lack what this member took for committed and has applied. Then cutting is not enough: the state would stay ahead. So such
a member stops following (`Ready.forked`), and its driver sets the tail aside and starts over from the leader's state. Until
the leader's entries are known to agree with all that is committed here, none of them is answered for more than it says.
"""

from __future__ import annotations

from penstock.raft.epochs import EpochLog
from penstock.raft.messages import Snapshot, Span
from penstock.raft.ready import Tail
from penstock.raft.state import State


def note_cut(state: State, first: int) -> None:
    """The log is about to be cut at `first`: keeps for the next Ready what of that the driver's log holds."""
    told = state.unwritten.told_last(state.log.last)
    if first <= told:
        cut = Tail(first, told, state.log.runs_between(first, told))
        earlier = state.tail
        # Cut twice before the driver has heard of it: it is one tail in its log.
        state.tail = cut if earlier is None else Tail(first, earlier.last, cut.epochs + earlier.epochs)


def note_replaced(state: State) -> None:
    """A snapshot is about to take the place of the log, which cannot be compared with the leader's any more. Whatever was
    acknowledged stands in the log of a member that has led since it was last known to hold nothing of its own (`agrees`); so
    such a member tells all that it has, the others nothing."""
    log = state.log
    last = state.unwritten.told_last(log.last)
    if state.mode.may_fork and state.led and log.first <= last:
        state.tail = Tail(log.first, last, log.runs_between(log.first, last), exact=False)
    state.led = 0


def agrees(state: State, last: int, epoch: int) -> None:
    """The log was found to be the leader's up to `last`, in this epoch: if that is all of it, nobody has to come back to it."""
    if last >= state.log.last and epoch > state.led:
        state.led = 0


def difference(log: EpochLog, span: Span) -> int:
    """The first index of the span that this log holds with another epoch; 0 where they agree as far as both reach. The log
    knows epochs from the entry before its first one on."""
    begin = max(span.first, log.first - 1)
    if begin > span.last:
        return 0
    if begin == span.first:
        return log.first_difference(span)
    runs = tuple((epoch, max(start, begin)) for epoch, start in span.epochs)
    # Of the runs that begin at or before `begin`, the last one goes on there.
    kept = [run for number, run in enumerate(runs) if number + 1 == len(runs) or runs[number + 1][1] > begin]
    return log.first_difference(Span(begin, span.last, tuple(kept)))


def lies_apart(log: EpochLog, index: int, epoch: int) -> bool:
    """Whether this entry of the leader's shows that its log is another one, although it comes before all that can be compared
    here. Epochs only rise along a log, and every leader has an entry of its own epoch to show."""
    begin = log.first - 1
    known = log.epoch_of(begin)
    return index < begin and known is not None and epoch > known


def note(state: State, first: int) -> None:
    """The leader holds another entry at `first`, which is committed here."""
    _stop(state, max(first, state.log.first), exact=first >= state.log.first)


def note_under_snapshot(state: State, snapshot: Snapshot) -> bool:
    """Whether a snapshot that covers no more than what is committed here is of another log. Where they part is not known."""
    log = state.log
    if log.epoch_of(snapshot.index) in (None, snapshot.epoch):
        return False
    _stop(state, log.first, exact=False)
    return True


def _stop(state: State, first: int, *, exact: bool) -> None:
    last = state.unwritten.told_last(state.log.last)
    state.forked = Tail(first, last, state.log.runs_between(first, last), exact)
    state.fork_due = True
