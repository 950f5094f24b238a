"""A member that may lack what it acknowledged gives up its identity, and only beside others who have it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.log.errors import LogDamagedError
from penstock.replication.forgetting import why_forgotten
from penstock.replication.members import member_id
from penstock.replication.recovery import Recovery
from penstock.runtime import forgetting
from penstock.runtime.data_folder import FORMAT, DataFolder, Meta
from penstock.runtime.forgetting import failed_sync_boot, finish_forgetting, mark_failed_sync, start_over
from penstock.runtime.links import Links
from penstock.session.peer_connection import Greeting

SHARD = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("running", "failed", "boot", "forgotten"),
    [
        ("", "", "b1", False),
        ("b1", "", "b1", False),
        ("b1", "", "b2", True),
        ("", "b1", "b1", True),
        # The page cache that could show too much is gone with that boot.
        ("", "b1", "b2", False),
    ],
)
def test_what_counts_as_forgotten(running: str, failed: str, boot: str, forgotten: bool) -> None:
    reason = why_forgotten(running_boot=running, failed_boot=failed, boot=boot)
    assert (reason is not None) is forgotten


def test_a_failed_sync_is_noted_for_the_next_start(tmp_path: Path) -> None:
    assert failed_sync_boot(tmp_path) == ""
    mark_failed_sync(tmp_path)
    assert failed_sync_boot(tmp_path) == forgetting.boot_id() != ""


def a_meta(ordinal: int = 1) -> Meta:
    return Meta(FORMAT, "cluster", 0, SHARD, uuid.UUID(int=ordinal + 1 << 65), ordinal, epoch=4, vote=9)


def greeting_of(meta: Meta, *, founded: bool = False) -> Greeting:
    return Greeting(
        cluster_id=meta.cluster_id,
        shard_id=0,
        shard_uid=str(SHARD),
        ordinal=meta.ordinal,
        member=member_id(meta.storage_id),
        storage_id=str(meta.storage_id),
        name=f"b{meta.ordinal}",
        release="test",
        feature_level=1,
        founded=founded,
    )


def nothing(*_: object) -> None:
    """No callback is of interest."""


async def a_peer(*, founded: bool) -> tuple[Links, tuple[str, int]]:
    links = Links(
        {},
        lambda: greeting_of(a_meta(0), founded=founded),
        on_joined=nothing,
        on_left=nothing,
        on_gone=nothing,
        on_frame=nothing,
    )
    return links, await links.listen("127.0.0.1", 0)


async def test_it_starts_over_beside_a_broker_that_knows_the_shard(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    peer, address = await a_peer(founded=True)
    old = a_meta()
    folder.save_meta(old)
    folder.log_disk.open(f"{1:020d}.log", create=True).close()
    fresh = await start_over(folder, old, {0: address}, greeting_of, "the log is damaged")
    assert fresh.storage_id != old.storage_id
    assert (fresh.vote, fresh.epoch, fresh.forgotten) == (0, 4, "")
    assert folder.load_meta() == fresh
    assert folder.log_disk.names() == []
    await peer.close()
    folder.close()


RECOVERY = Recovery(1, "lineage-a", 3, "b1", 10_004, 100, 4, 95, 0)


@pytest.mark.parametrize(
    ("founded", "known"),
    [(False, {}), (True, {"joined": (1, "lineage-a")}), (True, {"recovery": RECOVERY})],
    ids=["empty", "of before the recovery that it joined", "of before it was trusted"],
)
async def test_with_nobody_to_learn_from_nothing_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, founded: bool, known: dict[str, Any]
) -> None:
    monkeypatch.setattr(forgetting, "MEETING_SECONDS_MAX", 0.2)
    folder = DataFolder(tmp_path)
    peer, address = await a_peer(founded=founded)
    meta = msgspec.structs.replace(a_meta(), **known)
    folder.save_meta(meta)
    folder.log_disk.open(f"{1:020d}.log", create=True).close()
    with pytest.raises(
        LogDamagedError, match=r"the log is damaged; no other broker that holds the shard was met"
    ):
        await start_over(folder, meta, {0: address}, greeting_of, "the log is damaged")
    assert folder.load_meta() == meta
    assert folder.log_disk.names() == [f"{1:020d}.log"]
    await peer.close()
    folder.close()


def test_throwing_away_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.log_disk.open(f"{1:020d}.log", create=True).close()
    mark_failed_sync(tmp_path)
    meta = msgspec.structs.replace(a_meta(), forgotten="the log is damaged")
    assert finish_forgetting(folder, meta).forgotten == ""
    assert folder.log_disk.names() == []
    assert failed_sync_boot(tmp_path) == ""
    folder.close()
