"""A network of its own for a few server processes, whose cables can be cut and made to lose packets.

Every server gets a network namespace; a bridge in one more, the clients' namespace, joins them. Nothing is added to the
machine's own network: addresses can be the same in every run, and firewalls of the machine are not in the way. Names
carry the process id, so that runs do not meet, and only namespaces of that name are ever touched. They go with the
`with` block; what a killed run left behind is removed by the next one, which finds the process gone.

Needs Linux, root, and the programs ip, nsenter and iptables.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

PREFIX = "penstock-test"
PROGRAMS = ("ip", "nsenter", "iptables")
SERVERS_MAX = 9
COMMAND_TIMEOUT_S = 20.0
CLIENTS = "10.200.0.1"
"""Address of whoever calls `run`."""

_NETNS = Path("/run/netns")
_CLONE_NEWNET = 0x40000000


class NetworkError(Exception):
    """The network cannot be made here, or a command failed; the text says what is missing, or quotes the command."""


class FaultNetwork:
    """`servers` namespaces on one bridge. Server n has the address 10.200.0.(10 + n)."""

    def __init__(self, servers: int) -> None:
        if not 1 <= servers <= SERVERS_MAX:
            raise ValueError(f"1 to {SERVERS_MAX} servers, not {servers}")
        self.servers = servers
        self._stem = f"{PREFIX}-{os.getpid()}"

    # --- its life --------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing or os.geteuid() != 0:
            raise NetworkError(
                f"network namespaces need root{', and the programs ' + ', '.join(missing) if missing else ''}"
            )
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _make(self) -> None:
        hub = self._clients
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "hub", "type", "bridge")
        _ip("-n", hub, "address", "add", f"{CLIENTS}/24", "dev", "hub")
        _ip("-n", hub, "link", "set", "hub", "up")
        for server in range(self.servers):
            name, cable = self._namespace(server), f"server{server}"
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            # Both ends are made inside: the machine's own network never sees them.
            _ip("-n", hub, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", hub, "link", "set", cable, "master", "hub", "up")
            _ip("-n", name, "address", "add", f"{self.host(server)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")

    def _remove(self) -> None:
        for name in _namespaces():
            if name.startswith(f"{self._stem}-"):
                _ip("netns", "delete", name)

    # --- its users -------------------------------------------------------------------------------

    def host(self, server: int) -> str:
        """The server's address."""
        return f"10.200.0.{10 + server}"

    def prefix(self, server: int) -> Sequence[str]:
        """Goes before a command that is to run in the server's namespace; the process keeps its id."""
        return ("nsenter", f"--net={_NETNS / self._namespace(server)}")

    def run(self, function: Callable[[], T], server: int | None = None) -> T:
        """What `function` returns or raises, called in a new thread inside the clients' namespace, or a server's.

        Threads and processes that it starts are in there too, and so stay the sockets that it makes.
        """
        namespace = self._clients if server is None else self._namespace(server)
        outcome: list[T] = []
        failure: list[BaseException] = []

        def enter_and_call() -> None:
            try:
                _enter(namespace)
                outcome.append(function())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=enter_and_call, name=namespace, daemon=True)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    # --- faults ----------------------------------------------------------------------------------

    def cut(self, source: int, target: int) -> None:
        """Packets from server `source` no longer reach server `target`; the other direction stays as it is."""
        self._drop(target, self.host(source))

    def cut_clients(self, server: int) -> None:
        """Packets of clients no longer reach `server`."""
        self._drop(server, CLIENTS)

    def lose(self, probability: float) -> None:
        """Of the packets that reach a server, from servers and clients alike, so many are lost, each by chance."""
        if not 0 < probability < 1:
            raise ValueError(f"a probability lies between 0 and 1, not at {probability}")
        for server in range(self.servers):
            self._rule(server, "-m", "statistic", "--mode", "random", "--probability", f"{probability:.6f}")

    def heal(self) -> None:
        """No cut, no loss."""
        for server in range(self.servers):
            self._iptables(server, "-F", "INPUT")

    def _drop(self, server: int, source: str) -> None:
        self._rule(server, "-s", source)

    def _rule(self, server: int, *match: str) -> None:
        # Not on the loopback device: a server that talks to itself uses no cable.
        self._iptables(server, "-A", "INPUT", "-i", "eth0", *match, "-j", "DROP")

    def _iptables(self, server: int, *arguments: str) -> None:
        _command(*self.prefix(server), "iptables", "-w", *arguments)

    @property
    def _clients(self) -> str:
        return f"{self._stem}-clients"

    def _namespace(self, server: int) -> str:
        return f"{self._stem}-{server}"


def remove_leftovers() -> None:
    """Removes networks of this class whose process is gone."""
    for name in _namespaces():
        owner = re.fullmatch(rf"{PREFIX}-(\d+)-\w+", name)
        if owner is None or Path(f"/proc/{owner[1]}").exists():
            continue
        try:
            _ip("netns", "delete", name)
        except NetworkError:
            if name in _namespaces():  # Otherwise another run, which starts now too, was faster.
                raise


def _namespaces() -> list[str]:
    return sorted(path.name for path in _NETNS.iterdir()) if _NETNS.is_dir() else []


def _enter(namespace: str) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(_NETNS / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise NetworkError(f"cannot enter {namespace}: {os.strerror(error)}")
    finally:
        os.close(descriptor)


def _ip(*arguments: str) -> None:
    _command("ip", *arguments)


def _command(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)} failed: {done.stderr.strip()}")
