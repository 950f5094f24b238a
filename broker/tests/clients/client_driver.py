"""What every foreign client must be able to do, said once, so that scenarios are written once and run by all.

A driver wraps one unmodified client. Message number n has the value str(n) and the key str(n % KEYS): numbers that
count upwards within every key are what the ledger judges order by, and what Kafka's own VerifiableProducer sends.
A driver keeps no state between calls; what it starts (a load, a group member) is stopped by whoever asked for it.
"""

from __future__ import annotations

import abc
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

KEYS = 10
"""How many different keys a load uses, in turn."""

POLL_INTERVAL_S = 0.02
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0

# What every member of a group is told, where its client lets us: quick to notice, still far from a slow test machine.
SESSION_TIMEOUT_MS = 10_000
HEARTBEAT_INTERVAL_MS = 500


class Ack(NamedTuple):
    """The broker acknowledged message `number` at `offset` of `partition`."""

    number: int
    partition: int
    offset: int


class Receipt(NamedTuple):
    """Message `number` was read at `offset` of `partition`; `timestamp_ms` is -1 where the client does not tell."""

    number: int
    partition: int
    offset: int
    timestamp_ms: int = -1


class ClientError(Exception):
    """A client failed, or did not do in time what it was asked; the text quotes what it said."""


def eventually(done: Callable[[], bool], timeout_s: float, what: Callable[[], str] | str) -> None:
    """Polls `done` until it holds. Raises ClientError naming `what` was waited for when `timeout_s` passes first."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise ClientError(f"not within {timeout_s:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_INTERVAL_S)


class Pace:
    """Spreads messages evenly: `due` says how many may have been sent by now. None is as fast as it goes."""

    def __init__(self, per_second: int | None) -> None:
        self._per_second = per_second
        self._started = time.monotonic()

    def wait_for(self, number: int) -> None:
        """Sleeps until message `number` is due."""
        if self._per_second is not None:
            delay = self._started + number / self._per_second - time.monotonic()
            if delay > 0:
                time.sleep(delay)


class Load(abc.ABC):
    """A producer at work on messages 0 … n-1."""

    @property
    @abc.abstractmethod
    def acked(self) -> int:
        """How many were acknowledged so far."""

    @abc.abstractmethod
    def finish(self, timeout_s: float) -> list[Ack]:
        """Waits until all are sent and answered. Raises ClientError when it fails or takes longer."""


class Member(abc.ABC):
    """A consumer that joined a group and reads."""

    @abc.abstractmethod
    def assigned(self) -> frozenset[int]:
        """The partitions it holds now."""

    @abc.abstractmethod
    def changes(self) -> int:
        """How often its assignment changed so far."""

    @abc.abstractmethod
    def receipts(self) -> list[Receipt]:
        """What it read so far."""

    @abc.abstractmethod
    def leave(self) -> None:
        """Closes it in order: offsets are committed, and a member that is not static leaves. May be repeated."""


class Driver(Protocol):
    """One foreign client."""

    name: str
    version: str
    codecs: Sequence[str]

    def start_load(
        self, bootstrap: str, topic: str, messages: int, *, per_second: int | None = None, codec: str = "none"
    ) -> Load:
        """Produces with acks=all, idempotently, at most `per_second`."""
        ...

    def read_all(self, bootstrap: str, topic: str, count: int, timeout_s: float = 30.0) -> list[Receipt]:
        """Reads `count` messages from the beginning of all partitions."""
        ...

    def read_from_time(
        self, bootstrap: str, topic: str, timestamp_ms: int, count: int, timeout_s: float = 30.0
    ) -> list[Receipt]:
        """Looks up the offsets of a time, seeks there and reads `count` messages."""
        ...

    def join(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        *,
        cooperative: bool = False,
        instance: str | None = None,
    ) -> Member:
        """Joins a group that starts at the earliest offset; `instance` makes it a static member."""
        ...


class AdminError(Exception):
    """The broker refused an administrative call, as the client words it."""


class GroupView(NamedTuple):
    """A group as a client describes it; the state's name in lower case without separators."""

    state: str
    members: int


