"""The network for faults, without a broker: what is cut is cut in that direction alone, and nothing stays behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from penstock.testing.fault_network import CLIENTS, PREFIX, FaultNetwork, remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = 7000
HEARD_S = 0.1
"""On a veth pair a datagram arrives within microseconds, or never."""


@pytest.fixture
def network(needs_namespaces: None) -> Iterator[FaultNetwork]:
    with FaultNetwork(3) as made:
        yield made


@pytest.fixture
def ears(network: FaultNetwork) -> Iterator[dict[int | None, socket.socket]]:
    """A bound socket in every server's namespace, and one in the clients' (None)."""
    with ExitStack() as stack:
        yield {
            place: stack.enter_context(network.run(lambda place=place: bound(network, place), place))
            for place in (0, 1, 2, None)
        }


def bound(network: FaultNetwork, place: int | None) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address(network, place), PORT))
    made.settimeout(HEARD_S)
    return made


def address(network: FaultNetwork, place: int | None) -> str:
    return CLIENTS if place is None else network.host(place)


def hears(
    network: FaultNetwork, ears: dict[int | None, socket.socket], source: int | None, target: int | None
) -> bool:
    ears[source].sendto(b"hello", (address(network, target), PORT))
    try:
        return ears[target].recvfrom(100)[1][0] == address(network, source)
    except TimeoutError:
        return False


def test_everybody_hears_everybody(network: FaultNetwork, ears: dict[int | None, socket.socket]) -> None:
    places = list(ears)
    assert all(hears(network, ears, one, other) for one in places for other in places if one != other)


def test_a_cut_has_one_direction(network: FaultNetwork, ears: dict[int | None, socket.socket]) -> None:
    network.cut(0, 1)
    assert not hears(network, ears, 0, 1)
    assert hears(network, ears, 1, 0)
    assert hears(network, ears, 0, 2)
    assert hears(network, ears, None, 1)
    network.heal()
    assert hears(network, ears, 0, 1)


def test_clients_can_be_cut_off(network: FaultNetwork, ears: dict[int | None, socket.socket]) -> None:
    network.cut_clients(2)
    assert not hears(network, ears, None, 2)
    assert hears(network, ears, 2, None)
    assert hears(network, ears, None, 1)
    assert hears(network, ears, 0, 2)


def test_a_part_of_the_packets_is_lost(network: FaultNetwork, ears: dict[int | None, socket.socket]) -> None:
    network.lose(0.5)
    assert 100 < sum(arrivals(network, ears) for _ in range(4)) < 300
    network.heal()
    assert arrivals(network, ears) == 100


def arrivals(network: FaultNetwork, ears: dict[int | None, socket.socket]) -> int:
    """How many of a hundred datagrams from server 0 to server 1 arrive."""
    for number in range(100):
        ears[0].sendto(bytes([number]), (network.host(1), PORT))
    heard = 0
    try:
        while ears[1].recv(1):
            heard += 1
    except TimeoutError:
        return heard
    raise AssertionError("an empty datagram")


def test_a_command_runs_in_a_servers_namespace(network: FaultNetwork) -> None:
    code = (
        "import os, socket; s = socket.create_server(('10.200.0.11', 7001)); print(os.getpid(), flush=True);"
        " s.accept()"
    )
    process = subprocess.Popen(
        [*network.prefix(1), sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == process.pid
            network.run(lambda: socket.create_connection((network.host(1), 7001), 5).close())
        finally:
            process.kill()


def test_what_a_function_raises_comes_back(network: FaultNetwork) -> None:
    def fail() -> None:
        raise LookupError("in there")

    with pytest.raises(LookupError, match="in there"):
        network.run(fail)


def test_nothing_stays_behind(needs_namespaces: None) -> None:
    def fail() -> None:
        with FaultNetwork(2):
            assert own_namespaces()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert not own_namespaces()


def test_what_a_killed_run_left_is_removed_and_nothing_else(needs_namespaces: None) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    left, living = f"{PREFIX}-{int(gone.stdout)}-0", f"{PREFIX}-{os.getppid()}-0"
    foreign = f"{PREFIX}x-{int(gone.stdout)}"
    made = (left, living, foreign)
    for name in made:
        subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        remove_leftovers()
        assert {name for name in made if os.path.exists(f"/run/netns/{name}")} == {living, foreign}
    finally:
        for name in (living, foreign):
            subprocess.run(["ip", "netns", "delete", name], check=True)


def own_namespaces() -> list[str]:
    return [name for name in os.listdir("/run/netns") if name.startswith(f"{PREFIX}-{os.getpid()}-")]
