"""Members of one group under the commands of etcd's interaction transcripts (its `rafttest` package).

Each member is our core with the smallest driver there can be: entries are kept in a dictionary by index, the disk is a
second one. Two styles, as in etcd: synchronous, where a Ready is stored and applied before the next is taken; and with
storage of its own pace, where what a Ready says becomes orders to a storage thread and an apply thread, whose answers
travel as messages do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import raft_words as words
from penstock.raft.configuration import Configuration
from penstock.raft.core import RaftCore
from penstock.raft.epochs import EpochLog
from penstock.raft.messages import (
    Append,
    InstallSnapshot,
    MessageError,
    PeerMessage,
    Refusal,
    Snapshot,
    VoteRequest,
)
from penstock.raft.options import RaftOptions
from penstock.raft.ready import HardState, Ready
from raft_cores import of_kind
from raft_datadriven import Case
from raft_member import Envelope, Member, StorageOrder, read_changes
from raft_words import Entry

# What etcd's tests configure: an election timeout of three ticks, and no limits.
UNLIMITED = 2**62
OPTIONS = {
    "election_ticks": 3,
    "heartbeat_ticks": 1,
    "pre_vote": False,
    "check_quorum": False,
    "step_down_on_removal": False,
    "append_bytes_max": UNLIMITED,
    "inflight_appends_max": UNLIMITED,
    "inflight_bytes_max": UNLIMITED,
    "combine": False,
}
FLAGS = {"prevote": "pre_vote", "checkquorum": "check_quorum", "step-down-on-removal": "step_down_on_removal"}


class Group:
    """Understands the transcripts' commands; `handle` gives what etcd's tests would print."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.messages: list[Envelope] = []
        self.quiet = False
        self._lines: list[str] = []

    def handle(self, case: Case) -> str:
        """Runs one command."""
        self._lines = []
        commands: dict[str, Callable[[Case], None]] = {
            name.removeprefix("do_").replace("_", "-"): getattr(self, name)
            for name in dir(self)
            if name.startswith("do_")
        }
        commands[case.command](case)
        return "\n".join(self._lines) or "ok"

    def write(self, text: str) -> None:
        """Prints lines."""
        if not self.quiet:
            self._lines += text.splitlines()

    @contextmanager
    def _indented(self) -> Iterator[None]:
        outer, self._lines = self._lines, []
        yield
        self._lines = outer + ["  " + line for line in self._lines]

    def _each(self, case: Case, title: str, action: Callable[[Member], None]) -> None:
        members = [self.members[int(word) - 1] for word in case.words]
        for member in members:
            if len(members) == 1:
                action(member)
            else:
                self.write(f"> {member.number} {title}")
                with self._indented():
                    action(member)

    # --- members -------------------------------------------------------------------------------------

    def do_add_nodes(self, case: Case) -> None:
        settings: dict[str, int | bool] = dict(OPTIONS)
        for flag, option in FLAGS.items():
            settings[option] = case.value(flag, "false") == "true"
        settings["inflight_appends_max"] = int(case.value("inflight", str(UNLIMITED)))
        storage_thread = case.value("async-storage-writes", "false") == "true"
        settings["apply_before_stored"] = not storage_thread
        settings["count_when_appended"] = False
        index = int(case.value("index", "0"))
        configuration = Configuration(case.numbers("voters"), case.numbers("learners"))
        for _ in range(int(case.words[0])):
            member = Member(len(self.members) + 1, storage_thread, disk_first=index + 1, disk_last=index)
            member.history.append(Snapshot(index, min(index, 1), configuration, ""))
            member.core = RaftCore(
                member.number,
                RaftOptions(**settings),
                log=EpochLog(index + 1, index, epoch_before=min(index, 1)),
                hard_state=HardState(0, 0, index, min(index, 1)),
                configuration=configuration,
                applied=index,
                port=member,
                # The transcripts only let a timeout pass where they have set it.
                jitter=lambda n: n - 1,
            )
            self.members.append(member)

    def do_set_randomized_election_timeout(self, case: Case) -> None:
        self._member(case).core._state.election_timeout = int(case.value("timeout", ""))

    def _member(self, case: Case) -> Member:
        return self.members[int(case.words[0]) - 1]

    def do_log_level(self, case: Case) -> None:
        self.quiet = case.words[0].lower() == "none"

    # --- wishes and reports --------------------------------------------------------------------------

    def do_campaign(self, case: Case) -> None:
        self._member(case).core.campaign()

    def do_forget_leader(self, case: Case) -> None:
        self._member(case).core.forget_leader()

    def do_propose(self, case: Case) -> None:
        member = self._member(case)
        appended = member.core.append(1, len(case.words[1]))
        if isinstance(appended, Refusal):
            self.write("raft proposal dropped")
        else:
            member.put(Entry(appended[0], member.core.epoch, text=case.words[1]))

    def do_propose_conf_change(self, case: Case) -> None:
        member = self._member(case)
        (change,) = read_changes(case.input)
        assert case.value("transition", "auto") == "auto", "joint consensus is not built"
        index = member.core.propose_change(change, 0)
        assert isinstance(index, int), index
        kind = "EntryConfChange" if case.value("v1", "false") == "true" else "EntryConfChangeV2"
        member.put(Entry(index, member.core.epoch, kind, case.input, change))

    def do_report_unreachable(self, case: Case) -> None:
        self._member(case).core.report_unreachable(int(case.words[1]))

    def do_send_snapshot(self, case: Case) -> None:
        member = self._member(case)
        to = int(case.words[1])
        message = InstallSnapshot(to, member.number, member.core.epoch, member.snapshot())
        self.messages.append(self._to_peer(member, message))
        self.write(self.messages[-1].text)

    def do_compact(self, case: Case) -> None:
        member = self._member(case)
        member.disk_first = int(case.words[1]) + 1
        member.core.compacted(member.disk_first)
        self.do_raft_log(case)

    def _tick(self, case: Case, ticks: int) -> None:
        for _ in range(ticks):
            self._member(case).core.tick()

    def do_tick_election(self, case: Case) -> None:
        self._tick(case, OPTIONS["election_ticks"])

    def do_tick_heartbeat(self, case: Case) -> None:
        self._tick(case, OPTIONS["heartbeat_ticks"])

    # --- questions -----------------------------------------------------------------------------------

    def do_raft_log(self, case: Case) -> None:
        member = self._member(case)
        first, last = member.disk_first, member.disk_last
        if last < first:
            self.write(f"log is empty: first index={first}, last index={last}")
        self.write(words.entry_lines([member.disk[index] for index in range(first, last + 1)]))

    def do_raft_state(self, case: Case) -> None:
        for member in self.members:
            status = member.core.status()
            voter = "(Voter)" if member.number in status.configuration.voters else "(Non-Voter)"
            role = words.ROLES[status.role]
            self.write(f"{member.number}: {role} {voter} Term:{status.epoch} Lead:{status.leader}")

    def do_status(self, case: Case) -> None:
        for follower in self._member(case).core.status().followers:
            self.write(words.progress_line(follower))

    # --- Ready ---------------------------------------------------------------------------------------

    def do_process_ready(self, case: Case) -> None:
        self._each(case, "handling Ready", self._process_ready)

    def _process_ready(self, member: Member) -> None:
        ready = member.ready()
        if ready is None:
            self.write("<empty Ready>")
            return
        acknowledged = [ready.begin_epoch.index] if ready.begin_epoch else []
        acknowledged += [entry.index for entry in member.appended]
        entries = member.take(ready)
        applicable = range(ready.committed[0], ready.committed[1] + 1) if ready.committed else ()
        applying = [member.log[index] for index in applicable]
        # etcd asks for votes at once, even before its storage thread has written the epoch; ours waits, see `election`.
        at_once = [*ready.messages, *of_kind(VoteRequest, ready.messages_after)]
        sent = [self._to_peer(member, message) for message in at_once]
        after = [self._to_peer(member, message) for message in ready.messages_after if message not in at_once]
        if member.storage_thread:
            own = self._own_responses(member, ready, acknowledged)
            orders = self._orders(member, ready, entries, applying, own + after)
            texts = [envelope.text for envelope in sent] + orders
        else:
            texts = [envelope.text for envelope in sent + after]
        self._write_ready(member, ready, entries, applying, texts)
        self.messages += sent
        if not member.storage_thread:
            member.store(entries, ready.snapshot)
            member.apply(applying)
            self.messages += after
            # etcd's leader acknowledges every append of its own by itself.
            if ready.hard_state:
                member.core.hard_state_stored(ready.hard_state)
            for index in acknowledged:
                member.core.stored(index, ready.generation)
            member.core.advance(ready)

    def _write_ready(
        self, member: Member, ready: Ready, entries: list[Entry], applying: list[Entry], texts: list[str]
    ) -> None:
        lines = ""
        soft_state = (words.ROLES[member.core.role], member.core.leader)
        if ready.leadership:
            soft_state = (words.ROLES[ready.leadership.role], ready.leadership.leader)
        # etcd leaves out a change of the term alone, which the hard state tells as well.
        if soft_state != member.soft_state:
            member.soft_state = soft_state
            lines += f"Lead:{soft_state[1]} State:{soft_state[0]}\n"
        if ready.hard_state:
            lines += f"HardState {words.hard_state_words(ready.hard_state)}\n"
        if entries:
            lines += "Entries:\n" + words.entry_lines(entries)
        if ready.snapshot:
            lines += f"Snapshot {words.snapshot_line(ready.snapshot)}\n"
        if applying:
            lines += "CommittedEntries:\n" + words.entry_lines(applying)
        if texts:
            lines += "Messages:\n" + "".join(f"{text}\n" for text in texts)
        must_sync = bool(entries)
        if ready.hard_state:
            must_sync |= member.is_binding(ready.hard_state)
            member.hard_state = ready.hard_state
        self.write(f"Ready MustSync={str(must_sync).lower()}:\n{lines}" if lines else "<empty Ready>")

    def _to_peer(self, member: Member, message: PeerMessage) -> Envelope:
        if isinstance(message, Append) and message.span:
            span = message.span
            payload = tuple(member.log[index] for index in range(span.first, span.last + 1))
            span = type(span)(span.first, span.last, span.epochs, span.size_bytes, span.changes, payload)
            message = Append(
                message.to,
                message.sender,
                message.epoch,
                message.previous_index,
                message.previous_epoch,
                message.commit,
                span,
            )
        kind = words.message_type(message)
        return Envelope(
            member.number, message.to, kind, words.message_words(message), partial(self._step, message)
        )

    def _step(self, message: PeerMessage) -> None:
        try:
            self.members[message.to - 1].core.step(message)
        except MessageError as error:
            self.write(f"refused: {error.sentence}")

    # --- storage of its own pace ---------------------------------------------------------------------

    def _own_responses(self, member: Member, ready: Ready, acknowledged: list[int]) -> list[Envelope]:
        """What etcd's member sends to itself when it is stored: its own vote, a leader's own entries."""
        core, number = member.core, member.number
        head = f"{number:x}->{number:x}"
        own = []
        hard_state = ready.hard_state
        if hard_state and member.is_binding(hard_state) and hard_state.vote == number:
            text = f"{head} MsgVoteResp Term:{hard_state.epoch} Log:0/0"
            deliver = partial(core.hard_state_stored, hard_state)
            own.append(Envelope(number, number, "MsgVoteResp", text, deliver, local=True))
        for index in acknowledged:
            text = f"{head} MsgAppResp Term:{core.epoch} Log:0/{index}"
            deliver = partial(core.stored, index, ready.generation)
            own.append(Envelope(number, number, "MsgAppResp", text, deliver, local=True))
        return own

    def _orders(
        self,
        member: Member,
        ready: Ready,
        entries: list[Entry],
        applying: list[Entry],
        responses: list[Envelope],
    ) -> list[str]:
        """Makes the Ready into orders to the member's threads; gives them as they are printed."""
        core, number = member.core, member.number
        texts = []
        if entries or ready.hard_state or ready.snapshot or responses:
            text = words.storage_words(number, ready.hard_state, entries, ready.snapshot)
            if core.status().stored < ready.last_index:
                last = member.log[ready.last_index]
                stored = f"AppendThread->{number:x} MsgStorageAppendResp Term:{core.epoch} Log:{last.epoch}/{last.index}"
                deliver = partial(core.stored, ready.last_index, ready.generation)
                responses = [
                    *responses,
                    Envelope(0, number, "MsgStorageAppendResp", stored, deliver, local=True),
                ]
            work = partial(member.store, entries, ready.snapshot)
            member.append_work.append(StorageOrder(text, work, responses))
            texts.append(self._with_responses(text, responses))
        if applying:
            text = words.apply_words(f"{number:x}", "ApplyThread", "MsgStorageApply", applying)
            answer = words.apply_words("ApplyThread", f"{number:x}", "MsgStorageApplyResp", applying)
            deliver = partial(core.applied, applying[-1].index)
            response = Envelope(0, number, "MsgStorageApplyResp", answer, deliver, local=True)
            member.apply_work.append(StorageOrder(text, partial(member.apply, applying), [response]))
            texts.append(self._with_responses(text, [response]))
        return texts

    @staticmethod
    def _with_responses(text: str, responses: list[Envelope]) -> str:
        if not responses:
            return text
        indented = ["  " + line for response in responses for line in response.text.splitlines()]
        return "\n".join([text + " Responses:[", *indented, "]"])

    def do_process_append_thread(self, case: Case) -> None:
        self._each(
            case, "processing append thread", lambda member: self._process(member.append_work, "append")
        )

    def do_process_apply_thread(self, case: Case) -> None:
        self._each(case, "processing apply thread", lambda member: self._process(member.apply_work, "apply"))

    def _process(self, orders: list[StorageOrder], name: str) -> None:
        if not orders:
            self.write(f"no {name} work to perform")
            return
        order = orders.pop(0)
        order.work()
        self.write(f"Processing:\n{order.text}\nResponses:")
        for response in order.responses:
            self.write(response.text)
        self.messages += order.responses

    # --- the network ---------------------------------------------------------------------------------

    def do_deliver_msgs(self, case: Case) -> None:
        kind = case.value("type", "")
        recipients = [(int(word), False) for word in case.words]
        recipients += [(number, True) for number in case.numbers("drop")]
        if sum(self._deliver(to, kind, drop=drop) for to, drop in recipients) == 0:
            self.write("no messages")

    def _waiting(self, to: int, kind: str, *, drop: bool) -> list[Envelope]:
        return [
            envelope
            for envelope in self.messages
            if envelope.to == to and kind in ("", envelope.kind) and not (drop and envelope.local)
        ]

    def _deliver(self, to: int, kind: str, *, drop: bool) -> int:
        waiting = self._waiting(to, kind, drop=drop)
        self.messages = [envelope for envelope in self.messages if envelope not in waiting]
        for envelope in waiting:
            self.write(("dropped: " if drop else "") + envelope.text)
            if not drop:
                envelope.deliver()
        return len(waiting)

    def do_stabilize(self, case: Case) -> None:
        quiet = self.quiet
        if "log-level" in case.values:
            self.quiet = case.value("log-level", "") == "none"
        members = [self.members[int(word) - 1] for word in case.words] or self.members
        while self._stabilize_once(members):
            pass
        self.quiet = quiet

    def _stabilize_once(self, members: Sequence[Member]) -> bool:
        busy = False
        for member in members:
            if member.has_ready:
                busy = True
                self._titled(member, "handling Ready", partial(self._process_ready, member))
        for member in members:
            if self._waiting(member.number, "", drop=False):
                busy = True
                self._titled(
                    member, "receiving messages", partial(self._deliver, member.number, "", drop=False)
                )
        for orders, name in (("append_work", "append"), ("apply_work", "apply")):
            for member in members:
                work: list[StorageOrder] = getattr(member, orders)
                if work:
                    busy = True
                    self.write(f"> {member.number} processing {name} thread")
                while work:
                    with self._indented():
                        self._process(work, name)
        return busy

    def _titled(self, member: Member, title: str, action: Callable[[], object]) -> None:
        self.write(f"> {member.number} {title}")
        with self._indented():
            action()
