"""`ShardProcesses`: one shard of several real broker processes on loopback, for black-box tests, demos and the bench.

Every broker has a folder and ports of its own and keeps both over restarts, as pods do. Brokers are named by ordinal.
What the shard says of itself is asked of its admin API, so that tests see what the operator sees. In another `Place`
than loopback, whoever asks has to be there too.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from penstock.testing.managed_process import ServerError
from penstock.testing.process import BrokerProcess
from penstock.testing.replicas import replicas_agree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from penstock.testing.replicas import Agreement

REPLICAS_MAX = 5
LISTENERS = ("peer", "kafka", "http", "admin")
HOST = "127.0.0.1"
# Below the ports that Linux gives to outgoing connections: a broker that dials a dead peer must never be given the
# peer's port for its own end.
PORTS = range(15_000, 32_000)
PORT_TRIES_MAX = 1_000

SETTLE_TIMEOUT_S = 30.0
"""How long the shard may take to elect a leader and bring every member in sync."""

ASK_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.02
NODES_PER_SHARD = 100


class Place(Protocol):
    """Where brokers run: their addresses by ordinal, and what goes before their commands."""

    def host(self, server: int) -> str: ...

    def prefix(self, server: int) -> Sequence[str]: ...


class ShardView(NamedTuple):
    """One broker's answer to who leads; `leader` is an ordinal, -1 while none is known."""

    leader: int
    epoch: int
    members: dict[int, dict[str, Any]]

    @property
    def in_sync(self) -> frozenset[int]:
        """Ordinals of the voters in sync, as that broker sees it; only the leader's sight is more than a guess."""
        voters = {"Leader", "Follower"}
        return frozenset(
            ordinal for ordinal, item in self.members.items() if item["inSync"] and item["role"] in voters
        )