class Admin(Protocol):
    """Administrative calls of one client; `calls` names the ones it has."""

    name: str
    version: str
    calls: frozenset[str]

    def create_topic(
        self, bootstrap: str, topic: str, partitions: int, config: Mapping[str, str] | None = None
    ) -> None: ...
    def topics(self, bootstrap: str) -> dict[str, int]:
        """Partition counts by topic."""
        ...

    def delete_topic(self, bootstrap: str, topic: str) -> None: ...
    def add_partitions(self, bootstrap: str, topic: str, total: int) -> None: ...
    def topic_config(self, bootstrap: str, topic: str) -> dict[str, str]: ...
    def set_topic_config(self, bootstrap: str, topic: str, name: str, value: str) -> None: ...
    def reset_topic_config(self, bootstrap: str, topic: str, name: str) -> None: ...
    def groups(self, bootstrap: str) -> set[str]: ...
    def describe_group(self, bootstrap: str, group: str) -> GroupView: ...
    def committed(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        """Committed offsets by partition; without the ones that have none."""
        ...

    def reset_offset(self, bootstrap: str, group: str, topic: str, partition: int, offset: int) -> None: ...
    def delete_offsets(self, bootstrap: str, group: str, topic: str, partitions: Sequence[int]) -> None: ...
    def delete_group(self, bootstrap: str, group: str) -> None: ...
    def delete_records(self, bootstrap: str, topic: str, partition: int, before: int) -> None: ...


TOPIC_CALLS = frozenset({"create_topic", "topics", "delete_topic", "add_partitions"})
CONFIG_CALLS = frozenset({"topic_config", "set_topic_config"})
GROUP_CALLS = frozenset({"groups", "describe_group", "committed", "reset_offset"})
ALL_CALLS = (
    TOPIC_CALLS
    | CONFIG_CALLS
    | GROUP_CALLS
    | {"reset_topic_config", "delete_offsets", "delete_group", "delete_records"}
)


class ThreadedLoad(Load):
    """A load run by a thread of the test process; `body` records acknowledgements through `note`."""

    def __init__(self, body: Callable[[ThreadedLoad], None], messages: int) -> None:
        self._messages = messages
        self._acks: list[Ack] = []
        self.ack_times: list[float] = []
        """When each acknowledgement came, in seconds of the monotonic clock."""
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(body,), daemon=True)
        self._thread.start()

    @property
    def acked(self) -> int:
        return len(self._acks)

    def note(self, number: int, partition: int, offset: int) -> None:
        """Records one acknowledgement."""
        self._acks.append(Ack(number, partition, offset))
        self.ack_times.append(time.monotonic())

    def finish(self, timeout_s: float) -> list[Ack]:
        self._thread.join(timeout_s)
        if self._failure is not None:
            raise ClientError(f"the producer failed after {self.acked} acknowledgements") from self._failure
        if self._thread.is_alive():
            raise ClientError(f"{self.acked} of {self._messages} messages acknowledged after {timeout_s:g} s")
        return sorted(self._acks)

    def _run(self, body: Callable[[ThreadedLoad], None]) -> None:
        try:
            body(self)
        except BaseException as failure:
            self._failure = failure


class ThreadedMember(Member):
    """A member run by a thread; `body` calls `note_assigned` and `note_read` and ends when `leaving` is set."""

    def __init__(self, body: Callable[[ThreadedMember], None]) -> None:
        self.leaving = threading.Event()
        self._assigned: frozenset[int] = frozenset()
        self._changes = 0
        self._receipts: list[Receipt] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(body,), daemon=True)
        self._thread.start()

    def note_assigned(self, partitions: frozenset[int]) -> None:
        """The assignment is `partitions` now; an unchanged one counts for nothing."""
        if partitions != self._assigned:
            self._assigned = partitions
            self._changes += 1

    def note_read(self, receipt: Receipt) -> None:
        """One message was read."""
        self._receipts.append(receipt)

    def assigned(self) -> frozenset[int]:
        self._check()
        return self._assigned

    def changes(self) -> int:
        return self._changes

    def receipts(self) -> list[Receipt]:
        self._check()
        return list(self._receipts)

    def leave(self) -> None:
        self.leaving.set()
        self._thread.join(STOP_TIMEOUT_S)
        self._check()
        if self._thread.is_alive():
            raise ClientError(f"the consumer did not close within {STOP_TIMEOUT_S:g} s")

    def _check(self) -> None:
        if self._failure is not None:
            raise ClientError("the consumer failed") from self._failure

    def _run(self, body: Callable[[ThreadedMember], None]) -> None:
        try:
            body(self)
        except BaseException as failure:
            self._failure = failure
