"""etcd's own transcripts as the oracle: its commands given to our core, its output expected of us.

Compared is everything a transcript prints, line by line and in order: states, messages, Readys, log contents,
progress. Left out, and only here: lines of etcd's log (`PROSE`), the table that a quorum case prints above its answer,
which only draws the input, and the words of a refused membership change (`REFUSALS`). Where our core is stricter than
etcd's about what must be durable first, `raft_group` says how the two are compared.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import raft_words as words
from penstock.raft.configuration import ChangeError, Configuration
from penstock.raft.leader import tracked
from penstock.raft.options import RaftOptions
from penstock.raft.progress import Progress
from penstock.raft.quorum import EVERYTHING, VoteResult, agreed_index, vote_result
from penstock.raft.status import follower_status
from raft_datadriven import Case, read_cases
from raft_group import Group
from raft_member import read_changes

pytestmark = pytest.mark.go

ROOT = Path(__file__).resolve().parents[3]
PROSE = re.compile(r"\s*(DEBUG|INFO|WARN|ERROR|FATAL) ")
REFUSALS = {
    "no voter": "removed all voters",
    "more than one voter": "more than one voter changed without entering joint config",
}
VOTE_RESULTS = {VoteResult.WON: "VoteWon", VoteResult.LOST: "VoteLost", VoteResult.PENDING: "VotePending"}

REPLAYED = (
    "confchange/testdata/simple_idempotency.txt",
    "confchange/testdata/simple_promote_demote.txt",
    "confchange/testdata/simple_safety.txt",
    "confchange/testdata/update.txt",
    "confchange/testdata/zero.txt",
    "quorum/testdata/majority_commit.txt",
    "quorum/testdata/majority_vote.txt",
    "testdata/async_storage_writes.txt",
    "testdata/async_storage_writes_append_aba_race.txt",
    "testdata/campaign.txt",
    "testdata/campaign_learner_must_vote.txt",
    "testdata/checkquorum.txt",
    "testdata/confchange_v1_add_single.txt",
    "testdata/confchange_v1_remove_leader.txt",
    "testdata/confchange_v1_remove_leader_stepdown.txt",
    "testdata/confchange_v2_add_single_auto.txt",
    "testdata/forget_leader.txt",
    "testdata/forget_leader_prevote_checkquorum.txt",
    "testdata/heartbeat_resp_recovers_from_probing.txt",
    "testdata/lagging_commit.txt",
    "testdata/prevote.txt",
    "testdata/prevote_checkquorum.txt",
    "testdata/probe_and_replicate.txt",
    "testdata/replicate_pause.txt",
    "testdata/single_node.txt",
    "testdata/slow_follower_after_compaction.txt",
    "testdata/snapshot_succeed_via_app_resp.txt",
    "testdata/snapshot_succeed_via_app_resp_behind.txt",
)

JOINT = "joint consensus: our changes move one voter at a time"
NOT_REPLAYED = {
    "confchange/testdata/joint_autoleave.txt": JOINT,
    "confchange/testdata/joint_idempotency.txt": JOINT,
    "confchange/testdata/joint_learners_next.txt": JOINT,
    "confchange/testdata/joint_safety.txt": JOINT,
    "quorum/testdata/joint_commit.txt": JOINT,
    "quorum/testdata/joint_vote.txt": JOINT,
    "testdata/confchange_disable_validation.txt": f"{JOINT}, and which one may be made is always checked",
    "testdata/confchange_v2_add_double_auto.txt": JOINT,
    "testdata/confchange_v2_add_double_implicit.txt": JOINT,
    "testdata/confchange_v2_add_single_explicit.txt": JOINT,
    "testdata/confchange_v2_replace_leader.txt": JOINT,
    "testdata/confchange_v2_replace_leader_stepdown.txt": JOINT,
    "testdata/forget_leader_read_only_lease_based.txt": "reads by lease trust clocks: ours ask a majority",
}


@pytest.fixture(scope="module")
def module() -> Path:
    """etcd's raft module."""
    result = subprocess.run(
        [ROOT / "tools" / "raft-transcripts"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.strip())


def test_every_transcript_is_replayed_or_named_with_the_reason(module: Path) -> None:
    there = {path.relative_to(module).as_posix() for path in module.rglob("testdata/**/*") if path.is_file()}
    assert not set(REPLAYED) & set(NOT_REPLAYED)
    assert there == set(REPLAYED) | set(NOT_REPLAYED)


def without_prose(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if not PROSE.match(line)]
    return "\n".join(lines) or "ok"


@pytest.mark.parametrize("name", [name for name in REPLAYED if name.startswith("testdata/")])
def test_group(module: Path, name: str) -> None:
    group = Group()
    for case in read_cases(module / name):
        assert group.handle(case) == without_prose(case.expected), case.place


# --- one rule alone ----------------------------------------------------------------------------------


def quorum_answer(case: Case) -> str:
    """`committed` or `vote` among the voters `cfg`."""
    voters = case.numbers("cfg")
    if case.command == "committed":
        indexes = [0 if index == "_" else int(index) for index in case.values.get("idx", [])]
        index = agreed_index(indexes)
        return "∞" if index == EVERYTHING else str(index)
    assert case.command == "vote"
    cast = zip(voters, case.values.get("votes", []), strict=True)
    return VOTE_RESULTS[vote_result(voters, {voter: vote == "y" for voter, vote in cast if vote != "_"})]


@pytest.mark.parametrize("name", [name for name in REPLAYED if name.startswith("quorum/")])
def test_quorum(module: Path, name: str) -> None:
    for case in read_cases(module / name):
        answer = case.expected.splitlines()[-1].removeprefix("<empty majority quorum>")
        assert quorum_answer(case) == answer, case.place


class Members:
    """A configuration and the leader's view of its members, under the command `simple`."""

    def __init__(self) -> None:
        self.configuration = Configuration()
        self.progress: dict[int, Progress] = {}
        self.last_index = 0

    def handle(self, case: Case) -> str:
        assert case.command == "simple"
        try:
            self.configuration = self.configuration.changed(read_changes(case.input))
        except ChangeError as error:
            return next(theirs for ours, theirs in REFUSALS.items() if ours in error.sentence)
        finally:
            self.last_index += 1
        self.progress = tracked(
            self.progress, self.configuration, last_index=self.last_index - 1, options=RaftOptions()
        )
        return "\n".join([self._configuration(), *map(self._line, self.progress.values())])

    def _configuration(self) -> str:
        text = f"voters=({' '.join(map(str, self.configuration.voters))})"
        learners = self.configuration.learners
        return text + (f" learners=({' '.join(map(str, learners))})" if learners else "")

    @staticmethod
    def _line(progress: Progress) -> str:
        return words.progress_line(follower_status(progress))


@pytest.mark.parametrize("name", [name for name in REPLAYED if name.startswith("confchange/")])
def test_membership_changes(module: Path, name: str) -> None:
    members = Members()
    for case in read_cases(module / name):
        assert members.handle(case) == case.expected, case.place