class ShardProcesses:
    """Brokers 0 to `replicas` - 1 below `folder`. `config` holds for all of them, `each` for single ones; `program` as
    in `BrokerProcess`. Leaving the context kills what still runs."""

    def __init__(
        self,
        folder: Path,
        *,
        replicas: int = 3,
        config: Mapping[str, object] | None = None,
        each: Mapping[int, Mapping[str, object]] | None = None,
        prefix: Sequence[str] = (),
        place: Place | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        self.replicas = replicas
        self.brokers: list[BrokerProcess] = []
        self._folder, self._prefix, self._place, self._program = folder, prefix, place, program
        self._ports = free_ports(REPLICAS_MAX * len(LISTENERS))
        self._shared: dict[str, object] = {
            "cluster.id": "penstock-shard-tests00",
            "cluster.name": "test",
            "shard.uid": str(uuid.uuid4()),
            **self._places(replicas),
            **(config or {}),
        }
        self._each = {ordinal: dict((each or {}).get(ordinal, {})) for ordinal in range(replicas)}
        for ordinal in range(replicas):
            self._add(ordinal, (each or {}).get(ordinal, {}))

    def _host(self, ordinal: int) -> str:
        return HOST if self._place is None else self._place.host(ordinal)

    def _places(self, replicas: int) -> dict[str, object]:
        """How many brokers there are, and where."""
        peers = (f"{ordinal}={self._host(ordinal)}:{self._ports[ordinal]}" for ordinal in range(replicas))
        return {"replicas": replicas, "shard.peers": ",".join(peers)}

    def _add(self, ordinal: int, changes: Mapping[str, object]) -> None:
        addresses = (f"{self._host(ordinal)}:{port}" for port in self._ports[ordinal::REPLICAS_MAX])
        self.brokers.append(
            self._make_broker(
                self._folder / f"broker-{ordinal}",
                listeners=LISTENERS,
                listen=dict(zip(LISTENERS, addresses, strict=True)),
                prefix=self._prefix if self._place is None else self._place.prefix(ordinal),
                program=self._program,
            )
        )
        self.configure(ordinal, changes)

    def _make_broker(self, folder: Path, **options: Any) -> BrokerProcess:
        return BrokerProcess(folder, **options)

    def configure(self, ordinal: int, changes: Mapping[str, object]) -> None:
        """Settings of one broker from its next start on, beside the shared ones."""
        self._each[ordinal] = dict(changes)
        self.brokers[ordinal].configure({**self._shared, "broker.ordinal": ordinal, **changes})

    def note_formed(self) -> None:
        """The shard has existed: from their next starts on brokers are told so, as the operator does it."""
        self._shared["shard.formed"] = True
        for ordinal, changes in self._each.items():
            self.configure(ordinal, changes)

    # --- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Starts every broker that does not run, and waits until the shard is whole."""
        for broker in self.brokers[: self.replicas]:
            if not broker.running:
                broker.launch_only()
        self.wait_whole()
        return self

    def close(self) -> None:
        """Kills whatever still runs, also what is paused."""
        for broker in self.brokers:
            broker.kill()

    def resize(self, replicas: int) -> None:
        """Another number of brokers, as the operator does it: more are started, fewer are stopped once they have left; nobody
        else is. Returns when the shard is whole."""
        before, self.replicas = self.replicas, replicas
        self._shared |= {**self._places(max(before, replicas)), "shard.formed": True}
        for ordinal in range(before, replicas):
            if ordinal == len(self.brokers):
                self._add(ordinal, {})
            self.configure(ordinal, {})
            self.brokers[ordinal].launch_only()
        self.ask_for(replicas)
        if replicas < before:
            self._wait(self._have_left, SETTLE_TIMEOUT_S, "brokers did not leave")
            for broker in self.brokers[replicas:before]:
                broker.terminate()
        self.wait_whole()

    def ask_for(self, replicas: int) -> None:
        """Tells the leader how many brokers there should be; again, where another one led meanwhile."""

        def told() -> bool:
            try:
                self.ask(self.leader(), "/v1/shard/resize", {"replicas": replicas})
            except ServerError:
                return False
            return True

        self._wait(told, SETTLE_TIMEOUT_S, f"nobody was told of {replicas} brokers")

    def _have_left(self) -> bool:
        """Whether no broker that stays counts another one."""
        views = self._staying()
        everybody = set(range(self.replicas))
        return views.keys() == everybody and all(view.members.keys() == everybody for view in views.values())

    # --- faults ----------------------------------------------------------------------------------

    def kill(self, ordinal: int) -> None:
        """SIGKILL, and waits until the process is gone."""
        self.brokers[ordinal].kill()

    def restart(self, ordinal: int) -> None:
        """Starts a broker again with its folder and ports, and waits until it listens; SIGTERM first if it runs."""
        self.brokers[ordinal].restart()

    def empty(self, ordinal: int) -> None:
        """Deletes the folder of a broker that does not run."""
        assert not self.brokers[ordinal].running, f"broker {ordinal} runs"
        shutil.rmtree(self.brokers[ordinal].data)

    def forget(self, ordinal: int) -> None:
        """Deletes everything of a broker that does not run but its volume and its log: what told others where it was."""
        broker = self.brokers[ordinal]
        assert not broker.running, f"broker {ordinal} runs"
        for path in broker.folder.iterdir():
            if path not in (broker.data, broker.log):
                path.unlink()

    def pause(self, ordinal: int) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        self.brokers[ordinal].send_signal(signal.SIGSTOP)

    def resume(self, ordinal: int) -> None:
        """SIGCONT."""
        self.brokers[ordinal].send_signal(signal.SIGCONT)

    def hand_over(self, to: int | None = None) -> int:
        """Asks the leader to hand its leadership over; the new leader. Raises ServerError when it refuses."""
        body = {} if to is None else {"to": self.name(to)}
        answer = self.ask(self.leader(), "/v1/shard/hand-over", body)
        return self._ordinal_of(answer["leader"])

    # --- questions -------------------------------------------------------------------------------

    @property
    def kafka(self) -> str:
        """Bootstrap addresses of all brokers that were ever started."""
        return ",".join(broker.kafka for broker in self.brokers)

    @property
    def running(self) -> list[int]:
        """Ordinals of the brokers whose process lives."""
        return [ordinal for ordinal, broker in enumerate(self.brokers) if broker.running]

    @staticmethod
    def name(ordinal: int) -> str:
        """A broker's name in the admin API."""
        return f"test-0-{ordinal}"

    def view(self, ordinal: int) -> ShardView:
        """The shard as one broker sees it. Raises ServerError when it does not answer."""
        (shard,) = self.ask(ordinal, "/v1/cluster")["shards"]
        members = {item["nodeId"] % NODES_PER_SHARD: item for item in shard["members"]}
        return ShardView(self._ordinal_of(shard["leader"]), shard["epoch"], members)

    def is_ready(self, ordinal: int) -> bool:
        """Whether `/readyz` says that clients may be sent there."""
        try:
            self.ask(ordinal, "/readyz")
        except ServerError:
            return False
        return True

    def reasons(self, ordinal: int) -> list[str]:
        """Why `/readyz` says that clients should not be sent there; empty: they should. Raises ServerError when it does not
        answer."""
        _, told = self._request(ordinal, "/readyz")
        found: list[str] = json.loads(told)["reasons"]
        return found

    def trust(self, ordinal: int, **changes: str) -> Any:
        """Has the shard go on from this broker's copy, as a person or the operator asks for it; `changes` replace what names
        the copy. Raises ServerError when it is refused."""
        broker = self.ask(ordinal, "/v1/broker")
        body = {"shardUid": broker["shardUid"], "storageId": broker["storageId"], **changes}
        return self.ask(ordinal, "/v1/shard/trust", body)

    def leader(self, *, other_than: int | None = None, timeout_s: float = SETTLE_TIMEOUT_S) -> int:
        """Who leads and says so itself; waits until somebody does. Where two say so, the newer epoch counts."""
        found: list[tuple[int, int]] = []

        def known() -> bool:
            found[:] = [
                (view.epoch, ordinal)
                for ordinal, view in self._views(other_than).items()
                if view.leader == ordinal
            ]
            return bool(found)

        self._wait(known, timeout_s, "no leader")
        return max(found)[1]

    def leader_with_heir(self) -> int:
        """Who leads, once its sight has another member in sync, if there is one: it can be lost then, and somebody may take over."""
        found: list[int] = []

        def known() -> bool:
            found[:] = [self.leader()]
            with contextlib.suppress(ServerError):
                return len(self.view(found[0]).in_sync) >= min(2, self.replicas)
            return False

        self._wait(known, SETTLE_TIMEOUT_S, "nobody in sync with the leader")
        return found[0]

    def followers(self) -> list[int]:
        """The running brokers that do not lead."""
        leader = self.leader()
        return [ordinal for ordinal in self.running if ordinal != leader]

    def wait_whole(self, timeout_s: float = SETTLE_TIMEOUT_S) -> int:
        """Waits until one broker leads, every broker is ready and knows it, and all are in sync; returns the leader."""
        everybody = frozenset(range(self.replicas))

        def whole() -> bool:
            views = self._staying()
            leaders = {view.leader for view in views.values()}
            if views.keys() != everybody or len(leaders) != 1 or not leaders <= everybody:
                return False
            (leader,) = leaders
            known = all(view.in_sync == everybody for view in views.values())
            return known and views[leader].leader == leader and all(map(self.is_ready, everybody))

        self._wait(whole, timeout_s, "not every member is in sync")
        return self.leader()

    def agreed(self) -> Agreement:
        """What all brokers hold, once all of them do. Raises DisagreementError when they hold different entries or state,
        or go on committing for longer than the comparison waits."""
        return replicas_agree([broker.admin for broker in self.brokers[: self.replicas]])

    def wait_until(self, done: Callable[[], bool], what: str, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
        """Polls `done`. Raises ServerError, with the brokers' logs, when `timeout_s` passes first."""
        self._wait(done, timeout_s, f"no {what}")

    def ask(self, ordinal: int, path: str, body: object | None = None) -> Any:
        """A broker's admin API: GET, or POST where there is a body. Raises ServerError for anything but success."""
        status, told = self._request(ordinal, path, body)
        if status >= HTTPStatus.BAD_REQUEST:
            sentence = told.decode(errors="replace")
            raise ServerError(f"broker {ordinal} answered {path} with {status}: {sentence}")
        return json.loads(told)

    def tails(self) -> str:
        """The ends of all logs, for whoever explains a failure."""
        return "\n".join(f"broker {n}:\n{broker.tail()}" for n, broker in enumerate(self.brokers))

    # --- inside ----------------------------------------------------------------------------------

    def _request(self, ordinal: int, path: str, body: object | None = None) -> tuple[int, bytes]:
        """Status and content of a broker's answer. Raises ServerError when there is none."""
        url = f"{self.brokers[ordinal].admin}{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=ASK_TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError as error:
            raise ServerError(f"broker {ordinal} does not answer {path}: {error}") from error

    def _views(self, other_than: int | None = None) -> dict[int, ShardView]:
        """What the brokers that answer say; one of them, which may be paused, is not asked."""
        views = {}
        for ordinal in self.running:
            broker = self.brokers[ordinal]
            if ordinal != other_than and broker.note_ready():
                with contextlib.suppress(ServerError):
                    views[ordinal] = self.view(ordinal)
        return views

    def _staying(self) -> dict[int, ShardView]:
        """The same of the brokers that there should be; one that has left may run beside them."""
        return {ordinal: view for ordinal, view in self._views().items() if ordinal < self.replicas}

    def _ordinal_of(self, name: str) -> int:
        names: Sequence[str] = [self.name(ordinal) for ordinal in range(len(self.brokers))]
        return names.index(name) if name in names else -1

    def _wait(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise ServerError(f"{what} within {timeout_s:g} s: {self._views()}\n{self.tails()}")
            time.sleep(POLL_INTERVAL_S)


def free_ports(count: int) -> list[int]:
    """Different ports of loopback on which nobody listens now. Raises ServerError when none are found."""
    found: set[int] = set()
    for port in random.SystemRandom().sample(PORTS, PORT_TRIES_MAX):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.add(port)
        if len(found) == count:
            return sorted(found)
    raise ServerError(f"fewer than {count} free ports between {PORTS.start} and {PORTS.stop}")
