"""Which elector a broker gets, by its configuration, and by which name it is known in the Lease."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from penstock.config.broker_config import BrokerConfig, ConfigError, load_config
from penstock.process.electing import make_elector, process_name
from penstock.replication.members import member_id
from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import Meta

META = Meta(1, "c", 0, shard_uid=uuid.uuid4(), storage_id=uuid.uuid4(), ordinal=1)


def config(folder: Path, settings: str) -> BrokerConfig:
    file = folder / "broker.yaml"
    file.write_text(settings)
    return load_config(folder / "data", config_file=file)


def test_in_mode_raft_there_is_none(tmp_path: Path) -> None:
    assert make_elector(config(tmp_path, "mode: Raft\n"), META, Clock()) is None


async def test_a_holder_leaves_word_by_which_name_it_holds_the_lease(tmp_path: Path) -> None:
    message = tmp_path / "termination-log"
    message.write_text("what an earlier life wrote, which was longer than a UUID is")
    settings = (
        f"mode: MasterSlave\nlease.file: {tmp_path / 'lease.json'}\ntermination.message.file: {message}\n"
    )
    names = []
    for _ in range(2):
        elector = make_elector(config(tmp_path, settings), META, Clock())
        assert elector is not None
        names.append(message.read_text())
        assert uuid.UUID(names[-1]).version == 4
        assert elector._options.holder == names[-1]
        identity = elector._options.identity
        assert (identity.member, identity.ordinal) == (member_id(META.storage_id), 1)
        assert identity.container_id == process_name(os.getpid())
    assert names[0] != names[1], "each start has another one"


async def test_a_message_that_cannot_be_written_keeps_nobody_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = "mode: MasterSlave\nlease.file: /lease\ntermination.message.file: /nowhere/message\n"
    assert make_elector(config(tmp_path, settings), META, Clock()) is not None
    assert "the Lease has to run out" in caplog.text


def test_outside_a_pod_a_lease_of_kubernetes_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(OSError, match="has to run in a pod"):
        make_elector(config(tmp_path, "mode: MasterSlave\nlease.name: a-0\n"), META, Clock())


def test_a_pods_uid_comes_from_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = "mode: MasterSlave\nlease.file: /lease\npod.name: a-0-1\npod.uid: $(POD_UID)\n"
    monkeypatch.setenv("POD_UID", "3b241101-e2bb-4255-8caf-4136c566a962")
    assert config(tmp_path, settings).text("pod.uid") == "3b241101-e2bb-4255-8caf-4136c566a962"
    monkeypatch.delenv("POD_UID")
    with pytest.raises(ConfigError, match=r"pod\.uid \$\(POD_UID\) needs the environment variable POD_UID"):
        config(tmp_path, settings)
