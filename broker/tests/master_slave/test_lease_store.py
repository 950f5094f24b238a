"""Where a Lease is kept: memory, a file and a real API server pass the same tests."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from lease_scene import ME, OTHER, SHARD, SYNC, THIRD, TIMING, identity, record
from penstock.replication.master_contender import Election
from penstock.replication.master_election import MasterElection, Phase
from penstock.replication.master_lease import (
    ANYBODY,
    Conflict,
    LeaseRecord,
    Missing,
    Release,
    Stored,
    content,
)
from penstock.replication.master_outputs import Create, PersistEpoch, Read, Write
from penstock.runtime.lease_file import LeaseFile
from penstock.runtime.lease_kube import KubeAccess, KubeLease
from penstock.runtime.lease_store import LeaseStore
from penstock.testing.memory_lease import MemoryLease

if TYPE_CHECKING:
    from kube_apiserver import KubeApiServer

# What a loaded machine may take; the tests about time have their own.
TIMEOUT_MS = 20_000
NAMES = itertools.count(1)
WALL_US = 1_763_750_000_123_456


class Place:
    """One Lease. `open` makes a writer of it, `remove` takes the object away."""

    def __init__(
        self, opener: Callable[[str, Callable[[], int]], LeaseStore], remove: Callable[[], None]
    ) -> None:
        self._opener = opener
        self.remove = remove
        self.wall_us = WALL_US
        self.opened: list[LeaseStore] = []

    def open(self, name: str = "0") -> LeaseStore:
        store = self._opener(name, lambda: self.wall_us)
        self.opened.append(store)
        return store


def memory_place() -> Place:
    memory = MemoryLease()

    def opener(name: str, wall_us: Callable[[], int]) -> MemoryLease:
        memory.wall_us = wall_us()
        return memory

    def remove() -> None:
        memory.record = None

    return Place(opener, remove)


def file_place(folder: Path) -> Place:
    path = folder / "lease"
    return Place(lambda name, wall_us: LeaseFile(path, name, TIMEOUT_MS, wall_us), path.unlink)


def access_of(server: KubeApiServer, folder: Path) -> KubeAccess:
    (folder / "token").write_text(server.token + "\n")
    return KubeAccess(server.url, folder / "token", server.ca_file, "default")


def kube_place(server: KubeApiServer, folder: Path, name: str) -> Place:
    access = access_of(server, folder)

    def remove() -> None:
        done = server.kubectl("delete", "lease", name)
        assert done.returncode == 0, done.stderr

    return Place(lambda _, wall_us: KubeLease(access, name, TIMEOUT_MS, wall_us), remove)


@pytest.fixture(params=["memory", "file", pytest.param("kube", marks=pytest.mark.kube)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "memory":
        made = memory_place()
    elif request.param == "file":
        made = file_place(tmp_path)
    else:
        server = request.getfixturevalue("kube_apiserver")
        made = kube_place(server, tmp_path, f"store-{next(NAMES)}")
    yield made
    for store in made.opened:
        await store.close()


async def kept(store: LeaseStore) -> LeaseRecord:
    found = await store.read()
    assert isinstance(found, LeaseRecord), found
    return found


async def created(store: LeaseStore, lease: LeaseRecord) -> str:
    outcome = await store.create(lease)
    assert isinstance(outcome, Stored), outcome
    return outcome.version


async def test_nothing_is_missing(place: Place) -> None:
    assert await place.open().read() == Missing()


async def test_what_is_created_is_read(place: Place) -> None:
    store = place.open()
    lease = record(pending=(ME, THIRD), released=Release("it ended: “gone”, for good", THIRD))
    version = await created(store, lease)
    found = await kept(place.open("1"))
    assert found.version == version
    assert content(found) == content(lease)


async def test_a_lease_is_created_once(place: Place) -> None:
    store = place.open()
    version = await created(store, record(ME))
    assert await store.create(record(OTHER)) == Conflict()
    assert (await kept(store)).version == version
    assert (await kept(store)).holder == "start-of-11"


async def test_a_lease_is_replaced_at_its_version_alone(place: Place) -> None:
    store = place.open()
    first = await created(store, record(epoch=1))
    second = await store.compare_and_swap(record(epoch=2), first)
    assert isinstance(second, Stored)
    assert second.version != first
    assert await store.compare_and_swap(record(epoch=3), first) == Conflict()
    found = await kept(store)
    assert (found.epoch, found.version) == (2, second.version)


async def test_nothing_is_not_replaced(place: Place) -> None:
    assert await place.open().compare_and_swap(record(), "1") == Conflict()
    assert await place.open().read() == Missing()


async def test_a_lease_made_anew_is_at_no_version_of_the_old_one(place: Place) -> None:
    store = place.open()
    old = await created(store, record(epoch=1))
    place.remove()
    assert await store.compare_and_swap(record(epoch=2), old) == Conflict()
    new = await created(store, record(epoch=1))
    assert new != old
    assert await store.compare_and_swap(record(epoch=2), old) == Conflict()


async def test_one_of_many_writers_wins(place: Place) -> None:
    version = await created(place.open(), record())
    stores = [place.open(str(number)) for number in range(8)]
    outcomes = await asyncio.gather(
        *(store.compare_and_swap(record(epoch=10 + number), version) for number, store in enumerate(stores))
    )
    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Stored)]
    assert len(winners) == 1, outcomes
    assert (await kept(stores[0])).epoch == 10 + winners[0]


async def test_one_of_many_founders_wins(place: Place) -> None:
    stores = [place.open(str(number)) for number in range(8)]
    outcomes = await asyncio.gather(*(store.create(record(ME + 11 * n)) for n, store in enumerate(stores)))
    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Stored)]
    assert len(winners) == 1, outcomes
    assert (await kept(stores[0])).holder == f"start-of-{ME + 11 * winners[0]}"


async def test_what_a_record_does_not_say_any_more_is_gone(place: Place) -> None:
    store = place.open()
    version = await created(store, record(pending=(ME,), released=Release("it ended", THIRD)))
    await store.compare_and_swap(record(), version)
    found = await kept(store)
    assert (found.pending, found.released) == (None, None)


async def test_a_lease_may_be_held_by_nobody(place: Place) -> None:
    store = place.open()
    nobody = msgspec.structs.replace(record(), holder="", identity=None)
    await created(store, nobody)
    assert content(await kept(store)) == content(nobody)


async def test_times_for_people_are_stamped(place: Place) -> None:
    store = place.open()
    acquired = msgspec.structs.replace(record(), renewals=0)
    version = await created(store, acquired)
    found = await kept(store)
    assert (found.acquired_at_us, found.renewed_at_us) == (WALL_US, WALL_US)
    place.wall_us = later = WALL_US + 2_000_001
    if isinstance(store, MemoryLease):
        store.wall_us = later
    await store.compare_and_swap(record(), version)
    found = await kept(store)
    assert (found.acquired_at_us, found.renewed_at_us) == (WALL_US, later)
    await store.compare_and_swap(acquired, found.version)
    assert (await kept(store)).acquired_at_us == later


async def drive(election: MasterElection, store: LeaseStore, now: int) -> None:
    """A driver without time: what is asked for is done until nothing is."""
    while outputs := election.take():
        for output in outputs:
            match output:
                case Read():
                    election.observed(await store.read(), now)
                case Create(request_id=number, record=lease):
                    election.written(number, await store.create(lease), now)
                case Write(request_id=number, record=lease, if_version=version):
                    election.written(number, await store.compare_and_swap(lease, version), now)
                case PersistEpoch(epoch=epoch):
                    election.epoch_stored(epoch, now)
                case _:
                    pass


async def test_members_found_renew_and_hand_over(place: Place) -> None:
    def member(number: int, epoch: int) -> MasterElection:
        options = Election(
            holder=f"start-of-{number}",
            identity=identity(number),
            shard_uid=SHARD,
            policy=SYNC,
            timing=TIMING,
        )
        return MasterElection(options, epoch, 0, lambda: 0, 0)

    one, other = member(ME, 0), member(OTHER, 0)
    store, others_store = place.open("0"), place.open("1")
    one.found(0)
    await drive(one, store, 0)
    assert one.phase is Phase.MASTER
    one.caught_up(OTHER, 100)
    await drive(one, store, 100)
    other.tick(200)
    await drive(other, others_store, 200)
    assert other.phase is Phase.FOLLOWING
    one.tick(2100)
    await drive(one, store, 2100)
    assert (await kept(store)).renewals == 3  # a change is two writes
    assert one.hand_over(OTHER, 2200) is None
    await drive(one, store, 2200)
    other.look(2300)
    await drive(other, others_store, 2300)
    assert other.phase is Phase.MASTER
    found = await kept(store)
    assert (found.epoch, found.holder_name, found.released) == (2, "orders-0-1", None)


# --- Kubernetes alone ------------------------------------------------------------------------------


@pytest.mark.kube
async def test_what_others_wrote_on_the_object_stays(kube_apiserver: KubeApiServer, tmp_path: Path) -> None:
    place = kube_place(kube_apiserver, tmp_path, "decorated")
    store = place.open()
    await created(store, record(ME, released=Release("it ended", ANYBODY)))
    for arguments in (["label", "lease", "decorated", "a=b"], ["annotate", "lease", "decorated", "c=d"]):
        done = kube_apiserver.kubectl(*arguments)
        assert done.returncode == 0, done.stderr
    found = await kept(store)
    await store.compare_and_swap(record(OTHER), found.version)
    shown = json.loads(kube_apiserver.kubectl("get", "lease", "decorated", "-o", "json").stdout)
    assert shown["metadata"]["labels"] == {"a": "b"}
    annotations = shown["metadata"]["annotations"]
    assert annotations["c"] == "d"
    assert annotations["penstock.io/lease-epoch"] == "4"
    assert "penstock.io/lease-released" not in annotations
    assert shown["spec"]["holderIdentity"] == "start-of-22"
    assert shown["spec"]["leaseDurationSeconds"] == 6
    await store.close()


@pytest.mark.kube
async def test_the_operator_releases_with_one_annotation(
    kube_apiserver: KubeApiServer, tmp_path: Path
) -> None:
    place = kube_place(kube_apiserver, tmp_path, "released")
    store = place.open()
    await created(store, record(ME))
    done = kube_apiserver.kubectl(
        "annotate", "lease", "released", "penstock.io/lease-released=container 5f exited with 137"
    )
    assert done.returncode == 0, done.stderr
    assert (await kept(store)).released == Release("container 5f exited with 137", ANYBODY)
    await store.close()


@pytest.mark.kube
async def test_a_broker_needs_to_get_create_and_patch_leases(
    kube_apiserver: KubeApiServer, tmp_path: Path
) -> None:
    for arguments in (
        ["create", "serviceaccount", "broker"],
        ["create", "role", "broker", "--verb=get,create,patch", "--resource=leases.coordination.k8s.io"],
        ["create", "rolebinding", "broker", "--role=broker", "--serviceaccount=default:broker"],
    ):
        done = kube_apiserver.kubectl(*arguments)
        assert done.returncode == 0, done.stderr
    token = kube_apiserver.kubectl("create", "token", "broker")
    assert token.returncode == 0, token.stderr
    (tmp_path / "token").write_text(token.stdout)
    access = KubeAccess(kube_apiserver.url, tmp_path / "token", kube_apiserver.ca_file, "default")
    store = KubeLease(access, "roles", TIMEOUT_MS)
    assert await store.read() == Missing()
    version = await created(store, record())
    assert isinstance(await store.compare_and_swap(record(), version), Stored)
    assert isinstance(await store.read(), LeaseRecord)
    await store.close()
