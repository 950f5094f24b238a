"""Who follows a master closely: told once when it begins and once when it ends, and never of a member that lacks what is
committed."""

from __future__ import annotations

from random import Random

from penstock.replication.in_sync import LAG_MS_MAX, Changes, Follower, InSync

TICK_MS = 100


class Watch:
    """A master of members 2 and 3, looked at every tick."""

    def __init__(self, *, waits: bool = True, named: frozenset[int] = frozenset()) -> None:
        self.now = 0
        self.last = 10
        self.committed: int | None = 10
        self.named = named
        self.in_sync = InSync(0, waits=waits)
        self.match = {2: 0, 3: 0}
        self.silent: set[int] = set()
        self.learners: set[int] = set()
        self.gone: set[int] = set()
        self.leaving: set[int] = set()

    def look(self) -> Changes:
        self.now += TICK_MS
        followers = [
            Follower(
                member, match, member not in self.silent, member not in self.learners, member in self.gone
            )
            for member, match in self.match.items()
        ]
        return self.in_sync.look(self.now, self.last, self.committed, followers, self.named, self.leaving)

    def look_for(self, ms: int) -> list[Changes]:
        return [change for _ in range(ms // TICK_MS) if (change := self.look()) != Changes()]


def test_a_member_that_holds_everything_has_caught_up() -> None:
    watch = Watch()
    watch.match[2] = 10
    assert watch.look_for(500) == [Changes(caught_up=(2,))]


def test_a_member_that_is_behind_is_not_told_of() -> None:
    watch = Watch()
    assert watch.look_for(3 * LAG_MS_MAX) == []


def test_a_close_member_is_waited_for_and_told_when_it_holds_what_is_committed() -> None:
    watch = Watch()
    # It always holds what was the end one look ago, which is committed by now.
    for _ in range(5):
        watch.match[2] = watch.last
        watch.last += 7
        watch.committed = watch.last
        assert watch.look() == Changes()
    assert watch.in_sync.joining == {2}
    # Commits wait now.
    watch.match[2] = watch.last
    assert watch.look() == Changes(caught_up=(2,))
    # And go on doing so until a set names it.
    assert watch.in_sync.joining == {2}
    watch.named = frozenset({2})
    assert watch.look() == Changes()
    assert watch.in_sync.joining == frozenset()


def test_nobody_catches_up_with_what_the_master_does_not_know_to_be_committed() -> None:
    """It was restarted, and has committed nothing in its epoch yet."""
    watch = Watch()
    watch.match[2] = 10
    watch.committed = None
    assert watch.look_for(1000) == []
    watch.committed = 10
    assert watch.look_for(200) == [Changes(caught_up=(2,))]


def test_where_commits_wait_for_nobody_close_is_enough() -> None:
    watch = Watch(waits=False)
    told = []
    for _ in range(5):
        watch.match[2] = watch.last
        watch.last += 7
        watch.committed = watch.last
        told.append(watch.look())
    assert [change for change in told if change != Changes()] == [Changes(caught_up=(2,))]
    assert watch.in_sync.joining == frozenset()


def test_a_member_that_is_silent_falls_behind_once() -> None:
    watch = Watch()
    watch.match[2] = 10
    watch.look_for(500)
    watch.named = frozenset({2})
    watch.silent.add(2)
    assert watch.look_for(4 * LAG_MS_MAX) == [Changes(fell_behind=(2,))]


def test_a_member_whose_connection_ended_falls_behind_at_once_and_comes_back_when_it_holds_everything() -> (
    None
):
    watch = Watch(named=frozenset({2}))
    watch.match[2] = 10
    watch.look_for(500)
    watch.gone.add(2)
    assert watch.look() == Changes(fell_behind=(2,))
    assert watch.look_for(500) == []
    # It lacks what was written meanwhile.
    watch.named = frozenset()
    watch.last = watch.committed = 20
    watch.look()
    watch.gone.clear()
    assert watch.look_for(500) == []
    assert watch.in_sync.joining == frozenset()
    watch.match[2] = 20
    assert watch.look_for(500) == [Changes(caught_up=(2,))]


def test_one_that_a_new_master_has_no_connection_to_is_not_waited_for() -> None:
    watch = Watch(named=frozenset({2}))
    watch.match[2] = 10
    watch.gone.add(2)
    assert watch.look() == Changes(fell_behind=(2,))


def test_a_member_that_gets_on_too_slowly_falls_behind() -> None:
    watch = Watch(named=frozenset({2}))
    watch.match[2] = 10
    told = []
    for _ in range(4 * LAG_MS_MAX // TICK_MS):
        watch.last += 10
        watch.match[2] += 1
        told.append(watch.look())
    assert [change for change in told if change != Changes()] == [Changes(fell_behind=(2,))]


def test_members_that_the_sets_name_are_taken_for_in_sync_at_first() -> None:
    watch = Watch(named=frozenset({2}))
    watch.match[2] = 10
    assert watch.look_for(LAG_MS_MAX) == []


def test_a_member_of_a_set_that_never_comes_falls_behind_after_the_bound() -> None:
    watch = Watch(named=frozenset({9}))
    assert watch.look_for(LAG_MS_MAX) == []
    assert watch.look_for(LAG_MS_MAX) == [Changes(fell_behind=(9,))]


def test_one_that_fell_behind_and_comes_back_while_a_set_names_it_is_told_again() -> None:
    watch = Watch(named=frozenset({2}))
    watch.match[2] = 10
    watch.look_for(500)
    watch.silent.add(2)
    assert watch.look_for(2 * LAG_MS_MAX) == [Changes(fell_behind=(2,))]
    watch.silent.clear()
    assert watch.look_for(500) == [Changes(caught_up=(2,))]


def test_one_that_is_no_member_any_more_fell_behind() -> None:
    watch = Watch(waits=False)
    watch.match[2] = 10
    assert watch.look_for(500) == [Changes(caught_up=(2,))]
    del watch.match[2]
    assert watch.look_for(500) == [Changes(fell_behind=(2,))]


def test_learners_wait_until_they_are_full_members() -> None:
    watch = Watch()
    watch.match[2] = 10
    watch.learners.add(2)
    assert watch.look_for(1000) == []
    watch.learners.clear()
    assert watch.look_for(500) == [Changes(caught_up=(2,))]


def test_one_has_to_hold_the_entry_that_made_it_a_full_member() -> None:
    """Else it could lead next and not know that it may."""
    watch = Watch(waits=False)
    watch.match[2] = 10
    watch.learners.add(2)
    watch.look_for(500)
    watch.learners.clear()
    # The entry that promotes it is the last one.
    watch.last = 11
    assert watch.look_for(500) == []
    watch.match[2] = 11
    assert watch.look_for(500) == [Changes(caught_up=(2,))]


def test_nobody_is_proposed_who_lacks_what_is_committed() -> None:
    """Whatever happens to the logs, with commits that wait for whom they have to."""
    for seed in range(200):
        chance = Random(seed)
        watch = Watch(named=frozenset({3} if chance.random() < 0.5 else ()))
        watch.match = dict.fromkeys((2, 3), 10)
        for _ in range(100):
            watch.last += chance.randint(0, 5)
            for member in watch.match:
                if chance.random() < 0.7:
                    watch.match[member] = chance.randint(watch.match[member], watch.last)
            counted = [watch.match[member] for member in {*watch.named, *watch.in_sync.joining}]
            watch.committed = max(watch.committed or 0, min([watch.last, *counted]))
            watch.silent = {member for member in watch.match if chance.random() < 0.2}
            changes = watch.look()
            for member in changes.caught_up:
                assert watch.match[member] >= watch.committed
                if chance.random() < 0.5:
                    watch.named |= {member}
            for member in changes.fell_behind:
                watch.named -= {member}


def test_a_member_that_is_to_leave_the_shard_leaves_the_set_however_close_it_is() -> None:
    watch = Watch(named=frozenset({2}))
    watch.match[2] = watch.match[3] = 10
    assert watch.look_for(500) == [Changes(caught_up=(3,))]
    watch.leaving = {2}
    assert watch.look_for(500) == [Changes(fell_behind=(2,))]
    watch.named = frozenset({3})
    assert watch.look_for(500) == []
    assert watch.in_sync.joining == frozenset(), "nor does a commit wait for it again"
    watch.leaving = set()
    assert watch.look_for(500) == [Changes(caught_up=(2,))]
